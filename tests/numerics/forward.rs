//! Products of one gradient each.

use crate::closure_host::ClosureHost;
use crate::models::{Model, mlp, transformer};
use crate::trials::{another, directions, is_foretold, trials};
use hessian_probe::config::{Difference, HvpConfig};
use hessian_probe::operator::Scheme;
use hessian_probe::{HessianProbe, ProbeConfig};
use tch::{Kind, Tensor};

/// The second product of a series measures the parity ratio, and is central.
fn measures_parity(index: usize) -> bool {
    index == 1
}

/// Vectors whose steps are orders of magnitude apart.
fn series(model: fn(u64) -> Model, seed: u64) -> Vec<Tensor> {
    let [random, gradient, top] = directions(model, seed);
    [&random, &random, &gradient, &top, &top, &gradient].iter().map(|v| v.shallow_clone()).collect()
}

#[test]
fn forward_products_cost_one_gradient_and_keep_their_promise() {
    let config = HvpConfig { difference: Difference::Auto, ..HvpConfig::default() };
    for kind in [Kind::Float, Kind::Double] {
        let host = ClosureHost::new(transformer(2), kind);
        let trials = trials(host, transformer(2), &config, &series(transformer, 2)).unwrap();
        for (index, trial) in trials.iter().enumerate() {
            let scheme = if measures_parity(index) { Scheme::Central } else { Scheme::Forward };
            let gradients = if measures_parity(index) { 2 } else { 1 };
            assert_eq!((trial.record.scheme, trial.gradients), (scheme, gradients), "{kind:?}, {index}");
            let (error, limit) = (trial.error, config.max_relative_error);
            assert!(error <= limit && trial.predicted <= limit, "{kind:?}, {index}: {error:e}");
        }
    }
}

/// What it predicts from is not its own: a parity ratio that a central difference measured, at the same vector (in the
/// calibration) for the first product and along another one for those after the second.
#[test]
fn forward_predicts_its_own_error_in_45_of_50_seeds() {
    let config = HvpConfig { difference: Difference::Forward, ..HvpConfig::default() };
    for model in [mlp as fn(u64) -> Model, transformer] {
        for kind in [Kind::Float, Kind::Double] {
            let mut good = [0; 4];
            for seed in 0..50 {
                let series = [1, 51, 101, 151].map(|number| another(model, seed, number));
                let host = ClosureHost::new(model(seed), kind);
                for (index, trial) in trials(host, model(seed), &config, &series).unwrap().iter().enumerate()
                {
                    assert_eq!(trial.record.scheme == Scheme::Forward, !measures_parity(index));
                    good[index] += u32::from(is_foretold(trial));
                }
            }
            assert!(good.iter().all(|good| *good >= 45), "{kind:?}: {good:?} of 50");
        }
    }
}

/// Product by product: forward where a forward difference predicts an error within the limit, central along any other
/// vector. Up to a factor: one product's step, and so its error, depends on what the ones before it were.
#[test]
fn auto_is_forward_where_that_is_good_enough_and_central_elsewhere() {
    const WIDE: f64 = 0.02;
    let (mut forward, mut central) = (0, 0);
    for model in [mlp as fn(u64) -> Model, transformer] {
        let found = |difference, max_relative_error| {
            let config = HvpConfig { difference, max_relative_error, ..HvpConfig::default() };
            let host = ClosureHost::new(model(2), Kind::Float);
            trials(host, model(2), &config, &series(model, 2)).unwrap()
        };
        let of_forward: Vec<f64> = found(Difference::Forward, WIDE).iter().map(|t| t.predicted).collect();
        for limit in [WIDE, 5e-3, 3e-3, 1e-3, 1e-4] {
            for (index, trial) in found(Difference::Auto, limit).iter().enumerate() {
                let what = format!("limit {limit}, {index}: {:?}, {:e}", trial.record, of_forward[index]);
                match trial.record.scheme {
                    Scheme::Central if measures_parity(index) => {}
                    Scheme::Central => {
                        central += 1;
                        assert!(of_forward[index] >= 0.5 * limit, "{what}");
                    }
                    scheme => {
                        forward += 1;
                        assert_eq!(scheme, Scheme::Forward, "{what}");
                        assert!(trial.predicted <= 1.5 * limit && of_forward[index] <= 2.0 * limit, "{what}");
                    }
                }
            }
        }
    }
    assert!(forward >= 15 && central >= 15, "{forward} forward, {central} central");
}

/// A probe counts them: all but the second and every eighth after it where the limit is wide, none where no forward
/// difference of f32 keeps to it.
#[test]
fn a_probe_tells_how_many_products_were_forward_and_how_many_central() {
    for (limit, forward) in [(0.02, 10), (1e-4, 0)] {
        let toml = format!(
            "[slq]\nsteps = 12\n[hvp]\nmax_relative_error = {limit}\n[log]\ntensorboard = false\njsonl = false"
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        let mut host = ClosureHost::new(transformer(2), Kind::Float);
        let hvp = &probe.probe(0, &mut host).unwrap().hvp;
        assert_eq!((hvp.forward, hvp.central), (forward, 12 - forward), "limit {limit}: {hvp:?}");
    }
}
