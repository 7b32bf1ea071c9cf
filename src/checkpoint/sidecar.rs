//! The probe's state inside a checkpoint: the file `hessian_probe/state`.
//!
//! # Format
//! One line of ASCII, `hessian-probe-state VERSION LENGTH CHECKSUM` and a line feed, then LENGTH bytes of
//! JSON, the serialised [`Sidecar`], and nothing behind them. CHECKSUM is the CRC-32C of these bytes in
//! eight hexadecimal digits. A reader that finds another version says so before it looks at the rest.

use crate::checkpoint::envelope::{Fault, unwrap, wrap};
use crate::checkpoint::{DIRECTORY, atomic};
use crate::operator::Calibration;
use crate::spectrum::Snapshot;
use crate::triggers::TriggerState;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

const MAGIC: &str = "hessian-probe-state";
const FILE: &str = "state";
/// A state has some kilobytes, its snapshot included; what is larger by far is something else.
const MAX_BYTES: u64 = 1 << 30;

/// No training takes more probes.
pub(crate) const MOST_COUNTED: u64 = 1 << 53;

/// What the probe finds again after a restart, on any number of ranks.
///
/// ```
/// use hessian_probe::checkpoint::Sidecar;
/// use hessian_probe::{Callback, HessianProbe, ProbeConfig};
///
/// # use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
/// # /// L = x²/2 + 2y².
/// # struct Valley(tch::Tensor);
/// # impl Host for Valley {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         Shard::whole([("xy".to_owned(), self.0.shallow_clone())], false)
/// #     }
/// #     fn gradient(&mut self) -> Result<Gradient, HostError> {
/// #         let gradient = self.0.f_mul(&tch::Tensor::from_slice(&[1.0, 4.0]))?;
/// #         let loss = gradient.f_dot(&self.0)?.f_double_value(&[])? / 2.0;
/// #         Ok(Gradient { loss, tensors: vec![gradient] })
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// # let mut host = Valley(tch::Tensor::from_slice(&[3.0, 1.0]));
/// # let checkpoint = tempfile::tempdir()?;
/// let config = "[schedule]\nevery = 50\n[slq]\nsteps = 2\n[log]\ntensorboard = false\njsonl = false";
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(config)?)?;
/// probe.on_train_begin(&mut host)?;
/// probe.on_step_end(0, &mut host)?;
/// probe.on_save_checkpoint(0, checkpoint.path(), &mut host)?;
/// let state = Sidecar::load(checkpoint.path())?.expect("it was saved");
/// assert_eq!((state.last_probed, state.probes_taken), (Some(0), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// The step after which the checkpoint was written.
    pub step: u64,
    /// Probes taken so far, over all sessions.
    pub probes_taken: u64,
    /// The step of the last of them.
    pub last_probed: Option<u64>,
    /// The loop's count of tokens at the last call, where it has one: token schedules go on from there.
    pub tokens: u64,
    /// What was learned of the gradient.
    pub calibration: Calibration,
    /// How many ranks wrote the vector that tracking starts from, each its part; 0 where there is none.
    #[serde(default)]
    pub top_written_by: usize,
    /// The multiple of the update at which the loss rose when critical sharpness was last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_multiple: Option<f64>,
    /// What triggers go on from.
    #[serde(default, skip_serializing_if = "TriggerState::is_empty")]
    pub triggers: TriggerState,
    /// A hash of the configuration but for where it logs: says whether it was changed.
    pub configuration: u64,
    /// The last snapshot.
    pub latest: Option<Box<Snapshot>>,
}

/// Why a sidecar cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SidecarError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was written by another version of this crate.
    #[error(
        "{} has version {found} of the probe's state, this crate reads version {VERSION}; \
         use the version that wrote it, or delete the directory to let the probe start afresh",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({reason}); take another checkpoint, or delete the directory to let the probe start afresh",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Sidecar {
    /// Where the state lies in a checkpoint.
    #[must_use]
    pub fn path(checkpoint: &Path) -> PathBuf {
        checkpoint.join(DIRECTORY).join(FILE)
    }

    /// Writes the state into a checkpoint: whole, or not at all.
    ///
    /// # Errors
    /// [`SidecarError::Io`].
    pub fn save(&self, checkpoint: &Path) -> Result<(), SidecarError> {
        let path = Self::path(checkpoint);
        let written = || {
            let body = serde_json::to_vec(self)?;
            fs::create_dir_all(checkpoint.join(DIRECTORY))?;
            atomic::write(&path, &wrap(MAGIC, VERSION, &body))?;
            atomic::sync_directory(checkpoint)
        };
        written().map_err(|source| SidecarError::Io { path, source })
    }

    /// Whether the next probe can be counted.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (what, count) in [("probes_taken", self.probes_taken), ("calibration.age", self.calibration.age)]
        {
            if count > MOST_COUNTED {
                return Err(format!("`{what}` is {count}"));
            }
        }
        Ok(())
    }

    /// Reads the state of a checkpoint; `None` where there is none.
    ///
    /// # Errors
    /// As [`SidecarError`] says: a file that is there must be whole.
    pub fn load(checkpoint: &Path) -> Result<Option<Self>, SidecarError> {
        let path = Self::path(checkpoint);
        let io = |source| SidecarError::Io { path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                let reason = format!("it has {} bytes", metadata.len());
                return Err(SidecarError::Damaged { path, reason });
            }
            Ok(_) => {}
        }
        let contents = fs::read(&path).map_err(io)?;
        parse(&contents).map(Some).map_err(|fault| match fault {
            Fault::Version(found) => SidecarError::Version { path, found },
            Fault::Damaged(reason) => SidecarError::Damaged { path, reason },
        })
    }
}

fn parse(contents: &[u8]) -> Result<Sidecar, Fault> {
    let body = unwrap(MAGIC, VERSION, contents)?;
    let sidecar: Sidecar = serde_json::from_slice(body).map_err(|error| Fault::Damaged(error.to_string()))?;
    sidecar.check().map_err(Fault::Damaged)?;
    Ok(sidecar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sidecar() -> Sidecar {
        Sidecar {
            step: 12,
            probes_taken: 3,
            last_probed: Some(10),
            tokens: 1 << 40,
            calibration: Calibration {
                noise: Some(1.25e-7),
                gradient_repeats: Some(true),
                component_noise: Some(1e-9),
                repeat_difference: Some(0.0),
                asymmetry: Some(1e-6),
                age: 2,
                deflated_curvature: vec![(1.0, 2.0)],
                tracked_curvature: vec![(3.0, 1e-3)],
                preconditioned_curvature: vec![(5.0, 2e-3)],
                direction_curvature: vec![(6.0, 3e-3)],
                curvature: vec![(0.1 + 0.2, 1e-300), (3.0, 4.0)],
            },
            top_written_by: 2,
            triggers: TriggerState::default(),
            critical_multiple: Some(0.1 + 0.2),
            configuration: u64::MAX,
            latest: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_missing_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Sidecar::load(directory.path()).unwrap(), None);
        sidecar().save(directory.path()).unwrap();
        assert_eq!(Sidecar::load(directory.path()).unwrap(), Some(sidecar()));
    }

    #[test]
    fn cut_off_at_any_byte_or_with_any_bit_flipped_it_is_an_error_naming_the_path() {
        let directory = tempfile::tempdir().unwrap();
        sidecar().save(directory.path()).unwrap();
        let path = Sidecar::path(directory.path());
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Sidecar::load(directory.path()).unwrap_err();
            assert!(matches!(error, SidecarError::Damaged { .. }), "at {length}: {error}");
            assert!(error.to_string().contains("hessian_probe/state"));
        }
        for position in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[position] ^= 1 << (position % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(Sidecar::load(directory.path()).is_err(), "at {position}");
        }
    }

    #[test]
    fn a_count_that_would_overflow_at_the_next_probe_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let calibration = Calibration { age: u64::MAX, ..Calibration::default() };
        for state in [Sidecar { probes_taken: u64::MAX, ..sidecar() }, Sidecar { calibration, ..sidecar() }] {
            state.save(directory.path()).unwrap();
            let error = Sidecar::load(directory.path()).unwrap_err();
            assert!(matches!(error, SidecarError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let directory = tempfile::tempdir().unwrap();
        sidecar().save(directory.path()).unwrap();
        let path = Sidecar::path(directory.path());
        let text = fs::read_to_string(&path).unwrap().replacen(" 1 ", " 7 ", 1);
        fs::write(&path, text).unwrap();
        let error = Sidecar::load(directory.path()).unwrap_err();
        assert!(matches!(&error, SidecarError::Version { found, .. } if found == "7"), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
