//! The law of costs on real ranks: what a sharded gradient gathers, and what a probe sends and holds.

mod common;

use common::{config, on_ranks, text};
use hessian_probe::cost::{Course, Facts, Memory, Traffic, Work};
use hessian_probe::sharded::Layout;
use hessian_probe::{HessianProbe, Host, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::engine::passes;
use hessian_probe_fsdp::{Dtype, MixedPrecision, PassConfig, Trainer, TrainerConfig};

/// Micro-batches of training have 12 sequences.
fn gathers(group: ProcessGroup, config: TrainerConfig, micro_batches: u64) {
    let ranks = group.world_size() as u64;
    let width = if config.mixed_precision == MixedPrecision::default() { 4 } else { 2 };
    let passed = config.passes;
    let mut trainer = Trainer::new(config, group, text()).unwrap();
    trainer.probe_on_validation(12 * micro_batches as usize).unwrap();
    let blocks = passes(trainer.engine().model().blocks(), passed);
    let traffic = Traffic::of(&blocks, ranks, micro_batches, [width, width]).unwrap();
    let meter = trainer.engine().parameters().meter().clone();
    let (before, gathers) = (meter.total_bytes(), meter.total_gathers());
    trainer.gradient().unwrap();
    assert_eq!(traffic.gathered, (meter.total_bytes() - before) as u64);
    let reductions: u64 = blocks.iter().map(|block| block.reductions * micro_batches).sum();
    assert_eq!(traffic.collectives - reductions, (meter.total_gathers() - gathers) as u64);
}

#[test]
fn a_gradient_gathers_what_the_law_says() {
    on_ranks(&[2, 4], |group| gathers(group, config(false, 0.0, Dtype::F32), 1));
}

#[test]
fn so_it_does_with_tied_embeddings_in_bf16_and_several_micro_batches() {
    let config = TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..config(true, 0.0, Dtype::F32) };
    on_ranks(&[2], |group| gathers(group, config.clone(), 2));
}

#[test]
fn and_without_running_blocks_again() {
    let passes = PassConfig { recompute: false, ..PassConfig::default() };
    let config = TrainerConfig { passes, ..config(true, 0.0, Dtype::F32) };
    on_ranks(&[2], |group| gathers(group, config.clone(), 2));
}

#[test]
fn what_is_gathered_ahead_is_not_gathered_again() {
    let passes = PassConfig { prefetch: true, ..PassConfig::default() };
    let config = TrainerConfig { passes, ..config(true, 0.0, Dtype::F32) };
    on_ranks(&[2], |group| gathers(group, config.clone(), 2));
}

#[test]
fn counts_and_memory_of_a_probe_on_several_ranks_are_those_of_the_law() {
    on_ranks(&[1, 2, 4], |group| {
        let ranks = group.world_size() as u64;
        let mut trainer = Trainer::new(config(true, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(12).unwrap();
        for reorthogonalize in ["\"full\"", "{ window = 2 }", "\"none\""] {
            let config = ProbeConfig::from_toml_str(&format!(
                "[slq]\nsteps = 5\nprobes = 2\nreorthogonalize = {reorthogonalize}\n\
                 [hvp]\ndifference = \"central\"\nstep_size = {{ relative = 1e-5 }}\n\
                 [log]\ntensorboard = false\njsonl = false"
            ))
            .unwrap();
            let facts = Facts::of(&trainer, &Layout::new(&trainer, None).unwrap(), &config);
            assert_eq!(facts.ranks, ranks);
            let snapshot = HessianProbe::new(config.clone()).unwrap().probe(0, &mut trainer).unwrap().clone();
            let cost = &snapshot.cost;
            let course = Course::of(&snapshot, &config).unwrap();
            assert_eq!(course.redone.count(), 0);
            let work = Work::new(&facts, &config, &course).unwrap();
            let counted = (cost.gradients, cost.all_reduces, cost.reduced_values);
            assert_eq!((work.gradients, work.all_reduces, work.reduced_values), counted);
            let memory = Memory::new(&facts, &config, 0).unwrap();
            assert_eq!((memory.vector_bytes(), memory.basis_bytes()), (cost.vector_bytes, cost.basis_bytes));
            let parts = cost.parts;
            assert!((parts.total() - cost.seconds).abs() <= 1e-6 * cost.seconds, "{parts:?}");
            assert!(parts.named().iter().all(|(_, seconds)| *seconds >= 0.0), "{parts:?}");
        }
    });
}
