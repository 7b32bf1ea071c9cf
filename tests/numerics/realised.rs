//! The displacement that rounding leaves of hv, which the quotient divides by, and what it adds across v.
//!
//! Entries of θ are so chosen that each moves by a number of units in the last place that can be told by hand. The
//! Hessian is diagonal with powers of two, so that gradients are exact and rounding of θ is the only error there is.

use crate::closure_host::ClosureHost;
use crate::models::{Model, quadratic};
use crate::trials::{Trial, trials};
use hessian_probe::config::{Difference, HvpConfig, StepSize};
use hessian_probe::operator::Scheme;
use tch::{Device, Kind, Tensor};

const N: usize = 64;
/// Of numbers from 1 to 2 in f32 and in bf16.
const ULP: f64 = 1.0 / (1 << 23) as f64;
const BF16_ULP: f64 = 1.0 / (1 << 7) as f64;

/// A quadratic whose parameters take these values in turn.
fn at(values: &[f64]) -> Model {
    let theta: Vec<f64> = (0..N).map(|i| values[i % values.len()]).collect();
    let curvature: Vec<f64> = (0..N).map(|i| [4.0, -1.0, 0.5, 2.0, 1.0, -8.0, 0.25][i % 7]).collect();
    quadratic(&Tensor::from_slice(&curvature).diag(0), &Tensor::from_slice(&theta))
}

/// A product along a vector of equal entries, each of which is to move by `units`.
fn product(
    host: ClosureHost,
    values: &[f64],
    difference: Difference,
    units: f64,
) -> hessian_probe::Result<(Trial, f64)> {
    let root = (N as f64).sqrt();
    let v = Tensor::full([N as i64], 1.0 / root, (Kind::Double, Device::Cpu));
    let step_size = StepSize::Absolute(units * root);
    let config = HvpConfig { difference, step_size, ..HvpConfig::default() };
    let trial = trials(host, at(values), &config, &[v])?.remove(0);
    assert_eq!(trial.record.step, units * root);
    // w·scale = Hv, with w a difference over so many steps.
    let steps = match trial.record.scheme {
        Scheme::Forward => 1.0,
        Scheme::Central => 2.0,
        Scheme::Central4 => 12.0,
        Scheme::Exact => unreachable!("a difference"),
    };
    let ratio = 1.0 / (trial.product.scale * steps * units * root);
    Ok((trial, ratio))
}

/// Seven tenths of a unit become a whole one: h is off by 43 %, and the product is right.
#[test]
fn quotients_divide_by_the_realised_step() {
    // Of the two pairs of a fourth-order difference, the one at 1.4 units moves by one, too: 8·2 − 2 in place of
    // 12 · 0.7.
    for (difference, units, expected) in [
        (Difference::Forward, 0.75, 1.0 / 0.75),
        (Difference::Central, 0.75, 1.0 / 0.75),
        (Difference::Forward, 0.7, 1.0 / 0.7),
        (Difference::Central, 0.7, 1.0 / 0.7),
        (Difference::Central4, 0.7, 14.0 / 8.4),
    ] {
        let host = ClosureHost::new(at(&[1.5]), Kind::Float);
        let (trial, ratio) = product(host, &[1.5], difference, units * ULP).unwrap();
        assert!((ratio / expected - 1.0).abs() < 1e-5, "{difference:?}: h̄ = {ratio}·h for {expected}·h");
        assert!(trial.error < 1e-5, "{difference:?}: {:e}", trial.error);
    }
}

/// What a displacement by three quarters of [`ULP`] does to each value: it moves 0.375 by exactly that, 1.5 by a whole
/// unit, and 3 not at all. So the mean of the moves is h̄, and their spread about it is ρ.
const MOVES: [(&[f64], f64, f64); 4] = [
    (&[1.5], 4.0 / 3.0, 0.0),
    (&[0.375], 1.0, 0.0),
    (&[1.5, 0.375], 7.0 / 6.0, 1.0 / 7.0),
    (&[1.5, 3.0], 2.0 / 3.0, 1.0),
];

fn check(host: impl Fn(Model) -> ClosureHost, ulp: f64) {
    for (values, realised, rounding) in MOVES {
        for difference in [Difference::Forward, Difference::Central] {
            let (trial, ratio) = product(host(at(values)), values, difference, 0.75 * ulp).unwrap();
            let what = format!("{values:?}, {difference:?}");
            assert!((ratio / realised - 1.0).abs() < 1e-5, "{what}: h̄ = {ratio}·h for {realised}·h");
            // The root of a difference of two equal numbers.
            let off = (trial.record.rounding - rounding).abs();
            assert!(off < 1e-3, "{what}: ρ = {} for {rounding}", trial.record.rounding);
        }
    }
}

#[test]
fn rounding_is_the_part_of_the_displacement_across_v() {
    check(|model| ClosureHost::new(model, Kind::Float), ULP);
}

/// The masters move by hv as precisely as f32 can: what counts is what the forward pass sees of it.
#[test]
fn of_masters_the_step_and_rounding_are_those_of_the_parameters_computed_with() {
    check(ClosureHost::computing_in_bf16, BF16_ULP);
    // Masters three tenths of a unit above a bf16 number: what lies 0.75 above them is rounded up to the next, what lies
    // 0.75 below to the same.
    let values = [1.5 + 0.3 * BF16_ULP];
    for (difference, expected) in [(Difference::Forward, 4.0 / 3.0), (Difference::Central, 2.0 / 3.0)] {
        let host = ClosureHost::computing_in_bf16(at(&values));
        let (trial, ratio) = product(host, &values, difference, 0.75 * BF16_ULP).unwrap();
        assert!((ratio / expected - 1.0).abs() < 1e-5, "{difference:?}: h̄ = {ratio}·h for {expected}·h");
        assert!(trial.error < 1e-5 && trial.record.rounding < 1e-3, "{difference:?}: {:?}", trial.record);
    }
}

#[test]
fn a_step_that_moves_masters_but_nothing_that_is_computed_with_is_an_error_that_says_so() {
    for difference in [Difference::Forward, Difference::Central] {
        let host = ClosureHost::computing_in_bf16(at(&[1.5]));
        let Err(error) = product(host, &[1.5], difference, 0.3 * BF16_ULP) else {
            panic!("it has a product")
        };
        let error = error.to_string();
        assert!(error.contains("changes no parameter") && error.contains("hvp.step_size"), "{error}");
    }
}
