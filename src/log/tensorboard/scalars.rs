//! The scalars of a snapshot: tag, meaning, value.

use super::block_scalars::block_scalars;
use super::stability::{PRECONDITIONED, stability_scalars};
use crate::spectrum::{Estimate, Extreme, Snapshot};
use crate::tracking::Tracked;

/// One value of one tag.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    pub(super) tag: String,
    pub(super) description: String,
    pub(super) value: f64,
}

/// The scalars of a tracked eigenvalue.
pub(super) fn tracked(tracked: &Tracked) -> Vec<Scalar> {
    // Tags of their own: a chart must not mix two operators.
    let (lambda_max, residual) = if tracked.operator.is_hessian() {
        ("track/lambda_max", "track/lambda_max_residual")
    } else {
        ("track/preconditioned_lambda_max", "track/preconditioned_lambda_max_residual")
    };
    let rows: [(&str, &str, Option<f64>); 7] = [
        (
            lambda_max,
            "The largest Ritz value of a few products from the last top vector; loss / parameter², or 1/η of P^{-1/2} H P^{-1/2}.",
            Some(tracked.lambda_max.value),
        ),
        (residual, "Within this distance lies an eigenvalue.", Some(tracked.lambda_max.residual)),
        (
            "track/margin",
            "It over the largest that the optimizer bears: above 1 is unstable.",
            tracked.stability.as_ref().and_then(|stability| stability.margin),
        ),
        ("track/overlap", "|⟨y, y′⟩| of successive top vectors.", tracked.overlap),
        (
            "track/gradient_overlap",
            "|⟨y, ∇L⟩| / ‖∇L‖ of the top vector with the gradient.",
            tracked.gradient_overlap,
        ),
        ("track/loss", "The probe loss.", Some(tracked.loss)),
        ("track/seconds", "The wall time of tracking; s.", Some(tracked.seconds)),
    ];
    let scalar = |(tag, description, value): (&str, &str, Option<f64>)| {
        value.map(|value| Scalar { tag: tag.into(), description: description.into(), value })
    };
    rows.into_iter().filter_map(scalar).collect()
}

/// The group of what the Hessian gives.
pub(super) const CURVATURE: &str = "curvature";
/// As the Hessian's; of another operator, it is in the other's group.
const FLOOR: &str = "curvature/unresolved_floor";

/// Name or tag, meaning and unit, value.
type Row<T> = (&'static str, &'static str, fn(&Snapshot) -> T);

const EXTREMES: [Row<Extreme>; 2] = [
    ("lambda_max", "The largest Ritz value; loss / parameter².", |s| s.lambda_max),
    ("lambda_min", "The smallest Ritz value; loss / parameter².", |s| s.lambda_min),
];

const ESTIMATES: [Row<Option<Estimate>>; 9] = [
    ("trace", "tr H; loss / parameter².", |s| Some(s.trace)),
    ("mean_eigenvalue", "tr H / n; loss / parameter².", |s| Some(s.mean_eigenvalue)),
    ("frobenius_norm", "‖H‖_F; loss / parameter².", |s| Some(s.frobenius_norm)),
    ("negative_share", "The share of eigenvalues below zero, noise included.", |s| Some(s.negative_share)),
    ("negative_share_resolved", "The share of eigenvalues below zero by more than their noise.", |s| {
        Some(s.negative_share_resolved)
    }),
    ("effective_rank", "tr(abs H)² / ‖H‖_F²; eigenvalues.", |s| s.effective_rank),
    ("stable_rank", "‖H‖_F² / λ², λ the largest in magnitude; eigenvalues.", |s| s.stable_rank),
    ("spectral_entropy", "−Σ p ln p with p = abs λ / tr(abs H); nats.", |s| s.spectral_entropy),
    ("unresolved_mass", "The share of eigenvalues that the noise hides.", |s| Some(s.unresolved.mass)),
];

const PLAIN: [Row<Option<f64>>; 34] = [
    ("curvature/loss", "The probe loss.", |s| Some(s.loss)),
    ("curvature/gradient_norm", "The norm of its gradient; loss / parameter.", |s| Some(s.gradient_norm)),
    ("curvature/parameter_norm", "The norm of the parameters.", |s| Some(s.parameter_norm)),
    (
        FLOOR,
        "The largest noise of a Ritz value that the noise hides, or the smallest noise of any where it \
         hides none; loss / parameter².",
        |s| Some(s.unresolved.floor),
    ),
    (
        "probe/hvp_relative_error_worst",
        "The worst predicted relative error of a Hessian-vector product.",
        |s| Some(s.hvp.predicted_error_worst),
    ),
    (
        "probe/hvp_relative_error_median",
        "The median of the predicted relative errors of Hessian-vector products.",
        |s| Some(s.hvp.predicted_error_median),
    ),
    ("probe/parity_ratio_worst", "The worst of ‖g₊ + g₋ − 2g‖ / ‖g₊ − g₋‖.", |s| {
        Some(s.hvp.parity_worst)
    }),
    ("probe/parity_ratio_median", "The median of ‖g₊ + g₋ − 2g‖ / ‖g₊ − g₋‖.", |s| {
        Some(s.hvp.parity_median)
    }),
    (
        "probe/rounding_worst",
        "The worst error of a direction from rounding the perturbed parameters: ‖(θ₊ − θ₋)/2h̄ − v‖.",
        |s| Some(s.hvp.rounding_worst),
    ),
    ("probe/step_min", "The smallest finite-difference step h.", |s| Some(s.hvp.step_min)),
    ("probe/step_max", "The largest finite-difference step h.", |s| Some(s.hvp.step_max)),
    ("probe/forward_products", "Products by forward differences.", |s| count(s.hvp.forward)),
    ("probe/central_products", "Products by central differences.", |s| count(s.hvp.central)),
    ("probe/fourth_order_products", "Products by central differences of fourth order.", |s| {
        count(s.hvp.central4)
    }),
    ("probe/exact_products", "Products by the host's own second derivative.", |s| count(s.hvp.exact)),
    ("probe/asymmetry", "|uᵀHv − vᵀHu| / (‖Hu‖‖v‖) for two random vectors.", |s| {
        s.hvp.asymmetry
    }),
    ("probe/orthogonality_defect", "max|QᵀQ − I| of the Lanczos vectors, the worst run.", |s| {
        s.probes.iter().filter_map(|probe| probe.orthogonality_defect).reduce(f64::max)
    }),
    ("probe/warnings", "Warnings in the snapshot: above 0, read them before any number.", |s| {
        count(s.warnings.len() as u64)
    }),
    ("probe/redone", "Products computed again with a better step.", |s| count(s.hvp.redone)),
    ("probe/redone_gradients", "Gradients spent on what these took the place of.", |s| {
        count(s.hvp.redone_gradients)
    }),
    ("probe/gradient_noise", "The norm of the noise of one gradient; loss / parameter.", |s| {
        Some(s.hvp.gradient_noise)
    }),
    (
        "probe/gradient_repeats",
        "1: two gradients at the same parameters had the same bits; 0: they had not.",
        |s| s.hvp.gradient_repeats.map(f64::from),
    ),
    (
        "probe/exhausted",
        "Lanczos runs that ended early in an invariant space, whose T is therefore exact.",
        |s| count(s.probes.iter().filter(|probe| probe.breakdown.is_some()).count() as u64),
    ),
    ("probe/tokens", "Targets that the probe loss is a mean over.", |s| s.tokens.and_then(count)),
    ("probe/seconds", "The wall time of the probe; s.", |s| Some(s.cost.seconds)),
    ("probe/gradient_seconds", "Of the wall time, in gradients; s.", |s| Some(s.cost.gradient_seconds)),
    ("probe/communication_seconds", "Of the wall time, in all_reduce; s.", |s| {
        Some(s.cost.communication_seconds)
    }),
    ("probe/gradients", "Gradients computed.", |s| count(s.cost.gradients)),
    ("probe/calibration_gradients", "Of the gradients, those to measure their noise.", |s| {
        count(s.cost.calibration_gradients)
    }),
    ("probe/all_reduces", "all_reduces of the probe itself.", |s| count(s.cost.all_reduces)),
    ("probe/reduced_values", "f64 values in the probe's all_reduces.", |s| count(s.cost.reduced_values)),
    ("probe/basis_bytes", "Memory of the Lanczos basis; bytes on this rank.", |s| count(s.cost.basis_bytes)),
    ("probe/vector_bytes", "Memory of all other vectors of the probe; bytes on this rank.", |s| {
        count(s.cost.vector_bytes)
    }),
    (
        "probe/peak_memory_bytes",
        "The most physical memory that the ranks' processes have held since they began; bytes, summed over ranks.",
        |s| s.cost.peak_memory_bytes.and_then(count),
    ),
];

fn count(value: u64) -> Option<f64> {
    Some(value as f64)
}

/// Everything that is known and finite in the 32 bits in which TensorBoard keeps it.
pub(super) fn scalars(snapshot: &Snapshot) -> Vec<Scalar> {
    let mut all = Vec::new();
    let group = if snapshot.operator.includes_hessian() { CURVATURE } else { PRECONDITIONED };
    for (name, meaning, extreme) in EXTREMES {
        let extreme = extreme(snapshot);
        statistic(&mut all, group, name, meaning, "residual", extreme.value, Some(extreme.residual));
        let mut part = |part: &str, meaning: &str, value| {
            push(&mut all, format!("{group}_error/{name}/{part}"), meaning.into(), value);
        };
        part("lanczos", "The part of the residual that Lanczos leaves.", extreme.lanczos_residual);
        part("hvp", "The part of the residual from errors of Hessian-vector products.", extreme.hvp_error);
    }
    for (name, meaning, estimate) in ESTIMATES {
        if let Some(Estimate { mean, standard_error }) = estimate(snapshot) {
            statistic(&mut all, group, name, meaning, "standard error", mean, standard_error);
        }
    }
    for (tag, meaning, value) in PLAIN {
        if let Some(value) = value(snapshot) {
            let tag = if tag == FLOOR { format!("{group}/unresolved_floor") } else { tag.into() };
            push(&mut all, tag, meaning.into(), value);
        }
    }
    // Records of before they were measured have no parts.
    let parts = snapshot.cost.parts;
    for (name, seconds) in parts.named().into_iter().filter(|_| parts.total() > 0.0) {
        push(&mut all, format!("probe_seconds/{name}"), format!("Of the wall time, in {name}; s."), seconds);
    }
    stability_scalars(&mut all, snapshot);
    if let Some(blocks) = &snapshot.block_diagonal {
        block_scalars(&mut all, blocks);
    }
    all
}

/// The tags of a statistic: value, lower and upper end of its band.
pub(super) fn band(group: &str, name: &str) -> [String; 3] {
    [format!("{group}/{name}"), format!("{group}_band/{name}/lower"), format!("{group}_band/{name}/upper")]
}

pub(super) fn statistic(
    all: &mut Vec<Scalar>,
    group: &str,
    name: &str,
    meaning: &str,
    error_is: &str,
    value: f64,
    error: Option<f64>,
) {
    let [tag, lower, upper] = band(group, name);
    push(all, tag, meaning.into(), value);
    if let Some(error) = error {
        push(all, format!("{group}_error/{name}"), format!("The {error_is} of: {meaning}"), error);
    }
    let width = error.unwrap_or(0.0);
    push(all, lower, format!("Less the {error_is}: {meaning}"), value - width);
    push(all, upper, format!("Plus the {error_is}: {meaning}"), value + width);
}

pub(super) fn push(all: &mut Vec<Scalar>, tag: String, description: String, value: f64) {
    if (value as f32).is_finite() {
        all.push(Scalar { tag, description, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;
    use std::collections::BTreeMap;

    fn values(snapshot: &Snapshot) -> BTreeMap<String, f64> {
        let all = scalars(snapshot);
        let map: BTreeMap<_, _> = all.iter().map(|s| (s.tag.clone(), s.value)).collect();
        assert_eq!(map.len(), all.len(), "a tag occurs twice");
        map
    }

    #[test]
    fn a_statistic_has_its_value_its_error_and_a_band() {
        let values = values(&fixture::snapshot(0));
        assert_eq!(values["curvature/lambda_max"], 12.5);
        assert_eq!(values["curvature_error/lambda_max"], 1.001e-3);
        assert_eq!(values["curvature_error/lambda_max/lanczos"], 1e-6);
        assert_eq!(values["curvature_error/lambda_max/hvp"], 1e-3);
        assert_eq!(values["curvature_band/lambda_max/lower"], 12.5 - 1.001e-3);
        assert_eq!(values["curvature/trace"], 150.0);
        assert_eq!(values["curvature_error/trace"], 15.0);
        assert_eq!(values["curvature_band/trace/lower"], 135.0);
        assert_eq!(values["curvature_band/trace/upper"], 165.0);
    }

    #[test]
    fn an_unknown_standard_error_is_not_written_and_its_band_has_no_width() {
        let mut snapshot = fixture::snapshot(0);
        snapshot.trace.standard_error = None;
        let values = values(&snapshot);
        assert!(!values.contains_key("curvature_error/trace"));
        assert_eq!(values["curvature_band/trace/lower"], 150.0);
        assert_eq!(values["curvature_band/trace/upper"], 150.0);
    }

    #[test]
    fn missing_and_non_finite_values_are_not_written() {
        let mut snapshot = fixture::snapshot(0);
        snapshot.stable_rank = None;
        snapshot.tokens = None;
        snapshot.hvp.gradient_repeats = None;
        snapshot.loss = f64::NAN;
        snapshot.gradient_norm = 1e300;
        let values = values(&snapshot);
        for tag in [
            "curvature/stable_rank",
            "curvature_error/stable_rank",
            "curvature_band/stable_rank/lower",
            "probe/tokens",
            "probe/gradient_repeats",
            "curvature/loss",
            "curvature/gradient_norm",
        ] {
            assert!(!values.contains_key(tag), "{tag}");
        }
    }

    #[test]
    fn every_tag_is_in_the_documentation() {
        let documentation = include_str!("mod.rs");
        for (name, ..) in EXTREMES {
            assert!(documentation.contains(&format!("| `{name}` |")), "{name}");
        }
        for (name, ..) in ESTIMATES {
            assert!(documentation.contains(&format!("| `{name}` |")), "{name}");
        }
        for (tag, ..) in PLAIN {
            let told = documentation.contains(&format!("`{tag}`"));
            assert!(told || tag.ends_with("_median"), "{tag}");
        }
    }
}
