//! References that need no double backward, against it.

use crate::closure_host::ClosureHost;
use crate::models::{mlp, transformer};
use crate::{along, reference, watched};
use hessian_probe::regimes::{DirectionKind, Method, RegimesConfig, sweep};
use tch::Kind;

/// Every method against the same products of a host under test: the errors that the three find differ by no more than
/// the references' own.
#[test]
fn methods_agree_within_the_errors_that_they_estimate() {
    let config = RegimesConfig { steps: 8, points_per_decade: 1, ..RegimesConfig::default() };
    for model in [mlp, transformer] {
        let sweep_against = |method| {
            let reference = reference(model(3), Kind::Float, method, &config).unwrap();
            let mut host = ClosureHost::new(model(3), Kind::Float);
            let regime = watched(|watch| sweep(&mut host, "f32", &reference, &config, watch)).0.unwrap();
            (regime, reference.record)
        };
        let (exact, record) = sweep_against(Method::Exact);
        assert_eq!(record.gradients, 1);
        for method in [Method::Central4, Method::Richardson] {
            let (other, record) = sweep_against(method);
            assert!(record.gradients > 8 * 4);
            for kind in [DirectionKind::Random, DirectionKind::Gradient, DirectionKind::Top] {
                let (a, b) = (along(&exact, kind), along(&other, kind));
                let norm_off = (b.norm / a.norm - 1.0).abs();
                assert!(b.reference_error < 1e-6, "{method:?}, {kind}: {:e}", b.reference_error);
                assert!(
                    norm_off < 30.0 * b.reference_error,
                    "{method:?}, {kind}: {norm_off:e}, {:e}",
                    b.reference_error
                );
                for (a, b) in a.rows.iter().zip(&b.rows) {
                    if let (Some(a), Some(b)) = (a.central, b.central) {
                        assert!((a.error - b.error).abs() < 1e-3 * a.error + 1e-6, "{a:?}, {b:?}");
                    }
                }
            }
            let scale = exact.reference.run.lambda_max.abs();
            let pairs = |own: &[f64], other: &[f64]| {
                own.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
            };
            assert!(pairs(&exact.reference.run.alpha, &record.run.alpha) < 1e-5 * scale);
            assert!(pairs(&exact.reference.run.beta, &record.run.beta) < 1e-5 * scale);
        }
    }
}

#[test]
fn what_has_no_gradient_or_no_curvature_is_left_out_and_named() {
    let config = RegimesConfig { steps: 2, points_per_decade: 1, ..RegimesConfig::default() };
    let matrix = tch::Tensor::eye(4, (Kind::Double, tch::Device::Cpu));
    let origin = tch::Tensor::zeros([4], (Kind::Double, tch::Device::Cpu));
    let model = || crate::models::quadratic(&matrix, &origin);
    let found = reference(model(), Kind::Double, Method::Exact, &config).unwrap();
    assert_eq!(found.record.left_out, ["gradient: the gradient is 0"]);
    let mut host = ClosureHost::new(model(), Kind::Double);
    let regime = watched(|watch| sweep(&mut host, "f64", &found, &config, watch)).0.unwrap();
    assert_eq!((regime.directions.len(), regime.gradient_error), (2, None));
    let flat = crate::models::quadratic(&(&matrix * 0.0), &(&origin + 1.0));
    let found = reference(flat, Kind::Double, Method::Exact, &config).unwrap();
    assert_eq!(found.record.left_out.len(), 3, "{:?}", found.record.left_out);
}
