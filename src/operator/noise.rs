//! η, the norm of the noise of one gradient.
//!
//! Along a random unit vector v the second difference g(θ+hv) + g(θ−hv) − 2g(θ) is h²∇³L[v,v] and
//! noise of norm √6·η (weights 1, 1, −2). The first shrinks with h², the second does not: at steps
//! well below the one that suits v it is all that is left. Two steps that agree show it.

/// The first step at which noise is looked for, as a share of the step that suits a random vector.
pub(crate) const FIRST_SHARE: f64 = 1.0 / 16.0;
/// The ratio of one step to the next.
pub(crate) const SHRINK: f64 = 1.0 / 4.0;
/// Steps tried at most.
pub(crate) const MAX_STEPS: usize = 5;

/// What two successive second differences, norms at h and at [`SHRINK`]·h, say about η.
pub(crate) fn settled(larger: f64, smaller: f64) -> bool {
    // Curvature alone would have shrunk by a factor 16.
    smaller >= 0.5 * larger
}

/// η from the norm of a second difference that is all noise.
pub(crate) fn from_second_difference(norm: f64) -> f64 {
    norm / 6.0_f64.sqrt()
}

/// The least noise to assume of a gradient of that norm, whose entries are rounded once at least.
pub(crate) fn least(gradient_norm: f64, roundoff: f64) -> f64 {
    0.1 * roundoff * gradient_norm
}
