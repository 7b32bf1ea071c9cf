//! Products along given directions, each with its true error.

use crate::closure_host::ClosureHost;
use crate::models::{Model, Normal};
use hessian_probe::config::HvpConfig;
use hessian_probe::krylov::{Operator, Product};
use hessian_probe::operator::{Calibration, FiniteDifference, ProductRecord, Start};
use hessian_probe::sharded::Layout;
use std::cell::Cell;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// One product.
pub struct Trial {
    /// ‖w − Hv‖ / ‖Hv‖ against double backward.
    pub error: f64,
    /// What the product says of its own error.
    pub predicted: f64,
    pub product: Product,
    pub record: ProductRecord,
    /// Gradients that the host computed for it.
    pub gradients: u64,
}

/// A product for each direction, in order, against double backward in f64 at the parameters that the host computes with.
pub fn trials(
    mut host: ClosureHost,
    model: Model,
    config: &HvpConfig,
    directions: &[Tensor],
) -> hessian_probe::Result<Vec<Trial>> {
    let exact = ClosureHost::at_the_same_parameters(model, &host);
    let kind = host.parameters[0].kind();
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    host.hook = Some(Box::new(move |calls, _| {
        counter.set(calls);
        Ok(())
    }));
    let layout = Layout::new(&host, None)?;
    let (mut calibration, never) = (Calibration::default(), hessian_probe::Interrupter::default());
    let mut w = Tensor::zeros([layout.local_len()], (kind, Device::Cpu));
    let start = directions[0].to_kind(kind);
    let start = Start { vector: &start, spare: None };
    let mut operator =
        FiniteDifference::new(&mut host, &layout, config, &mut calibration, &never, start, &mut w)?;
    let take = |direction: &Tensor| {
        let q = direction.to_kind(kind);
        let before = count.get();
        // Each direction stands for the first vector of a run of its own: nothing is known of it.
        let product = operator.apply(operator.products.len(), &q, None, &mut w)?;
        let approximate = w.to_kind(Kind::Double) * product.scale;
        let exact = exact.exact_product(&q.to_kind(Kind::Double));
        let error = ((&approximate - &exact).norm() / exact.norm()).double_value(&[]);
        let record = *operator.products.last().unwrap();
        let gradients = count.get() - before;
        Ok(Trial { error, predicted: product.error / product.norm, product, record, gradients })
    };
    directions.iter().map(take).collect()
}

/// The true and the predicted relative error of Hv for each direction, in order.
pub fn errors(
    model: fn(u64) -> Model,
    seed: u64,
    kind: Kind,
    config: &HvpConfig,
    directions: &[Tensor],
) -> Vec<(f64, f64)> {
    let trials = trials(ClosureHost::new(model(seed), kind), model(seed), config, directions).unwrap();
    trials.iter().map(|trial| (trial.error, trial.predicted)).collect()
}

/// Whether a product's own prediction of its error was right, as far as one is promised.
pub fn is_foretold(trial: &Trial) -> bool {
    (0.2..5.0).contains(&(trial.error / trial.predicted))
}

/// A random unit vector.
pub fn random(model: fn(u64) -> Model, seed: u64) -> Tensor {
    another(model, seed, 1)
}

/// One of several random unit vectors of a seed.
pub fn another(model: fn(u64) -> Model, seed: u64, number: u64) -> Tensor {
    let n: i64 = model(seed).parameters.iter().map(|p| p.numel() as i64).sum();
    let v = Normal::new(seed + number).tensor(&[n], 1.0);
    &v / v.norm()
}

/// A random vector, the gradient's direction, and (by power iteration with exact products) one near
/// the outermost eigenvector: orders of magnitude of suitable steps.
pub fn directions(model: fn(u64) -> Model, seed: u64) -> [Tensor; 3] {
    let mut host = ClosureHost::new(model(seed), Kind::Double);
    let gradient = hessian_probe::Host::gradient(&mut host).unwrap();
    let gradient = Tensor::cat(&gradient.tensors.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
    let gradient = &gradient / gradient.norm();
    let top = (0..30).fold(gradient.shallow_clone(), |v, _| {
        let product = host.exact_product(&v);
        &product / product.norm()
    });
    [random(model, seed), gradient, top]
}
