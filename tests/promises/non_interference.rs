//! A run with probes has the same bits as one without.

use crate::common::{bits, config, generator_lock, on_ranks, text};
use hessian_probe::log::{JSONL_FILE, Record, read_jsonl};
use hessian_probe::triggers::Cause;
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Batch, Dtype, ProbeBatch, SequenceSource, StepReport, Trainer};
use std::collections::BTreeSet;
use std::os::unix::process::parent_id;
use std::path::Path;
use tch::Device;

/// Everything that training leaves behind, in bits.
#[derive(PartialEq)]
struct Trace {
    reports: Vec<StepReport>,
    parameters: Vec<Vec<u64>>,
    moments: Vec<Vec<u64>>,
    generator: Vec<u8>,
}

/// Sixty steps with dropout, two micro-batches each, clipping and weight decay. And whether a callback asked for a checkpoint.
fn train(
    group: ProcessGroup,
    callbacks: &mut [&mut dyn Callback],
    dropout: bool,
) -> (Trace, bool, ProcessGroup) {
    let mut config = config(true, 0.2, Dtype::F32);
    // The loss does not fall alone: it has spikes to start a probe.
    config.optimizer.lr = 0.03;
    let mut trainer = Trainer::new(config, group, text()).unwrap();
    let rank = trainer.group().rank();
    let sequences: Vec<_> = (0..4).map(|i| text().validation(i + 4 * rank as u64, 16).unwrap()).collect();
    let Batch { inputs, labels } = Batch::from_sequences(&sequences, rank, Device::Cpu).unwrap();
    trainer.set_probe_batch(ProbeBatch { inputs, labels, dropout }).unwrap();
    let mut reports = Vec::new();
    let run = trainer.run(60, callbacks, |report| reports.push(*report)).unwrap();
    let (first, second) = trainer.moments().unwrap();
    let trace = Trace {
        reports,
        parameters: trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect(),
        moments: first.iter().chain(&second).map(bits).collect(),
        generator: trainer.generator_state().unwrap(),
    };
    (trace, run.checkpoint_requested, trainer.into_group())
}

fn probe(directory: &Path, slq: &str) -> HessianProbe {
    let toml = format!(
        "on_error = \"stop\"\n[schedule]\nevery = 10\nat_end = true\n[slq]\n{slq}\n[track]\nevery = 4\n[log]\ndir = {:?}",
        directory.to_str().unwrap()
    );
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// Why probes started by themselves.
fn causes(directory: &Path) -> BTreeSet<&'static str> {
    let records = read_jsonl(directory.join(JSONL_FILE)).unwrap().map(Result::unwrap);
    let triggered = records.filter_map(|record| match record {
        Record::Triggered(triggered) => Some(triggered.causes),
        _ => None,
    });
    let kind = |cause| match cause {
        Cause::LossSpike { .. } => "loss_spike",
        Cause::Margin { .. } => "margin",
        Cause::StepRatio { .. } => "step_ratio",
        Cause::File { .. } => "file",
        other => panic!("{other}"),
    };
    triggered.flatten().map(kind).collect()
}

#[test]
fn training_with_probes_is_bit_identical_to_training_without() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let rank = group.rank();
        let (plain, _, mut group) = train(group, &mut [], false);
        let directory = tempfile::tempdir().unwrap();
        // With dropout in the probe's loss the random state itself is drawn from and put back.
        let cases: [(&str, bool, &[&str]); 5] = [
            ("steps = 6\nprobes = 2", false, &[]),
            (
                "steps = 4\ndtype = \"f64\"\nreorthogonalize = \"none\"\n[triggers]\nloss_spike = 0.5\nwindow = 8\ncooldown = 7",
                true,
                &["loss_spike"],
            ),
            (
                "steps = 3\noperator = \"both\"\n[directions]\ngradient = true\nupdate = true\n[sharpness]\nevery = 1",
                true,
                &[],
            ),
            ("steps = 2\n[blocks]\nby = \"kind\"\nvectors = 2\nspectrum_steps = 3\nevery = 3", true, &[]),
            // Limits that are always exceeded, and a file.
            (
                "steps = 2\noperator = \"both\"\n[sharpness]\nevery = 1\n[triggers]\nmargin = 1e-9\nstep_ratio = 1e-9\n\
                 checkpoint_margin = 1e-9\ncooldown = 7\nfile = ",
                true,
                &["file", "margin", "step_ratio"],
            ),
        ];
        for (number, (slq, dropout, expected)) in cases.into_iter().enumerate() {
            let log = directory.path().join(number.to_string());
            std::fs::create_dir(&log).unwrap();
            // The same for all ranks, as settings must be. It is the last of them, where it is one.
            let file = std::env::temp_dir().join(format!("hessian-probe-now-{}-{number}", parent_id()));
            if rank == 0 && expected.contains(&"file") {
                std::fs::write(&file, "").unwrap();
            }
            let toml = if expected.contains(&"file") { format!("{slq}{file:?}") } else { slq.to_owned() };
            let mut probe = probe(&log, &toml);
            let (probed, asked, back) = train(group, &mut [&mut probe], dropout);
            group = back;
            assert_eq!(probe.latest().map(|snapshot| snapshot.step), Some(59), "probes took place");
            let sharpness = probe.latest_sharpness().map(|found| (found.step, found.coming));
            assert_eq!(sharpness, slq.contains("sharpness").then_some((59, true)), "before the step");
            // What it was given is written.
            drop(probe);
            if rank == 0 {
                assert!(causes(&log).into_iter().eq(expected.iter().copied()), "{slq}: {:?}", causes(&log));
            }
            assert_eq!(asked, slq.contains("checkpoint"), "a checkpoint is asked for");
            assert!(plain.reports == probed.reports, "losses and gradient norms");
            assert!(plain.parameters == probed.parameters, "parameters");
            assert!(plain.moments == probed.moments, "Adam's moments");
            assert!(plain.generator == probed.generator, "random state");
        }
    });
}

/// A probe between the backward pass and the optimizer's step, when the gradient is live.
#[test]
fn a_probe_before_the_optimizer_step_leaves_the_gradient_alone() {
    struct Early(HessianProbe);
    impl Callback for Early {
        fn on_before_optimizer_step(
            &mut self,
            step: u64,
            host: &mut dyn hessian_probe::Host,
        ) -> hessian_probe::Result<hessian_probe::Control> {
            if step % 20 == 3 {
                self.0.probe(step, host)?;
            }
            Ok(hessian_probe::Control::Continue)
        }
    }
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let (plain, _, group) = train(group, &mut [], false);
        let directory = tempfile::tempdir().unwrap();
        let mut early = Early(probe(directory.path(), "steps = 4"));
        let (probed, ..) = train(group, &mut [&mut early], true);
        assert_eq!(early.0.latest().map(|snapshot| snapshot.step), Some(43));
        assert!(plain == probed);
    });
}
