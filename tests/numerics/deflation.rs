//! Outliers taken out of runs, and put back into the quadrature.

use crate::closure_host::ClosureHost;
use crate::dense::{distance, eigenvalues, norm2};
use crate::models::{Model, mlp, transformer};
use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
use tch::Kind;

fn snapshot(model: fn(u64) -> Model, kind: Kind, slq: &str) -> Snapshot {
    let toml = format!("[slq]\n{slq}\n[log]\ntensorboard = false\njsonl = false");
    let mut host = ClosureHost::new(model(6), kind);
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    probe.probe(0, &mut host).unwrap().clone()
}

fn moment(snapshot: &Snapshot, probe: usize, power: i32) -> f64 {
    let record = &snapshot.probes[probe];
    record.nodes.iter().zip(&record.weights).map(|(node, weight)| weight * node.powi(power)).sum()
}

/// The quadrature is that of H: the same moments of the same start vectors, the same extremes.
#[test]
fn deflated_values_return_with_their_exact_weights() {
    for model in [mlp as fn(u64) -> Model, transformer] {
        let plain = snapshot(model, Kind::Double, "steps = 40\nprobes = 2");
        let deflated = snapshot(model, Kind::Double, "steps = 40\nprobes = 2\ndeflate = 6");
        for probe in 0..2 {
            let record = &deflated.probes[probe];
            assert_eq!(record.deflated.len(), 6);
            assert_eq!(record.nodes.len(), record.alpha.len() + 6);
            assert!((record.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(record.nodes.is_sorted());
            for power in 1..3 {
                let (a, b) = (moment(&deflated, probe, power), moment(&plain, probe, power));
                let scale = moment(&plain, probe, 2).sqrt().powi(power);
                assert!((a - b).abs() < 1e-3 * scale, "moment {power}: {a:e} for {b:e}");
            }
            // What was taken out does not come again.
            let top = record.deflated[0].value;
            let copies = record.nodes.iter().filter(|node| (**node - top).abs() < 1e-3 * top.abs()).count();
            assert_eq!(copies, 1, "{:?}", record.deflated);
        }
        let dense = ClosureHost::new(model(6), Kind::Double).dense_hessian();
        let (exact, norm) = (eigenvalues(&dense), norm2(&dense));
        for value in &deflated.probes[0].deflated {
            let off = distance(value.value, &exact);
            assert!(
                off <= value.residual + 5.0 * value.hvp_error + 1e-9 * norm,
                "{value:?} is off by {off:e}"
            );
        }
        assert!((deflated.lambda_max.value - plain.lambda_max.value).abs() <= deflated.lambda_max.residual);
    }
}

/// The point of it: products of what is left take larger steps, and the floor goes down.
#[test]
fn the_unresolved_floor_goes_down_in_f32() {
    let plain = snapshot(transformer, Kind::Float, "steps = 40");
    let deflated = snapshot(transformer, Kind::Float, "steps = 40\ndeflate = 16");
    let median = |snapshot: &Snapshot| {
        let mut errors = snapshot.probes[0].hvp_errors.clone();
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    };
    eprintln!(
        "floor {:e} and {:e}, median noise {:e} and {:e}",
        plain.unresolved.floor,
        deflated.unresolved.floor,
        median(&plain),
        median(&deflated)
    );
    assert!(deflated.unresolved.floor < plain.unresolved.floor);
    assert!(median(&deflated) < 0.7 * median(&plain), "{:e} for {:e}", median(&deflated), median(&plain));
    assert!(deflated.cost.basis_bytes > plain.cost.basis_bytes);
}

#[test]
fn impossible_combinations_are_errors() {
    for (toml, key) in [
        ("[slq]\ndeflate = 2\nreorthogonalize = \"none\"", "slq.deflate"),
        ("[slq]\ndeflate = 2\n[resume]\nevery = 5", "resume.every"),
    ] {
        let error = ProbeConfig::from_toml_str(toml).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
