//! However a gradient is computed, its bits are the same.

mod common;

use common::{bits, config, on_ranks, text};
use hessian_probe::Host;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, MixedPrecision, PassConfig, Trainer, TrainerConfig};

/// Everything that passes leave behind after two steps and a gradient of the probe batch, in bits.
#[derive(PartialEq)]
struct Found {
    losses: Vec<u64>,
    parameters: Vec<Vec<u64>>,
    gradient: Vec<Vec<u64>>,
    generator: Vec<u8>,
    /// The most elements that were gathered at once.
    peak: usize,
}

fn found(config: &TrainerConfig, passes: PassConfig, group: ProcessGroup) -> (Found, ProcessGroup) {
    let mut trainer = Trainer::new(TrainerConfig { passes, ..config.clone() }, group, text()).unwrap();
    trainer.probe_on_validation(12).unwrap();
    let losses = (0..2).map(|_| trainer.step().unwrap().loss.to_bits()).collect();
    let gradient = trainer.gradient().unwrap();
    let found = Found {
        losses,
        parameters: trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect(),
        gradient: gradient.tensors.iter().map(bits).collect(),
        generator: trainer.generator_state().unwrap(),
        peak: trainer.meter().peak_elements(),
    };
    assert_eq!(trainer.meter().live_elements(), 0, "all is freed");
    (found, trainer.into_group())
}

#[test]
fn losses_parameters_gradients_and_random_numbers_do_not_depend_on_how_a_pass_is_computed() {
    on_ranks(&[1, 2, 3], |mut group| {
        let mixed =
            TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..config(true, 0.0, Dtype::F32) };
        for config in [config(false, 0.25, Dtype::F32), config(true, 0.25, Dtype::F64), mixed] {
            let plain = PassConfig { recompute: true, prefetch: false };
            let expected;
            (expected, group) = found(&config, plain, group);
            assert!(expected.gradient.iter().flatten().any(|&bits| bits != 0), "there is a gradient");
            for passes in [
                PassConfig { prefetch: true, ..plain },
                PassConfig { recompute: false, ..plain },
                PassConfig { recompute: false, prefetch: true },
            ] {
                let other;
                (other, group) = found(&config, passes, group);
                let Found { losses, parameters, gradient, generator, peak } = other;
                assert_eq!(losses, expected.losses, "{passes:?}");
                assert!(parameters == expected.parameters, "parameters, {passes:?}");
                assert!(gradient == expected.gradient, "gradients, {passes:?}");
                assert!(generator == expected.generator, "the generator, {passes:?}");
                let whole = config.model.tie_word_embeddings;
                assert_eq!(
                    !passes.recompute,
                    peak > expected.peak && kept(peak, whole, &config),
                    "{passes:?}"
                );
            }
        }
    });
}

/// Whether so many elements are at least the model's, and the embedding's once more where it is borrowed.
fn kept(peak: usize, borrowed: bool, config: &TrainerConfig) -> bool {
    let model =
        hessian_probe_fsdp::Llama::new(config.model.clone(), tch::Kind::Float, tch::Device::Cpu).unwrap();
    let twice = if borrowed { model.blocks()[0].numel() } else { 0 };
    peak >= model.parameter_count() as usize + twice
}

#[test]
fn ranks_that_pass_in_different_ways_are_told() {
    on_ranks(&[2], |group| {
        let passes = PassConfig { prefetch: group.rank() == 0, ..PassConfig::default() };
        let error = Trainer::new(TrainerConfig { passes, ..config(false, 0.0, Dtype::F32) }, group, text());
        assert!(error.unwrap_err().to_string().contains("different configurations"));
    });
}
