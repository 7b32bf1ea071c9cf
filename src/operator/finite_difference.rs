//! Hessian-vector products from differences of the host's gradient.

use crate::config::HvpConfig;
use crate::cost::clock::{Moment, Region};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::{Operator, Product};
use crate::operator::calibration::{AT_THETA, Calibration};
use crate::operator::guard::Guard;
use crate::operator::measure::Measured;
use crate::operator::scheme::Scheme;
use crate::operator::step::{Curvature, StepRange, ratio};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::ShardedVector;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tch::{TchError, Tensor};

pub(super) const PRODUCT: &str = "a Hessian-vector product";

/// How often a product is computed again at most.
const MAX_REDONE: usize = 3;

/// A larger parity ratio says no more than that there is nothing but noise; finite, as records must be.
const MAX_PARITY: f64 = 1e3;

/// How one product went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductRecord {
    /// The formula.
    pub scheme: Scheme,
    /// The step h asked for; 0 where the formula has none.
    pub step: f64,
    /// The predicted relative error.
    pub error: f64,
    /// The parity ratio p, measured (two-sided) or carried over (forward).
    pub parity: f64,
    /// ρ, the relative part of the displacement that is not along v.
    pub rounding: f64,
}

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
    may_redo: Option<u64>,
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
    product_time: Duration,
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

    /// One product with the scheme and step given; its record, the curvature it found, and the error by which choices
    /// are made.
    pub(super) fn attempt(
        &mut self,
        v: &Tensor,
        w: &mut Tensor,
        scheme: Scheme,
        h: f64,
        foreseen: Option<Curvature>,
    ) -> Result<(Measured, ProductRecord, Curvature, f64)> {
        let measured = match scheme {
            Scheme::Central4 => self.central4(v, h, w)?,
            Scheme::Central => self.central(v, h, w, PRODUCT)?,
            Scheme::Forward | Scheme::Exact => self.forward(v, h, w)?,
        };
        let norm = measured.norm();
        let (parity, curvature) = match measured.even {
            Some(even) => {
                let parity = ratio(even, 2.0 * measured.odd).min(MAX_PARITY);
                (parity, self.measured_curvature(&measured, parity))
            }
            None => {
                let curvature =
                    foreseen.map_or(Curvature { norm, parity: 0.0 }, |foreseen| foreseen.rescaled(norm));
                (curvature.parity * measured.realised, curvature)
            }
        };
        // Absolute errors: they stay meaningful where Hv itself is noise.
        let truncation = scheme.truncation(parity.max(measured.truncation.sqrt()));
        let absolute = |noise: f64| truncation * norm + scheme.noise_factor() * noise / measured.realised;
        let record = ProductRecord {
            scheme,
            step: h,
            error: relative(absolute(self.noise), norm),
            parity,
            rounding: measured.rounding,
        };
        let deciding = relative(absolute(self.rounded_noise()), norm);
        Ok((measured, record, curvature, deciding))
    }

    /// [`attempt`](Self::attempt) with a larger step where an automatic one was so small that no parameter moved: the
    /// sums that tell so are the same on every rank.
    fn attempt_with(
        &mut self,
        v: &Tensor,
        w: &mut Tensor,
        scheme: Scheme,
        h: &mut f64,
        foreseen: Option<Curvature>,
    ) -> Result<(Measured, ProductRecord, Curvature, f64)> {
        match self.attempt(v, w, scheme, *h, foreseen) {
            Err(Error::StepTooSmall { .. })
                if self.fixed_step().is_none() && self.range.is_below_rounding(*h) =>
            {
                *h = self.range.fit_above_rounding(*h);
                self.attempt(v, w, scheme, *h, foreseen)
            }
            outcome => outcome,
        }
    }

    /// One product by the host's own derivative of the gradient. Its error is rounding, of which nothing is
    /// measured: it is taken to be that of the parameters' type.
    fn exact_product(&mut self, v: &Tensor, w: &mut Tensor) -> Result<Product> {
        let (norm, alpha) = self.exact(v, w)?;
        let error = self.guard.roundoff();
        let record = ProductRecord { scheme: Scheme::Exact, step: 0.0, error, parity: 0.0, rounding: 0.0 };
        self.products.push(record);
        Ok(Product { scale: 1.0, alpha, norm, error: error * norm })
    }

    /// One product: which formula and step, and whether again.
    fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product> {
        if index == 0 {
            self.last = None;
        }
        if self.interrupter.is_interrupted() {
            // This rank still takes part in the gradient that the others are about to compute.
            self.pending.get_or_insert(Error::Interrupted { rank: self.ranks.rank() });
        }
        let mut known = self.foreseen(index, expected_norm);
        let mut scheme = self.scheme_for(index, known);
        if scheme == Scheme::Exact {
            return self.exact_product(q, target);
        }
        let mut h = self.step_for(scheme, known);
        let (mut measured, mut record, mut curvature, mut error) =
            self.attempt_with(q, target, scheme, &mut h, known)?;
        for _ in 0..MAX_REDONE {
            // Along a run's start, from whose step others follow, a longer one is worth a try: in bf16 noise hides the
            // curvature's change at steps that are several times too short.
            let explores = index == 0 && self.even_is_noise(&measured, record.parity);
            let better = self.better(scheme, curvature, h, error, record.parity, explores);
            let Some(better) = better else { break };
            match &mut self.may_redo {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
            ((scheme, h), known) = (better, Some(curvature));
            self.redone += 1;
            (measured, record, curvature, error) = self.attempt_with(q, target, scheme, &mut h, known)?;
        }
        self.remember(index, curvature);
        self.products.push(record);
        Ok(measured.product(&record))
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

    /// Now, and what this operator has spent so far.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            at: Instant::now(),
            gradients: self.guard.gradient_time,
            all_reduces: self.ranks.seconds,
            products: self.product_time,
        }
    }

    /// Adds the time since `from` that this operator's own parts do not have. Returns the present moment.
    pub(crate) fn lap(&self, from: Moment, spent: &mut Duration) -> Moment {
        let now = self.moment();
        *spent += from.own_until(now);
        now
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

    /// Restores θ₀ and everything else; returns what the products cost: gradients, seconds in them,
    /// and the reductions of this operator.
    pub(crate) fn finish(mut self) -> Result<Spent> {
        let mut spent = Spent {
            gradients: self.guard.gradients,
            gradient_seconds: self.guard.gradient_time.as_secs_f64(),
            all_reduces: self.ranks.all_reduces,
            reduced_values: self.ranks.values,
            communication_seconds: self.ranks.seconds.as_secs_f64(),
            vector_bytes: self.guard.bytes() + 2 * self.layout.vector_bytes(),
            noise: self.noise,
            products: self.product_time,
            saving: self.saving_time,
            calibrating: self.calibrating,
        };
        self.pending = None;
        let started = Instant::now();
        self.guard.restore()?;
        spent.saving += started.elapsed();
        Ok(spent)
    }
}

/// What the products of a snapshot cost on this rank.
pub(crate) struct Spent {
    pub(crate) gradients: u64,
    pub(crate) gradient_seconds: f64,
    pub(crate) all_reduces: u64,
    pub(crate) reduced_values: u64,
    pub(crate) communication_seconds: f64,
    pub(crate) vector_bytes: u64,
    pub(crate) noise: f64,
    pub(crate) products: Duration,
    pub(crate) saving: Duration,
    pub(crate) calibrating: Region,
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

/// The relative error of a product of norm `norm`; 1 where there is nothing but noise.
fn relative(error: f64, norm: f64) -> f64 {
    if error == 0.0 {
        0.0
    } else if norm > 0.0 {
        error / norm
    } else {
        1.0
    }
}
