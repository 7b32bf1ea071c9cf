//! A host in one process whose loss is a closure.

use super::models::Model;
use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
use hessian_probe_c10d::autograd::{GradOptions, grad};
use tch::{Kind, Tensor};

type Loss = Box<dyn Fn(&[Tensor]) -> Tensor>;
type Hook = Box<dyn FnMut(u64, &mut Gradient) -> Result<(), HostError>>;

pub struct ClosureHost {
    names: Vec<String>,
    pub parameters: Vec<Tensor>,
    loss: Loss,
    /// Called with the number of the gradient, from 1, before it is returned.
    pub hook: Option<Hook>,
    pub calls: u64,
}

impl ClosureHost {
    pub fn new(model: Model, kind: Kind) -> Self {
        // Tests run side by side already.
        tch::set_num_threads(1);
        let parameters =
            model.parameters.iter().map(|p| p.to_kind(kind).copy().set_requires_grad(true)).collect();
        Self { names: model.names, parameters, loss: model.loss, hook: None, calls: 0 }
    }

    pub fn flat(&self) -> Tensor {
        let pieces: Vec<Tensor> = self.parameters.iter().map(|p| p.detach().view([-1])).collect();
        Tensor::cat(&pieces, 0)
    }

    fn graph(&self, create_graph: bool) -> (Tensor, Vec<Tensor>) {
        let loss = (self.loss)(&self.parameters);
        let inputs: Vec<&Tensor> = self.parameters.iter().collect();
        let options = GradOptions { create_graph, ..GradOptions::default() };
        let gradients = grad(&[&loss], &inputs, &[], options).unwrap();
        (loss, gradients.into_iter().map(Option::unwrap).collect())
    }

    /// H, entry by entry through double backward: the oracle.
    pub fn dense_hessian(&self) -> Tensor {
        let (_, gradients) = self.graph(true);
        let pieces: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
        let gradient = Tensor::cat(&pieces, 0);
        let rows: Vec<Tensor> = (0..gradient.numel() as i64).map(|i| self.row(&gradient.get(i))).collect();
        let dense = Tensor::stack(&rows, 0);
        (&dense + dense.tr()) * 0.5
    }

    /// Hv through double backward.
    pub fn exact_product(&self, v: &Tensor) -> Tensor {
        let (_, gradients) = self.graph(true);
        let pieces: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
        self.row(&Tensor::cat(&pieces, 0).dot(v))
    }

    fn row(&self, output: &Tensor) -> Tensor {
        let inputs: Vec<&Tensor> = self.parameters.iter().collect();
        let options = GradOptions { retain_graph: true, allow_unused: true, create_graph: false };
        let rows = grad(&[output], &inputs, &[], options).unwrap();
        let rows: Vec<Tensor> = rows
            .into_iter()
            .zip(&self.parameters)
            .map(|(row, p)| row.unwrap_or_else(|| p.zeros_like()).reshape([-1]))
            .collect();
        Tensor::cat(&rows, 0)
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
}
