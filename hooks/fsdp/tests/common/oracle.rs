//! A plain training loop: whole parameters, whole graph, one process, its own AdamW.

use super::values;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use hessian_probe_fsdp::{Batch, Llama, SequenceId, SequenceSource, TrainerConfig};
use tch::{Device, Kind, Reduction, Tensor, no_grad_guard};

/// All parameters of a model, block by block, as leaves.
pub struct Plain {
    pub model: Llama,
    pub parameters: Vec<Vec<Tensor>>,
}

impl Plain {
    pub fn new(config: &TrainerConfig) -> Self {
        let kind = config.dtype.kind();
        let model = Llama::new(config.model.clone(), kind, Device::Cpu).expect("a model");
        let parameters = model
            .blocks()
            .iter()
            .map(|block| {
                block
                    .parameters
                    .iter()
                    .map(|spec| {
                        let values = spec.init.values(config.seed, &spec.name, 0, spec.numel());
                        let values = Tensor::from_slice(&values).to_kind(kind);
                        values.view(&spec.shape[..]).copy().set_requires_grad(true)
                    })
                    .collect()
            })
            .collect();
        Self { model, parameters }
    }

    /// Logits by one forward pass with a graph.
    pub fn logits(&self, inputs: &Tensor, dropout: bool) -> Tensor {
        let mut hidden = inputs.shallow_clone();
        for (index, block) in self.model.blocks().iter().enumerate() {
            let borrowed = block.borrows.map_or(&[][..], |index| &self.parameters[index]);
            let parameters: Vec<_> =
                self.parameters[index].iter().chain(borrowed).map(Tensor::shallow_clone).collect();
            hidden = self.model.run(index, &parameters, &hidden, dropout).expect("a forward pass");
        }
        hidden
    }

    /// The sum of losses, and its gradient divided by `count`: in the order of `parameters`, flat.
    pub fn gradient(&self, batch: &Batch, count: f64, dropout: bool) -> (f64, Vec<Tensor>) {
        let logits = self.logits(&batch.inputs, dropout);
        let vocab = self.model.config().vocab_size as i64;
        let sum = logits.view([-1, vocab]).cross_entropy_loss(
            &batch.labels.view([-1]),
            None::<&Tensor>,
            Reduction::Sum,
            -100,
            0.0,
        );
        let leaves: Vec<&Tensor> = self.parameters.iter().flatten().collect();
        let gradients = grad(&[&(&sum / count)], &leaves, &[], GradOptions::default()).expect("a gradient");
        (sum.double_value(&[]), gradients.into_iter().map(|gradient| gradient.expect("used")).collect())
    }

    pub fn flat(&self) -> Vec<f64> {
        self.parameters.iter().flatten().flat_map(values).collect()
    }
}

/// Losses, gradient norms and final parameters of `steps` steps.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Curve {
    pub losses: Vec<f64>,
    pub norms: Vec<f64>,
    pub parameters: Vec<f64>,
}

pub fn train(config: &TrainerConfig, source: &dyn SequenceSource, steps: u64) -> Curve {
    let plain = Plain::new(config);
    let optimizer = config.optimizer;
    let leaves: Vec<&Tensor> = plain.parameters.iter().flatten().collect();
    let mut first: Vec<Tensor> = leaves.iter().map(|leaf| leaf.zeros_like()).collect();
    let mut second: Vec<Tensor> = leaves.iter().map(|leaf| leaf.zeros_like()).collect();
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let batches: Vec<Batch> = (0..config.gradient_accumulation as u64)
            .map(|micro_step| {
                let sequences: Vec<_> = (0..config.batch_size as u64)
                    .map(|index| SequenceId { seed: config.seed, step, micro_step, index })
                    .map(|id| source.training(id, config.sequence_length).expect("a sequence"))
                    .collect();
                Batch::from_sequences(&sequences, 0, Device::Cpu).expect("a batch")
            })
            .collect();
        let count: f64 =
            batches.iter().map(|batch| batch.labels.ne(-100).sum(Kind::Int64).int64_value(&[]) as f64).sum();
        let mut loss = 0.0;
        let mut total: Vec<Tensor> = leaves.iter().map(|leaf| leaf.zeros_like()).collect();
        for batch in &batches {
            let (sum, gradients) = plain.gradient(batch, count, false);
            loss += sum;
            for (total, gradient) in total.iter_mut().zip(&gradients) {
                *total += gradient;
            }
        }
        let norm = total.iter().flat_map(values).map(|g| g * g).sum::<f64>().sqrt();
        losses.push(loss / count);
        norms.push(norm);

        let _no_grad = no_grad_guard();
        let clip =
            optimizer.clip_norm.map_or(1.0, |most| if norm > most { most / (norm + 1e-6) } else { 1.0 });
        let lr = optimizer.lr * config.schedule.factor(step);
        let (beta1, beta2) = optimizer.betas;
        let t = (step + 1) as i32;
        for (i, leaf) in leaves.iter().enumerate() {
            let g = &total[i] * clip;
            first[i] = &first[i] * beta1 + &g * (1.0 - beta1);
            second[i] = &second[i] * beta2 + &g * &g * (1.0 - beta2);
            let m = &first[i] / (1.0 - beta1.powi(t));
            let v = &second[i] / (1.0 - beta2.powi(t));
            let decay = if leaf.dim() > 1 { optimizer.weight_decay } else { 0.0 };
            let update: Tensor = m / (v.sqrt() + optimizer.eps) + *leaf * decay;
            let mut leaf = leaf.shallow_clone();
            leaf -= update * lr;
        }
    }
    Curve { losses, norms, parameters: plain.flat() }
}
