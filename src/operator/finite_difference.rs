//! Hessian-vector products from differences of the host's gradient.

use crate::config::{Difference, HvpConfig, StepSize};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::krylov::lanczos::{Operator, Product};
use crate::operator::difference::{self, From};
use crate::operator::guard::Guard;
use crate::operator::noise;
use crate::operator::step::{Curvature, StepRange, nearest_power};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums::{self, Sums};
use crate::sharded::vector::{ShardedVector, chunks};
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

const PRODUCT: &str = "a Hessian-vector product";
const AT_THETA: &str = "the gradient at the unperturbed parameters";
const NOISE: &str = "measuring the gradient's noise";

/// Every so many vectors a product is central, so that its parity ratio is measured.
const PARITY_EVERY: usize = 8;
/// How often a product is computed again at most.
const MAX_REDONE: usize = 3;
/// How much larger than the step just used the next one may be: beyond, its error is a guess.
const MAX_GROWTH: f64 = 8.0;

/// What one probe learns about the gradient and hands on to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// η, the norm of the noise of one gradient.
    pub noise: Option<f64>,
    /// Whether two gradients at the same parameters had the same bits.
    pub gradient_repeats: Option<bool>,
    /// Snapshots since the noise was measured.
    pub age: u64,
    /// For each vector of a run, ‖Hq_j‖ and the parity ratio per unit of h.
    pub curvature: Vec<(f64, f64)>,
}

/// How one product went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProductRecord {
    /// Whether it was a central difference.
    pub central: bool,
    /// The step h asked for.
    pub step: f64,
    /// The predicted relative error.
    pub error: f64,
    /// The parity ratio p, measured (central) or carried over (forward).
    pub parity: f64,
    /// ρ, the relative part of the displacement that is not along v.
    pub rounding: f64,
}

/// The Hessian of the host's loss, as an operator. θ is perturbed on the host's own shards and
/// restored by the guard that the operator owns.
pub struct FiniteDifference<'a, 'h> {
    guard: Guard<'h>,
    layout: &'a Layout,
    config: &'a HvpConfig,
    calibration: &'a mut Calibration,
    ranks: Ranks,
    pending: Option<Error>,
    origin: ShardedVector,
    range: StepRange,
    noise: f64,
    last: Option<Curvature>,
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
}

/// The reduced sums of one difference.
struct Measured {
    /// The realised step h̄.
    realised: f64,
    /// What `w` must be multiplied by to become Hv.
    scale: f64,
    /// o, half the norm of g₊ − g₋ (central) or the norm of g₊ − g₀ (forward).
    odd: f64,
    /// The norm of g₊ + g₋ − 2g₀, where it was taken.
    even: Option<f64>,
    /// vᵀHv.
    alpha: f64,
    rounding: f64,
}

impl<'a, 'h> FiniteDifference<'a, 'h> {
    /// Borrows the host, computes g(θ₀), and measures η where `recalibrate`, along the unit vector
    /// `direction`. `w` is scratch. Collective.
    ///
    /// # Errors
    /// When the host fails or its gradient is not finite, on any rank.
    pub fn new(
        host: &'h mut dyn Host,
        layout: &'a Layout,
        config: &'a HvpConfig,
        calibration: &'a mut Calibration,
        direction: &Tensor,
        w: &mut Tensor,
    ) -> Result<Self> {
        let mut ranks = Ranks::new(host);
        let mut guard = Guard::new(host);
        let saved = guard.save().and_then(|()| {
            ShardedVector::zeros(layout).map_err(|source| Error::Torch {
                rank: guard.rank(),
                during: AT_THETA,
                source,
            })
        });
        let origin = ranks.agree(guard.host(), AT_THETA, saved)?;
        let mut operator = Self {
            guard,
            layout,
            config,
            calibration,
            ranks,
            pending: None,
            origin,
            range: StepRange::new(1.0, 1.0),
            noise: 0.0,
            last: None,
            loss: 0.0,
            gradient_norm: 0.0,
            parameter_norm: 0.0,
            products: Vec::new(),
            redone: 0,
            calibration_gradients: 0,
        };
        operator.look(direction, w)?;
        Ok(operator)
    }

    /// Loss, gradient and norms at θ₀; the noise, where it is due.
    fn look(&mut self, direction: &Tensor, w: &mut Tensor) -> Result<()> {
        let gradient = self.gradient(AT_THETA);
        if let Some(tensors) = gradient {
            let copied = self.origin.gather_from(self.layout, &tensors);
            self.defer(AT_THETA, copied);
        }
        let local = self.norms();
        let norms = self.sum(AT_THETA, 2, local)?;
        self.parameter_norm = norms[0].sqrt();
        self.gradient_norm = norms[1].sqrt();
        self.finite(self.gradient_norm, "the gradient", AT_THETA)?;
        self.range = StepRange::new(self.parameter_norm, self.layout.parameter_roundoff());
        let due = self.calibration.noise.is_none() || self.calibration.age >= self.config.recalibrate_every;
        let least = noise::least(self.gradient_norm, self.layout.parameter_roundoff());
        if due {
            self.calibration.gradient_repeats = Some(self.repeats()?);
            self.calibration.noise = Some(self.measure_noise(direction, w, least)?);
            self.calibration.age = 0;
        }
        self.calibration.age += 1;
        self.noise = self.calibration.noise.unwrap_or(least).max(least);
        Ok(())
    }

    fn norms(&self) -> Result<Vec<f64>, TchError> {
        let mut theta = Sums::<1>::new();
        for chunk in chunks(self.layout).filter(|chunk| chunk.counted) {
            theta.add_square(&chunk.of_shard(self.guard.saved())?)?;
        }
        Ok(vec![theta.finish()?[0], sums::norm_squared(self.layout, self.origin.tensor())?])
    }

    /// Whether the gradient at θ₀ is the same when it is taken again.
    fn repeats(&mut self) -> Result<bool> {
        self.calibration_gradients += 1;
        let again = self.gradient(NOISE);
        let difference = |tensors: &[Tensor]| -> Result<f64, TchError> {
            let mut sums = Sums::<1>::new();
            for chunk in chunks(self.layout) {
                let origin = chunk.of(self.origin.tensor())?.f_to_kind(Kind::Double)?;
                let difference = chunk.of_shard(tensors)?.f_to_kind(Kind::Double)?.f_sub(&origin)?;
                sums.add_square(&difference)?;
            }
            Ok(sums.finish()?[0])
        };
        let local = again.map_or(Ok(0.0), |tensors| difference(&tensors)).map(|squared| vec![squared]);
        let squared = self.sum(NOISE, 1, local)?[0];
        self.finite(squared, "the gradient", NOISE)?;
        Ok(squared == 0.0)
    }

    /// η from second differences at two small steps that agree. On the way, the curvature along
    /// `direction`, the first vector of the coming run, so that its product starts with a step that suits it.
    fn measure_noise(&mut self, direction: &Tensor, w: &mut Tensor, least: f64) -> Result<f64> {
        let mut h = self.range.first();
        self.calibration_gradients += 2;
        let at_first = self.central(direction, h, w, NOISE)?;
        h *= noise::FIRST_SHARE;
        let mut previous = None;
        let mut found = f64::INFINITY;
        for _ in 0..noise::MAX_STEPS {
            self.calibration_gradients += 2;
            let even = self.central(direction, self.range.fit(h), w, NOISE)?.even.unwrap_or(0.0);
            found = found.min(even);
            if previous.is_some_and(|previous| noise::settled(previous, even)) {
                break;
            }
            previous = Some(even);
            h *= noise::SHRINK;
        }
        self.noise = noise::from_second_difference(found).max(least);
        let parity = ratio(at_first.even.unwrap_or(0.0), 2.0 * at_first.odd);
        let curvature = self.measured_curvature(&at_first, parity);
        self.remember(0, curvature);
        Ok(self.noise)
    }

    /// The host's gradient. A failure is kept until the next sum: the other ranks are on their way there.
    fn gradient(&mut self, during: &'static str) -> Option<Vec<Tensor>> {
        match self.guard.gradient(during) {
            Ok((loss, tensors)) => {
                if during == AT_THETA {
                    self.loss = loss;
                }
                Some(tensors)
            }
            Err(error) => {
                self.pending.get_or_insert(error);
                None
            }
        }
    }

    /// Fails on every rank alike, since `value` was reduced.
    fn finite(&self, value: f64, what: &'static str, during: &'static str) -> Result<()> {
        if value.is_finite() {
            Ok(())
        } else {
            Err(Error::NonFinite { rank: self.ranks.rank(), what, during })
        }
    }

    fn displace(&mut self, v: &Tensor, h: f64, from: From) -> [f64; 2] {
        match difference::displace(&self.guard, self.layout, v, h, from) {
            Ok(sums) => sums,
            Err(error) => {
                self.defer(PRODUCT, Err(error));
                [0.0; 2]
            }
        }
    }

    /// w ← g(θ + hv) − g(θ − hv).
    fn central(&mut self, v: &Tensor, h: f64, w: &mut Tensor, during: &'static str) -> Result<Measured> {
        self.displace(v, h, From::Nowhere);
        if let Some(plus) = self.gradient(during) {
            let mut stored = ShardedVector::alias(w);
            let copied = stored.gather_from(self.layout, &plus);
            self.defer(during, copied);
        }
        let moved = self.displace(v, -h, From::Present);
        let local = match self.gradient(during) {
            Some(minus) => difference::central(self.layout, w, &minus, self.origin.tensor(), v),
            None => Ok([0.0; 3]),
        };
        let local = local.map(|[odd, even, along]| vec![moved[0], moved[1], odd, even, along]);
        let reduced = self.sum(during, 5, local)?;
        // Δ = θ₋ − θ₊ points backwards and is two steps long.
        let realised = -reduced[0] / 2.0;
        let length = reduced[1].sqrt() / 2.0;
        self.check(&reduced, realised, h, during)?;
        Ok(Measured {
            realised,
            scale: 0.5 / realised,
            odd: reduced[2].sqrt() / 2.0,
            even: Some(reduced[3].sqrt()),
            alpha: reduced[4] / (2.0 * realised),
            rounding: off_axis(length, realised),
        })
    }

    /// w ← g(θ + hv) − g(θ).
    fn forward(&mut self, v: &Tensor, h: f64, w: &mut Tensor) -> Result<Measured> {
        let moved = self.displace(v, h, From::Saved);
        let local = match self.gradient(PRODUCT) {
            Some(plus) => difference::forward(self.layout, w, &plus, self.origin.tensor(), v),
            None => Ok([0.0; 2]),
        };
        let local = local.map(|[odd, along]| vec![moved[0], moved[1], odd, along]);
        let reduced = self.sum(PRODUCT, 4, local)?;
        let realised = reduced[0];
        self.check(&reduced, realised, h, PRODUCT)?;
        Ok(Measured {
            realised,
            scale: 1.0 / realised,
            odd: reduced[2].sqrt(),
            even: None,
            alpha: reduced[3] / realised,
            rounding: off_axis(reduced[1].sqrt(), realised),
        })
    }

    fn check(&self, reduced: &[f64], realised: f64, h: f64, during: &'static str) -> Result<()> {
        for &sum in reduced {
            self.finite(sum, "the gradient", during)?;
        }
        if realised > 0.0 { Ok(()) } else { Err(Error::StepTooSmall { rank: self.ranks.rank(), step: h }) }
    }

    /// η as it enters decisions: a power of four, so that rounding does not decide.
    fn rounded_noise(&self) -> f64 {
        nearest_power(self.noise, 4.0)
    }

    /// What is known of vector `index` before its product: from the last run's vector of that number, or
    /// from the vector before it.
    fn foreseen(&self, index: usize, expected_norm: Option<f64>) -> Option<Curvature> {
        let earlier = self.calibration.curvature.get(index).map(|&(norm, parity)| Curvature { norm, parity });
        earlier.or_else(|| self.last.map(|last| expected_norm.map_or(last, |norm| last.rescaled(norm))))
    }

    fn fixed_step(&self) -> Option<f64> {
        match self.config.step_size {
            StepSize::Auto => None,
            StepSize::Absolute(h) => Some(h),
            StepSize::Relative(share) => Some(share * self.parameter_norm),
        }
    }

    /// Whether vector `index` is to be central.
    fn is_central(&self, index: usize, foreseen: Option<Curvature>) -> bool {
        let measures_parity = foreseen.is_none() || index % PARITY_EVERY == 1;
        match self.config.difference {
            Difference::Central => true,
            Difference::Forward => measures_parity,
            Difference::Auto => {
                measures_parity
                    || foreseen.is_some_and(|curvature| {
                        let noise = self.rounded_noise();
                        let best = || self.range.fit(curvature.forward_step(noise));
                        let h = self.fixed_step().unwrap_or_else(best);
                        curvature.forward_error(noise, h) > self.config.max_relative_error
                    })
            }
        }
    }

    /// The curvature along v that a central difference measured. What noise adds to the even part is
    /// taken off, as far as it can be told apart.
    fn measured_curvature(&self, measured: &Measured, parity: f64) -> Curvature {
        let noise_parity = ratio(6.0_f64.sqrt() * self.rounded_noise(), 2.0 * measured.odd);
        let kept = (parity.powi(2) - noise_parity.powi(2)).max(0.1 * noise_parity.powi(2)).sqrt();
        Curvature { norm: measured.odd / measured.realised, parity: kept.min(parity) / measured.realised }
    }

    /// One product with the scheme and step given; its record, and the curvature it found.
    fn attempt(
        &mut self,
        v: &Tensor,
        w: &mut Tensor,
        central: bool,
        h: f64,
        foreseen: Option<Curvature>,
    ) -> Result<(Measured, ProductRecord, Curvature, f64)> {
        let measured = if central { self.central(v, h, w, PRODUCT)? } else { self.forward(v, h, w)? };
        let norm = measured.odd / measured.realised;
        let (parity, curvature) = match measured.even {
            Some(even) => {
                let parity = ratio(even, 2.0 * measured.odd);
                (parity, self.measured_curvature(&measured, parity))
            }
            None => {
                let curvature =
                    foreseen.map_or(Curvature { norm, parity: 0.0 }, |foreseen| foreseen.rescaled(norm));
                (curvature.parity * measured.realised, curvature)
            }
        };
        // Absolute errors: they stay meaningful where Hv itself is noise.
        let absolute = |noise: f64| {
            if central {
                parity.powi(2) * norm + noise / (std::f64::consts::SQRT_2 * measured.realised)
            } else {
                parity * norm + std::f64::consts::SQRT_2 * noise / measured.realised
            }
        };
        let record = ProductRecord {
            central,
            step: h,
            error: relative(absolute(self.noise), norm),
            parity,
            rounding: measured.rounding,
        };
        let deciding = relative(absolute(self.rounded_noise()), norm);
        Ok((measured, record, curvature, deciding))
    }

    /// A better way to compute a product whose error is `error`: scheme and step, if there is one.
    fn better(&self, central: bool, curvature: Curvature, used: f64, error: f64) -> Option<(bool, f64)> {
        if error <= self.config.max_relative_error || self.fixed_step().is_some() {
            return None;
        }
        let noise = self.rounded_noise();
        if !central && self.config.difference == Difference::Auto {
            return Some((true, self.range.fit(curvature.central_step(noise))));
        }
        let best = if central { curvature.central_step(noise) } else { curvature.forward_step(noise) };
        let h = self.range.fit(best.min(MAX_GROWTH * used));
        let promised =
            if central { curvature.central_error(noise, h) } else { curvature.forward_error(noise, h) };
        (promised <= 0.5 * error).then_some((central, h))
    }

    fn remember(&mut self, index: usize, curvature: Curvature) {
        self.last = Some(curvature);
        let entry = (curvature.norm, curvature.parity);
        let known = &mut self.calibration.curvature;
        match known.get_mut(index) {
            Some(known) => *known = entry,
            // Vectors come in order, so that this is the next one.
            None => known.push(entry),
        }
    }

    /// Restores θ₀ and everything else; returns what the products cost: gradients, seconds in them,
    /// and the reductions of this operator.
    pub(crate) fn finish(mut self) -> Result<Spent> {
        let spent = Spent {
            gradients: self.guard.gradients,
            gradient_seconds: self.guard.gradient_time.as_secs_f64(),
            all_reduces: self.ranks.all_reduces,
            reduced_values: self.ranks.values,
            communication_seconds: self.ranks.seconds.as_secs_f64(),
            vector_bytes: self.guard.bytes() + 2 * self.layout.vector_bytes(),
            noise: self.noise,
        };
        self.pending = None;
        self.guard.restore()?;
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
        if index == 0 {
            self.last = None;
        }
        let foreseen = self.foreseen(index, expected_norm);
        let mut central = self.is_central(index, foreseen);
        let noise = self.rounded_noise();
        let mut h = self.fixed_step().unwrap_or_else(|| {
            foreseen.map_or(self.range.first(), |curvature| {
                let best =
                    if central { curvature.central_step(noise) } else { curvature.forward_step(noise) };
                self.range.fit(best)
            })
        });
        let mut known = foreseen;
        let (mut measured, mut record, mut curvature, mut error) =
            self.attempt(q, target, central, h, known)?;
        for _ in 0..MAX_REDONE {
            let Some((scheme, step)) = self.better(central, curvature, h, error) else { break };
            (central, h, known) = (scheme, step, Some(curvature));
            self.redone += 1;
            (measured, record, curvature, error) = self.attempt(q, target, central, h, known)?;
        }
        self.remember(index, curvature);
        self.products.push(record);
        let norm = measured.odd / measured.realised;
        Ok(Product { scale: measured.scale, alpha: measured.alpha, norm, error: record.error * norm })
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
}

/// ρ = ‖Δ/h̄ − v‖ for a displacement of length `length` whose part along the unit vector v is h̄.
fn off_axis(length: f64, realised: f64) -> f64 {
    ((length / realised).powi(2) - 1.0).max(0.0).sqrt()
}

fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
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
