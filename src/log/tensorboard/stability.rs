//! The scalars of the optimizer's view.

use super::scalars::{Scalar, push, statistic};
use crate::spectrum::Snapshot;

/// The group of what the preconditioned operator gives, and the Hessian gives under `curvature`.
pub(super) const PRECONDITIONED: &str = "preconditioned";

pub(super) fn stability_scalars(all: &mut Vec<Scalar>, snapshot: &Snapshot) {
    if let Some(seen) = &snapshot.preconditioned {
        // A snapshot of the preconditioned operator alone has these as its own.
        if snapshot.operator.is_hessian() {
            for (name, meaning, extreme) in [
                ("lambda_max", "The largest Ritz value of P^{-1/2} H P^{-1/2}; 1/η.", seen.lambda_max),
                ("lambda_min", "The smallest Ritz value of P^{-1/2} H P^{-1/2}; 1/η.", seen.lambda_min),
            ] {
                let error = Some(extreme.residual);
                statistic(all, PRECONDITIONED, name, meaning, "residual", extreme.value, error);
            }
        }
        let meaning = "Parameters with a second moment: those that the operator is on.";
        push(all, "preconditioned/moved".into(), meaning.into(), seen.moved as f64);
    }
    direction_scalars(all, snapshot);
    let Some(stability) = snapshot.effective_stability() else { return };
    let mut plain = |tag: &str, meaning: &str, value: Option<f64>| {
        if let Some(value) = value {
            push(all, tag.into(), meaning.into(), value);
        }
    };
    plain(
        "stability/margin",
        "The largest eigenvalue, as the optimizer sees it, over the largest that it bears: above 1 is unstable.",
        stability.margin,
    );
    plain("stability/threshold", "The largest eigenvalue that the optimizer bears.", stability.threshold);
    plain("stability/learning_rate", "η of the coming step.", Some(stability.learning_rate));
}

fn direction_scalars(all: &mut Vec<Scalar>, snapshot: &Snapshot) {
    let Some(directions) = &snapshot.directions else { return };
    let mut plain = |tag: &str, meaning: &str, value: f64| push(all, tag.into(), meaning.into(), value);
    if let Some(along) = &directions.gradient {
        plain("directions/gradient/curvature", "gᵀHg/‖g‖²; loss / parameter².", along.curvature);
        plain("directions/gradient/error", "Its error from that of the product.", along.error);
    }
    if let Some(update) = &directions.update {
        plain("directions/update/curvature", "uᵀHu/‖u‖² along the update u.", update.along.curvature);
        plain("directions/update/error", "Its error from that of the product.", update.along.error);
        plain("directions/update/norm", "‖u‖; parameter.", update.along.norm);
        plain(
            "directions/update/predicted_change",
            "gᵀu + uᵀHu/2: the change of the loss by the quadratic model.",
            update.predicted_change,
        );
        plain(
            "directions/update/measured_change",
            "L(θ+u) − L(θ) on the probe batch.",
            update.measured_change,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpectrumOf;
    use crate::log::fixture;
    use crate::log::tensorboard::scalars::scalars;

    #[test]
    fn the_preconditioned_spectrum_never_goes_by_the_hessian_s_tags() {
        let tags = |snapshot: &Snapshot| -> Vec<String> {
            scalars(snapshot).into_iter().map(|scalar| scalar.tag).collect()
        };
        let both = fixture::snapshot_with_optimizer(0);
        let alone = Snapshot { operator: SpectrumOf::Preconditioned, ..both.clone() };
        let [both, alone] = [&both, &alone].map(tags);
        for name in ["lambda_max", "lambda_min", "trace", "unresolved_floor"] {
            assert!(both.contains(&format!("curvature/{name}")), "{name}");
            assert!(!alone.contains(&format!("curvature/{name}")), "{name}");
            assert!(alone.contains(&format!("preconditioned/{name}")), "{name}");
        }
        assert!(both.contains(&"preconditioned/lambda_max".to_owned()));
        for tags in [both, alone] {
            assert!(tags.contains(&"stability/margin".into()) && tags.contains(&"curvature/loss".into()));
            let mut once = tags.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), tags.len(), "a tag occurs twice");
        }
    }

    #[test]
    fn every_tag_is_in_the_documentation() {
        let documentation = include_str!("mod.rs");
        for scalar in scalars(&fixture::snapshot_with_optimizer(0)) {
            let own = scalar.tag.starts_with("stability/")
                || scalar.tag.starts_with("preconditioned/")
                || scalar.tag.starts_with("directions/");
            assert!(!own || documentation.contains(&format!("`{}`", scalar.tag)), "{}", scalar.tag);
        }
    }
}
