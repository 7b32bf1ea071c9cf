//! The threshold that a probe compares with, against the sharded AdamW itself: on a quadratic it diverges just above and
//! converges just below, with second moments over six orders of magnitude.

use super::{AdamW, AdamWConfig};
use crate::model::{Llama, LlamaConfig};
use crate::sharding::ShardedParameters;
use hessian_probe::OptimizerKind;
use tch::{Device, Kind, Tensor};

/// So close to 1 that the second moments stay what they are, while so many steps leave nothing of the corrections.
const BETAS: (f64, f64) = (0.9, 1.0 - 1e-12);
const STEPS: u64 = 100_000_000_000_000;
const EPS: f64 = 1e-3;

fn parameters() -> ShardedParameters {
    let sizes = r#"{"vocab_size": 7, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1,
        "num_attention_heads": 3, "num_key_value_heads": 1}"#;
    let model: LlamaConfig = serde_json::from_str(sizes).unwrap();
    let model = Llama::new(model, Kind::Double, Device::Cpu).unwrap();
    ShardedParameters::initialized(&model, 0, 1, 1).unwrap()
}

/// A copy of all entries, one behind the other.
fn flat(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(tensors, 0).copy()
}

/// Writes all entries, one behind the other.
fn set(tensors: &[Tensor], values: &Tensor) {
    let mut start = 0;
    for tensor in tensors {
        let len = tensor.numel() as i64;
        tensor.shallow_clone().copy_(&values.narrow(0, start, len));
        start += len;
    }
}

/// Entries between 0 and 1, the same each time.
fn waves(n: i64, frequency: f64) -> Tensor {
    ((Tensor::arange(n, (Kind::Double, Device::Cpu)) * frequency).sin() + 1.0) * 0.5
}

/// Whether AdamW drives ½θᵀHθ up.
fn diverges(hessian: &Tensor, v: &Tensor, lr: f64, weight_decay: f64) -> bool {
    let config = AdamWConfig { lr, betas: BETAS, eps: EPS, weight_decay, ..AdamWConfig::default() };
    let parameters = parameters();
    let mut optimizer = AdamW::new(config, &parameters).unwrap();
    set(optimizer.second_moments(), v);
    optimizer.set_steps(STEPS);
    let shards = parameters.flat_shards();
    // Small: the moments that gradients add are nothing beside those that are set.
    set(shards, &(waves(v.numel() as i64, 1.7) * 1e-12));
    let size = || flat(shards).norm().double_value(&[]);
    let start = size();
    for _ in 0..20_000 {
        let gradient = hessian.mv(&flat(shards));
        let gradients: Vec<Tensor> = shards.iter().map(Tensor::zeros_like).collect();
        set(&gradients, &gradient);
        optimizer.step(&parameters, &gradients, lr, 1.0).unwrap();
        let now = size() / start;
        if !(1e-4..1e4).contains(&now) {
            return now > 1.0;
        }
    }
    panic!("it neither grows nor shrinks at {lr}: {}", size() / start);
}

#[test]
fn adamw_diverges_just_above_the_threshold_and_converges_just_below() {
    let shards = parameters();
    let n: i64 = shards.flat_shards().iter().map(|shard| shard.numel() as i64).sum();
    let v = (waves(n, 0.9) * -6.0 * std::f64::consts::LN_10).exp();
    let p = v.sqrt() + EPS;
    // K = P^{-1/2} H P^{-1/2} with eigenvalues from 0.01 to 0.4 and one near 1, whose vector lies in the embedding: a
    // matrix, so that it decays.
    let u = Tensor::zeros([n], (Kind::Double, Device::Cpu));
    u.narrow(0, 0, 42).copy_(&waves(42, 2.3));
    let u = &u / u.norm();
    let k = Tensor::diag(&(waves(n, 0.4) * 0.39 + 0.01), 0) + u.outer(&u);
    let root = p.sqrt();
    let hessian = &k * root.unsqueeze(0) * root.unsqueeze(1);
    let largest = k.linalg_eigvalsh("L").max().double_value(&[]);
    let kind = OptimizerKind::AdamW { betas: BETAS, eps: EPS };
    for (weight_decay, share) in [(0.0, 1.0), (0.01, 0.9)] {
        for margin in [0.99, 1.01] {
            let (mut low, mut high) = (1.0_f64, 100.0_f64);
            for _ in 0..50 {
                let middle = 0.5 * (low + high);
                let threshold = kind.threshold(middle, weight_decay, Some(STEPS)).unwrap();
                if largest / threshold > margin { high = middle } else { low = middle }
            }
            let without = kind.threshold(low, 0.0, Some(STEPS)).unwrap();
            let with = kind.threshold(low, weight_decay, Some(STEPS)).unwrap();
            assert!(with <= share * without, "decay counts: {with} of {without}");
            assert_eq!(diverges(&hessian, &v, low, weight_decay), margin > 1.0, "{weight_decay} {margin}");
        }
    }
}
