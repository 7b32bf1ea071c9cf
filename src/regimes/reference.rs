//! What tested hosts are measured against.

use super::degradation::lanczos_run;
use super::direction::{Direction, DirectionKind};
use super::{RegimesConfig, RunSummary, Watch};
use crate::config::{Difference, Distribution, HvpConfig, Reorthogonalize};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::krylov::lanczos::agree;
use crate::krylov::ritz::RitzVectors;
use crate::krylov::{Basis, LanczosRun, Operator};
use crate::operator::{Calibration, FiniteDifference, Scheme, Start};
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::{ShardedVector, copied, number};
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

const REFERENCE: &str = "measuring the reference";

/// No product keeps to it: the best step is looked for.
pub(super) const LOOK_FOR_BEST: f64 = 1e-15;

/// How the reference's products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By the host, differentiating twice; their error is taken to be the roundoff of its parameters.
    Exact,
    /// Differences of fourth order with the best step that is found; their error is the predicted one.
    Central4,
    /// (4D(h) − D(2h)) / 3 of central differences D with the best step h that is found for these. Their error is
    /// estimated as the correction ‖w − D(h)‖ / ‖w‖, which is that of D(h): an upper bound as a rule. For hosts that
    /// have no more precision than the tested ones. (The run takes fourth-order differences, which are the same
    /// formula.)
    Richardson,
}

impl Method {
    fn difference(self) -> Difference {
        match self {
            Self::Exact => Difference::Exact,
            Self::Central4 => Difference::Central4,
            Self::Richardson => Difference::Central,
        }
    }
}

/// What is told of a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// How its products were computed.
    pub method: Method,
    /// The loss at θ.
    pub loss: f64,
    /// ‖g‖.
    pub gradient_norm: f64,
    /// ‖θ‖.
    pub parameter_norm: f64,
    /// Its Lanczos run.
    pub run: RunSummary,
    /// All its gradients.
    pub gradients: u64,
    /// Vectors along which there is nothing to compare, and why.
    pub left_out: Vec<String>,
}

/// A reference: a record, and vectors.
#[derive(Debug)]
pub struct Reference {
    /// What goes into files.
    pub record: ReferenceRecord,
    pub(super) directions: Vec<Direction>,
}

impl Reference {
    /// Measures `host` with all the precision that it has. Collective; the host is as before on every way out.
    ///
    /// # Errors
    /// [`Error::Config`] for [`Method::Exact`] of a host that offers no exact products; when a gradient fails.
    pub fn measure(
        host: &mut dyn Host,
        method: Method,
        config: &RegimesConfig,
        watch: &mut Watch<'_>,
    ) -> Result<Self> {
        config.validate()?;
        let mut ranks = Ranks::new(host);
        if method == Method::Exact && !host.offers_exact_hvp() {
            let reason = "\"exact\" needs a host that offers exact products, and this one does not; \"central4\" always works";
            return Err(Error::config("regimes.reference", reason));
        }
        let layout = Layout::new(host, None)?;
        let steps = config.steps.min(usize::try_from(layout.parameters()).unwrap_or(usize::MAX));
        // The run's products are as good as can be had without looking for each one's best step.
        let in_run = HvpConfig {
            difference: if method == Method::Exact { Difference::Exact } else { Difference::Central4 },
            max_relative_error: layout.parameter_roundoff().sqrt(),
            ..HvpConfig::default()
        };
        let best = HvpConfig {
            difference: method.difference(),
            max_relative_error: LOOK_FOR_BEST,
            ..HvpConfig::default()
        };
        let prepared = prepare(&layout, config, steps).map_err(|source| Error::Torch {
            rank: ranks.rank(),
            during: REFERENCE,
            source,
        });
        let (mut basis, random, mut w) = ranks.agree(host, REFERENCE, prepared)?;
        let mut calibration = Calibration::default();
        let start = Start { vector: &random, spare: None };
        let w = &mut w;
        let mut operator =
            FiniteDifference::new(host, &layout, &in_run, &mut calibration, watch.interrupter, start, w)?;
        let (run, summary) = lanczos_run(&mut operator, steps, &mut basis, w, watch)?;
        let vectors = vectors(&mut operator, random, &run, basis, w)?;
        operator.set_config(&best);
        let mut record = ReferenceRecord {
            method,
            loss: operator.loss,
            gradient_norm: operator.gradient_norm,
            parameter_norm: operator.parameter_norm,
            run: summary,
            gradients: 0,
            left_out: Vec::new(),
        };
        let mut directions = Vec::with_capacity(vectors.len());
        for (kind, vector) in vectors {
            let Some(vector) = vector else {
                record.left_out.push(format!("{kind}: the gradient is 0"));
                continue;
            };
            let direction = product(&mut operator, method, kind, vector, w)?;
            if direction.norm > 0.0 {
                directions.push(direction);
            } else {
                record.left_out.push(format!("{kind}: Hv is 0, and a relative error says nothing"));
            }
            (watch.gradients)(operator.gradients());
        }
        record.gradients = operator.finish()?.gradients;
        Ok(Self { record, directions })
    }

    /// Frees the vectors, which sweeps need and runs do not.
    pub fn drop_directions(&mut self) {
        self.directions.clear();
    }
}

/// The basis with its first vector; that vector, and room for products.
fn prepare(
    layout: &Layout,
    config: &RegimesConfig,
    steps: usize,
) -> Result<(Basis, Tensor, Tensor), TchError> {
    let mut filled = Basis::stored_as(layout, Reorthogonalize::Full, steps, config.basis)?;
    let random = ShardedVector::zeros(layout)?.into_tensor();
    start(layout, config.seed, &random)?;
    filled.next_row()?.f_copy_(&random)?;
    filled.commit()?;
    Ok((filled, random, ShardedVector::zeros(layout)?.into_tensor()))
}

/// The random vector: the first of a probe with that seed.
pub(super) fn start(layout: &Layout, seed: u64, target: &Tensor) -> Result<(), TchError> {
    RandomProbe::new(seed, 0, Distribution::Rademacher).write_scaled(layout, target)
}

/// The three unit vectors; none for a gradient of 0. Frees the basis.
fn vectors(
    operator: &mut FiniteDifference<'_, '_>,
    random: Tensor,
    run: &LanczosRun,
    basis: Basis,
    w: &mut Tensor,
) -> Result<Vec<(DirectionKind, Option<Tensor>)>> {
    let ritz = RitzVectors::new(run).map_err(|_| Error::NonFinite {
        rank: operator.rank(),
        what: "the tridiagonal matrix T",
        during: REFERENCE,
    })?;
    let written = ritz.write(ritz.top(), &basis, w).and_then(|()| copied(w));
    let top = agree(operator, REFERENCE, written)?;
    drop(basis);
    let gradient = copied(&operator.gradient_at_origin());
    let gradient = agree(operator, REFERENCE, gradient)?;
    Ok(vec![
        (DirectionKind::Random, Some(random)),
        (DirectionKind::Gradient, normalised(operator, gradient)?),
        (DirectionKind::Top, normalised(operator, top)?),
    ])
}

/// v / ‖v‖ in place.
fn normalised(operator: &mut dyn Operator, mut v: Tensor) -> Result<Option<Tensor>> {
    let local = sums::norm_squared(operator.layout(), &v).map(|sum| vec![sum]);
    let norm = operator.sum(REFERENCE, 1, local)?[0].sqrt();
    if norm == 0.0 {
        return Ok(None);
    }
    let _no_grad = tch::no_grad_guard();
    let scaled = number(norm.recip(), &v).and_then(|factor| v.f_mul_(&factor).map(drop));
    agree(operator, REFERENCE, scaled)?;
    Ok(Some(v))
}

/// Hv with all the precision that there is.
fn product(
    operator: &mut FiniteDifference<'_, '_>,
    method: Method,
    kind: DirectionKind,
    vector: Tensor,
    w: &mut Tensor,
) -> Result<Direction> {
    operator.forget();
    let found = operator.apply(0, &vector, None, w)?;
    let mut product = agree(operator, REFERENCE, scaled(w, found.scale))?;
    let (mut norm, mut curvature) = (found.norm, found.alpha);
    let mut error = if norm > 0.0 { found.error / norm } else { 0.0 };
    if method == Method::Richardson {
        let h = operator.products.last().map_or(0.0, |record| record.step);
        let wider = operator.at_step(&vector, w, Scheme::Central, 2.0 * h, None)?;
        let inner = product;
        let extrapolated = scaled(w, -wider.product.scale / 3.0).and_then(|outer| {
            let _no_grad = tch::no_grad_guard();
            outer.f_add(&inner.f_mul(&number(4.0 / 3.0, &inner)?)?)
        });
        product = agree(operator, REFERENCE, extrapolated)?;
        let local = || -> Result<Vec<f64>, TchError> {
            let layout = operator.layout();
            Ok(vec![sums::norm_squared(layout, &product)?, sums::inner_product(layout, &product, &vector)?])
        };
        let local = local();
        let reduced = operator.sum(REFERENCE, 2, local)?;
        (norm, curvature) = (reduced[0].sqrt(), reduced[1]);
        let correction = super::direction::distance(operator, &inner, 1.0, &product)?;
        error = if norm > 0.0 { correction / norm } else { 0.0 };
    }
    // No more precise than the reference's vectors are.
    let product = agree(operator, REFERENCE, product.f_to_kind(vector.kind()))?;
    Ok(Direction { kind, vector, product, norm, curvature, error })
}

/// scale·w, f64.
fn scaled(w: &Tensor, scale: f64) -> Result<Tensor, TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut product = w.f_to_dtype(Kind::Double, false, true)?;
    let factor = number(scale, &product)?;
    let _ = product.f_mul_(&factor)?;
    Ok(product)
}
