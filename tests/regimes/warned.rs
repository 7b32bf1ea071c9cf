//! Whoever takes a wrong spectrum has been told.

use crate::closure_host::ClosureHost;
use crate::models::{Model, mlp, transformer};
use crate::reference;
use hessian_probe::regimes::{Method, RegimesConfig, RunSummary};
use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
use tch::Kind;

const STEPS: usize = 8;

fn snapshot(mut host: ClosureHost, seed: u64, difference: &str) -> Snapshot {
    let toml = format!(
        "[slq]\nsteps = {STEPS}\nprobes = 1\nseed = {seed}\n[hvp]\ndifference = \"{difference}\"\n\
         [log]\ntensorboard = false\njsonl = false"
    );
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap())
        .unwrap()
        .probe(0, &mut host)
        .unwrap()
        .clone()
}

/// The largest deviation from what exact products in f64 find from the same start: of λ over the largest |λ|, of
/// ‖H‖_F²/n over itself.
fn deviation(snapshot: &Snapshot, exact: &RunSummary) -> f64 {
    let largest = exact.lambda_max.abs().max(exact.lambda_min.abs());
    let probe = &snapshot.probes[0];
    let moment: f64 = probe.nodes.iter().zip(&probe.weights).map(|(node, weight)| weight * node * node).sum();
    let off = [
        (snapshot.lambda_max.value - exact.lambda_max) / largest,
        (snapshot.lambda_min.value - exact.lambda_min) / largest,
        moment / exact.second_moment - 1.0,
    ];
    off.into_iter().map(f64::abs).fold(0.0, f64::max)
}

/// In bf16, computed with or stored in, every spectrum that is off by more than a tenth says that it is outside the
/// trustworthy regime; in f32 none is off, and none says so.
#[test]
fn a_spectrum_that_is_wrong_says_that_it_is_outside_the_trustworthy_regime() {
    let (mut wrong, mut warned, mut right) = (0, 0, 0);
    for seed in 1..=10 {
        for model in [mlp as fn(u64) -> Model, transformer] {
            for (kind, compute) in
                [(Kind::BFloat16, None), (Kind::Float, Some(Kind::BFloat16)), (Kind::Float, None)]
            {
                let config = RegimesConfig { seed, steps: STEPS, ..RegimesConfig::default() };
                let exact = reference(model(seed), kind, Method::Exact, &config).unwrap();
                for difference in ["auto", "central", "forward"] {
                    let mut host = ClosureHost::new(model(seed), kind);
                    host.compute = compute;
                    let snapshot = snapshot(host, seed, difference);
                    let off = deviation(&snapshot, &exact.record.run);
                    let told = snapshot.warnings.iter().any(|warning| warning.contains("trustworthy regime"));
                    let place = format!(
                        "seed {seed}, {kind:?} computed in {compute:?}, {difference}: {off:.3} off, predicted {:.3}",
                        snapshot.hvp.predicted_error_median
                    );
                    if kind == Kind::Float && compute.is_none() {
                        assert!(
                            off < 0.02 && snapshot.warnings.is_empty(),
                            "{place}: {:?}",
                            snapshot.warnings
                        );
                        continue;
                    }
                    assert!(told || off < 0.1, "{place}");
                    wrong += usize::from(off >= 0.1);
                    warned += usize::from(told);
                    right += usize::from(!told);
                }
            }
        }
    }
    println!("in bf16: {wrong} wrong, {warned} warned of, {right} not");
    assert!(wrong > 20 && right > 20, "{wrong} wrong, {right} not warned of: both kinds are there");
}
