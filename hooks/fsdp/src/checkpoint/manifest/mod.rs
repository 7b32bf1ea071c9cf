//! The manifest: what a checkpoint consists of. Its encoding carries its own checksum.

mod consistency;

use crate::config::{Dtype, TrainerConfig};
use serde::{Deserialize, Serialize};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// The name of the format, the first thing in a manifest.
const FORMAT: &str = "hessian-probe-fsdp checkpoint";

/// The version of the format that this crate writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub(in crate::checkpoint) format: String,
    /// The version of the format.
    pub version: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens trained on by all ranks.
    pub tokens: u64,
    /// `t` in AdamW's bias corrections.
    pub optimizer_steps: u64,
    /// The number of ranks that wrote.
    pub world_size: usize,
    /// The run's configuration: model, optimizer, learning-rate schedule, seed, kind.
    pub config: TrainerConfig,
    /// The model's parameters in the order of its blocks.
    pub parameters: Vec<ParameterEntry>,
    /// What each rank wrote.
    pub ranks: Vec<RankEntry>,
    /// What callbacks wrote.
    pub files: Vec<FileEntry>,
    /// What callbacks returned from `state_dict` on rank 0, in their order.
    pub callbacks: Vec<serde_json::Value>,
}

/// A whole parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterEntry {
    /// Hugging Face's name.
    pub name: String,
    /// The shape of the whole.
    pub shape: Vec<i64>,
    /// The type of its elements.
    pub dtype: Dtype,
    /// The type of its moments' elements, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moments_dtype: Option<Dtype>,
}

/// One rank's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankEntry {
    /// The file.
    pub file: FileEntry,
    /// Slices of parameters and moments, in the order of the file.
    pub slices: Vec<SliceEntry>,
    /// The first byte of the random generator's state in the file.
    pub random_state_offset: u64,
    /// The length of that state in bytes.
    pub random_state_bytes: u64,
}

/// Which of the three vectors a slice belongs to; named as in PyTorch's Adam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The parameter.
    Parameter,
    /// AdamW's first moment.
    ExpAvg,
    /// AdamW's second moment.
    ExpAvgSq,
}

impl State {
    /// In the order of a file.
    pub(in crate::checkpoint) const ALL: [Self; 3] = [Self::Parameter, Self::ExpAvg, Self::ExpAvgSq];

    /// The name of a tensor in the safetensors file.
    pub(in crate::checkpoint) fn key(self, parameter: &str) -> String {
        let prefix = match self {
            Self::Parameter => "parameter",
            Self::ExpAvg => "exp_avg",
            Self::ExpAvgSq => "exp_avg_sq",
        };
        format!("{prefix}/{parameter}")
    }
}

/// Consecutive elements of a flattened parameter, or of one of its moments, in a rank's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceEntry {
    /// Which vector.
    pub state: State,
    /// The parameter's index in [`Manifest::parameters`].
    pub parameter: usize,
    /// The first element's index in the flattened parameter.
    pub start: u64,
    /// The number of elements.
    pub len: u64,
    /// The first element's first byte in the file.
    pub offset: u64,
}

/// A file and its checksums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Relative to the checkpoint, with `/` between components.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// The bytes that one checksum is for (fewer for the last).
    pub chunk_bytes: u64,
    /// CRC-32C of each chunk.
    pub crc32c: Vec<u32>,
}

/// Why bytes are not a manifest that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::checkpoint) enum Unreadable {
    /// They are not what was written.
    Damaged(String),
    /// They are of a version that this crate does not read.
    Version(u64),
}

const OPENING: &str = "{\n\"crc32c\": \"";
const MIDDLE: &str = "\",\n\"manifest\": ";
const CLOSING: &str = "\n}\n";

/// What is read before the version is known.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

impl Manifest {
    pub(in crate::checkpoint) fn format() -> String {
        FORMAT.into()
    }

    /// JSON, in which the checksum precedes the very bytes that it is of:
    /// `{"crc32c": "<8 hexadecimal digits>", "manifest": <those bytes>}` with fixed white space.
    pub(in crate::checkpoint) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_string_pretty(self)?;
        let checksum = crc32c::crc32c(body.as_bytes());
        Ok(format!("{OPENING}{checksum:08x}{MIDDLE}{body}{CLOSING}").into_bytes())
    }

    pub(in crate::checkpoint) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let damaged = |reason: &str| Unreadable::Damaged(reason.into());
        let body = body(bytes).ok_or_else(|| damaged("is cut off or changed: it fails its own checksum"))?;
        // From here on the bytes are those that somebody wrote, but that may have been another program.
        let unexpected =
            |error: serde_json::Error| Unreadable::Damaged(format!("is not a manifest: {error}"));
        let head: Head = serde_json::from_slice(body).map_err(unexpected)?;
        if head.format != FORMAT {
            return Err(Unreadable::Damaged(format!("is of the format `{}`, not `{FORMAT}`", head.format)));
        }
        if head.version != u64::from(VERSION) {
            return Err(Unreadable::Version(head.version));
        }
        let manifest: Self = serde_json::from_slice(body).map_err(unexpected)?;
        manifest.check().map_err(|reason| Unreadable::Damaged(format!("contradicts itself: {reason}")))?;
        Ok(manifest)
    }

    /// All files but the manifest.
    pub(in crate::checkpoint) fn all_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.ranks.iter().map(|rank| &rank.file).chain(&self.files)
    }
}

impl ParameterEntry {
    /// The type of the elements of one of the three vectors.
    #[must_use]
    pub fn dtype_of(&self, state: State) -> Dtype {
        match state {
            State::Parameter => self.dtype,
            State::ExpAvg | State::ExpAvgSq => self.moments_dtype.unwrap_or(self.dtype),
        }
    }
}

/// The manifest's own bytes, if their checksum is right and nothing else is there.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (checksum, rest) = bytes.strip_prefix(OPENING.as_bytes())?.split_at_checked(8)?;
    let body = rest.strip_prefix(MIDDLE.as_bytes())?.strip_suffix(CLOSING.as_bytes())?;
    (checksum == format!("{:08x}", crc32c::crc32c(body)).as_bytes()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::super::checksum::chunks;
    use super::*;
    use crate::model::LlamaConfig;

    fn manifest() -> Manifest {
        let model: LlamaConfig = serde_json::from_str(
            r#"{"vocab_size": 3, "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1,
                "num_attention_heads": 1}"#,
        )
        .unwrap();
        let mut config = TrainerConfig::new(model, 2, 4);
        config.optimizer.lr = 0.1 + 0.2;
        let file = |path: &str, bytes: u64| FileEntry {
            path: path.into(),
            bytes,
            chunk_bytes: 16,
            crc32c: vec![7; chunks(bytes, 16) as usize],
        };
        let slices = |start: u64, len: u64| {
            let slice = |(i, state): (usize, State)| SliceEntry {
                state,
                parameter: 0,
                start,
                len,
                offset: 8 + i as u64 * 4 * len,
            };
            State::ALL.into_iter().enumerate().map(slice).collect()
        };
        let rank = |k: u64, start, len| RankEntry {
            file: file(&format!("rank-{k}"), 100),
            slices: slices(start, len),
            random_state_offset: 90,
            random_state_bytes: 10,
        };
        Manifest {
            format: Manifest::format(),
            version: VERSION,
            step: 5,
            tokens: 6,
            optimizer_steps: 5,
            world_size: 2,
            config,
            parameters: vec![ParameterEntry {
                name: "w".into(),
                shape: vec![2, 4],
                dtype: Dtype::F32,
                moments_dtype: None,
            }],
            ranks: vec![rank(0, 0, 5), rank(1, 5, 3)],
            files: vec![file("hessian_probe/state.json", 3)],
            callbacks: vec![serde_json::json!({"seen": 0.1})],
        }
    }

    #[test]
    fn what_is_written_is_read_and_is_json() {
        let manifest = manifest();
        let bytes = manifest.encode().unwrap();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["manifest"]["config"]["optimizer"]["lr"], 0.1 + 0.2);
        assert_eq!(json["crc32c"].as_str().unwrap().len(), 8);
    }

    #[test]
    fn a_manifest_cut_off_anywhere_or_with_any_bit_flipped_is_refused() {
        let bytes = manifest().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(
                matches!(Manifest::decode(&bytes[..end]), Err(Unreadable::Damaged(_))),
                "cut off at {end}"
            );
        }
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Manifest::decode(&changed), Err(Unreadable::Damaged(_))), "bit {bit}");
        }
        let longer = [&bytes[..], b" "].concat();
        assert!(Manifest::decode(&longer).is_err());
    }

    #[test]
    fn another_version_is_named() {
        let newer = Manifest { version: 2, ..manifest() };
        assert_eq!(Manifest::decode(&newer.encode().unwrap()), Err(Unreadable::Version(2)));
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        type Change = fn(&mut Manifest);
        let changes: [(&str, Change); 15] = [
            ("of the format", |m| m.format = "other".into()),
            ("`step` is", |m| m.step = u64::MAX),
            ("`tokens` is", |m| m.tokens = u64::MAX),
            ("`optimizer_steps` is", |m| m.optimizer_steps = u64::MAX),
            ("world size", |m| m.world_size = 3),
            ("not a path", |m| m.files[0].path = "../x".into()),
            ("not a path", |m| m.files[0].path = "/etc/passwd".into()),
            ("checksums", |m| m.files[0].bytes = 17),
            ("checksums", |m| m.files[0].chunk_bytes = 0),
            ("random state", |m| m.ranks[1].random_state_bytes = u64::MAX),
            ("no parameter", |m| m.ranks[0].slices[0].parameter = 1),
            ("not in it", |m| m.ranks[0].slices[0].len = u64::MAX),
            ("not in it", |m| m.ranks[0].slices[0].offset = 9),
            ("gap or overlap", |m| m.ranks[1].slices[2].start = 4),
            ("end at 8", |m| m.parameters[0].shape = vec![3, 3]),
        ];
        for (expected, change) in changes {
            let mut changed = manifest();
            change(&mut changed);
            match Manifest::decode(&changed.encode().unwrap()) {
                Err(Unreadable::Damaged(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
