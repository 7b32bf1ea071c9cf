//! Training sharded is training.

mod common;

use common::oracle::{self, Curve};
use common::{assert_close, config, on_ranks_with, text, values};
use hessian_probe_c10d::is_launched;
use hessian_probe_fsdp::{Dtype, LearningRate, Trainer, TrainerConfig};
use std::path::PathBuf;

const STEPS: u64 = 50;

/// Every combination of kind and tied embeddings, with the accuracy to expect.
fn variants() -> Vec<(String, TrainerConfig, f64)> {
    let mut variants = Vec::new();
    for tied in [false, true] {
        for (dtype, accuracy) in [(Dtype::F32, 1e-5), (Dtype::F64, 1e-10)] {
            let mut config = config(tied, 0.0, dtype);
            config.schedule = LearningRate::Cosine { warmup_steps: 5, total_steps: 60, min_ratio: 0.1 };
            variants.push((format!("tied {tied} {dtype:?}"), config, accuracy));
        }
    }
    variants
}

/// Where ranks find the plain loop's results.
const REFERENCE: &str = "REFERENCE_DIRECTORY";

#[test]
fn any_number_of_ranks_trains_like_a_plain_unsharded_loop() {
    let directory = tempfile::tempdir().unwrap();
    if !is_launched() {
        tch::set_num_threads(1);
        for (name, config, _) in variants() {
            let curve = oracle::train(&config, &text(), STEPS);
            let (first, last) = (curve.losses[0], curve.losses[STEPS as usize - 1]);
            assert!(last < 0.75 * first, "{name}: learns something: {first} to {last}");
            let clipped = curve.norms.iter().filter(|&&norm| Some(norm) > config.optimizer.clip_norm).count();
            assert!(clipped > 5 && clipped < 45, "{name}: clips sometimes: {clipped} of {STEPS} steps");
            let path = directory.path().join(&name);
            std::fs::write(path, serde_json::to_string(&curve).unwrap()).unwrap();
        }
    }
    on_ranks_with(&[1, 2, 4], &[(REFERENCE, directory.path().as_os_str())], |mut group| {
        // Four ranks take turns on the cores of a small machine: each kind and each way to tie is there
        // once, not every combination.
        let skipped: &[usize] = if group.world_size() == 4 { &[0, 3] } else { &[] };
        for (number, (name, config, accuracy)) in variants().into_iter().enumerate() {
            if skipped.contains(&number) {
                continue;
            }
            let path = PathBuf::from(std::env::var_os(REFERENCE).unwrap()).join(&name);
            let curve: Curve = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let mut trainer = Trainer::new(config, group, text()).unwrap();
            let mut tokens = 0;
            for step in 0..STEPS {
                let report = trainer.step().unwrap();
                let at = format!("{name}: step {step}");
                assert_close(report.loss, curve.losses[step as usize], accuracy, &format!("{at}: loss"));
                assert_close(report.grad_norm, curve.norms[step as usize], accuracy, &format!("{at}: norm"));
                tokens += 2 * 12 * 16;
                assert_eq!((report.step, report.tokens), (step, tokens));
            }
            let mut checked = 0;
            let names: Vec<_> = trainer.named_shards().unwrap().into_iter().map(|shard| shard.name).collect();
            for parameter in names {
                for value in values(&trainer.full_parameter(&parameter).unwrap()) {
                    let error = (value - curve.parameters[checked]).abs();
                    // Parameters are of size 0.1 to 1.
                    assert!(error < accuracy, "{name}: {parameter} is off by {error:e}");
                    checked += 1;
                }
            }
            assert_eq!(checked, curve.parameters.len());
            group = trainer.into_group();
        }
    });
}
