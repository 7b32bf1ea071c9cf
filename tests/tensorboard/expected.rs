//! The scalars of a snapshot, spelled out once more.

use hessian_probe::Snapshot;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every scalar that a snapshot should give, spelled out once more.
pub fn expected_scalars(s: &Snapshot) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let mut put = |tag: &str, value: f64| assert!(all.insert(tag.to_owned(), value).is_none(), "{tag}");
    for (name, e) in [("lambda_max", s.lambda_max), ("lambda_min", s.lambda_min)] {
        put(&format!("curvature/{name}"), e.value);
        put(&format!("curvature_error/{name}"), e.residual);
        put(&format!("curvature_error/{name}/lanczos"), e.lanczos_residual);
        put(&format!("curvature_error/{name}/hvp"), e.hvp_error);
        put(&format!("curvature_band/{name}/lower"), e.value - e.residual);
        put(&format!("curvature_band/{name}/upper"), e.value + e.residual);
    }
    for (name, e) in [
        ("trace", Some(s.trace)),
        ("mean_eigenvalue", Some(s.mean_eigenvalue)),
        ("frobenius_norm", Some(s.frobenius_norm)),
        ("negative_share", Some(s.negative_share)),
        ("negative_share_resolved", Some(s.negative_share_resolved)),
        ("effective_rank", s.effective_rank),
        ("stable_rank", s.stable_rank),
        ("spectral_entropy", s.spectral_entropy),
        ("unresolved_mass", Some(s.unresolved.mass)),
    ] {
        let Some(e) = e else { continue };
        put(&format!("curvature/{name}"), e.mean);
        if let Some(error) = e.standard_error {
            put(&format!("curvature_error/{name}"), error);
        }
        put(&format!("curvature_band/{name}/lower"), e.mean - e.standard_error.unwrap_or(0.0));
        put(&format!("curvature_band/{name}/upper"), e.mean + e.standard_error.unwrap_or(0.0));
    }
    put("curvature/loss", s.loss);
    put("curvature/gradient_norm", s.gradient_norm);
    put("curvature/parameter_norm", s.parameter_norm);
    put("curvature/unresolved_floor", s.unresolved.floor);
    put("probe/hvp_relative_error_worst", s.hvp.predicted_error_worst);
    put("probe/hvp_relative_error_median", s.hvp.predicted_error_median);
    put("probe/parity_ratio_worst", s.hvp.parity_worst);
    put("probe/parity_ratio_median", s.hvp.parity_median);
    put("probe/rounding_worst", s.hvp.rounding_worst);
    put("probe/step_min", s.hvp.step_min);
    put("probe/step_max", s.hvp.step_max);
    put("probe/forward_products", s.hvp.forward as f64);
    put("probe/central_products", s.hvp.central as f64);
    put("probe/fourth_order_products", s.hvp.central4 as f64);
    put("probe/exact_products", s.hvp.exact as f64);
    if let Some(asymmetry) = s.hvp.asymmetry {
        put("probe/asymmetry", asymmetry);
    }
    if let Some(defect) = s.probes.iter().filter_map(|p| p.orthogonality_defect).reduce(f64::max) {
        put("probe/orthogonality_defect", defect);
    }
    put("probe/warnings", s.warnings.len() as f64);
    put("probe/redone", s.hvp.redone as f64);
    put("probe/redone_gradients", s.hvp.redone_gradients as f64);
    put("probe/gradient_noise", s.hvp.gradient_noise);
    if let Some(repeats) = s.hvp.gradient_repeats {
        put("probe/gradient_repeats", f64::from(u8::from(repeats)));
    }
    put("probe/exhausted", s.probes.iter().filter(|p| p.breakdown.is_some()).count() as f64);
    if let Some(tokens) = s.tokens {
        put("probe/tokens", tokens as f64);
    }
    put("probe/seconds", s.cost.seconds);
    put("probe/gradient_seconds", s.cost.gradient_seconds);
    put("probe/communication_seconds", s.cost.communication_seconds);
    for (name, seconds) in s.cost.parts.named() {
        put(&format!("probe_seconds/{name}"), seconds);
    }
    put("probe/gradients", s.cost.gradients as f64);
    put("probe/calibration_gradients", s.cost.calibration_gradients as f64);
    put("probe/all_reduces", s.cost.all_reduces as f64);
    put("probe/reduced_values", s.cost.reduced_values as f64);
    put("probe/basis_bytes", s.cost.basis_bytes as f64);
    put("probe/vector_bytes", s.cost.vector_bytes as f64);
    put("probe/peak_memory_bytes", s.cost.peak_memory_bytes.unwrap() as f64);
    if let Some(seen) = &s.preconditioned {
        for (name, e) in [("lambda_max", seen.lambda_max), ("lambda_min", seen.lambda_min)] {
            put(&format!("preconditioned/{name}"), e.value);
            put(&format!("preconditioned_error/{name}"), e.residual);
            put(&format!("preconditioned_band/{name}/lower"), e.value - e.residual);
            put(&format!("preconditioned_band/{name}/upper"), e.value + e.residual);
        }
        put("preconditioned/moved", seen.moved as f64);
        put("stability/margin", seen.stability.margin.unwrap());
        put("stability/threshold", seen.stability.threshold.unwrap());
        put("stability/learning_rate", seen.stability.learning_rate);
    }
    if let Some(directions) = &s.directions {
        let (gradient, update) = (directions.gradient.unwrap(), directions.update.unwrap());
        put("directions/gradient/curvature", gradient.curvature);
        put("directions/gradient/error", gradient.error);
        put("directions/update/curvature", update.along.curvature);
        put("directions/update/error", update.along.error);
        put("directions/update/norm", update.along.norm);
        put("directions/update/predicted_change", update.predicted_change);
        put("directions/update/measured_change", update.measured_change);
    }
    if let Some(blocks) = &s.block_diagonal {
        let gradient = blocks.gradient.unwrap();
        for (name, e) in [
            ("relative_error", blocks.relative_error),
            ("cosine", blocks.cosine),
            ("off_diagonal_share", blocks.off_diagonal_share),
            ("gradient/relative_error", gradient.relative_error),
            ("gradient/cosine", gradient.cosine),
        ] {
            let Some(e) = e else { continue };
            put(&format!("blocks/{name}"), e.mean);
            if let Some(error) = e.standard_error {
                put(&format!("blocks_error/{name}"), error);
            }
            put(&format!("blocks_band/{name}/lower"), e.mean - e.standard_error.unwrap_or(0.0));
            put(&format!("blocks_band/{name}/upper"), e.mean + e.standard_error.unwrap_or(0.0));
        }
        put("blocks/predicted_error", blocks.predicted_error);
        put("blocks/hvps", blocks.hvps as f64);
        if let Some(spread) = blocks.draw_spread {
            put("blocks/draw_spread", spread);
        }
        for block in &blocks.blocks {
            for (what, e) in [
                ("trace", Some(block.trace)),
                ("frobenius_norm", block.frobenius_norm),
                ("share", block.share),
                ("trace_share", block.trace_share),
            ] {
                let Some(e) = e else { continue };
                put(&format!("blocks/{}/{what}", block.name), e.mean);
                if let Some(error) = e.standard_error {
                    put(&format!("blocks_error/{}/{what}", block.name), error);
                }
            }
            for (what, e) in [("lambda_max", block.lambda_max), ("lambda_min", block.lambda_min)] {
                let Some(e) = e else { continue };
                put(&format!("blocks/{}/{what}", block.name), e.value);
                put(&format!("blocks_error/{}/{what}", block.name), e.residual);
            }
        }
    }
    all.retain(|_, value| (*value as f32).is_finite());
    all
}

/// The bits of a scalar as TensorBoard shows it: 32 bits.
pub fn bits(value: f64) -> u64 {
    f64::from(value as f32).to_bits()
}

pub fn assert_scalars(values: &[Value], snapshot: &Snapshot) {
    let read: BTreeMap<String, u64> = values
        .iter()
        .filter(|value| value["plugin"] == "scalars")
        .map(|value| (value["tag"].as_str().unwrap().to_owned(), bits(value["value"].as_f64().unwrap())))
        .collect();
    let expected: BTreeMap<String, u64> =
        expected_scalars(snapshot).into_iter().map(|(tag, value)| (tag, bits(value))).collect();
    assert_eq!(read, expected, "step {}", snapshot.step);
}
