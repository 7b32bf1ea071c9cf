//! The Llama architecture once more, as plainly as can be: one sequence at a time, no padding, no blocks, the
//! scores of attention written out. Nothing of it is shared with the program.

use super::models::{Model, Normal};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A model's sizes, and the seed of its weights.
#[derive(Clone, Debug)]
pub struct Shape {
    pub vocabulary: i64,
    pub hidden: i64,
    pub inner: i64,
    pub layers: i64,
    pub heads: i64,
    pub key_value_heads: i64,
    pub tied: bool,
    pub positions: i64,
    pub seed: u64,
    /// The standard deviation of the weights.
    pub std: f64,
    /// That of the output projection (or of the tied embedding).
    pub head_std: f64,
}

/// A sequence in Hugging Face's convention.
#[derive(Clone, Debug)]
pub struct Example {
    pub input_ids: Vec<i64>,
    pub labels: Option<Vec<i64>>,
}

impl Example {
    pub fn new(input_ids: &[i64], labels: Option<&[i64]>) -> Self {
        Self { input_ids: input_ids.into(), labels: labels.map(Into::into) }
    }

    pub fn line(&self) -> String {
        super::line(&self.input_ids, self.labels.as_deref())
    }

    fn labels(&self) -> &[i64] {
        self.labels.as_deref().unwrap_or(&self.input_ids)
    }
}

/// The counted targets of all examples.
pub fn targets(examples: &[Example]) -> usize {
    let labels = examples.iter().flat_map(|example| example.labels().iter().skip(1));
    labels.filter(|&&label| label != -100).count()
}

const EPS: f64 = 1e-5;
const THETA: f64 = 1e4;

impl Shape {
    /// About 1,500 parameters.
    pub fn small(seed: u64) -> Self {
        Self {
            vocabulary: 29,
            hidden: 8,
            inner: 34,
            layers: 1,
            heads: 2,
            key_value_heads: 1,
            tied: false,
            positions: 16,
            seed,
            std: 0.4,
            head_std: 0.6,
        }
    }

    fn head_size(&self) -> i64 {
        self.hidden / self.heads
    }

    /// Name, shape and standard deviation of every weight; 0 for a gain, which is near 1.
    fn specifications(&self) -> Vec<(String, Vec<i64>, f64)> {
        let (hidden, inner) = (self.hidden, self.inner);
        let narrow = self.key_value_heads * self.head_size();
        let embedding = if self.tied { self.head_std } else { self.std };
        let mut all =
            vec![("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, hidden], embedding)];
        for layer in 0..self.layers {
            for (name, shape, std) in [
                ("input_layernorm", vec![hidden], 0.0),
                ("self_attn.q_proj", vec![hidden, hidden], self.std),
                ("self_attn.k_proj", vec![narrow, hidden], self.std),
                ("self_attn.v_proj", vec![narrow, hidden], self.std),
                ("self_attn.o_proj", vec![hidden, hidden], self.std),
                ("post_attention_layernorm", vec![hidden], 0.0),
                ("mlp.gate_proj", vec![inner, hidden], self.std),
                ("mlp.up_proj", vec![inner, hidden], self.std),
                ("mlp.down_proj", vec![hidden, inner], self.std),
            ] {
                all.push((format!("model.layers.{layer}.{name}.weight"), shape, std));
            }
        }
        all.push(("model.norm.weight".into(), vec![hidden], 0.0));
        if !self.tied {
            all.push(("lm_head.weight".into(), vec![self.vocabulary, hidden], self.head_std));
        }
        all
    }

    pub fn parameters(&self) -> u64 {
        self.specifications().iter().map(|(_, shape, _)| shape.iter().product::<i64>() as u64).sum()
    }

    /// Names and values, f64.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let mut normal = Normal::new(self.seed);
        let draw = |(name, shape, std): (String, Vec<i64>, f64)| {
            let values =
                if std == 0.0 { normal.tensor(&shape, 0.1) + 1.0 } else { normal.tensor(&shape, std) };
            (name, values)
        };
        self.specifications().into_iter().map(draw).collect()
    }

    pub fn config(&self) -> serde_json::Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "vocab_size": self.vocabulary, "hidden_size": self.hidden, "intermediate_size": self.inner,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads, "rms_norm_eps": EPS, "rope_theta": THETA,
            "tie_word_embeddings": self.tied, "max_position_embeddings": self.positions,
        })
    }

    /// Writes the model, its weights in f64.
    pub fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("config.json"), self.config().to_string()).unwrap();
        write_weights(&directory.join("model.safetensors"), &self.weights());
    }

    /// The mean loss over the counted targets of `examples`, as a function of the weights.
    pub fn model(&self, examples: &[Example]) -> Model {
        let (names, parameters) = self.weights().into_iter().unzip();
        let (shape, examples) = (self.clone(), examples.to_vec());
        let count = targets(&examples) as f64;
        let loss = move |weights: &[Tensor]| {
            let of_one = |example: &Example| shape.loss_sum(weights, example);
            let sums = examples.iter().filter_map(of_one).reduce(|sum, loss| sum + loss);
            sum_or_zero(sums) / count
        };
        Model { names, parameters, loss: Box::new(loss) }
    }

    /// The sum of the losses of one sequence; `None` where it has no counted target.
    fn loss_sum(&self, weights: &[Tensor], example: &Example) -> Option<Tensor> {
        let labels = example.labels().get(1..)?;
        let counted: Vec<i64> =
            (0..labels.len() as i64).filter(|&position| labels[position as usize] != -100).collect();
        if counted.is_empty() {
            return None;
        }
        let inputs = &example.input_ids[..labels.len()];
        let targets: Vec<i64> = counted.iter().map(|&position| labels[position as usize]).collect();
        let log_probabilities = self.logits(weights, inputs).log_softmax(-1, None);
        let rows = log_probabilities.index_select(0, &Tensor::from_slice(&counted));
        Some(-rows.gather(1, &Tensor::from_slice(&targets).unsqueeze(1), false).sum(None))
    }

    /// `[T, V]`.
    fn logits(&self, weights: &[Tensor], tokens: &[i64]) -> Tensor {
        let mut weights = weights.iter();
        let mut next = || weights.next().expect("a weight");
        let embedding = next();
        let mut x = embedding.index_select(0, &Tensor::from_slice(tokens));
        for _ in 0..self.layers {
            let y = norm(&x, next());
            let [q, k, v] = [next(), next(), next()].map(|weight| y.matmul(&weight.tr()));
            x = &x + self.attention(&q, &k, &v).matmul(&next().tr());
            let y = norm(&x, next());
            let (gate, up) = (y.matmul(&next().tr()), y.matmul(&next().tr()));
            x = &x + (&gate * gate.sigmoid() * up).matmul(&next().tr());
        }
        let x = norm(&x, next());
        let head = if self.tied { embedding } else { next() };
        x.matmul(&head.tr())
    }

    /// Head by head.
    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let size = self.head_size();
        let time = q.size()[0];
        let future = Tensor::ones([time, time], (Kind::Bool, Device::Cpu)).triu(1);
        let heads: Vec<Tensor> = (0..self.heads)
            .map(|head| {
                let shared = head / (self.heads / self.key_value_heads);
                let q = turn(&q.narrow(1, head * size, size));
                let k = turn(&k.narrow(1, shared * size, size));
                let scores = q.matmul(&k.tr()) / (size as f64).sqrt();
                let scores = scores.masked_fill(&future, f64::NEG_INFINITY);
                scores.softmax(-1, None).matmul(&v.narrow(1, shared * size, size))
            })
            .collect();
        Tensor::cat(&heads, 1)
    }
}

fn sum_or_zero(sum: Option<Tensor>) -> Tensor {
    sum.unwrap_or_else(|| Tensor::zeros([], (Kind::Double, Device::Cpu)))
}

fn norm(x: &Tensor, gain: &Tensor) -> Tensor {
    let mean = (x * x).mean_dim([-1_i64].as_slice(), true, None);
    x / (mean + EPS).sqrt() * gain
}

/// Rotary positions of `[T, size]`: element j is paired with j + size/2.
fn turn(x: &Tensor) -> Tensor {
    let (time, half) = (x.size()[0], x.size()[1] / 2);
    let angles: Vec<f64> = (0..time)
        .flat_map(|t| (0..half).map(move |j| t as f64 * THETA.powf(-(j as f64) / half as f64)))
        .collect();
    let angles = Tensor::from_slice(&angles).view([time, half]).to_kind(x.kind());
    let (a, b) = (x.narrow(1, 0, half), x.narrow(1, half, half));
    let (cos, sin) = (angles.cos(), angles.sin());
    Tensor::cat(&[&a * &cos - &b * &sin, &b * &cos + &a * &sin], 1)
}

/// A safetensors file of f64 tensors.
pub fn write_weights(path: &Path, weights: &[(String, Tensor)]) {
    let bytes: Vec<(&String, Vec<usize>, Vec<u8>)> = weights
        .iter()
        .map(|(name, tensor)| {
            let tensor = tensor.contiguous();
            let mut bytes = vec![0; 8 * tensor.numel()];
            tensor.copy_data_u8(&mut bytes, tensor.numel());
            (name, tensor.size().iter().map(|&size| size as usize).collect(), bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F64, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}
