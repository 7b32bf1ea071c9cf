//! What the trainer lends of its optimizer, in every precision, and what a probe makes of it.

mod common;

use common::{assert_close, bits, config, generator_lock, on_ranks, text, values};
use hessian_probe::{HessianProbe, Host, OptimizerKind, Precision, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, LearningRate, MixedPrecision, Trainer, TrainerConfig};

/// f32; f32 masters with a bf16 pass; bf16 with moments in bf16, and in f32.
fn precisions() -> [(&'static str, TrainerConfig); 4] {
    let of = |dtype| {
        let mut config = config(false, 0.0, dtype);
        config.schedule = LearningRate::Cosine { warmup_steps: 4, total_steps: 20, min_ratio: 0.0 };
        config
    };
    let mut mixed = of(Dtype::F32);
    mixed.mixed_precision = MixedPrecision::bf16();
    let mut wide_moments = of(Dtype::Bf16);
    wide_moments.optimizer.state_dtype = Some(Dtype::F32);
    [
        ("f32", of(Dtype::F32)),
        ("mixed", mixed),
        ("bf16", of(Dtype::Bf16)),
        ("bf16, moments in f32", wide_moments),
    ]
}

fn trained(config: TrainerConfig, group: ProcessGroup) -> Trainer {
    let mut trainer = Trainer::new(config, group, text()).unwrap();
    trainer.probe_on_validation(4).unwrap();
    for _ in 0..3 {
        trainer.step().unwrap();
    }
    trainer
}

#[test]
fn it_lends_adamw_s_own_second_moments_and_the_settings_of_the_coming_step() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for (name, config) in precisions() {
            let mut trainer = trained(config.clone(), group);
            let (_, second) = trainer.moments().unwrap();
            for precision in [Precision::Loop, Precision::Full] {
                trainer.set_precision(precision).unwrap();
                let lent = trainer.optimizer().unwrap().unwrap();
                let shards = trainer.shards();
                let OptimizerKind::AdamW { betas, eps } = lent.kind else { panic!("{:?}", lent.kind) };
                assert_eq!((betas, eps), (config.optimizer.betas, config.optimizer.eps));
                assert_eq!((lent.steps, lent.learning_rate), (3, config.optimizer.lr));
                assert_eq!(
                    (lent.second_moments.len(), lent.weight_decay.len()),
                    (shards.len(), shards.len())
                );
                for (index, shard) in shards.iter().enumerate() {
                    let (moment, own) = (&lent.second_moments[index], &second[index]);
                    assert_eq!(moment.numel(), shard.tensor.numel(), "{name}: {}", shard.name);
                    assert_eq!(moment.data_ptr(), own.data_ptr(), "{name}: {}: an alias", shard.name);
                    assert!(values(moment).iter().all(|v| *v >= 0.0));
                    let decays = !shard.name.contains("norm");
                    let decay = if decays { config.optimizer.weight_decay } else { 0.0 };
                    assert_eq!(lent.weight_decay[index], decay, "{}", shard.name);
                }
            }
            trainer.set_precision(Precision::Loop).unwrap();
            trainer.step().unwrap();
            // After the warm-up, half a cosine later.
            let lent = trainer.optimizer().unwrap().unwrap();
            assert_eq!(
                (lent.steps, lent.learning_rate),
                (4, config.optimizer.lr * config.schedule.factor(4))
            );
            group = trainer.into_group();
        }
    });
}

/// P^{-1/2} H P^{-1/2} of the whole model in each precision, with gradients in f32 at least: the second moments of a
/// rank's slices belong to its parameters. Rounding of θ and v to bf16 changes the eigenvalue by some per cent.
#[test]
fn a_probe_of_both_operators_works_in_every_precision_and_leaves_everything_as_it_was() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        let mut largest = Vec::new();
        for (name, config) in precisions() {
            let mut trainer = trained(config, group);
            let state = |trainer: &Trainer| -> Vec<Vec<u64>> {
                let (first, second) = trainer.moments().unwrap();
                let shards = trainer.named_shards().unwrap();
                shards.iter().map(|shard| &shard.tensor).chain(&first).chain(&second).map(bits).collect()
            };
            let before = state(&trainer);
            let toml = "[slq]\nsteps = 16\noperator = \"both\"\n[hvp]\ndifference = \"central\"\nprecision = \"full\"\n\
                [log]\ntensorboard = false\njsonl = false";
            let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap();
            let found = probe.probe(2, &mut trainer).unwrap();
            let seen = found.preconditioned.as_ref().unwrap();
            println!("{name}: {:?}, margin {:?}", seen.lambda_max, seen.stability.margin);
            // Bytes that the text does not have are never moved.
            assert!(seen.moved < found.parameters && seen.moved > found.parameters / 4, "{}", seen.moved);
            assert!(seen.lambda_max.residual < 0.2 * seen.lambda_max.value, "{name}: {:?}", seen.lambda_max);
            largest.push((name, seen.lambda_max.value));
            assert!(before == state(&trainer), "{name}");
            group = trainer.into_group();
        }
        for (name, value) in &largest[1..] {
            assert_close(*value, largest[0].1, 0.2, name);
        }
    });
}
