//! How the program fails: on all ranks together, and one of them says why, on one line.

use hessian_probe::ReduceOp;
use hessian_probe_c10d::ProcessGroup;
use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::process::ExitCode;

/// The exit code of a failure; 2 is that of a wrong command line.
pub const FAILED: u8 = 1;

/// Why a rank ends.
#[derive(Debug)]
pub enum Failure {
    /// Something that this rank can tell.
    Reason(Box<dyn StdError + Send + Sync>),
    /// Another rank failed and knows why.
    Peer,
    /// The connection to the other ranks is lost.
    Lost(Box<dyn StdError + Send + Sync>),
    /// By a signal, on this rank or another.
    Interrupted,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) | Self::Lost(reason) => reason.fmt(f),
            Self::Peer => f.write_str("another rank failed"),
            Self::Interrupted => f.write_str("interrupted; no report was written"),
        }
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Reason(reason.into())
    }
}

impl From<crate::data::DataError> for Failure {
    fn from(error: crate::data::DataError) -> Self {
        Self::Reason(error.into())
    }
}

impl From<hessian_probe_c10d::Error> for Failure {
    fn from(error: hessian_probe_c10d::Error) -> Self {
        Self::Lost(error.into())
    }
}

impl From<hessian_probe_fsdp::Error> for Failure {
    fn from(error: hessian_probe_fsdp::Error) -> Self {
        use hessian_probe_fsdp::Error;
        match error {
            Error::Peer { .. } | Error::PeerBatch { .. } => Self::Peer,
            error if error.is_communication() => Self::Lost(error.into()),
            error => Self::Reason(error.into()),
        }
    }
}

impl From<hessian_probe::Error> for Failure {
    fn from(error: hessian_probe::Error) -> Self {
        use hessian_probe::Error;
        match error {
            // There is only one.
            Error::AtStep { source, .. } => (*source).into(),
            Error::Peer { .. } => Self::Peer,
            error if error.is_interruption() => Self::Interrupted,
            error if error.is_communication() => Self::Lost(error.into()),
            error => Self::Reason(error.into()),
        }
    }
}

/// `mine` where every rank has an `Ok`; else a failure on every rank. Collective.
pub fn agree<T>(group: &ProcessGroup, mine: Result<T, Failure>) -> Result<T, Failure> {
    let failed = max(group, f64::from(u8::from(mine.is_err())))?;
    if failed > 0.0 { mine.and(Err(Failure::Peer)) } else { mine }
}

/// Says why, on the lowest rank that knows. Collective: all ranks have failed. Where that cannot be found out any more,
/// rank 0 says what it has seen, and others what they can tell of themselves.
pub fn end(group: &ProcessGroup, failure: &Failure) -> ExitCode {
    let (rank, world_size) = (group.rank(), group.world_size());
    let knows = matches!(failure, Failure::Reason(_) | Failure::Interrupted);
    let speaks = match failure {
        Failure::Lost(_) => rank == 0,
        _ => match max(group, if knows { (world_size - rank) as f64 } else { 0.0 }) {
            Ok(lowest) => lowest == (world_size - rank) as f64 || (lowest == 0.0 && rank == 0),
            Err(_) => knows || rank == 0,
        },
    };
    if speaks { say(failure) } else { ExitCode::from(FAILED) }
}

/// One line on stderr.
pub fn say(error: &impl Display) -> ExitCode {
    eprintln!("error: {}", one_line(&error.to_string()));
    ExitCode::from(FAILED)
}

fn max(group: &ProcessGroup, value: f64) -> Result<f64, Failure> {
    let mut values = [value];
    hessian_probe::ProcessGroup::all_reduce(group, &mut values, ReduceOp::Max).map_err(Failure::Lost)?;
    Ok(values[0])
}

/// Without line breaks, and without the trace that libtorch adds to its messages.
fn one_line(message: &str) -> String {
    let end = message.find("\nException raised from").unwrap_or(message.len());
    message[..end].split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_without_libtorchs_trace() {
        let message = "rank 0: libtorch failed: [enforce fail] no memory\n\n  two\nException raised from f at x.cpp:1\nframe #0";
        assert_eq!(one_line(message), "rank 0: libtorch failed: [enforce fail] no memory; two");
        assert_eq!(one_line("plain"), "plain");
    }
}
