//! Hessian-vector products from differences of the host's gradient.

use crate::config::HvpConfig;
use crate::cost::clock::Region;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::{Operator, Product};
use crate::operator::calibration::{AT_THETA, Calibration};
use crate::operator::guard::Guard;
use crate::operator::product::ProductRecord;
use crate::operator::step::{Curvature, StepRange};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::ShardedVector;
use std::time::{Duration, Instant};
use tch::{TchError, Tensor};

/// What an operator may look at before its first product.
#[derive(Clone, Copy, Debug)]
pub struct Start<'v> {
    /// The unit vector of the first product: the noise is measured along it, and so is its curvature.
    pub vector: &'v Tensor,
    /// Scratch for a second vector, without which the operator's asymmetry is not measured.
    pub spare: Option<&'v Tensor>,
}

/// The Hessian of the host's loss, as an operator. θ is perturbed on the host's own shards and
/// restored by the guard that the operator owns.
pub struct FiniteDifference<'a, 'h> {
    pub(super) guard: Guard<'h>,
    pub(super) layout: &'a Layout,
    pub(super) config: &'a HvpConfig,
    pub(super) calibration: &'a mut Calibration,
    pub(super) ranks: Ranks,
    pub(super) interrupter: &'a Interrupter,
    pub(super) pending: Option<Error>,
    pub(super) origin: ShardedVector,
    pub(super) range: StepRange,
    /// η: the noise of one gradient that predictions count with.
    pub(crate) noise: f64,
    pub(super) last: Option<Curvature>,
    /// How many more products may be computed again; `None`: any number.
    pub(super) may_redo: Option<u64>,
    /// The loss at θ₀.
    pub loss: f64,
    /// ‖∇L‖ at θ₀.
    pub gradient_norm: f64,
    /// ‖θ₀‖.
    pub parameter_norm: f64,
    /// The products so far, in order.
    pub products: Vec<ProductRecord>,
    /// Products that were computed again.
    pub redone: u64,
    /// Gradients that went into measuring the noise.
    pub calibration_gradients: u64,
    /// Vector work of products.
    pub(super) product_time: Duration,
    /// Saving θ₀ and g(θ₀).
    pub(super) saving_time: Duration,
    /// Measuring the noise.
    pub(super) calibrating: Region,
}

impl<'a, 'h> FiniteDifference<'a, 'h> {
    /// Borrows the host, computes g(θ₀), and measures η where it is due. `w` is scratch. Once `interrupter` is
    /// set, on any rank, the next product is an error on all. Collective.
    ///
    /// # Errors
    /// When the host fails or its gradient is not finite, on any rank.
    pub fn new(
        host: &'h mut dyn Host,
        layout: &'a Layout,
        config: &'a HvpConfig,
        calibration: &'a mut Calibration,
        interrupter: &'a Interrupter,
        start: Start<'_>,
        w: &mut Tensor,
    ) -> Result<Self> {
        let mut ranks = Ranks::new(host);
        let mut guard = Guard::new(host, config.precision);
        let started = Instant::now();
        let saved = guard.save().and_then(|()| {
            ShardedVector::zeros(layout).map_err(|source| Error::Torch {
                rank: guard.rank(),
                during: AT_THETA,
                source,
            })
        });
        let saving_time = started.elapsed();
        let origin = ranks.agree(guard.host(), AT_THETA, saved)?;
        let mut operator = Self {
            guard,
            layout,
            config,
            calibration,
            ranks,
            interrupter,
            pending: None,
            origin,
            range: StepRange::new(1.0, 1.0),
            noise: 0.0,
            last: None,
            may_redo: None,
            loss: 0.0,
            gradient_norm: 0.0,
            parameter_norm: 0.0,
            products: Vec::new(),
            redone: 0,
            calibration_gradients: 0,
            product_time: Duration::ZERO,
            saving_time,
            calibrating: Region::default(),
        };
        operator.look(start, w)?;
        Ok(operator)
    }

    pub(crate) fn world_size(&self) -> usize {
        self.ranks.world_size()
    }

    pub(crate) fn calibration(&self) -> &Calibration {
        self.calibration
    }

    /// From now on, so many products at most are computed again.
    pub(crate) fn limit_redone(&mut self, limit: Option<u64>) {
        self.may_redo = limit;
    }

    /// g(θ₀), as an alias.
    pub(crate) fn gradient_at_origin(&self) -> Tensor {
        self.origin.tensor().shallow_clone()
    }

    /// From here on runs are those of another kind, which meet another curvature and have a memory of their own in
    /// the calibration; or the other way round.
    pub(crate) fn swap_memory(&mut self, of: fn(&mut Calibration) -> &mut Vec<(f64, f64)>) {
        let mut memory = std::mem::take(of(self.calibration));
        self.exchange_curvature(&mut memory);
        *of(self.calibration) = memory;
    }

    /// Gradients computed so far.
    pub(crate) fn gradients(&self) -> u64 {
        self.guard.gradients
    }

    /// The run's first `steps` products were those of another process, whose calibration this one has.
    pub(crate) fn go_on_from(&mut self, steps: usize) {
        let last = steps.checked_sub(1).and_then(|index| self.calibration.curvature.get(index));
        self.last = last.map(|&(norm, parity)| Curvature { norm, parity });
    }
}

impl Operator for FiniteDifference<'_, '_> {
    fn layout(&self) -> &Layout {
        self.layout
    }

    fn apply(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product> {
        let before = self.moment();
        let product = self.product(index, q, expected_norm, target);
        self.product_time += before.own_until(self.moment());
        product
    }

    fn sum(
        &mut self,
        during: &'static str,
        len: usize,
        local: Result<Vec<f64>, TchError>,
    ) -> Result<Vec<f64>> {
        let rank = self.ranks.rank();
        let local = match self.pending.take() {
            Some(error) => Err(error),
            None => local.map_err(|source| Error::Torch { rank, during, source }),
        };
        self.ranks.sum(self.guard.host(), during, len, local)
    }

    fn defer(&mut self, during: &'static str, local: Result<(), TchError>) {
        if let Err(source) = local {
            let rank = self.ranks.rank();
            self.pending.get_or_insert(Error::Torch { rank, during, source });
        }
    }

    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn exchange_curvature(&mut self, memory: &mut Vec<(f64, f64)>) {
        std::mem::swap(&mut self.calibration.curvature, memory);
        self.last = None;
    }
}
