//! When a spectrum is not to be trusted, and why.

use crate::spectrum::snapshot::{Extreme, HvpReport, ProbeRecord};
use crate::spectrum::statistics::{PREDICTION_FACTOR, Statistics};

/// A median predicted error of products beyond which weights, moments and the bulk say little: with
/// [`PREDICTION_FACTOR`] it stands for a product that may be a quarter wrong. Measured, T is off by up to four times the
/// median, and spectra that are off by a tenth have medians from 0.09 on.
pub const TRUSTED_ERROR: f64 = 0.05;
/// A residual relative to its value beyond which an extreme is a bound rather than a value.
const EXTREME: f64 = 0.5;
/// The share of a displacement that rounding turns into other directions.
const ROUNDING: f64 = 0.3;
/// The orthogonality defect up to which T is a projection of H to the accuracy of the products (semi-orthogonality
/// at errors of a per cent).
const ORTHOGONALITY: f64 = 0.1;

/// What a reader has to know before any other number of a snapshot: empty where all is well.
#[must_use]
pub fn warnings(
    statistics: &Statistics,
    probes: &[ProbeRecord],
    hvp: &HvpReport,
    gradient_norm: f64,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if hvp.predicted_error_median > TRUSTED_ERROR {
        warnings.push(format!(
            "outside the trustworthy regime: the Hessian-vector products have a predicted relative error of {:.0} % \
             in the median (true ones may be {PREDICTION_FACTOR} times that), the gradient's noise being {:.1e} of its \
             norm; trace, Frobenius norm, weights and the bulk of the spectrum are not to be trusted. Evaluate the \
             probe in full precision (hvp.precision = \"full\", or f32 parameters), or use a larger probe batch",
            100.0 * hvp.predicted_error_median,
            if gradient_norm > 0.0 { hvp.gradient_noise / gradient_norm } else { f64::NAN },
        ));
    }
    warnings.extend(doubtful("λ_max", statistics.lambda_max));
    warnings.extend(doubtful("λ_min", statistics.lambda_min));
    if hvp.rounding_worst > ROUNDING {
        warnings.push(format!(
            "rounding of the perturbed parameters adds up to {:.0} % of the step in other directions",
            100.0 * hvp.rounding_worst
        ));
    }
    if let (Some(false), Some(difference)) = (hvp.gradient_repeats, hvp.repeat_difference) {
        warnings.push(format!(
            "the gradient is not deterministic: twice at the same parameters it differs by {difference:.1e} (norm {gradient_norm:.1e}); \
             that is part of the noise. Dropout masks or data that change, or nondeterministic kernels?"
        ));
    }
    let defect = probes.iter().filter_map(|probe| probe.orthogonality_defect).fold(0.0, f64::max);
    if defect > ORTHOGONALITY {
        warnings.push(format!(
            "the Lanczos vectors are orthogonal to {defect:.1e} only: Ritz values may be copies; \
             reorthogonalize = \"full\", or a basis in the vectors' own type"
        ));
    }
    warnings
}

/// What a reader has to know of an extreme eigenvalue, if anything.
pub(crate) fn doubtful(name: &str, extreme: Extreme) -> Option<String> {
    let Extreme { value, lanczos_residual, hvp_error, .. } = extreme;
    (hvp_error > EXTREME * value.abs() && hvp_error > lanczos_residual).then(|| {
        format!("{name} = {value:.3e} may be off by {hvp_error:.1e} through errors of the products alone")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> ProbeRecord {
        ProbeRecord {
            nodes: vec![-1.0, 2.0],
            weights: vec![0.5, 0.5],
            residuals: vec![0.0; 2],
            hvp_errors: vec![1e-3; 2],
            orthogonality_defect: Some(1e-6),
            ..ProbeRecord::default()
        }
    }

    fn of(probe: ProbeRecord, hvp: HvpReport) -> Vec<String> {
        let probes = [probe];
        warnings(&Statistics::new(&probes, 10).unwrap(), &probes, &hvp, 1.0)
    }

    #[test]
    fn a_good_probe_has_none_and_each_fault_has_its_own() {
        let good = HvpReport { predicted_error_median: 0.01, ..HvpReport::default() };
        assert_eq!(of(probe(), good.clone()), Vec::<String>::new());
        let products = HvpReport { predicted_error_median: 0.25, gradient_noise: 0.05, ..good.clone() };
        let found = of(probe(), products);
        assert!(
            found.len() == 1 && found[0].contains("trustworthy regime") && found[0].contains("25 %"),
            "{found:?}"
        );
        let extreme = ProbeRecord { hvp_errors: vec![1e-3, 0.5], ..probe() };
        let found = of(extreme, good.clone());
        assert!(found.len() == 1 && found[0].starts_with("λ_max"), "{found:?}");
        let random =
            HvpReport { gradient_repeats: Some(false), repeat_difference: Some(0.125), ..good.clone() };
        let found = of(probe(), random);
        assert!(found.len() == 1 && found[0].contains("1.2e-1"), "{found:?}");
        let rounded = HvpReport { rounding_worst: 0.8, ..good.clone() };
        assert!(of(probe(), rounded)[0].contains("80 %"));
        let oblique = ProbeRecord { orthogonality_defect: Some(0.5), ..probe() };
        assert!(of(oblique, good)[0].contains("orthogonal"));
    }
}
