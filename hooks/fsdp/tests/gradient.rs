//! The block-wise gradient is the gradient.

mod common;

use common::oracle::Plain;
use common::{assert_close, bits, config, generator_lock, model, text, values};
use hessian_probe_c10d::{ProcessGroup, generator};
use hessian_probe_fsdp::sharding::{GradientShards, ShardedParameters};
use hessian_probe_fsdp::{Attention, Batch, Dtype, Engine, Llama, SequenceId, SequenceSource, TrainerConfig};
use tch::{Device, Tensor};

fn engine(config: &TrainerConfig) -> Engine {
    let model = Llama::new(config.model.clone(), config.dtype.kind(), Device::Cpu).unwrap();
    let parameters = ShardedParameters::initialized(&model, 0, 1, config.seed).unwrap();
    Engine::new(model, parameters)
}

fn buffers(engine: &Engine) -> GradientShards {
    let model = engine.model();
    GradientShards::new(engine.parameters().layouts(), 0, model.kind(), model.device()).unwrap()
}

fn batch(step: u64) -> Batch {
    let sequences: Vec<_> = (0..6)
        .map(|index| text().training(SequenceId { seed: 3, step, micro_step: 0, index }, 16).unwrap())
        .collect();
    Batch::from_sequences(&sequences, 0, Device::Cpu).unwrap()
}

#[test]
fn block_wise_gradient_equals_whole_graph_gradient_bit_for_bit() {
    let _lock = generator_lock();
    let group = ProcessGroup::single();
    for dtype in [Dtype::F32, Dtype::F64] {
        for tied in [false, true] {
            for attention in [Attention::Plain, Attention::Sdpa] {
                for dropout in [0.0, 0.25] {
                    let mut config = config(tied, dropout, dtype);
                    config.model.attention = attention;
                    let batch = batch(0);
                    let count = batch.counted_targets(0).unwrap() as f64;

                    tch::manual_seed(5);
                    let (_, expected) = Plain::new(&config).gradient(&batch, count, true);
                    let state = generator::state(Device::Cpu).unwrap();

                    tch::manual_seed(5);
                    let engine = engine(&config);
                    let mut buffers = buffers(&engine);
                    let loss =
                        engine.accumulate_gradient(&group, &batch, 1.0 / count, true, &mut buffers).unwrap();
                    let what = format!("{dtype:?}, tied {tied}, {attention:?}, dropout {dropout}");
                    assert!(
                        state == generator::state(Device::Cpu).unwrap(),
                        "{what}: the stream goes on the same"
                    );

                    let found = buffers.per_parameter(engine.parameters().layouts(), 0).unwrap();
                    let shards = engine.parameters().shards().unwrap();
                    assert_eq!(found.len(), expected.len());
                    for ((found, expected), shard) in found.iter().zip(&expected).zip(&shards) {
                        assert!(bits(found) == bits(expected), "{what}: {}", shard.name);
                        assert!(
                            values(found).iter().any(|&g| g != 0.0),
                            "{what}: {} has a gradient",
                            shard.name
                        );
                    }

                    tch::manual_seed(5);
                    let forward = engine.loss_sum(&group, &batch, true).unwrap();
                    assert_eq!(forward.to_bits(), loss.to_bits(), "{what}: forward alone has the same masks");
                    assert!(state == generator::state(Device::Cpu).unwrap());
                }
            }
        }
    }
}

#[test]
fn gradients_of_several_batches_add_up() {
    let group = ProcessGroup::single();
    let config = config(true, 0.0, Dtype::F64);
    let engine = engine(&config);
    let (mut both, mut one, mut other) = (buffers(&engine), buffers(&engine), buffers(&engine));
    let (first, second) = (batch(0), batch(1));
    engine.accumulate_gradient(&group, &first, 0.1, false, &mut both).unwrap();
    engine.accumulate_gradient(&group, &second, 0.1, false, &mut both).unwrap();
    engine.accumulate_gradient(&group, &first, 0.1, false, &mut one).unwrap();
    engine.accumulate_gradient(&group, &second, 0.1, false, &mut other).unwrap();
    let tensors = |buffers: &GradientShards| buffers.per_parameter(engine.parameters().layouts(), 0).unwrap();
    for ((both, one), other) in tensors(&both).iter().zip(tensors(&one)).zip(tensors(&other)) {
        assert!(both.allclose(&(one + other), 1e-13, 1e-15, false));
    }
    both.clear();
    engine.accumulate_gradient(&group, &first, 0.1, false, &mut both).unwrap();
    for (both, one) in tensors(&both).iter().zip(tensors(&one)) {
        assert_eq!(bits(both), bits(&one), "a cleared buffer is overwritten");
    }
}

#[test]
fn gradient_agrees_with_finite_differences() {
    let group = ProcessGroup::single();
    for (tied, attention) in [(true, Attention::Plain), (false, Attention::Sdpa)] {
        let mut config = config(tied, 0.0, Dtype::F64);
        config.model.attention = attention;
        let engine = engine(&config);
        let batch = batch(0);
        let mut buffers = buffers(&engine);
        engine.accumulate_gradient(&group, &batch, 1.0, false, &mut buffers).unwrap();
        let gradients = buffers.per_parameter(engine.parameters().layouts(), 0).unwrap();
        // Parameter by parameter, so that none hides behind the others.
        for (shard, gradient) in engine.parameters().shards().unwrap().iter().zip(&gradients) {
            let waves: Vec<f64> = (0..shard.tensor.numel()).map(|i| (1.0 + i as f64).sin()).collect();
            let direction = Tensor::from_slice(&waves);
            let mut parameter = shard.tensor.shallow_clone();
            let kept = parameter.copy();
            let h = 1e-5;
            let mut loss_at = |t: f64| {
                parameter.copy_(&(&kept + &direction * t));
                let loss = engine.loss_sum(&group, &batch, false).unwrap();
                parameter.copy_(&kept);
                loss
            };
            // Fourth-order central difference.
            let slope =
                (8.0 * (loss_at(h) - loss_at(-h)) - (loss_at(2.0 * h) - loss_at(-2.0 * h))) / (12.0 * h);
            let expected = gradient.dot(&direction).double_value(&[]);
            assert_close(slope, expected, 1e-6, &shard.name);
        }
    }
}

#[test]
fn gradient_works_where_the_caller_has_turned_graphs_off() {
    let group = ProcessGroup::single();
    let engine = engine(&config(false, 0.0, Dtype::F32));
    let mut buffers = buffers(&engine);
    let _no_grad = tch::no_grad_guard();
    engine.accumulate_gradient(&group, &batch(0), 1.0, false, &mut buffers).unwrap();
}

#[test]
fn a_bad_token_is_an_error_that_says_where() {
    let group = ProcessGroup::single();
    let engine = engine(&config(false, 0.0, Dtype::F32));
    let mut batch = batch(0);
    batch.inputs += 300;
    let error = engine.loss_sum(&group, &batch, false).unwrap_err().to_string();
    assert!(error.contains("rank 0") && error.contains("block `embed`"), "{error}");
    assert_eq!(engine.parameters().meter().live_blocks(), 0, "nothing stays gathered after an error");
}

#[test]
fn labels_of_hugging_face_are_shifted_by_one() {
    let ids = Tensor::from_slice(&[1i64, 2, 3, 4, 5, 6]).view([2, 3]);
    let labels = Tensor::from_slice(&[-100i64, 2, 3, 4, 5, -100]).view([2, 3]);
    let batch = Batch::from_unshifted(&ids, &labels, 0).unwrap();
    let shifted: Vec<i64> = Vec::try_from(batch.labels.view([-1])).unwrap();
    assert_eq!(shifted, [2, 3, -100, 5, -100, -100]);
    assert_eq!(batch.counted_targets(0).unwrap(), 3);
}

#[test]
fn impossible_sizes_are_errors_that_name_the_key() {
    type Change = fn(&mut hessian_probe_fsdp::LlamaConfig);
    let cases: [(&str, Change); 8] = [
        // What is derived from the size of a head is made before any weight is looked at.
        ("model.head_dim", |config| config.head_dim = Some(1 << 50)),
        ("model.head_dim", |config| {
            (config.hidden_size, config.num_attention_heads) = (1 << 28, 1);
            config.num_key_value_heads = None;
        }),
        ("model.hidden_size", |config| config.hidden_size = 0),
        ("model.num_attention_heads", |config| config.num_attention_heads = 4),
        ("model.num_key_value_heads", |config| config.num_key_value_heads = Some(2)),
        ("model.rms_norm_eps", |config| config.rms_norm_eps = f64::NAN),
        ("model.rope_theta", |config| config.rope_theta = -1.0),
        ("model.dropout", |config| config.dropout = 1.0),
    ];
    for (key, change) in cases {
        let mut config = model(false, 0.0);
        change(&mut config);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
    let unknown = r#"{"vocab_size": 1, "hiden_size": 2}"#;
    let error = serde_json::from_str::<hessian_probe_fsdp::LlamaConfig>(unknown).unwrap_err().to_string();
    assert!(error.contains("hiden_size"), "{error}");
}
