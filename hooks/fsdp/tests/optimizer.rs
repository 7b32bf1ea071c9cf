//! What the trainer lends of its optimizer, in every precision, and what a probe makes of it.

mod common;

use common::{assert_close, bits, config, generator_lock, on_ranks, text, values};
use hessian_probe::{Callback, Control, HessianProbe, Host, OptimizerKind, Precision, ProbeConfig};
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

/// What comes and what was, as the parameters themselves tell: with clipping, decay, warm-up, two micro-batches.
struct Updates {
    probe: HessianProbe,
    coming: Vec<Vec<f64>>,
    before: Vec<Vec<f64>>,
    predicted: Vec<[f64; 2]>,
    tolerance: f64,
}

fn shards(host: &dyn Host) -> Vec<Vec<f64>> {
    host.shards().iter().map(|shard| values(&shard.tensor)).collect()
}

impl Callback for Updates {
    fn on_before_optimizer_step(&mut self, step: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        let update = host.update().unwrap().unwrap();
        assert!(update.coming);
        self.coming = update.tensors.iter().map(values).collect();
        self.before = shards(host);
        let live: Vec<_> = host.live_gradients().iter().map(bits).collect();
        let found = self.probe.along_update(step, host)?.unwrap();
        assert!(found.coming && (found.realised - 1.0).abs() < 0.1, "{found:?}");
        assert!(live == host.live_gradients().iter().map(bits).collect::<Vec<_>>());
        assert!(self.before == shards(host));
        self.predicted.push([found.predicted_change, found.measured_change]);
        Ok(Control::Continue)
    }

    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        let after = shards(host);
        let last = host.update().unwrap().unwrap();
        assert!(!last.coming);
        let last: Vec<Vec<f64>> = last.tensors.iter().map(values).collect();
        let norm = |all: &[Vec<f64>]| all.iter().flatten().map(|u| u * u).sum::<f64>().sqrt();
        for (found, what) in [(&self.coming, "coming"), (&last, "last")] {
            let off: Vec<Vec<f64>> = (after.iter().zip(&self.before).zip(found))
                .map(|((after, before), u)| {
                    after.iter().zip(before).zip(u).map(|((a, b), u)| a - b - u).collect()
                })
                .collect();
            let off = norm(&off) / norm(found);
            assert!(off <= self.tolerance, "{what} update of step {step} is off by {off:e}");
        }
        Ok(Control::Continue)
    }
}

#[test]
fn the_coming_update_is_the_one_that_is_made_and_the_last_one_is_the_one_that_was() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for (dtype, tolerance) in [(Dtype::F64, 1e-9), (Dtype::F32, 1e-3)] {
            let mut config = config(false, 0.0, dtype);
            config.schedule = LearningRate::Constant { warmup_steps: 3 };
            let mut trainer = Trainer::new(config, group, text()).unwrap();
            trainer.probe_on_validation(8).unwrap();
            assert!(trainer.update().unwrap().is_none(), "there was none");
            let toml = "[hvp]\ndifference = \"central\"\n[log]\ntensorboard = false\njsonl = false";
            let mut updates = Updates {
                probe: HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap(),
                coming: Vec::new(),
                before: Vec::new(),
                predicted: Vec::new(),
                tolerance,
            };
            trainer.run(6, &mut [&mut updates], |_| {}).unwrap();
            println!("{dtype:?}: predicted, measured: {:?}", updates.predicted);
            // Adam's first steps are long: the model of the loss holds roughly.
            for [predicted, measured] in updates.predicted {
                assert!((predicted - measured).abs() <= 0.3 * measured.abs(), "{predicted} for {measured}");
            }
            group = trainer.into_group();
        }
    });
}
