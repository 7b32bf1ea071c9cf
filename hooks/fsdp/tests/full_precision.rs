//! A probe in f32 of a training in bf16.

mod common;

use common::{bits, config, generator_lock, on_ranks, text};
use hessian_probe::{Callback, Control, HessianProbe, Host, Precision, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{
    Batch, Dtype, MixedPrecision, ProbeBatch, SequenceSource, StepReport, Trainer, TrainerConfig,
};
use tch::{Device, Kind, Tensor};

fn cases() -> [(&'static str, TrainerConfig); 3] {
    let config = |tied, dtype| TrainerConfig { batch_size: 4, ..config(tied, 0.2, dtype) };
    let masters = TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..config(true, Dtype::F32) };
    let pure = config(false, Dtype::Bf16);
    let mut wide_moments = config(true, Dtype::Bf16);
    wide_moments.optimizer.state_dtype = Some(Dtype::F32);
    [("masters", masters), ("pure", pure), ("f32 moments", wide_moments)]
}

fn batch(rank: usize, dropout: bool) -> ProbeBatch {
    let sequences: Vec<_> =
        (0..7 - rank as u64).map(|i| text().validation(i + 10 * rank as u64, 12).unwrap()).collect();
    let Batch { inputs, labels } = Batch::from_sequences(&sequences, rank, Device::Cpu).unwrap();
    ProbeBatch { inputs, labels, dropout }
}

fn gradient(host: &mut dyn Host) -> (u64, Vec<Vec<u64>>) {
    let state = host.random_state().unwrap().unwrap();
    let gradient = host.gradient().unwrap();
    let result = (gradient.loss.to_bits(), gradient.tensors.iter().map(bits).collect());
    host.set_random_state(&state).unwrap();
    result
}

fn kinds(host: &dyn Host) -> Vec<Kind> {
    host.shards().iter().map(|shard| shard.tensor.kind()).collect()
}

/// Moves the parameters and puts them back, in full precision, at every point at which a callback may.
struct Evaluation {
    stored: Kind,
    calls: usize,
}

impl Evaluation {
    fn call(&mut self, host: &mut dyn Host) {
        self.calls += 1;
        let live: Vec<_> = host.live_gradients().iter().map(bits).collect();
        let narrow = gradient(host);
        assert!(kinds(host).iter().all(|&kind| kind == self.stored));
        let rounded = (self.stored == Kind::Float).then_some(Kind::BFloat16);
        assert_eq!(host.compute_kind(), rounded);

        host.set_precision(Precision::Full).unwrap();
        assert!(kinds(host).iter().all(|&kind| kind == Kind::Float));
        assert_eq!(host.compute_kind(), None);
        let wide = gradient(host);
        assert!(wide.0 != narrow.0 && wide.1 != narrow.1);
        let saved: Vec<Tensor> = host.shards().iter().map(|shard| shard.tensor.copy()).collect();
        for shard in host.shards() {
            let _ = shard.tensor.shallow_clone().g_add_scalar_(1e-3);
        }
        assert!(gradient(host) != wide, "the passes use what is written to the shards");
        for (shard, saved) in host.shards().iter().zip(&saved) {
            shard.tensor.shallow_clone().copy_(saved);
        }
        host.set_precision(Precision::Full).unwrap();
        assert!(gradient(host) == wide, "asking twice changes nothing");
        assert!(live == host.live_gradients().iter().map(bits).collect::<Vec<_>>());

        host.set_precision(Precision::Loop).unwrap();
        assert!(gradient(host) == narrow);
        assert!(live == host.live_gradients().iter().map(bits).collect::<Vec<_>>());
    }
}

impl Callback for Evaluation {
    fn on_before_optimizer_step(&mut self, step: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        if step == 2 {
            self.call(host);
        }
        Ok(Control::Continue)
    }

    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        if step == 1 {
            self.call(host);
        }
        Ok(Control::Continue)
    }
}

/// Everything that training leaves behind, in bits.
#[derive(PartialEq)]
struct Trace {
    reports: Vec<StepReport>,
    parameters: Vec<Vec<u64>>,
    moments: Vec<Vec<u64>>,
    generator: Vec<u8>,
}

fn train(
    config: TrainerConfig,
    group: ProcessGroup,
    steps: u64,
    callbacks: &mut [&mut dyn Callback],
) -> (Trace, ProcessGroup) {
    let mut trainer = Trainer::new(config, group, text()).unwrap();
    let rank = trainer.group().rank();
    trainer.set_probe_batch(batch(rank, true)).unwrap();
    let mut reports = Vec::new();
    trainer.run(steps, callbacks, |report| reports.push(*report)).unwrap();
    let (first, second) = trainer.moments().unwrap();
    let trace = Trace {
        reports,
        parameters: trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect(),
        moments: first.iter().chain(&second).map(bits).collect(),
        generator: trainer.generator_state().unwrap(),
    };
    (trace, trainer.into_group())
}

/// The same training in f32.
fn wide(config: TrainerConfig) -> TrainerConfig {
    TrainerConfig { dtype: Dtype::F32, mixed_precision: MixedPrecision::default(), ..config }
}

/// Names and whole values of all parameters.
fn parameters(trainer: &Trainer) -> (Vec<String>, Vec<Tensor>) {
    let names: Vec<String> = trainer.named_shards().unwrap().into_iter().map(|shard| shard.name).collect();
    let whole = names.iter().map(|name| trainer.full_parameter(name).unwrap()).collect();
    (names, whole)
}

#[test]
fn an_evaluation_in_full_precision_leaves_training_bit_identical() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for (name, config) in cases() {
            let (plain, back) = train(config.clone(), group, 5, &mut []);
            let mut evaluation = Evaluation { stored: config.dtype.kind(), calls: 0 };
            let (evaluated, back) = train(config, back, 5, &mut [&mut evaluation]);
            assert!(plain == evaluated, "{name}");
            assert_eq!(evaluation.calls, 2);
            group = back;
        }
    });
}

#[test]
fn full_precision_is_that_of_a_trainer_in_f32_at_the_same_values_bit_for_bit() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for (name, config) in cases() {
            let rank = group.rank();
            let mut trainer = Trainer::new(config.clone(), group, text()).unwrap();
            trainer.set_probe_batch(batch(rank, true)).unwrap();
            for _ in 0..3 {
                trainer.step().unwrap();
            }
            let (names, whole) = parameters(&trainer);
            let state = trainer.generator_state().unwrap();
            trainer.set_precision(Precision::Full).unwrap();
            let found = gradient(&mut trainer);
            let loss = trainer.loss().unwrap();
            assert_eq!(loss.to_bits(), found.0, "{name}: the loss alone");

            let mut reference = Trainer::new(wide(config), trainer.into_group(), text()).unwrap();
            reference.set_probe_batch(batch(rank, true)).unwrap();
            for (name, whole) in names.iter().zip(&whole) {
                reference.set_parameter(name, whole).unwrap();
            }
            reference.set_generator_state(&state).unwrap();
            assert!(gradient(&mut reference) == found, "{name}");
            group = reference.into_group();
        }
    });
}

/// A callback that fails to switch back does not change what is trained.
#[test]
fn a_step_is_always_in_the_trainers_own_precision() {
    struct Forgetful;
    impl Callback for Forgetful {
        fn on_step_end(&mut self, _: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
            let narrow = kinds(host)[0] == Kind::BFloat16;
            host.set_precision(Precision::Full).unwrap();
            // Copies, of no concern to training.
            for shard in host.shards().iter().filter(|_| narrow) {
                let _ = shard.tensor.shallow_clone().zero_();
            }
            Ok(Control::Continue)
        }
    }
    let _lock = generator_lock();
    for (name, config) in cases() {
        let (plain, _) = train(config.clone(), ProcessGroup::single(), 4, &mut []);
        let (forgetful, _) = train(config, ProcessGroup::single(), 4, &mut [&mut Forgetful]);
        assert!(plain == forgetful, "{name}");
    }
}

fn probe(directory: &std::path::Path, precision: &str) -> HessianProbe {
    let toml = format!(
        "on_error = \"stop\"\n[schedule]\nevery = 5\nat_end = true\n[slq]\nsteps = 4\n\
         [hvp]\nprecision = \"{precision}\"\n[log]\ndir = {:?}",
        directory.join(precision).to_str().unwrap()
    );
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

#[test]
fn training_with_probes_is_bit_identical_to_training_without() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for (name, config) in cases().into_iter().take(2) {
            let directory = tempfile::tempdir().unwrap();
            let (plain, back) = train(config.clone(), group, 7, &mut []);
            group = back;
            for precision in ["loop", "full"] {
                let mut probe = probe(directory.path(), precision);
                let (probed, back) = train(config.clone(), group, 7, &mut [&mut probe]);
                assert_eq!(
                    probe.latest().map(|snapshot| snapshot.step),
                    Some(6),
                    "{name}: probes took place"
                );
                assert!(plain == probed, "{name}, {precision}");
                group = back;
            }
        }
    });
}

#[test]
fn a_probe_in_full_precision_is_that_of_a_training_in_f32_at_the_same_values() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for (name, config) in cases() {
            let (rank, directory) = (group.rank(), tempfile::tempdir().unwrap());
            let mut trainer = Trainer::new(config.clone(), group, text()).unwrap();
            trainer.set_probe_batch(batch(rank, false)).unwrap();
            trainer.step().unwrap();
            let (names, whole) = parameters(&trainer);
            let probed = |number: &str, precision: &str, host: &mut dyn Host| {
                probe(&directory.path().join(number), precision).probe(0, host).unwrap().clone()
            };
            let narrow = probed("0", "loop", &mut trainer);
            let found = probed("1", "full", &mut trainer);

            let mut reference = Trainer::new(wide(config), trainer.into_group(), text()).unwrap();
            reference.set_probe_batch(batch(rank, false)).unwrap();
            for (name, whole) in names.iter().zip(&whole) {
                reference.set_parameter(name, whole).unwrap();
            }
            let expected = probed("2", "loop", &mut reference);
            assert_eq!(found.loss.to_bits(), expected.loss.to_bits(), "{name}");
            assert_eq!(found.probes, expected.probes, "{name}");
            let noise = [&narrow, &found].map(|snapshot| snapshot.hvp.gradient_noise);
            assert!(noise[1] < noise[0] / 10.0, "{name}: noise in bf16 and in f32 {noise:?}");
            group = reference.into_group();
        }
    });
}

/// `budget.max_memory` counts what full precision of narrow parameters adds: twice four bytes for each parameter (the host's
/// copies of parameters and gradient), in place of two bytes of θ₀, which the parameters themselves then are.
#[test]
fn a_memory_limit_counts_the_copies_that_full_precision_needs() {
    let _lock = generator_lock();
    let pure = TrainerConfig { batch_size: 4, ..config(false, 0.0, Dtype::Bf16) };
    let masters =
        TrainerConfig { dtype: Dtype::F32, mixed_precision: MixedPrecision::bf16(), ..pure.clone() };
    let skipped = |config: &TrainerConfig, precision: &str, limit: u64| {
        let mut trainer = Trainer::new(config.clone(), ProcessGroup::single(), text()).unwrap();
        trainer.set_probe_batch(batch(0, false)).unwrap();
        let toml = format!(
            "[schedule]\nevery = 1\n[slq]\nsteps = 3\n[hvp]\nprecision = \"{precision}\"\n[budget]\nmax_memory = {limit}\n\
             [log]\ntensorboard = false\njsonl = false"
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        probe.on_train_begin(&mut trainer).unwrap();
        probe.on_step_end(0, &mut trainer).unwrap();
        probe.latest().is_none()
    };
    let n = Trainer::new(pure.clone(), ProcessGroup::single(), text()).unwrap().parameter_count();
    // g(θ₀), a vector of work and a basis of three, in f32.
    let vectors = 5 * 4 * n;
    for (config, precision, loan) in
        [(&pure, "loop", 2 * n), (&pure, "full", 8 * n), (&masters, "loop", 4 * n), (&masters, "full", 4 * n)]
    {
        assert!(!skipped(config, precision, vectors + loan), "{precision}");
        assert!(skipped(config, precision, vectors + loan - 1), "{precision}");
    }
}
