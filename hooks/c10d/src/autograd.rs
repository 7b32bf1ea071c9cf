//! `torch::autograd::grad`, which `tch` does not bind in full.

use crate::error::{Error, Result};
use crate::ffi;
use tch::Tensor;

/// What [`grad`] does with the graph.
///
/// ```
/// use hessian_probe_c10d::{GradOptions, grad};
/// use tch::Tensor;
///
/// // d²(x³)/dx² = 6x: the gradient keeps its own graph.
/// let x = Tensor::from_slice(&[2.0]).set_requires_grad(true);
/// let y = &x * &x * &x;
/// let twice = GradOptions { create_graph: true, ..GradOptions::default() };
/// let first = grad(&[&y], &[&x], &[], twice)?.remove(0).unwrap();
/// assert_eq!(grad(&[&first], &[&x], &[], GradOptions::default())?, [Some(Tensor::from_slice(&[12.0]))]);
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GradOptions {
    /// Keep the graph, for another call of [`grad`] through it.
    pub retain_graph: bool,
    /// Record the gradient's own graph, so that it can be differentiated; keeps the graph, too.
    pub create_graph: bool,
    /// Return `None` for an input that the outputs do not depend on, instead of an error.
    pub allow_unused: bool,
}

/// Σₖ (∂outputsₖ/∂inputsᵢ)ᵀ · grad_outputsₖ for every input i, without touching any `.grad`.
///
/// `grad_outputs` is empty (all `None`) or has one entry an output: a tensor of the output's shape, or
/// `None` for the gradient 1 of a scalar output. An input that the outputs do not depend on gives `None`
/// where [`GradOptions::allow_unused`] is set.
///
/// Unlike `Tensor::run_backward`, which starts every output with ones and crashes on one that has no
/// graph, this takes output gradients and returns errors.
///
/// ```
/// use hessian_probe_c10d::autograd::{GradOptions, grad};
/// use tch::Tensor;
///
/// let x = Tensor::from_slice(&[1.0, 2.0, 3.0]).set_requires_grad(true);
/// let y = &x * &x;
/// let v = Tensor::from_slice(&[1.0, 0.0, 10.0]);
/// let gradients = grad(&[&y], &[&x], &[Some(&v)], GradOptions::default())?;
/// assert_eq!(gradients[0], Some(Tensor::from_slice(&[2.0, 0.0, 60.0])));
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
///
/// # Errors
/// Where an output has no graph, a gradient's shape does not fit, the graph was freed, an input is unused
/// and that is not allowed; and whatever a backward function throws.
pub fn grad(
    outputs: &[&Tensor],
    inputs: &[&Tensor],
    grad_outputs: &[Option<&Tensor>],
    options: GradOptions,
) -> Result<Vec<Option<Tensor>>> {
    let refuse = |message: String| Err(Error::Autograd { message });
    if outputs.is_empty() {
        return refuse("no outputs".into());
    }
    if !grad_outputs.is_empty() && grad_outputs.len() != outputs.len() {
        return refuse(format!(
            "{} grad_outputs for {} outputs; give one each, or none at all",
            grad_outputs.len(),
            outputs.len()
        ));
    }
    let seeds = grad_outputs.iter().filter_map(|seed| seed.as_ref());
    if outputs.iter().chain(inputs).chain(seeds).any(|tensor| !tensor.defined()) {
        return refuse("a tensor is undefined".into());
    }
    let retain_graph = options.retain_graph || options.create_graph;
    ffi::grad(outputs, grad_outputs, inputs, retain_graph, options.create_graph, options.allow_unused)
        .map_err(|message| Error::Autograd { message })
}
