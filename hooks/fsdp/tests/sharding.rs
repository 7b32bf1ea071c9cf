//! What a rank holds.

mod common;

use common::oracle::Plain;
use common::{config, on_ranks, on_ranks_with, text, values};
use hessian_probe::{Host, ProcessGroup, ReduceOp};
use hessian_probe_fsdp::{Dtype, PassConfig, Trainer, TrainerConfig};
use std::ffi::OsStr;
use tch::{Tensor, no_grad_guard};

#[test]
fn the_running_block_is_gathered_and_the_next_one_where_that_is_asked_for() {
    on_ranks(&[1, 2], |mut group| {
        for (tied, prefetch) in [(false, false), (true, false), (false, true), (true, true)] {
            let passes = PassConfig { prefetch, ..PassConfig::default() };
            let config = TrainerConfig { passes, ..config(tied, 0.1, Dtype::F32) };
            let mut trainer = Trainer::new(config, group, text()).unwrap();
            trainer.probe_on_validation(7).unwrap();
            for _ in 0..2 {
                trainer.step().unwrap();
                trainer.gradient().unwrap();
                trainer.loss().unwrap();
            }
            let meter = trainer.meter();
            let padded = |block: usize| trainer.engine().parameters().layouts()[block].padded();
            assert_eq!((meter.live_blocks(), meter.live_elements()), (0, 0));
            // The head needs the embedding, too.
            let alone = |block: usize| padded(block) + if tied && block == 3 { padded(0) } else { 0 };
            let ahead = prefetch && trainer.group().world_size() > 1;
            let pair = |block: usize| alone(block) + if ahead { alone(block + 1) } else { 0 };
            let largest = (0..if ahead { 3 } else { 4 }).map(pair).max().unwrap();
            assert_eq!(meter.peak_elements(), largest, "tied {tied}, ahead {ahead}");
            assert_eq!(meter.peak_blocks(), 1 + usize::from(tied) + usize::from(ahead));
            // Of a model with as few layers as this one, two blocks may be most of it.
            assert!(ahead || meter.peak_elements() < trainer.parameter_count() as usize);
            group = trainer.into_group();
        }
    });
}

#[test]
fn shards_of_all_ranks_partition_the_model_with_its_initial_values() {
    on_ranks(&[1, 2, 3], |mut group| {
        for tied in [false, true] {
            let config = config(tied, 0.0, Dtype::F64);
            let whole = Plain::new(&config).flat();
            let trainer = Trainer::new(config, group, text()).unwrap();
            let shards = trainer.shards();
            assert_eq!(shards.len(), if tied { 20 } else { 21 });
            let mut counts = vec![0.0; whole.len()];
            for shard in &shards {
                assert!(!shard.replicated && shard.tensor.is_contiguous() && shard.tensor.dim() == 1);
                for (i, value) in values(&shard.tensor).into_iter().enumerate() {
                    let index = shard.global_offset as usize + i;
                    assert_eq!(value.to_bits(), whole[index].to_bits(), "{} at {index}", shard.name);
                    counts[index] += 1.0;
                }
            }
            ProcessGroup::all_reduce(trainer.group(), &mut counts, ReduceOp::Sum).unwrap();
            assert!(counts.iter().all(|&count| count == 1.0), "every element has one owner");
            group = trainer.into_group();
        }
    });
}

#[test]
fn writing_to_a_shard_changes_the_model_and_padding_is_never_seen() {
    on_ranks(&[1, 3], |group| {
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(5).unwrap();
        let before = trainer.loss().unwrap();
        let name = "model.layers.1.mlp.up_proj.weight";
        {
            let _no_grad = no_grad_guard();
            for shard in trainer.shards() {
                let mut tensor = shard.tensor;
                if shard.name == name {
                    let _ = tensor.fill_(0.25);
                }
            }
        }
        assert!(values(&trainer.full_parameter(name).unwrap()).iter().all(|&value| value == 0.25));
        assert_ne!(trainer.loss().unwrap(), before);

        let reversed: Vec<f64> = (0..270).rev().map(f64::from).collect();
        trainer.set_parameter(name, &Tensor::from_slice(&reversed).view([27, 10])).unwrap();
        let full = trainer.full_parameter(name).unwrap();
        assert_eq!((values(&full), full.size()), (reversed, vec![27, 10]));
        let error = trainer.set_parameter(name, &Tensor::from_slice(&[1.0])).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("[27, 10]"), "{error}");
        assert!(trainer.full_parameter("lm_haed.weight").unwrap_err().to_string().contains("lm_haed"));

        // Views handed out add up to the parameters; gradients and moments are aligned with them.
        trainer.step().unwrap();
        let shards = trainer.shards();
        let gradient = trainer.gradient().unwrap().tensors;
        let (first, second) = trainer.moments().unwrap();
        for aligned in [&gradient, &first, &second] {
            assert_eq!(aligned.len(), shards.len());
            assert!(aligned.iter().zip(&shards).all(|(a, shard)| a.numel() == shard.tensor.numel()));
        }
        let mut count = [shards.iter().map(|shard| shard.tensor.numel() as f64).sum::<f64>()];
        let parameters = trainer.parameter_count() as f64;
        ProcessGroup::all_reduce(trainer.group(), &mut count, ReduceOp::Sum).unwrap();
        assert_eq!(count[0], parameters);
    });
}

/// A line of `/proc/self/status`, in bytes.
#[cfg(target_os = "linux")]
fn memory(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    1024 * line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_step_takes_memory_for_a_few_blocks_and_not_for_the_model() {
    // What is freed goes back to the system at once: how much of it malloc would keep is chance.
    let malloc = [
        ("MALLOC_MMAP_THRESHOLD_", OsStr::new("65536")),
        ("MALLOC_TRIM_THRESHOLD_", OsStr::new("0")),
        ("MALLOC_ARENA_MAX", OsStr::new("1")),
    ];
    on_ranks_with(&[2], &malloc, |group| {
        let mut config = config(false, 0.0, Dtype::F32);
        config.model.hidden_size = 320;
        config.model.intermediate_size = 640;
        config.model.num_hidden_layers = 24;
        config.gradient_accumulation = 1;
        config.batch_size = 2;
        let mut trainer = Trainer::new(config, group, text()).unwrap();
        trainer.probe_on_validation(2).unwrap();
        let block = 4 * trainer.engine().parameters().layouts()[1].padded();
        let before = memory("VmRSS:");
        // The peak of making the model is not that of a step.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        for _ in 0..2 {
            trainer.step().unwrap();
            trainer.gradient().unwrap();
        }
        // The trainer's own shards were all there before. Whatever is gathered would come on top if it
        // stayed: 24 blocks.
        let blocks = (memory("VmHWM:") - before) as f64 / block as f64;
        assert!(blocks < 14.0, "{blocks} blocks of {block} bytes each");
    });
}
