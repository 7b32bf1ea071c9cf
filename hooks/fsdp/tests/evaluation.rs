//! A model that is evaluated and not trained: loss and gradient of sequences of any lengths.

mod common;

use common::oracle::Plain;
use common::{assert_close, config, on_ranks_with, text, values};
use hessian_probe::{Host, Precision};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use hessian_probe_fsdp::{
    Attention, Batch, Dtype, Error, Evaluation, EvaluationConfig, MixedPrecision, ModelSource, Sequence,
    SequenceSource, Trainer, TrainerConfig,
};
use std::ffi::OsStr;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

const DIRECTORY: &str = "EVALUATION_TEST_DIRECTORY";

/// Exports a model into the directory from which ranks read it.
fn exported(config: &TrainerConfig, group: ProcessGroup) -> (PathBuf, ProcessGroup) {
    let name = format!("model-{}", group.world_size());
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("set by the parent")).join(name);
    let trainer = Trainer::new(config.clone(), group, text()).unwrap();
    trainer.export_hugging_face(&directory).unwrap();
    (directory, trainer.into_group())
}

/// Lengths from 1 to 17; some targets are left out, here and there all of a sequence.
fn sequences() -> Vec<Sequence> {
    [3_i64, 17, 1, 8, 8, 2, 12]
        .iter()
        .enumerate()
        .map(|(number, &length)| {
            let number = number as i64;
            let token = |position: i64| (position * position * 7 + number * 31 + 5) % 257;
            let label = |position: i64| match (number, position) {
                (5, _) => -100,
                (_, position) if (position + number) % 4 == 0 => -100,
                (_, position) => token(position + 1),
            };
            Sequence { inputs: (0..length).map(token).collect(), labels: (0..length).map(label).collect() }
        })
        .collect()
}

fn counted(sequences: &[Sequence]) -> f64 {
    sequences.iter().flat_map(|sequence| &sequence.labels).filter(|&&label| label != -100).count() as f64
}

/// Mean loss and gradient by a whole graph for each sequence alone.
fn oracle(config: &TrainerConfig, sequences: &[Sequence]) -> (f64, Vec<f64>) {
    let plain = Plain::new(config);
    let count = counted(sequences);
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for sequence in sequences {
        let batch = Batch::from_sequences(std::slice::from_ref(sequence), 0, Device::Cpu).unwrap();
        let (sum, gradients) = plain.gradient(&batch, count, false);
        let flat: Vec<f64> = gradients.iter().flat_map(values).collect();
        gradient.resize(flat.len(), 0.0);
        gradient.iter_mut().zip(flat).for_each(|(total, value): (&mut f64, f64)| *total += value);
        loss += sum;
    }
    (loss / count, gradient)
}

#[test]
fn loss_and_gradient_are_those_of_each_sequence_alone_however_they_are_grouped() {
    let root = tempfile::tempdir().unwrap();
    let variables: [(&str, &OsStr); 1] = [(DIRECTORY, root.path().as_os_str())];
    on_ranks_with(&[1, 2, 4], &variables, |group| {
        let config = config(true, 0.0, Dtype::F64);
        let (directory, group) = exported(&config, group);
        let pretrained = ModelSource::open_together(&directory, &group).unwrap();
        assert_eq!(pretrained.config(), &config.model);
        // All of them, and fewer than there are ranks.
        for sequences in [sequences(), sequences()[3..4].to_vec()] {
            let (loss, gradient) = oracle(&config, &sequences);
            let scale = gradient.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            for micro_batch_tokens in [None, Some(1), Some(20)] {
                let settings =
                    EvaluationConfig { dtype: Dtype::F64, micro_batch_tokens, ..EvaluationConfig::default() };
                let mut evaluation = Evaluation::new(&pretrained, &group, settings).unwrap();
                evaluation.set_sequences(&sequences).unwrap();
                assert_eq!(evaluation.probe_tokens(), Some(counted(&sequences) as u64));
                assert_close(evaluation.mean_loss().unwrap(), loss, 1e-14, "the loss");
                let found = Host::gradient(&mut evaluation).unwrap();
                assert_close(found.loss, loss, 1e-14, "the gradient's loss");
                for (shard, tensor) in evaluation.shards().iter().zip(&found.tensors) {
                    let start = shard.global_offset as usize;
                    let expected = Tensor::from_slice(&gradient[start..start + tensor.numel()]);
                    let error = (tensor - expected).abs();
                    let error = if error.numel() > 0 { error.max().double_value(&[]) } else { 0.0 };
                    assert!(error <= 1e-13 * scale, "{}: off by {error:e} of {scale}", shard.name);
                }
            }
        }
    });
}

#[test]
fn what_cannot_be_run_is_an_error_on_all_ranks() {
    let root = tempfile::tempdir().unwrap();
    let variables: [(&str, &OsStr); 1] = [(DIRECTORY, root.path().as_os_str())];
    on_ranks_with(&[1, 2], &variables, |group| {
        let (directory, group) = exported(&config(false, 0.0, Dtype::F32), group);
        let pretrained = ModelSource::open_together(&directory, &group).unwrap();
        let mut evaluation = Evaluation::new(&pretrained, &group, EvaluationConfig::default()).unwrap();
        assert!(matches!(evaluation.mean_loss(), Err(Error::NoProbeBatch { .. })));
        let sequence = |inputs: Vec<i64>, labels: Vec<i64>| Sequence { inputs, labels };
        for (sequences, reason) in [
            (vec![], "no target is counted"),
            (vec![sequence(vec![1, 2], vec![-100, -100])], "no target is counted"),
            (
                vec![sequence(vec![1], vec![1]), sequence(vec![1, 2], vec![1])],
                "sequence 1 has 2 tokens and 1",
            ),
            (vec![sequence(vec![257], vec![1])], "token 257"),
            (vec![sequence(vec![1], vec![-1])], "token -1"),
            (vec![sequence(vec![1; 33], vec![1; 33])], "more than max_position_embeddings = 32"),
        ] {
            let error = evaluation.set_sequences(&sequences).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        // The ranks are still in step.
        evaluation.set_sequences(&sequences()).unwrap();
        evaluation.mean_loss().unwrap();
    });
}

/// Hv by backward over backward through a whole graph for each sequence alone.
fn product_oracle(config: &TrainerConfig, sequences: &[Sequence], v: &Tensor) -> Tensor {
    let plain = Plain::new(config);
    let leaves: Vec<&Tensor> = plain.parameters.iter().flatten().collect();
    let flat = |tensors: Vec<Option<Tensor>>| {
        let pieces: Vec<Tensor> = tensors
            .into_iter()
            .zip(&leaves)
            .map(|(tensor, leaf)| tensor.unwrap_or_else(|| leaf.zeros_like()).reshape([-1]))
            .collect();
        Tensor::cat(&pieces, 0)
    };
    let mut product = v.zeros_like();
    for sequence in sequences {
        let batch = Batch::from_sequences(std::slice::from_ref(sequence), 0, Device::Cpu).unwrap();
        let log_probabilities = plain.logits(&batch.inputs, false).log_softmax(-1, None).squeeze_dim(0);
        for (position, &label) in sequence.labels.iter().enumerate().filter(|(_, label)| **label != -100) {
            let loss = -log_probabilities.get(position as i64).get(label);
            let options = GradOptions { create_graph: true, allow_unused: true, ..GradOptions::default() };
            let gradient = flat(grad(&[&loss], &leaves, &[], options).unwrap());
            let options = GradOptions { allow_unused: true, retain_graph: true, ..GradOptions::default() };
            product += flat(grad(&[&gradient.dot(v)], &leaves, &[], options).unwrap());
        }
    }
    product / counted(sequences)
}

/// Rademacher entries from a fixed pattern, one tensor for each shard and all of them flat.
fn direction(evaluation: &Evaluation<'_>) -> (Vec<Tensor>, Tensor) {
    let piece = |shard: &hessian_probe::Shard| {
        let entry = |i: u64| if (i * i + 3 * i) % 7 < 3 { 1.0 } else { -1.0 };
        let range = shard.global_offset..shard.global_offset + shard.tensor.numel() as u64;
        Tensor::from_slice(&range.map(entry).collect::<Vec<f64>>()).to_kind(shard.tensor.kind())
    };
    let pieces: Vec<Tensor> = evaluation.shards().iter().map(piece).collect();
    let flat = Tensor::cat(&pieces, 0).to_kind(Kind::Double);
    (pieces, flat)
}

fn off(found: &[Tensor], expected: &Tensor) -> f64 {
    let found = Tensor::cat(found, 0).to_kind(Kind::Double);
    ((found - expected).norm() / expected.norm()).double_value(&[])
}

#[test]
fn exact_products_are_those_of_double_backward_on_one_rank_and_refused_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let variables: [(&str, &OsStr); 1] = [(DIRECTORY, root.path().as_os_str())];
    on_ranks_with(&[1, 2], &variables, |group| {
        let mut config = config(true, 0.0, Dtype::F64);
        config.model.attention = Attention::Plain;
        let (directory, group) = exported(&config, group);
        let source = ModelSource::open_together(&directory, &group).unwrap();
        let plain = EvaluationConfig {
            dtype: Dtype::F64,
            attention: Attention::Plain,
            ..EvaluationConfig::default()
        };
        let fused = EvaluationConfig { attention: Attention::Sdpa, ..plain };
        let mut fused = Evaluation::new(&source, &group, fused).unwrap();
        let refused = fused.exact_hvp(&[]).unwrap_err().to_string();
        assert!(!fused.offers_exact_hvp());
        if group.world_size() > 1 {
            assert!(refused.contains("2 ranks") && refused.contains("differences"), "{refused}");
            return;
        }
        assert!(refused.contains("Attention::Plain"), "{refused}");
        for micro_batch_tokens in [None, Some(20)] {
            let settings = EvaluationConfig { micro_batch_tokens, ..plain };
            let mut evaluation = Evaluation::new(&source, &group, settings).unwrap();
            let (v, flat) = direction(&evaluation);
            assert!(matches!(evaluation.mean_hvp(&v), Err(Error::NoProbeBatch { .. })));
            evaluation.set_sequences(&sequences()).unwrap();
            assert!(evaluation.offers_exact_hvp());
            let error =
                off(&evaluation.exact_hvp(&v).unwrap(), &product_oracle(&config, &sequences(), &flat));
            assert!(error < 1e-12, "off by {error:e}");
        }
    });
}

/// The same numbers as a trainer gives that computes in the same types at the same parameters; and in full precision
/// of either those of an evaluation in f32.
#[test]
fn mixed_precision_is_that_of_training() {
    let root = tempfile::tempdir().unwrap();
    let variables: [(&str, &OsStr); 1] = [(DIRECTORY, root.path().as_os_str())];
    on_ranks_with(&[1, 2], &variables, |group| {
        let (config, world_size) = (config(true, 0.0, Dtype::F32), group.world_size());
        let (directory, group) = exported(&config, group);
        let source = ModelSource::open_together(&directory, &group).unwrap();
        let sequences: Vec<Sequence> =
            (0..4).map(|i| SequenceSource::validation(&text(), i, 16).unwrap()).collect();
        let gradient = |evaluation: &mut Evaluation<'_>| {
            let found = Host::gradient(evaluation).unwrap();
            Tensor::cat(&found.tensors, 0).to_kind(Kind::Double)
        };
        let evaluation = |dtype, mixed_precision| {
            let settings = EvaluationConfig { dtype, mixed_precision, ..EvaluationConfig::default() };
            let mut evaluation = Evaluation::new(&source, &group, settings).unwrap();
            evaluation.set_sequences(&sequences).unwrap();
            evaluation
        };
        let mut single = evaluation(Dtype::F32, MixedPrecision::default());
        let reference = gradient(&mut single);
        let mut mixed = evaluation(Dtype::F32, MixedPrecision::bf16());
        assert_eq!((single.compute_kind(), mixed.compute_kind()), (None, Some(Kind::BFloat16)));
        let in_bf16 = gradient(&mut mixed);
        let error = off(&[in_bf16.shallow_clone()], &reference);
        assert!(error > 1e-4 && error < 0.2, "the gradient in bf16 is off by {error:e}");
        mixed.set_precision(Precision::Full).unwrap();
        assert!(gradient(&mut mixed) == reference);
        mixed.set_precision(Precision::Loop).unwrap();
        assert!(gradient(&mut mixed) == in_bf16);

        let mut pure = evaluation(Dtype::Bf16, MixedPrecision::default());
        assert!(pure.shards().iter().all(|shard| shard.tensor.kind() == Kind::BFloat16));
        let rounded = MixedPrecision {
            param_dtype: Some(Dtype::Bf16),
            compute_dtype: Some(Dtype::F32),
            reduce_dtype: Some(Dtype::F32),
        };
        let at_rounded = gradient(&mut evaluation(Dtype::F32, rounded));
        pure.set_precision(Precision::Full).unwrap();
        assert!(pure.shards().iter().all(|shard| shard.tensor.kind() == Kind::Float));
        assert!(gradient(&mut pure) == at_rounded);
        drop((single, mixed, pure));

        let wide = MixedPrecision { param_dtype: Some(Dtype::F64), ..MixedPrecision::default() };
        let settings = EvaluationConfig { mixed_precision: wide, ..EvaluationConfig::default() };
        let error = Evaluation::new(&source, &group, settings).unwrap_err().to_string();
        assert!(error.contains("param_dtype"), "{error}");

        let config = TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..config };
        let mut trainer = Trainer::new(config, group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        let trained = Host::gradient(&mut trainer).unwrap();
        let error = off(&[Tensor::cat(&trained.tensors, 0)], &in_bf16);
        // On two ranks other sequences come together, and sums are rounded in another order.
        assert!(error < if world_size > 1 { 2e-2 } else { 1e-15 }, "off by {error:e} from a trainer's");
    });
}
