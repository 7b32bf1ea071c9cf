//! The names of directories beside each other in a checkpoint directory.

use std::fmt;

/// What a directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// `step-00000123`: a checkpoint.
    Published { step: u64 },
    /// `.replaced-step-00000123-0123456789ab`: a checkpoint that another of the same step is replacing.
    Replaced { step: u64, nonce: u64 },
    /// `.staging-…`: one that is being written, or was when its writer ended.
    Staging { step: u64, nonce: u64 },
    /// `.deleting-…`: one that is being deleted, or was.
    Deleting { step: u64, nonce: u64 },
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(step) = name.strip_prefix("step-") {
            return Some(Self::Published { step: digits(step, 8, 10)? });
        }
        let (kind, rest) = name.strip_prefix('.')?.split_once("-step-")?;
        let (step, nonce) = rest.split_once('-')?;
        let (step, nonce) = (digits(step, 8, 10)?, digits(nonce, 12, 16)?);
        match kind {
            "replaced" => Some(Self::Replaced { step, nonce }),
            "staging" => Some(Self::Staging { step, nonce }),
            "deleting" => Some(Self::Deleting { step, nonce }),
            _ => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, step, nonce) = match self {
            Self::Published { step } => return write!(f, "step-{step:08}"),
            Self::Replaced { step, nonce } => ("replaced", step, nonce),
            Self::Staging { step, nonce } => ("staging", step, nonce),
            Self::Deleting { step, nonce } => ("deleting", step, nonce),
        };
        write!(f, ".{kind}-step-{step:08}-{nonce:012x}")
    }
}

/// A number as [`Display`](fmt::Display) writes it, so that there is one name for each.
fn digits(text: &str, least: usize, radix: u32) -> Option<u64> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit() || (radix == 16 && (b'a'..=b'f').contains(&byte)));
    let canonical = text.len() == least || (text.len() > least && !text.starts_with('0'));
    if plain && canonical { u64::from_str_radix(text, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_not() {
        for step in [0, 123, 99_999_999, 123_456_789_012] {
            let nonce = step * 77 + 5;
            for name in [
                Name::Published { step },
                Name::Replaced { step, nonce },
                Name::Staging { step, nonce },
                Name::Deleting { step, nonce },
            ] {
                assert_eq!(Name::parse(&name.to_string()), Some(name));
            }
        }
        for other in [
            "step-1",
            "step-0000000a",
            "step-000000001",
            "step-+0000001",
            "step-",
            "stop-00000001",
            "",
            ".staging-step-00000001",
            ".staging-step-00000001-0",
            ".other-step-00000001-0123456789ab",
            "staging-step-00000001-0123456789ab",
            ".staging-step-00000001-0123456789AB",
            "step-00000001.bak",
            "step-99999999999999999999999",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
