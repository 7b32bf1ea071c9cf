//! What the trainer promises to a probe.

mod common;

use common::oracle::Plain;
use common::{assert_close, bits, config, generator_lock, on_ranks, text, values};
use hessian_probe::{Callback, Control, Host};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Batch, Dtype, Error, ProbeBatch, Sequence, SequenceSource, StepReport, Trainer};
use std::error::Error as StdError;
use tch::{Device, Tensor};

/// A probe batch with dropout and ragged labels, different on each rank.
fn ragged(rank: usize, sequences: usize, dropout: bool) -> ProbeBatch {
    let length = 10 + rank;
    let mut all: Vec<Sequence> =
        (0..sequences as u64).map(|i| text().validation(i + 10 * rank as u64, length).unwrap()).collect();
    for (i, sequence) in all.iter_mut().enumerate() {
        sequence.labels[..i % 3].fill(-100);
    }
    if all.is_empty() {
        let empty = || Tensor::zeros([0, 7], (tch::Kind::Int64, Device::Cpu));
        return ProbeBatch { inputs: empty(), labels: empty(), dropout };
    }
    let Batch { inputs, labels } = Batch::from_sequences(&all, rank, Device::Cpu).unwrap();
    ProbeBatch { inputs, labels, dropout }
}

/// Loss and gradient as a probe takes them: from a saved random state, which is restored.
fn probe(host: &mut dyn Host) -> (u64, Vec<Vec<u64>>) {
    let state = host.random_state().unwrap();
    let gradient = host.gradient().unwrap();
    let result = (gradient.loss.to_bits(), gradient.tensors.iter().map(bits).collect());
    if let Some(state) = &state {
        host.set_random_state(state).unwrap();
    }
    result
}

/// Calls everything that a probe may call, at every point at which it may.
#[derive(Default)]
struct Curious {
    calls: Vec<String>,
    stop_at: Option<u64>,
}

impl Callback for Curious {
    fn on_train_begin(&mut self, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        self.calls.push("begin".into());
        probe(host);
        Ok(Control::Continue)
    }

    fn on_before_optimizer_step(&mut self, step: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        self.calls.push(format!("before {step}"));
        let live: Vec<_> = host.live_gradients().iter().map(bits).collect();
        assert_eq!(
            live.len(),
            host.shards().len(),
            "training's gradient is live before the optimizer's step"
        );
        let first = probe(host);
        assert!(live == host.live_gradients().iter().map(bits).collect::<Vec<_>>(), "and is left alone");
        assert!(first != (0, live), "the probe has its own");
        assert!(first == probe(host));
        Ok(Control::Continue)
    }

    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        self.calls.push(format!("end {step}"));
        assert!(host.live_gradients().is_empty(), "the optimizer has used the gradient");
        let state = host.random_state().unwrap().unwrap();
        let loss = host.loss().unwrap();
        host.set_random_state(&state).unwrap();
        assert_eq!(probe(host).0, loss.to_bits(), "loss and gradient see the same masks");
        if self.stop_at == Some(step) { Ok(Control::RequestStop) } else { Ok(Control::Continue) }
    }

    fn on_exception(&mut self, error: &(dyn StdError + 'static)) {
        self.calls.push(format!("exception {error}"));
    }

    fn on_train_end(&mut self, host: &mut dyn Host) -> hessian_probe::Result<Control> {
        self.calls.push("finish".into());
        probe(host);
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

fn train(group: ProcessGroup, dtype: Dtype, callbacks: &mut [&mut dyn Callback]) -> (Trace, ProcessGroup) {
    let mut trainer = Trainer::new(config(true, 0.2, dtype), group, text()).unwrap();
    if !callbacks.is_empty() {
        let rank = trainer.group().rank();
        trainer.set_probe_batch(ragged(rank, 8 - 5 * rank, true)).unwrap();
    }
    let mut reports = Vec::new();
    trainer.run(6, callbacks, |report| reports.push(*report)).unwrap();
    let (first, second) = trainer.moments().unwrap();
    let trace = Trace {
        reports,
        parameters: trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect(),
        moments: first.iter().chain(&second).map(bits).collect(),
        generator: trainer.generator_state().unwrap(),
    };
    (trace, trainer.into_group())
}

#[test]
fn probing_leaves_training_bit_identical() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |mut group| {
        for dtype in [Dtype::F32, Dtype::F64] {
            let (plain, back) = train(group, dtype, &mut []);
            let mut curious = Curious::default();
            let (probed, back) = train(back, dtype, &mut [&mut curious]);
            assert!(plain == probed);
            assert_eq!(curious.calls.len(), 14);
            group = back;
        }
    });
}

#[test]
fn probe_gradient_repeats_bit_for_bit_and_is_that_of_the_mean_over_all_ranks() {
    on_ranks(&[1, 2, 3], |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let config = config(false, 0.2, Dtype::F64);
        let plain = Plain::new(&config);
        let mut trainer = Trainer::new(config, group, text()).unwrap();
        // 13 sequences on rank 0, more than a micro-batch; none on rank 2.
        let sequences = |rank: usize| [13, 3, 0][rank];
        trainer.set_probe_batch(ragged(rank, sequences(rank), false)).unwrap();
        let state = trainer.generator_state().unwrap();
        let first = probe(&mut trainer);
        trainer.loss().unwrap();
        assert!(first == probe(&mut trainer));
        assert!(state == trainer.generator_state().unwrap(), "without dropout nothing is drawn");

        // The mean over the batches of all ranks, on the whole graph.
        let batches: Vec<Batch> = (0..world_size)
            .filter(|&rank| sequences(rank) > 0)
            .map(|rank| {
                let ProbeBatch { inputs, labels, .. } = ragged(rank, sequences(rank), false);
                Batch { inputs, labels }
            })
            .collect();
        let count: u64 = batches.iter().map(|batch| batch.counted_targets(0).unwrap()).sum();
        assert_eq!(trainer.probe_tokens(), Some(count));
        let mut loss = 0.0;
        let mut whole: Vec<f64> = Vec::new();
        for batch in &batches {
            let (sum, gradient) = plain.gradient(batch, count as f64, false);
            loss += sum / count as f64;
            let gradient: Vec<f64> = gradient.iter().flat_map(values).collect();
            whole.resize(gradient.len(), 0.0);
            whole.iter_mut().zip(gradient).for_each(|(whole, part)| *whole += part);
        }
        let found = trainer.gradient().unwrap();
        assert_close(found.loss, loss, 1e-12, "loss");
        assert_close(trainer.loss().unwrap(), loss, 1e-12, "loss by a forward pass");
        let size = whole.iter().map(|g| g * g).sum::<f64>().sqrt();
        for (shard, tensor) in trainer.shards().iter().zip(&found.tensors) {
            for (i, value) in values(tensor).into_iter().enumerate() {
                let error = (value - whole[shard.global_offset as usize + i]).abs();
                assert!(error < 1e-12 * size, "{}: off by {error:e}", shard.name);
            }
        }
    });
}

#[test]
fn probe_on_validation_is_the_same_batch_on_any_number_of_ranks() {
    on_ranks(&[1, 2, 3], |group| {
        let config = config(true, 0.0, Dtype::F64);
        let plain = Plain::new(&config);
        let mut trainer = Trainer::new(config, group, text()).unwrap();
        trainer.probe_on_validation(5).unwrap();
        let sequences: Vec<_> = (0..5).map(|i| text().validation(i, 16).unwrap()).collect();
        let batch = Batch::from_sequences(&sequences, 0, Device::Cpu).unwrap();
        let (sum, _) = plain.gradient(&batch, 1.0, false);
        assert_close(trainer.gradient().unwrap().loss, sum / 80.0, 1e-12, "loss");
        assert_eq!(trainer.probe_tokens(), Some(80));
    });
}

#[test]
fn callbacks_are_called_in_order_and_can_stop_training() {
    let _lock = generator_lock();
    let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    trainer.probe_on_validation(4).unwrap();
    let mut curious = Curious { stop_at: Some(1), ..Curious::default() };
    let mut steps = Vec::new();
    let report = trainer.run(10, &mut [&mut curious], |report| steps.push(report.step)).unwrap();
    assert_eq!(curious.calls, ["begin", "before 0", "end 0", "before 1", "end 1", "finish"]);
    assert_eq!((steps, report.steps, report.stopped), (vec![0, 1], 2, true));
    assert_eq!(trainer.progress().total_steps, Some(10));
    assert_eq!(trainer.progress().tokens, Some(2 * 2 * 12 * 16));

    let report = trainer.run(1, &mut [], |report| assert_eq!(report.step, 2)).unwrap();
    assert_eq!((report.steps, report.stopped, trainer.steps_done()), (1, false, 3));
}

#[test]
fn a_non_finite_step_is_an_error_that_changes_nothing_and_reaches_callbacks() {
    let _lock = generator_lock();
    let mut trainer = Trainer::new(config(false, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    trainer.step().unwrap();
    let poison = Tensor::full([10], f64::NAN, (tch::Kind::Float, Device::Cpu));
    trainer.set_parameter("model.norm.weight", &poison).unwrap();
    let before: Vec<_> = trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect();
    struct Listener(Vec<String>);
    impl Callback for Listener {
        fn on_exception(&mut self, error: &(dyn StdError + 'static)) {
            self.0.push(error.to_string());
        }
    }
    let mut listener = Listener(Vec::new());
    let error = trainer.run(3, &mut [&mut listener], |_| ()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 1, .. }), "{error}");
    assert_eq!(listener.0, [error.to_string()]);
    let after: Vec<_> = trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect();
    assert!(before == after);
    assert!(trainer.live_gradients().is_empty());
}

#[test]
fn a_probe_without_a_batch_is_told_what_to_call() {
    let _lock = generator_lock();
    let mut trainer = Trainer::new(config(false, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    let error = trainer.gradient().unwrap_err().to_string();
    assert!(error.contains("Trainer::set_probe_batch"), "{error}");
    assert!(trainer.loss().is_err() && trainer.probe_tokens().is_none());
}

#[test]
fn a_bad_batch_on_one_rank_is_an_error_on_all() {
    on_ranks(&[1, 2], |group| {
        let rank = group.rank();
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F32), group, text()).unwrap();
        type Spoil = fn(ProbeBatch) -> ProbeBatch;
        let cases: [(&str, Spoil); 4] = [
            ("257", |batch| ProbeBatch { inputs: batch.inputs.fill(257), ..batch }),
            ("-1", |batch| ProbeBatch { labels: batch.labels.fill(-1), ..batch }),
            ("Int64", |batch| ProbeBatch { inputs: batch.inputs.to_kind(tch::Kind::Int), ..batch }),
            ("[B, T]", |batch| ProbeBatch { inputs: batch.inputs.view([-1]), ..batch }),
        ];
        for (word, spoil) in cases {
            let good = ragged(rank, 2, false);
            let batch = if rank == 0 { spoil(good) } else { good };
            let error = trainer.set_probe_batch(batch).unwrap_err();
            match rank {
                0 => assert!(error.to_string().contains(word), "{error}"),
                _ => assert!(matches!(error, Error::PeerBatch { failed: 1, .. }), "{error}"),
            }
        }
        let mut nothing = ragged(rank, 2, false);
        nothing.labels = nothing.labels.fill(-100);
        assert!(trainer.set_probe_batch(nothing).unwrap_err().to_string().contains("no target"));
        trainer.set_probe_batch(ragged(rank, 2, false)).unwrap();
        trainer.gradient().unwrap();
    });
}

#[test]
fn a_batch_that_ranks_cannot_share_equally_is_refused() {
    let mut config = config(false, 0.0, Dtype::F32);
    config.batch_size = 9;
    let error = config.validate(2).unwrap_err().to_string();
    assert!(error.contains("`batch_size`") && error.contains('9') && error.contains('2'), "{error}");
    config.validate(3).unwrap();
}

#[test]
fn ranks_with_different_configurations_are_refused() {
    on_ranks(&[2], |group| {
        let mut config = config(false, 0.0, Dtype::F32);
        config.seed = group.rank() as u64;
        let error = Trainer::new(config, group, text()).unwrap_err().to_string();
        assert!(error.contains("different configurations"), "{error}");
    });
}
