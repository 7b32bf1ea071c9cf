//! The Lanczos recurrence.
//!
//! w = Hq_j; α_j = q_jᵀw; w ← w − α_j q_j − β_{j−1} q_{j−1}; reorthogonalise; β_j = ‖w‖; q_{j+1} = w/β_j.
//! T has α on its diagonal and β beside it: T = QᵀHQ, and HQ = QT + β_m q_{m+1} e_mᵀ.
//!
//! Reorthogonalisation is classical Gram-Schmidt over the stored basis, one matrix-vector product and
//! one all_reduce a pass. A second pass follows where the first cancelled, that is, where the norm
//! fell below 1/√2 of itself (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30 (1976)): twice is enough.

use crate::config::Reorthogonalize;
use crate::error::{Error, Result};
use crate::krylov::basis::Basis;
use crate::krylov::omega::{Omega, Step};
use crate::sharded::layout::Layout;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

/// What is known of one product besides the vector itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The vector that was written holds Hq / `scale`: the factor is applied in a pass that happens anyway.
    pub scale: f64,
    /// qᵀHq.
    pub alpha: f64,
    /// ‖Hq‖.
    pub norm: f64,
    /// The predicted norm of the product's error.
    pub error: f64,
}

/// A symmetric operator on sharded vectors.
pub trait Operator {
    /// How vectors are spread over ranks.
    fn layout(&self) -> &Layout;

    /// Writes Hq, up to a factor, to `target`, for the unit vector q which is number `index` of its
    /// run. `expected_norm` is a guess of ‖Hq‖, where there is one. Collective.
    ///
    /// # Errors
    /// As the operator says.
    fn apply(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product>;

    /// The sums of `len` local values over ranks. A local failure, here or
    /// [deferred](Self::defer) before, becomes an error on every rank.
    ///
    /// # Errors
    /// When a rank failed or is lost.
    fn sum(
        &mut self,
        during: &'static str,
        len: usize,
        local: Result<Vec<f64>, TchError>,
    ) -> Result<Vec<f64>>;

    /// Keeps a local failure until the next [`sum`](Self::sum): a rank that stopped at once would leave
    /// the others waiting in it.
    fn defer(&mut self, during: &'static str, local: Result<(), TchError>);

    /// This rank, for messages.
    fn rank(&self) -> usize;

    /// Puts what is remembered of the curvature along the vectors of another series (for each, ‖Hq‖ and the
    /// parity ratio per unit of h) in the place of what is remembered of this one's, and the latter into `memory`.
    /// An operator whose products do not depend on earlier ones has nothing to exchange.
    fn exchange_curvature(&mut self, memory: &mut Vec<(f64, f64)>) {
        let _ = memory;
    }
}

/// Lets all ranks know whether one of them failed. Collective.
pub(crate) fn agree<T>(
    operator: &mut dyn Operator,
    during: &'static str,
    local: Result<T, TchError>,
) -> Result<T> {
    match local {
        Ok(value) => operator.sum(during, 0, Ok(Vec::new())).map(|_| value),
        Err(error) => {
            let shown = TchError::Shape(error.to_string());
            operator.sum(during, 0, Err(error))?;
            Err(Error::Torch { rank: operator.rank(), during, source: shown })
        }
    }
}

/// The settings of a run.
///
/// ```
/// use hessian_probe::config::Reorthogonalize;
/// use hessian_probe::krylov::tridiagonal::eigen;
/// use hessian_probe::krylov::{Basis, Lanczos, Operator, Product};
/// use hessian_probe::sharded::Layout;
/// use hessian_probe::{Error, Result};
/// use tch::{TchError, Tensor};
///
/// /// A diagonal matrix in one process.
/// struct Diagonal {
///     entries: Tensor,
///     layout: Layout,
///     failed: Option<TchError>,
/// }
///
/// impl Operator for Diagonal {
///     fn layout(&self) -> &Layout {
///         &self.layout
///     }
///     fn apply(&mut self, _: usize, q: &Tensor, _: Option<f64>, target: &mut Tensor) -> Result<Product> {
///         let mut multiply = || -> Result<(f64, f64), TchError> {
///             target.f_copy_(&q.f_mul(&self.entries)?)?;
///             Ok((target.f_dot(q)?.f_double_value(&[])?, target.f_norm()?.f_double_value(&[])?))
///         };
///         let torch = |source| Error::Torch { rank: 0, during: "a product", source };
///         let (alpha, norm) = multiply().map_err(torch)?;
///         Ok(Product { scale: 1.0, alpha, norm, error: 0.0 })
///     }
///     fn sum(&mut self, during: &'static str, _: usize, local: Result<Vec<f64>, TchError>) -> Result<Vec<f64>> {
///         self.failed.take().map_or(local, Err).map_err(|source| Error::Torch { rank: 0, during, source })
///     }
///     fn defer(&mut self, _: &'static str, local: Result<(), TchError>) {
///         self.failed = self.failed.take().or(local.err());
///     }
///     fn rank(&self) -> usize {
///         0
///     }
/// }
///
/// # use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
/// # /// Tells how vectors are spread.
/// # struct Whole(Tensor);
/// # impl Host for Whole {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         Shard::whole([("diagonal".to_owned(), self.0.shallow_clone())], false)
/// #     }
/// #     fn gradient(&mut self) -> Result<Gradient, HostError> {
/// #         Err("there is no loss".into())
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// let entries = Tensor::from_slice(&[-1.0, 2.0, 5.0]);
/// # let host = Whole(entries.shallow_clone());
/// let mut operator = Diagonal { entries, layout: Layout::new(&host, None)?, failed: None };
/// let lanczos = Lanczos { steps: 3, reorthogonalize: Reorthogonalize::Full };
/// let mut basis = Basis::new(operator.layout(), lanczos.reorthogonalize, lanczos.steps)?;
/// basis.next_row()?.f_copy_(&Tensor::from_slice(&[0.6, 0.0, 0.8]))?;
/// basis.commit()?;
/// let mut w = Tensor::from_slice(&[0.0; 3]);
/// let run = lanczos.run(&mut operator, &mut basis, &mut w)?;
/// let ritz = eigen(&run.alpha, &run.beta, &[])?.values;
/// assert!((ritz[0] + 1.0).abs() < 1e-12 && (ritz[1] - 5.0).abs() < 1e-12); // the start has nothing of the second
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lanczos {
    /// m, at most n.
    pub steps: usize,
    /// Against which vectors to orthogonalise.
    pub reorthogonalize: Reorthogonalize,
}

/// A run that is under way, but for its vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LanczosState {
    /// T so far.
    pub run: LanczosRun,
    /// The largest sum of a row of |T| so far.
    pub norm_of_t: f64,
    /// What ‖Hq‖ of the next vector is taken to be.
    pub expected: Option<f64>,
    /// Estimates of orthogonality, under partial reorthogonalisation.
    #[serde(default)]
    pub omega: Omega,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LanczosRun {
    /// The diagonal of T.
    pub alpha: Vec<f64>,
    /// The off-diagonal of T and, as its last entry, the coupling β_m to the vector not taken.
    pub beta: Vec<f64>,
    /// For each product the predicted norm of its error.
    pub errors: Vec<f64>,
    /// The number of steps after which the Krylov space was invariant, if it was: T is then exact.
    pub breakdown: Option<usize>,
    /// Steps at which the new vector was orthogonalised against all stored ones.
    #[serde(default)]
    pub reorthogonalized: usize,
}

/// max|QᵀQ − I| over the vectors of a run, `None` where not all of them are stored. Collective.
///
/// # Errors
/// As the operator reports.
pub fn orthogonality_defect(operator: &mut dyn Operator, basis: &Basis) -> Result<Option<f64>> {
    let m = basis.len();
    if m == 0 || basis.stored() < m {
        return Ok(None);
    }
    let local = basis.gram();
    let gram = operator.sum("measuring the orthogonality of the basis", m * m, local)?;
    let off = gram.iter().enumerate().map(|(i, value)| (value - f64::from(i % (m + 1) == 0)).abs());
    Ok(Some(off.fold(0.0, f64::max)))
}

const ORTHOGONALISING: &str = "orthogonalising a Lanczos vector";

impl Lanczos {
    /// Runs from the unit vector that was committed as the basis' only vector.
    ///
    /// # Errors
    /// As the operator and libtorch report; the same on every rank, or a failure on one and
    /// [`Error::Peer`] on the others.
    pub fn run(&self, operator: &mut dyn Operator, basis: &mut Basis, w: &mut Tensor) -> Result<LanczosRun> {
        let mut state = LanczosState::default();
        while self.advance(operator, basis, w, &mut state)? {}
        Ok(state.run)
    }

    /// One step of a run: of a new one with the default state, or of one whose state and basis were kept.
    /// Returns whether there is another.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn advance(
        &self,
        operator: &mut dyn Operator,
        basis: &mut Basis,
        w: &mut Tensor,
        state: &mut LanczosState,
    ) -> Result<bool> {
        let LanczosState { run, norm_of_t, expected, omega } = state;
        let steps = self.steps.min(usize::try_from(operator.layout().parameters()).unwrap_or(usize::MAX));
        let j = run.alpha.len();
        if j >= steps || run.breakdown.is_some() {
            return Ok(false);
        }
        let q = stored(operator, basis.vector(j))?;
        let product = operator.apply(j, &q, *expected, w)?;
        let previous = if j == 0 { 0.0 } else { run.beta[j - 1] };
        run.alpha.push(product.alpha);
        run.errors.push(product.error);
        *norm_of_t = norm_of_t.max(previous + product.alpha.abs());
        let roundoff = operator.layout().vector_roundoff();
        let decide = |next_beta: f64| {
            omega.advance(Step {
                alpha: &run.alpha,
                beta: &run.beta,
                next_beta,
                errors: &run.errors,
                norm_of_t: *norm_of_t,
                roundoff,
            })
        };
        let mut terms = vec![(-product.alpha, j)];
        terms.extend(j.checked_sub(1).map(|before| (-previous, before)));
        let Orthogonalised { beta, left, against_all } =
            self.orthogonalise(operator, basis, w, product.scale, &terms, decide)?;
        run.beta.push(beta);
        run.reorthogonalized += usize::from(against_all);
        *norm_of_t = norm_of_t.max(previous + product.alpha.abs() + beta);
        if is_breakdown(beta, *norm_of_t, product.error, roundoff) {
            run.breakdown = Some(j + 1);
            return Ok(false);
        }
        // ‖Hq_{j+1}‖² = β_j² + α_{j+1}² + β_{j+1}²: the first term is known, the others are taken
        // to be what they were.
        *expected = Some(beta.hypot(product.norm));
        if j + 1 < steps {
            // q_{j+1} = w/β, in the pass that takes off what is left.
            operator.defer(ORTHOGONALISING, basis.subtract(w, &left, Some(beta.recip())));
        }
        Ok(j + 1 < steps)
    }

    /// w ← scale·w + `terms` (−α q_j − β q_{j−1}), then against the basis, but for a last subtraction.
    fn orthogonalise(
        &self,
        operator: &mut dyn Operator,
        basis: &mut Basis,
        w: &mut Tensor,
        scale: f64,
        terms: &[(f64, usize)],
        is_due: impl FnOnce(f64) -> bool,
    ) -> Result<Orthogonalised> {
        let mut full = matches!(self.reorthogonalize, Reorthogonalize::Full | Reorthogonalize::Window(_));
        let (mut left, mut squared) = project(operator, basis, w, scale, terms, full)?;
        if self.reorthogonalize == Reorthogonalize::Partial && is_due(squared.sqrt()) {
            full = true;
            (left, squared) = project(operator, basis, w, 1.0, &[], full)?;
        }
        for last_pass in [false, true].into_iter().filter(|_| full) {
            let removed: f64 = left.iter().map(|c| c * c).sum();
            let remaining = (squared - removed).max(0.0);
            // Pythagoras gives the new norm to full accuracy unless most of the vector is removed.
            if last_pass || remaining >= 0.5 * squared {
                squared = remaining;
                break;
            }
            operator.defer(ORTHOGONALISING, basis.subtract(w, &left, None));
            (left, squared) = project(operator, basis, w, 1.0, &[], full)?;
        }
        Ok(Orthogonalised { beta: squared.sqrt(), left, against_all: full })
    }
}

/// A vector that is orthogonal to the basis once Σ `left`_i q_i is subtracted.
struct Orthogonalised {
    /// Its norm then.
    beta: f64,
    left: Vec<f64>,
    /// Whether all stored vectors took part.
    against_all: bool,
}

/// A basis vector that must be there; the same on every rank.
fn stored(operator: &mut dyn Operator, vector: Result<Tensor, TchError>) -> Result<Tensor> {
    match vector {
        Ok(vector) => Ok(vector),
        Err(error) => {
            let shown = TchError::Shape(error.to_string());
            operator.defer(ORTHOGONALISING, Err(error));
            operator.sum(ORTHOGONALISING, 0, Err(shown)).and(Ok(Tensor::new()))
        }
    }
}

/// w ← scale·w + `terms`, multiples of basis vectors; then its basis coefficients where `full` (else
/// none), and ‖w‖²: one all_reduce.
fn project(
    operator: &mut dyn Operator,
    basis: &Basis,
    w: &mut Tensor,
    scale: f64,
    terms: &[(f64, usize)],
    full: bool,
) -> Result<(Vec<f64>, f64)> {
    let local = basis.combine_and_project(w, scale, terms, full);
    let len = if full { basis.stored() } else { 0 } + 1;
    let mut values = operator.sum(ORTHOGONALISING, len, local)?;
    let squared = values.pop().unwrap_or(0.0);
    Ok((values, squared))
}

/// Whether the Krylov space is invariant: β is rounding of the vectors, or the noise of a product
/// that itself stands clear of noise. (Where noise is of the size of T, a small β says nothing.)
fn is_breakdown(beta: f64, norm_of_t: f64, error: f64, roundoff: f64) -> bool {
    beta <= 64.0 * roundoff * norm_of_t || (beta <= error && error <= 0.05 * norm_of_t)
}
