//! What is differentiated of a loss, on this rank: for this crate's host, and for hosts of loops that keep their
//! parameters elsewhere than in a store.

use crate::error::{During, Error, Result};
use hessian_probe_c10d::autograd::{GradOptions, grad};
use tch::{Kind, Tensor};

const GRADIENT: &str = "the gradient of the closure's loss";
const PRODUCT: &str = "the second derivative of the closure's loss (an operation in it may have none)";

/// The loss that a closure returned, as a number.
///
/// # Errors
/// Where it is not one floating-point number, has no graph, or is not finite.
pub fn value(loss: &Tensor) -> Result<f64> {
    let (shape, kind) = (loss.size(), loss.kind());
    let floating = matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16);
    if loss.numel() != 1 || !floating {
        return Err(Error::NotScalar { shape, kind });
    }
    if !loss.requires_grad() {
        return Err(Error::NoGraph);
    }
    let loss = loss.f_double_value(&[]).during("reading the closure's loss")?;
    if loss.is_finite() { Ok(loss) } else { Err(Error::NonFinite { loss }) }
}

/// ∂L/∂θ, with zeros for parameters that the loss does not use. No `.grad` is touched.
///
/// # Errors
/// Where the loss uses none of them, or libtorch fails.
pub fn gradient(parameters: &[&Tensor], loss: &Tensor) -> Result<Vec<Tensor>> {
    let options = GradOptions { allow_unused: true, ..GradOptions::default() };
    let gradient = grad(&[loss], parameters, &[], options).during(GRADIENT)?;
    if gradient.iter().all(Option::is_none) {
        return Err(Error::NoGraph);
    }
    or_zeros(gradient, parameters)
}

/// ∂²L/∂θ² · v, by differentiating ⟨∂L/∂θ, v⟩, for a `v` with as many entries as each parameter has.
///
/// # Errors
/// As [`gradient`]; where `v` is not aligned with the parameters, or an operation has no second derivative.
pub fn product(parameters: &[&Tensor], loss: &Tensor, v: &[Tensor]) -> Result<Vec<Tensor>> {
    let fits = v.len() == parameters.len() && v.iter().zip(parameters).all(|(v, p)| v.numel() == p.numel());
    if !fits {
        return Err(Error::Misaligned { given: v.len(), parameters: parameters.len() });
    }
    let options = GradOptions { allow_unused: true, create_graph: true, ..GradOptions::default() };
    let gradient = grad(&[loss], parameters, &[], options).during(GRADIENT)?;
    if gradient.iter().all(Option::is_none) {
        return Err(Error::NoGraph);
    }
    // Where the loss is linear in a parameter its gradient is a constant.
    let curved: Vec<(&Tensor, Tensor)> = gradient
        .iter()
        .zip(v)
        .filter_map(|(gradient, v)| Some((gradient.as_ref().filter(|gradient| gradient.requires_grad())?, v)))
        .map(|(gradient, v)| Ok((gradient, v.f_to_kind(gradient.kind())?.f_reshape(gradient.size())?)))
        .collect::<Result<_, tch::TchError>>()
        .during(PRODUCT)?;
    if curved.is_empty() {
        return or_zeros(parameters.iter().map(|_| None).collect(), parameters);
    }
    let outputs: Vec<&Tensor> = curved.iter().map(|(gradient, _)| *gradient).collect();
    let weights: Vec<Option<&Tensor>> = curved.iter().map(|(_, v)| Some(v)).collect();
    let options = GradOptions { allow_unused: true, ..GradOptions::default() };
    or_zeros(grad(&outputs, parameters, &weights, options).during(PRODUCT)?, parameters)
}

fn or_zeros(derivatives: Vec<Option<Tensor>>, parameters: &[&Tensor]) -> Result<Vec<Tensor>> {
    let zeros = |parameter: &Tensor| parameter.f_detach()?.f_zeros_like();
    let filled = derivatives
        .into_iter()
        .zip(parameters)
        .map(|(derivative, parameter)| derivative.map_or_else(|| zeros(parameter), Ok));
    filled.collect::<Result<_, _>>().during("filling in the gradient of unused parameters")
}
