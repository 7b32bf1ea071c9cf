//! The state of a probe that is under way, so that a long one survives the end of its process.
//!
//! # Format
//! Below the directory of the configuration, one directory a training step, `step-N`:
//! - `run-K-vector-J.rank-R-of-W.safetensors`: what rank R of W counts of Lanczos vector J of run K (see `vectors`).
//! - `state`: everything else, as a [`SavedProbe`]: JSON behind one line
//!   `hessian-probe-krylov VERSION LENGTH CHECKSUM`.
//!   It is written after the vectors that it refers to, so that it is never ahead of them, and removed before others are
//!   written in their place.
//!
//! Vectors are found by global index: another number of ranks can go on from them. Whoever finds nothing
//! that fits starts the probe afresh.

use crate::checkpoint::atomic;
use crate::checkpoint::envelope::{Fault, unwrap, wrap};
use crate::checkpoint::sidecar::MOST_COUNTED;
use crate::checkpoint::vectors::{restore, serialise};
use crate::config::{Reorthogonalize, SlqConfig};
use crate::krylov::basis::Basis;
use crate::krylov::lanczos::LanczosState;
use crate::operator::Calibration;
use crate::operator::ProductRecord;
use crate::sharded::layout::Layout;
use crate::spectrum::ProbeRecord;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &str = "hessian-probe-krylov";
const VERSION: u32 = 3;

/// What makes two probes the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) step: u64,
    /// n.
    pub(crate) parameters: u64,
    /// A hash of the bits of θ and where they stand.
    pub(crate) theta: u64,
    /// A hash of the configuration of the quadrature and the products.
    pub(crate) configuration: u64,
}

/// Everything of a probe that is under way but its vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedProbe {
    pub(crate) fingerprint: Fingerprint,
    /// Loss and ‖∇L‖ at θ: what says that the data are the same.
    pub(crate) loss: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) world_size: usize,
    pub(crate) calibration: Calibration,
    /// Runs on the Hessian that are complete, and its products.
    pub(crate) done: Vec<ProbeRecord>,
    pub(crate) products: Vec<ProductRecord>,
    pub(crate) redone: u64,
    /// Where these are all, and one on the preconditioned operator is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) preconditioned: Option<SavedPreconditioned>,
    pub(crate) calibration_gradients: u64,
    pub(crate) gradients: u64,
    /// The run under way, and which of its vectors are on the disk.
    pub(crate) lanczos: LanczosState,
    pub(crate) first_vector: usize,
    pub(crate) vectors: usize,
}

/// The runs on the preconditioned operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedPreconditioned {
    /// Those that are complete, and their products.
    pub(crate) done: Vec<ProbeRecord>,
    pub(crate) products: Vec<ProductRecord>,
    /// Of all runs, the Hessian's among them.
    pub(crate) redone: u64,
    /// What the operator remembers of its last product.
    pub(crate) last: Option<f64>,
}

impl SavedProbe {
    /// The Lanczos steps of all runs.
    pub(crate) fn steps(&self) -> usize {
        self.products.len() + self.preconditioned.as_ref().map_or(0, |saved| saved.products.len())
    }

    /// The number of the run under way.
    fn run(&self) -> usize {
        self.done.len() + self.preconditioned.as_ref().map_or(0, |saved| saved.done.len())
    }

    /// Whether its parts fit together, for the probe that `slq` describes and a basis of `capacity` vectors. The
    /// checksum says that this is what somebody wrote; everything behind it indexes without looking again.
    pub(crate) fn check(&self, slq: &SlqConfig, capacity: usize) -> Result<(), &'static str> {
        let run = &self.lanczos.run;
        let steps = run.alpha.len();
        let partial = slq.reorthogonalize == Reorthogonalize::Partial;
        let redone = self.preconditioned.as_ref().map_or(self.redone, |saved| saved.redone);
        let counts = [self.calibration.age, redone, self.calibration_gradients, self.gradients];
        let planned = if slq.operator.includes_hessian() { slq.probes } else { 0 };
        let as_planned = match &self.preconditioned {
            None => self.done.len() < planned,
            Some(saved) => {
                !slq.operator.is_hessian() && self.done.len() == planned && saved.done.len() < slq.probes
            }
        };
        let preconditioned = self.preconditioned.iter().flat_map(|saved| &saved.done);
        let checks = [
            ("no rank wrote it", self.world_size > 0),
            ("it counts more than there can be", counts.iter().all(|&count| count <= MOST_COUNTED)),
            ("it redid more than it counts", self.redone <= redone),
            ("its run is complete", (1..slq.steps).contains(&steps) && run.breakdown.is_none()),
            ("its T is not whole", run.beta.len() == steps && run.errors.len() == steps),
            ("it reorthogonalised more often than it took steps", run.reorthogonalized <= steps),
            ("its estimates of orthogonality are not whole", self.lanczos.omega.is_of(steps, partial)),
            ("it has another number of vectors", self.vectors == steps + 1),
            ("its first vector is another", self.first_vector == self.vectors.saturating_sub(capacity)),
            ("its runs are not those that were asked for", as_planned),
            ("a run before is not whole", (0..).zip(&self.done).all(|(index, run)| is_whole(index, run))),
            ("a run before is not whole", (0..).zip(preconditioned).all(|(index, run)| is_whole(index, run))),
        ];
        checks.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(reason, _)| Err(reason))
    }
}

/// Whether everything in the record of run number `index` is of the same length.
fn is_whole(index: u64, run: &ProbeRecord) -> bool {
    let nodes = run.nodes.len();
    let of_nodes = [&run.weights, &run.residuals, &run.hvp_errors];
    run.index == index
        && nodes > 0
        && run.nodes.is_sorted()
        && of_nodes.iter().all(|values| values.len() == nodes)
        && run.alpha.len() == run.beta.len()
        && run.breakdown.is_none_or(|steps| steps == run.alpha.len())
}

/// The directory of one probe.
#[derive(Debug)]
pub(crate) struct KrylovStore {
    directory: PathBuf,
    rank: usize,
    world_size: usize,
    /// The run under way. Its vectors have names of their own: until the first state of it is written, that on the disk
    /// refers to those of the run before.
    run: usize,
    /// Vectors of the present run that are on the disk.
    written: usize,
}

impl KrylovStore {
    pub(crate) fn new(directory: &Path, step: u64, rank: usize, world_size: usize) -> Self {
        Self { directory: directory.join(format!("step-{step}")), rank, world_size, run: 0, written: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    fn vector_path(&self, run: usize, index: usize, rank: usize, world_size: usize) -> PathBuf {
        self.directory.join(format!("run-{run}-vector-{index}.rank-{rank}-of-{world_size}.safetensors"))
    }

    fn state_path(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Writes this rank's part of the vectors that are not on the disk yet.
    pub(crate) fn write_vectors(&mut self, layout: &Layout, basis: &Basis) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        for index in self.written.max(basis.oldest())..basis.len() {
            let vector = basis.vector(index).map_err(io::Error::other)?;
            let path = self.vector_path(self.run, index, self.rank, self.world_size);
            atomic::write(&path, &serialise(layout, &vector)?)?;
        }
        self.written = basis.len();
        Ok(())
    }

    /// Writes what refers to them: rank 0, once all ranks have written theirs.
    pub(crate) fn write_state(&self, saved: &SavedProbe) -> io::Result<()> {
        let body = serde_json::to_vec(saved)?;
        atomic::write(&self.state_path(), &wrap(MAGIC, VERSION, &body))
    }

    /// A run ended. Its vectors are needed until there is a state of the next one; those of the run before it are of no more
    /// use, if it was saved itself.
    pub(crate) fn next_run(&mut self) {
        if let Some(before) = self.run.checked_sub(1).filter(|_| self.written > 0) {
            let paths = (0..).map(|index| self.vector_path(before, index, self.rank, self.world_size));
            // A window keeps the last ones only: the first that is missing says nothing.
            let most = self.written;
            paths.take(most).for_each(|path| drop(fs::remove_file(path)));
        }
        self.run += 1;
        self.written = 0;
    }

    /// What was saved is of no use: the first run is to be. The state goes before vectors of other values take the names of
    /// those that it refers to: all ranks communicate before they write any.
    pub(crate) fn afresh(&mut self) {
        self.remove_state();
        self.run = 0;
        self.written = 0;
    }

    fn remove_state(&self) {
        let path = self.state_path();
        self.remove_with(&path, |path| {
            fs::remove_file(path).and_then(|()| atomic::sync_directory(&self.directory))
        });
    }

    /// By rank 0: what is not there is removed.
    fn remove_with(&self, path: &Path, remove: impl FnOnce(&Path) -> io::Result<()>) {
        if self.rank == 0
            && let Err(error) = remove(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{} cannot be removed: {error}", path.display());
        }
    }

    /// What was saved; `None` where nothing was.
    pub(crate) fn read_state(&self) -> io::Result<Option<SavedProbe>> {
        match fs::read(self.state_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(contents) => parse(&contents).map(Some),
        }
    }

    /// Fills the basis with the saved vectors of a probe that was [checked](SavedProbe::check).
    pub(crate) fn read_vectors(
        &mut self,
        layout: &Layout,
        basis: &mut Basis,
        saved: &SavedProbe,
    ) -> io::Result<()> {
        basis.skip_to(saved.first_vector);
        for index in saved.first_vector..saved.vectors {
            let row = basis.next_row().map_err(io::Error::other)?;
            let mut filled = 0;
            for rank in 0..saved.world_size {
                let contents = fs::read(self.vector_path(saved.run(), index, rank, saved.world_size))?;
                filled += restore(layout, &row, &contents)?;
            }
            if filled != layout.local_len() {
                let reason =
                    format!("vector {index} has {filled} of this rank's {} entries", layout.local_len());
                return Err(invalid(reason));
            }
            basis.commit().map_err(io::Error::other)?;
        }
        self.run = saved.run();
        // Other ranks' files do not count where their number has changed.
        self.written = if saved.world_size == self.world_size { saved.vectors } else { 0 };
        Ok(())
    }

    /// The probe is complete. The state goes first: a process killed amid this leaves none whose vectors are gone.
    pub(crate) fn remove(&self) {
        self.remove_state();
        self.remove_with(&self.directory, |directory| fs::remove_dir_all(directory));
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn parse(contents: &[u8]) -> io::Result<SavedProbe> {
    let body = unwrap(MAGIC, VERSION, contents).map_err(|fault| match fault {
        Fault::Version(found) => invalid(format!("it is of version {found}, not {VERSION}")),
        Fault::Damaged(reason) => invalid(reason),
    })?;
    serde_json::from_slice(body).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpectrumOf;
    use crate::krylov::lanczos::LanczosRun;
    use proptest::prelude::*;

    #[test]
    fn a_state_reads_back_and_is_refused_when_cut_off_at_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let store = KrylovStore::new(directory.path(), 4, 0, 1);
        assert!(store.read_state().unwrap().is_none());
        fs::create_dir_all(store.path()).unwrap();
        let saved = SavedProbe { loss: 0.1 + 0.2, vectors: 3, ..SavedProbe::default() };
        store.write_state(&saved).unwrap();
        assert_eq!(store.read_state().unwrap(), Some(saved));
        let whole = fs::read(store.state_path()).unwrap();
        for length in 0..whole.len() {
            fs::write(store.state_path(), &whole[..length]).unwrap();
            assert!(store.read_state().is_err(), "at {length}");
        }
        store.remove();
        assert!(!store.path().exists());
    }

    /// A second run after two steps, with all of its vectors.
    fn under_way() -> SavedProbe {
        let run = LanczosRun {
            alpha: vec![1.0, 2.0],
            beta: vec![0.5, 0.25],
            errors: vec![0.0; 2],
            ..LanczosRun::default()
        };
        let record = ProbeRecord {
            alpha: vec![1.0],
            beta: vec![0.0],
            nodes: vec![1.0],
            weights: vec![1.0],
            residuals: vec![0.0],
            hvp_errors: vec![0.0],
            ..ProbeRecord::default()
        };
        SavedProbe {
            world_size: 1,
            done: vec![record],
            lanczos: LanczosState { run, ..LanczosState::default() },
            vectors: 3,
            ..SavedProbe::default()
        }
    }

    #[test]
    fn a_state_whose_parts_do_not_fit_together_is_refused() {
        let slq = SlqConfig { steps: 4, probes: 2, ..SlqConfig::default() };
        under_way().check(&slq, 5).unwrap();
        type Change = fn(&mut SavedProbe);
        let changes: [Change; 15] = [
            |saved| saved.world_size = 0,
            |saved| saved.redone = u64::MAX,
            |saved| saved.calibration.age = u64::MAX,
            |saved| saved.lanczos.run.beta.truncate(1),
            |saved| saved.lanczos.run.errors.clear(),
            |saved| saved.lanczos.run.breakdown = Some(9),
            |saved| saved.lanczos.run = LanczosRun::default(),
            |saved| saved.lanczos.run.reorthogonalized = usize::MAX,
            |saved| saved.vectors = usize::MAX,
            |saved| saved.first_vector = 2,
            |saved| saved.done.push(saved.done[0].clone()),
            |saved| saved.done[0].hvp_errors.clear(),
            |saved| saved.done[0].nodes.clear(),
            |saved| saved.done[0].index = 7,
            |saved| saved.preconditioned = Some(SavedPreconditioned::default()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut saved = under_way();
            change(&mut saved);
            assert!(saved.check(&slq, 5).is_err(), "change {number}");
        }
        // Of both operators: the Hessian's runs are complete before the other's begin.
        let both = SlqConfig { operator: SpectrumOf::Both, ..slq.clone() };
        let mut second = under_way();
        second.done.push(ProbeRecord { index: 1, ..second.done[0].clone() });
        let other =
            SavedPreconditioned { done: vec![second.done[0].clone()], ..SavedPreconditioned::default() };
        second.preconditioned = Some(other);
        second.check(&both, 5).unwrap();
        let changes: [Change; 4] = [
            |saved| saved.preconditioned = None,
            |saved| saved.done.truncate(1),
            |saved| saved.redone = 1,
            |saved| saved.preconditioned.as_mut().unwrap().done[0].nodes.clear(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut saved = second.clone();
            change(&mut saved);
            assert!(saved.check(&both, 5).is_err(), "change {number} of both");
        }
        let alone = SlqConfig { operator: SpectrumOf::Preconditioned, ..slq.clone() };
        assert!(second.check(&alone, 5).is_err());
        second.done.clear();
        second.check(&alone, 5).unwrap();
        // Under partial reorthogonalisation there are estimates, too; of a window the oldest vectors are gone.
        let partial = SlqConfig { reorthogonalize: Reorthogonalize::Partial, ..slq.clone() };
        assert!(under_way().check(&partial, 5).is_err());
        assert!(under_way().check(&slq, 2).is_err());
        SavedProbe { first_vector: 1, ..under_way() }.check(&slq, 2).unwrap();
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
