//! What sharding and recomputation cost. `cargo test -p hessian-probe-fsdp --test cost -- --ignored --nocapture`

mod common;

use common::oracle::Plain;
use common::text;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use hessian_probe_fsdp::model::cross_entropy_sum;
use hessian_probe_fsdp::sharding::{GradientShards, ShardedParameters};
use hessian_probe_fsdp::{Batch, Engine, Llama, LlamaConfig, SequenceSource, TrainerConfig};
use std::time::{Duration, Instant};
use tch::{Device, Tensor, no_grad_guard};

/// The plain loop's gradient with every block run twice, parameters whole and in place.
fn recomputed(plain: &Plain, batch: &Batch, scale: f64) -> Vec<Tensor> {
    let (last, mut inputs) = (plain.parameters.len() - 1, vec![batch.inputs.shallow_clone()]);
    {
        let _no_grad = no_grad_guard();
        for block in 0..last {
            inputs.push(plain.model.run(block, &plain.parameters[block], &inputs[block], false).unwrap());
        }
    }
    let mut seed = Tensor::from(scale);
    let mut gradients = Vec::new();
    for block in (0..=last).rev() {
        let input = inputs.pop().unwrap();
        let input = if block > 0 { input.detach().set_requires_grad(true) } else { input };
        let mut output = plain.model.run(block, &plain.parameters[block], &input, false).unwrap();
        if block == last {
            output = cross_entropy_sum(&output, &batch.labels).unwrap();
        }
        let leaves: Vec<&Tensor> =
            (block > 0).then_some(&input).into_iter().chain(&plain.parameters[block]).collect();
        let found = grad(&[&output], &leaves, &[Some(&seed)], GradOptions::default()).unwrap();
        let mut found: Vec<Tensor> = found.into_iter().flatten().collect();
        if block > 0 {
            seed = found.remove(0);
        }
        gradients.extend(found);
    }
    gradients
}

#[test]
#[ignore = "a measurement, not a promise"]
fn sharded_gradient_of_a_million_parameters_on_one_rank() {
    tch::set_num_threads(1);
    let sizes = r#"{"vocab_size": 256, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 5,
        "num_attention_heads": 4, "num_key_value_heads": 2}"#;
    let model: LlamaConfig = serde_json::from_str(sizes).unwrap();
    let config = TrainerConfig::new(model, 8, 128);
    let plain = Plain::new(&config);
    let model = Llama::new(config.model.clone(), config.dtype.kind(), Device::Cpu).unwrap();
    let parameters = ShardedParameters::initialized(&model, 0, 1, config.seed).unwrap();
    let engine = Engine::new(model, parameters);
    let mut buffers =
        GradientShards::new(engine.parameters().layouts(), 0, config.dtype.kind(), Device::Cpu).unwrap();
    let group = ProcessGroup::single();
    let sequences: Vec<_> = (0..8).map(|index| text().validation(index, 128).unwrap()).collect();
    let batch = Batch::from_sequences(&sequences, 0, Device::Cpu).unwrap();
    let scale = 1.0 / 1024.0;

    // Taken in turns, so that a busy machine is busy for all; the least of many is compared.
    let mut least = [Duration::MAX; 4];
    for round in 0..21 {
        let mut time = |i: usize, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            if round > 0 {
                least[i] = least[i].min(start.elapsed());
            }
        };
        time(0, &mut || drop(plain.gradient(&batch, 1024.0, false)));
        time(1, &mut || drop(recomputed(&plain, &batch, scale)));
        time(2, &mut || {
            buffers.clear();
            engine.accumulate_gradient(&group, &batch, scale, false, &mut buffers).unwrap();
        });
        time(3, &mut || assert!(engine.loss_sum(&group, &batch, false).unwrap() > 0.0));
    }
    println!("{} parameters, 8 x 128 tokens, f32, 1 thread", engine.model().parameter_count());
    for (name, time) in ["whole graph", "recomputed", "sharded", "loss alone"].iter().zip(least) {
        println!(
            "{name:12} {time:8.2?}  {:.3} of the whole graph",
            time.as_secs_f64() / least[0].as_secs_f64()
        );
    }
}
