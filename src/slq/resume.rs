//! A probe that goes on where an earlier process ended.

use super::Lent;
use crate::checkpoint::krylov::{Fingerprint, KrylovStore, SavedPreconditioned, SavedProbe};
use crate::config::{ProbeConfig, SlqConfig};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::host::Host;
use crate::krylov::{Basis, LanczosState, Operator};
use crate::operator::ProductRecord;
use crate::operator::step::ratio;
use crate::operator::{Calibration, FiniteDifference};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::chunks;
use crate::spectrum::ProbeRecord;
use tch::{TchError, Tensor};

const RESUMING: &str = "resuming a probe";
const SAVING: &str = "saving a probe that is under way";

/// Tells second moments from parameters.
const MOMENTS: u64 = 0x7632;

/// Loss and gradient of the same data on another number of ranks differ by rounding.
const SAME: f64 = 1e-5;

/// Saves a probe every so many steps, and what it found saved.
pub(super) struct Resume {
    store: KrylovStore,
    fingerprint: Fingerprint,
    every: usize,
    saved: Option<SavedProbe>,
    /// Those of earlier processes, and the one that told that their data were others.
    gradients_before: u64,
    /// Once the runs on the Hessian are complete: they and their products.
    complete: Option<(Vec<ProbeRecord>, Vec<ProductRecord>, u64)>,
    broken: bool,
}

/// What an earlier process left.
#[derive(Default)]
pub(super) struct Restored {
    /// Runs on the Hessian that are complete.
    pub(super) done: Vec<ProbeRecord>,
    /// The run under way.
    pub(super) begun: Option<LanczosState>,
    /// The runs on the preconditioned operator before it, if it is one of these.
    pub(super) preconditioned: Option<SavedPreconditioned>,
}

impl Resume {
    /// Where probes are saved: looks for one of the same step, parameters and configuration, whose vectors
    /// are then in the basis. Collective.
    pub(super) fn new(
        host: &dyn Host,
        layout: &Layout,
        config: &ProbeConfig,
        lent: &Lent,
        step: u64,
        ranks: &mut Ranks,
        basis: &mut Basis,
    ) -> Result<Option<Self>> {
        let Some(every) = config.resume.every else { return Ok(None) };
        let rank = ranks.rank();
        let tensors: Vec<Tensor> = host.shards().into_iter().map(|shard| shard.tensor).collect();
        let preconditioner = lent.preconditioner();
        let local = hash(layout, &tensors, 0).and_then(|theta| {
            // P is as much of the preconditioned operator as θ is.
            let moments = preconditioner.map_or(Ok(0), |it| hash(layout, it.second_moments(), MOMENTS))?;
            Ok(theta.wrapping_add(moments))
        });
        let local = local.map_err(|source| Error::Torch { rank, during: RESUMING, source });
        let limbs = local.map(|hash| (0..4).map(|k| (hash >> (16 * k) & 0xffff) as f64).collect());
        let limbs = ranks.sum(host, RESUMING, 4, limbs)?;
        let theta = limbs.iter().rev().fold(0_u64, |hash, &limb| (hash << 16).wrapping_add(limb as u64));
        let theta = preconditioner.map_or(theta, |it| theta.wrapping_add(mix(it.correction().to_bits())));
        let fingerprint = Fingerprint {
            step,
            parameters: layout.parameters(),
            theta,
            configuration: fingerprint(config, layout),
        };
        let mut store = KrylovStore::new(&config.resume_directory(), step, rank, ranks.world_size());
        let saved = read(&mut store, layout, &config.slq, basis, fingerprint);
        // All ranks have the same, or none has any.
        let seen = saved.as_ref().map_or(0.0, |saved| 1.0 + saved.steps() as f64);
        let saved = if ranks.differs(host, RESUMING, seen)? { None } else { saved };
        if saved.is_none() {
            store.afresh();
        }
        Ok(Some(Self {
            store,
            fingerprint,
            every,
            saved,
            gradients_before: 0,
            complete: None,
            broken: false,
        }))
    }

    pub(super) fn saved(&self) -> Option<&SavedProbe> {
        self.saved.as_ref()
    }

    /// Whether what was saved is of other data, as loss and gradient at θ tell: then it is of no use. Collective where
    /// something was saved.
    pub(super) fn refuses(&mut self, operator: &mut FiniteDifference<'_, '_>) -> Result<bool> {
        let Some(saved) = &self.saved else { return Ok(false) };
        let off = |a: f64, b: f64| ratio((a - b).abs(), b.abs()) > SAME;
        let other = off(operator.loss, saved.loss) || off(operator.gradient_norm, saved.gradient_norm);
        if operator.sum(RESUMING, 1, Ok(vec![f64::from(u8::from(other))]))?[0] == 0.0 {
            return Ok(false);
        }
        let level = if operator.rank() == 0 { ::log::Level::Warn } else { ::log::Level::Debug };
        let path = self.store.path().display();
        ::log::log!(level, "{path}: the saved probe is of other data; the probe starts afresh");
        self.saved = None;
        self.store.afresh();
        self.gradients_before = operator.gradients();
        Ok(true)
    }

    /// Takes up what was saved: the runs that are complete, and the state of the one under way.
    pub(super) fn restore(&mut self, operator: &mut FiniteDifference<'_, '_>) -> Restored {
        let Some(saved) = self.saved.take() else { return Restored::default() };
        ::log::info!(
            "step {}: going on with a probe after {} of its Lanczos steps",
            self.fingerprint.step,
            saved.steps()
        );
        operator.products = saved.products;
        operator.redone = saved.redone;
        operator.calibration_gradients = saved.calibration_gradients;
        if saved.preconditioned.is_none() {
            operator.go_on_from(saved.lanczos.run.alpha.len());
        }
        self.gradients_before = saved.gradients;
        Restored { done: saved.done, begun: Some(saved.lanczos), preconditioned: saved.preconditioned }
    }

    /// The runs on the Hessian are complete: those on the preconditioned operator begin.
    pub(super) fn complete(&mut self, done: &[ProbeRecord], products: &[ProductRecord], redone: u64) {
        self.complete = Some((done.to_vec(), products.to_vec(), redone));
    }

    /// Saves the run under way, if it is time; with what the operator remembers of its `last` product, if it is the
    /// preconditioned one. A failure to write ends the saving, not the probe. Collective.
    pub(super) fn save(
        &mut self,
        operator: &mut FiniteDifference<'_, '_>,
        basis: &Basis,
        done: &[ProbeRecord],
        (lanczos, last): (&LanczosState, Option<f64>),
    ) -> Result<()> {
        if self.broken || !lanczos.run.alpha.len().is_multiple_of(self.every) {
            return Ok(());
        }
        let written = self.store.write_vectors(operator.layout(), basis);
        // A collective in any case: it also carries what was deferred, before a state says that all is well.
        let failed = operator.sum(SAVING, 1, Ok(vec![f64::from(written.is_err())]))?[0];
        let saved = || {
            let mut saved = SavedProbe {
                fingerprint: self.fingerprint,
                loss: operator.loss,
                gradient_norm: operator.gradient_norm,
                world_size: operator.world_size(),
                calibration: operator.calibration().clone(),
                done: done.to_vec(),
                products: operator.products.clone(),
                redone: operator.redone,
                preconditioned: None,
                calibration_gradients: operator.calibration_gradients,
                gradients: self.gradients_before + operator.gradients(),
                lanczos: lanczos.clone(),
                first_vector: basis.oldest(),
                vectors: basis.len(),
            };
            if let Some((before, products, redone)) = self.complete.clone() {
                // As it is between runs, each kind of which has a memory of its own.
                let Calibration { curvature, preconditioned_curvature, .. } = &mut saved.calibration;
                std::mem::swap(curvature, preconditioned_curvature);
                saved.preconditioned = Some(SavedPreconditioned {
                    done: std::mem::replace(&mut saved.done, before),
                    products: std::mem::replace(&mut saved.products, products),
                    redone: std::mem::replace(&mut saved.redone, redone),
                    last,
                });
            }
            saved
        };
        let state = match written {
            Ok(()) if failed == 0.0 && operator.rank() == 0 => self.store.write_state(&saved()),
            other => other,
        };
        if let Err(error) = state {
            ::log::warn!("{}: {error}; the probe goes on unsaved", self.store.path().display());
        }
        self.broken = failed > 0.0;
        Ok(())
    }

    pub(super) fn next_run(&mut self) {
        self.store.next_run();
    }

    /// The probe is complete. Returns the gradients that its operator does not count.
    pub(super) fn finish(self) -> u64 {
        self.store.remove();
        self.gradients_before
    }
}

/// What this rank finds of the same probe. What cannot be used is no error: the probe starts afresh.
fn read(
    store: &mut KrylovStore,
    layout: &Layout,
    slq: &SlqConfig,
    basis: &mut Basis,
    wanted: Fingerprint,
) -> Option<SavedProbe> {
    let mut found = || {
        let Some(saved) = store.read_state()?.filter(|saved| saved.fingerprint == wanted) else {
            return Ok(None);
        };
        saved.check(slq, basis.capacity()).map_err(std::io::Error::other)?;
        store.read_vectors(layout, basis, &saved)?;
        Ok(Some(saved))
    };
    let found: std::io::Result<_> = found();
    found.unwrap_or_else(|error| {
        ::log::warn!("{}: {error}; the probe starts afresh", store.path().display());
        None
    })
}

/// A hash of what decides T.
fn fingerprint(config: &ProbeConfig, layout: &Layout) -> u64 {
    let deciding = ProbeConfig { slq: config.slq.clone(), hvp: config.hvp.clone(), ..ProbeConfig::default() };
    let text = format!("{}{:?}", deciding.to_toml(), layout.kind());
    fnv1a(text.bytes())
}

/// Σ over this rank's counted entries of a hash of (global index, bits), modulo 2⁶⁴: the sum over ranks
/// does not depend on how entries are spread.
fn hash(layout: &Layout, tensors: &[Tensor], salt: u64) -> Result<u64, TchError> {
    let mut sum = 0_u64;
    for chunk in chunks(layout).filter(|chunk| chunk.counted) {
        let piece = chunk.of_shard(tensors)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        let size = piece.kind().elt_size_in_bytes();
        let mut bytes = vec![0; chunk.len as usize * size];
        piece.f_copy_data_u8(&mut bytes, chunk.len as usize)?;
        for (index, entry) in (chunk.global_offset..).zip(bytes.chunks_exact(size)) {
            let bits = entry.iter().rev().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
            sum = sum.wrapping_add(mix(bits ^ mix(index ^ salt << 48)));
        }
    }
    Ok(sum)
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
