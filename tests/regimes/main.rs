//! Studies of regimes against dense oracles and closed forms.

#[path = "../support/closure_host.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod closure_host;
#[path = "../support/dense.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod dense;
#[path = "../support/mixed.rs"]
mod mixed;
#[path = "../support/models.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod models;

mod degradation;
mod references;
mod restoration;
mod sweeps;
mod warned;

use closure_host::ClosureHost;
use hessian_probe::regimes::{
    DirectionKind, DirectionRecord, Method, Reference, Regime, RegimesConfig, Watch, measure,
    round_parameters,
};
use hessian_probe::{Interrupter, Result};
use models::Model;
use tch::{Kind, Tensor};

/// Calls `body` with a watch that nobody interrupts; returns also the gradients that it was told of.
fn watched<T>(body: impl FnOnce(&mut Watch<'_>) -> T) -> (T, u64) {
    let (never, mut told) = (Interrupter::default(), 0);
    let found = body(&mut Watch { interrupter: &never, gradients: &mut |gradients| told = gradients });
    (found, told)
}

/// The reference in f64, at the parameters of a host of `kind`.
fn reference(model: Model, kind: Kind, method: Method, config: &RegimesConfig) -> Result<Reference> {
    let mut host = ClosureHost::new(model, Kind::Double);
    round_parameters(&host, kind)?;
    watched(|watch| Reference::measure(&mut host, method, config, watch)).0
}

/// A host of `kind` against double backward in f64.
fn study(model: fn(u64) -> Model, seed: u64, kind: Kind, config: &RegimesConfig) -> Regime {
    let reference = reference(model(seed), kind, Method::Exact, config).unwrap();
    let mut host = ClosureHost::new(model(seed), kind);
    watched(|watch| measure(&mut host, &format!("{kind:?}"), &reference, config, watch)).0.unwrap()
}

fn along(regime: &Regime, kind: DirectionKind) -> &DirectionRecord {
    regime.directions.iter().find(|record| record.direction == kind).unwrap()
}

fn norm(vector: &Tensor) -> f64 {
    vector.norm().double_value(&[])
}
