//! A model that is evaluated and not trained: loss and gradient of sequences of any lengths.

mod common;

use common::oracle::Plain;
use common::{assert_close, config, on_ranks_with, text, values};
use hessian_probe::Host;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{
    Batch, Dtype, Error, Evaluation, EvaluationConfig, ModelSource, Sequence, Trainer, TrainerConfig,
};
use std::ffi::OsStr;
use std::path::PathBuf;
use tch::{Device, Tensor};

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
