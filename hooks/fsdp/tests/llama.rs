//! The model against a second implementation: plain loops over f64, written from the papers.

mod common;

use common::oracle::Plain;
use common::{config, values};
use hessian_probe_fsdp::model::cross_entropy_sum;
use hessian_probe_fsdp::{Attention, Dtype, LlamaConfig, TrainerConfig};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

type Weights = BTreeMap<String, Vec<f64>>;

/// `W x` for `W` `[out, in]`, row-major.
fn matvec(weight: &[f64], x: &[f64]) -> Vec<f64> {
    weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(x, g)| x / (mean_square + eps).sqrt() * g).collect()
}

/// Turns the pairs `(j, j + h/2)` of every head as complex numbers.
fn rotate(x: &mut [f64], head: usize, position: usize, theta: f64) {
    for head_values in x.chunks_mut(head) {
        let (first, second) = head_values.split_at_mut(head / 2);
        for (j, (a, b)) in first.iter_mut().zip(second).enumerate() {
            let angle = position as f64 / theta.powf(2.0 * j as f64 / head as f64);
            (*a, *b) = (*a * angle.cos() - *b * angle.sin(), *a * angle.sin() + *b * angle.cos());
        }
    }
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

/// Logits at every position of one sequence.
fn logits(config: &LlamaConfig, weights: &Weights, tokens: &[i64]) -> Vec<Vec<f64>> {
    let (d, head) = (config.hidden_size, config.hidden_size / config.num_attention_heads);
    let group = config.num_attention_heads / config.num_key_value_heads.unwrap();
    let embedding = &weights["model.embed_tokens.weight"];
    let mut stream: Vec<Vec<f64>> =
        tokens.iter().map(|&t| embedding[t as usize * d..(t as usize + 1) * d].to_vec()).collect();
    for layer in 0..config.num_hidden_layers {
        let weight = |name: &str| &weights[&format!("model.layers.{layer}.{name}.weight")];
        let (mut queries, mut keys, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in stream.iter().enumerate() {
            let x = norm(x, weight("input_layernorm"), config.rms_norm_eps);
            let mut query = matvec(weight("self_attn.q_proj"), &x);
            let mut key = matvec(weight("self_attn.k_proj"), &x);
            rotate(&mut query, head, position, config.rope_theta);
            rotate(&mut key, head, position, config.rope_theta);
            queries.push(query);
            keys.push(key);
            rows.push(matvec(weight("self_attn.v_proj"), &x));
        }
        for (position, x) in stream.iter_mut().enumerate() {
            let mut attended = vec![0.0; d];
            for h in 0..config.num_attention_heads {
                let query = &queries[position][h * head..(h + 1) * head];
                let shared = h / group * head;
                let scores: Vec<f64> = (0..=position)
                    .map(|past| {
                        let key = &keys[past][shared..shared + head];
                        query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (head as f64).sqrt()
                    })
                    .collect();
                for (past, probability) in softmax(&scores).into_iter().enumerate() {
                    for i in 0..head {
                        attended[h * head + i] += probability * rows[past][shared + i];
                    }
                }
            }
            for (x, y) in x.iter_mut().zip(matvec(weight("self_attn.o_proj"), &attended)) {
                *x += y;
            }
            let normed = norm(x, weight("post_attention_layernorm"), config.rms_norm_eps);
            let gate = matvec(weight("mlp.gate_proj"), &normed);
            let up = matvec(weight("mlp.up_proj"), &normed);
            let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            for (x, y) in x.iter_mut().zip(matvec(weight("mlp.down_proj"), &inner)) {
                *x += y;
            }
        }
    }
    let output = if config.tie_word_embeddings { embedding } else { &weights["lm_head.weight"] };
    stream
        .iter()
        .map(|x| matvec(output, &norm(x, &weights["model.norm.weight"], config.rms_norm_eps)))
        .collect()
}

/// A model with all parameters, norms too, away from their initial values.
fn perturbed(config: &TrainerConfig) -> (Plain, Weights) {
    let plain = Plain::new(config);
    let _no_grad = tch::no_grad_guard();
    let mut weights = Weights::new();
    for (block, parameters) in plain.model.blocks().iter().zip(&plain.parameters) {
        for (spec, parameter) in block.parameters.iter().zip(parameters) {
            let wave: Vec<f64> = (0..spec.numel()).map(|i| 0.3 * (i as f64 * 0.7).sin()).collect();
            let mut parameter = parameter.shallow_clone();
            parameter += Tensor::from_slice(&wave).view(&spec.shape[..]);
            weights.insert(spec.name.clone(), values(&parameter));
        }
    }
    (plain, weights)
}

#[test]
fn logits_equal_those_of_a_second_implementation() {
    for (tied, heads, key_value_heads) in [(false, 5, 1), (true, 5, 5), (false, 4, 2)] {
        for attention in [Attention::Plain, Attention::Sdpa] {
            let mut config = config(tied, 0.0, Dtype::F64);
            config.model.attention = attention;
            config.model.hidden_size = 4 * heads;
            config.model.num_attention_heads = heads;
            config.model.num_key_value_heads = Some(key_value_heads);
            config.model.rope_theta = 500.0;
            let (plain, weights) = perturbed(&config);

            let sequences: [Vec<i64>; 2] =
                [(0..13).map(|i| i * 17 % 257).collect(), (0..13).map(|i| (i * i + 3) % 257).collect()];
            let tokens = Tensor::from_slice(&sequences.concat()).view([2, 13]);
            let found = values(&plain.logits(&tokens, false));
            let expected: Vec<f64> = sequences
                .iter()
                .flat_map(|tokens| logits(&config.model, &weights, tokens))
                .flatten()
                .collect();
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-10 * largest.max(1.0), "{found} instead of {expected}");
            }
        }
    }
}

#[test]
fn the_loss_counts_labels_and_leaves_out_ignored_ones() {
    let logits = Tensor::from_slice(&[0.0, 1.0, -2.0, 3.0, 0.5, 0.5, 4.0, -1.0, 2.0]).view([1, 3, 3]);
    let labels = Tensor::from_slice(&[2i64, -100, 0]).view([1, 3]);
    let expected = -(softmax(&[0.0, 1.0, -2.0])[2].ln() + softmax(&[4.0, -1.0, 2.0])[0].ln());
    let found = cross_entropy_sum(&logits, &labels).unwrap();
    assert_eq!(found.kind(), Kind::Double);
    assert!((found.double_value(&[]) - expected).abs() < 1e-14);
}

#[test]
fn parameters_have_hugging_face_names_and_shapes() {
    let plain = Plain::new(&config(false, 0.0, Dtype::F32));
    let mut found: Vec<(String, Vec<i64>)> = Vec::new();
    for block in plain.model.blocks() {
        found.extend(block.parameters.iter().map(|spec| (spec.name.clone(), spec.shape.clone())));
    }
    let layer = |i: usize| {
        [
            (format!("model.layers.{i}.self_attn.q_proj.weight"), vec![10, 10]),
            (format!("model.layers.{i}.self_attn.k_proj.weight"), vec![2, 10]),
            (format!("model.layers.{i}.self_attn.v_proj.weight"), vec![2, 10]),
            (format!("model.layers.{i}.self_attn.o_proj.weight"), vec![10, 10]),
            (format!("model.layers.{i}.mlp.gate_proj.weight"), vec![27, 10]),
            (format!("model.layers.{i}.mlp.up_proj.weight"), vec![27, 10]),
            (format!("model.layers.{i}.mlp.down_proj.weight"), vec![10, 27]),
            (format!("model.layers.{i}.input_layernorm.weight"), vec![10]),
            (format!("model.layers.{i}.post_attention_layernorm.weight"), vec![10]),
        ]
    };
    let mut expected = vec![("model.embed_tokens.weight".to_string(), vec![257, 10])];
    expected.extend(layer(0));
    expected.extend(layer(1));
    expected.push(("model.norm.weight".into(), vec![10]));
    expected.push(("lm_head.weight".into(), vec![257, 10]));
    assert_eq!(found, expected);
    let names: Vec<_> = plain.model.blocks().iter().map(|block| block.name.as_str()).collect();
    assert_eq!(names, ["embed", "layers.0", "layers.1", "head"]);
    assert_eq!(plain.model.parameter_count(), 2570 + 2 * 1070 + 10 + 2570);
}

#[test]
fn dropout_draws_only_where_it_is_on() {
    let _lock = common::generator_lock();
    let plain = Plain::new(&config(false, 0.5, Dtype::F32));
    let tokens = Tensor::from_slice(&[1i64, 2, 3, 4]).view([1, 4]);
    let state = || hessian_probe_c10d::generator::state(Device::Cpu).unwrap();
    let before = state();
    let off = plain.logits(&tokens, false);
    assert!(before == state());
    let on = plain.logits(&tokens, true);
    assert!(before != state());
    assert_ne!(values(&off), values(&on));
}
