//! A host in one process whose loss is a closure.

use super::models::{Loss, Model};
use hessian_probe::{
    Gradient, Host, HostError, Optimizer, OptimizerKind, ProcessGroup, Shard, SingleProcess, Update,
};
use hessian_probe_c10d::autograd::{GradOptions, grad};
use tch::{Kind, Tensor};

type Hook = Box<dyn FnMut(u64, &mut Gradient) -> Result<(), HostError>>;

pub struct ClosureHost {
    names: Vec<String>,
    pub parameters: Vec<Tensor>,
    loss: Loss,
    /// What the forward pass rounds parameters to before it uses them, where that is not their own type.
    pub compute: Option<Kind>,
    /// Called with the number of the gradient, from 1, before it is returned.
    pub hook: Option<Hook>,
    pub calls: u64,
    /// What it lends of an optimizer.
    pub optimizer: Option<Optimizer>,
    /// What it lends of an update.
    pub update: Option<Vec<Tensor>>,
}

impl ClosureHost {
    pub fn new(model: Model, kind: Kind) -> Self {
        // Tests run side by side already.
        tch::set_num_threads(1);
        let parameters =
            model.parameters.iter().map(|p| p.to_kind(kind).copy().set_requires_grad(true)).collect();
        Self {
            names: model.names,
            parameters,
            loss: model.loss,
            compute: None,
            hook: None,
            calls: 0,
            optimizer: None,
            update: None,
        }
    }

    /// Lends an optimizer without decay.
    pub fn lend(&mut self, kind: OptimizerKind, learning_rate: f64, steps: u64, second_moments: Vec<Tensor>) {
        self.optimizer =
            Some(Optimizer { kind, learning_rate, weight_decay: Vec::new(), steps, second_moments });
    }

    pub fn flat(&self) -> Tensor {
        let pieces: Vec<Tensor> = self.parameters.iter().map(|p| p.detach().view([-1])).collect();
        Tensor::cat(&pieces, 0)
    }

    /// The parameters as the forward pass sees them.
    pub fn seen(&self) -> Vec<Tensor> {
        let seen = |p: &Tensor| self.compute.map_or_else(|| p.shallow_clone(), |kind| p.to_kind(kind));
        self.parameters.iter().map(seen).collect()
    }

    /// Loss and gradient, the latter with a graph of its own if asked for.
    pub fn graph(&self, create_graph: bool) -> (Tensor, Vec<Tensor>) {
        let loss = (self.loss)(&self.seen());
        let inputs: Vec<&Tensor> = self.parameters.iter().collect();
        let options = GradOptions { create_graph, ..GradOptions::default() };
        let gradients = grad(&[&loss], &inputs, &[], options).unwrap();
        (loss, gradients.into_iter().map(Option::unwrap).collect())
    }
}

impl Host for ClosureHost {
    fn shards(&self) -> Vec<Shard> {
        let tensors = self.parameters.iter().map(Tensor::shallow_clone);
        Shard::whole(self.names.iter().cloned().zip(tensors), false)
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let (loss, tensors) = self.graph(false);
        self.calls += 1;
        let mut gradient = Gradient { loss: loss.double_value(&[]), tensors };
        if let Some(hook) = &mut self.hook {
            hook(self.calls, &mut gradient)?;
        }
        Ok(gradient)
    }

    fn group(&self) -> &dyn ProcessGroup {
        &SingleProcess
    }

    fn compute_kind(&self) -> Option<Kind> {
        self.compute
    }

    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        Ok(self.optimizer.as_ref().map(Optimizer::shallow_clone))
    }

    fn update(&mut self) -> Result<Option<Update>, HostError> {
        let update = self.update.as_ref().map(|tensors| tensors.iter().map(Tensor::shallow_clone).collect());
        Ok(update.map(|tensors| Update { tensors, coming: true }))
    }

    fn offers_exact_hvp(&self) -> bool {
        true
    }

    fn exact_hvp(&mut self, v: &[Tensor]) -> Result<Vec<Tensor>, HostError> {
        let (_, gradients) = self.graph(true);
        let outputs: Vec<&Tensor> = gradients.iter().filter(|g| g.requires_grad()).collect();
        let weights: Vec<Option<&Tensor>> =
            gradients.iter().zip(v).filter(|(g, _)| g.requires_grad()).map(|(_, v)| Some(v)).collect();
        let inputs: Vec<&Tensor> = self.parameters.iter().collect();
        let options = GradOptions { allow_unused: true, ..GradOptions::default() };
        let product = grad(&outputs, &inputs, &weights, options)?;
        Ok(product
            .into_iter()
            .zip(&self.parameters)
            .map(|(p, q)| p.unwrap_or_else(|| q.zeros_like()))
            .collect())
    }
}
