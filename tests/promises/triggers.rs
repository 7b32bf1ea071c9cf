//! Probes that start by themselves, on 1, 2 and 4 real ranks: all or none.

use crate::common::{config, generator_lock, on_ranks, text};
use hessian_probe::log::{JSONL_FILE, Record, read_jsonl};
use hessian_probe::triggers::{Cause, Triggered};
use hessian_probe::{
    Callback, Control, Gradient, HessianProbe, Host, HostError, Optimizer, ProbeConfig, ProcessGroup, Shard,
    Update,
};
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The trainer, which tells a loss of this rank's own.
struct Told<'t>(&'t mut Trainer, Option<f64>);

impl Host for Told<'_> {
    fn shards(&self) -> Vec<Shard> {
        self.0.shards()
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        self.0.gradient()
    }

    fn loss(&mut self) -> Result<f64, HostError> {
        self.0.loss()
    }

    fn group(&self) -> &dyn ProcessGroup {
        Host::group(self.0)
    }

    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        self.0.optimizer()
    }

    fn update(&mut self) -> Result<Option<Update>, HostError> {
        self.0.update()
    }

    fn training_loss(&self) -> Option<f64> {
        self.1
    }
}

fn probe(directory: &Path, toml: &str) -> HessianProbe {
    let toml = format!(
        "on_error = \"stop\"\n{toml}\n[log]\ntensorboard = false\ndir = {:?}",
        directory.to_str().unwrap()
    );
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// A falling loss with some noise, 0.2 apart between ranks.
fn usual(step: u64, rank: usize) -> f64 {
    3.0 - 0.002 * step as f64 + 0.05 * (step as f64 * 2.4).sin() + 0.2 * rank as f64
}

/// The steps of `steps` after which there was a probe.
fn probed(
    probe: &mut HessianProbe,
    trainer: &mut Trainer,
    steps: std::ops::Range<u64>,
    mut loss: impl FnMut(u64) -> Option<f64>,
) -> Vec<u64> {
    steps
        .filter(|&step| {
            let mut host = Told(trainer, loss(step));
            assert_eq!(probe.on_step_end(step, &mut host).unwrap(), Control::Continue);
            probe.latest().is_some_and(|snapshot| snapshot.step == step)
        })
        .collect()
}

fn ready(group: hessian_probe_c10d::ProcessGroup) -> Trainer {
    let mut trainer = Trainer::new(config(false, 0.0, Dtype::F32), group, text()).unwrap();
    trainer.probe_on_validation(4).unwrap();
    trainer.step().unwrap();
    trainer
}

/// What rank 0 wrote of triggers, and the step of the record after each.
fn written(directory: &Path) -> Vec<(Triggered, u64)> {
    let records: Vec<Record> = read_jsonl(directory.join(JSONL_FILE)).unwrap().map(Result::unwrap).collect();
    let after = |record: &Record| match record {
        Record::Snapshot(snapshot) => snapshot.step,
        other => panic!("{other:?}"),
    };
    let pairs = records.windows(2).filter_map(|pair| match &pair[0] {
        Record::Triggered(triggered) => Some((triggered.clone(), after(&pair[1]))),
        _ => None,
    });
    pairs.collect()
}

/// The mean over ranks spikes, though only the last rank's own loss does; a restart remembers what was usual.
#[test]
fn a_loss_spike_starts_a_probe_on_all_ranks_once_and_also_after_a_restart() {
    let _lock = generator_lock();
    on_ranks(&[1, 2, 4], |group| {
        let (rank, last) = (group.rank(), group.world_size() - 1);
        let mut trainer = ready(group);
        let toml = "[slq]\nsteps = 2\n[triggers]\nloss_spike = 6.0\nwindow = 16\ncooldown = 20\nrecent = 12";
        let loss = |step: u64| {
            let spike = rank == last && [25, 30, 62].contains(&step);
            Some(usual(step, rank) + if spike { 2.0 } else { 0.0 })
        };
        let own = tempfile::tempdir().unwrap();
        let mut first = probe(&own.path().join("first"), toml);
        assert_eq!(probed(&mut first, &mut trainer, 0..60, loss), [25]);
        let state = first.state_dict();
        let mut resumed = probe(&own.path().join("second"), toml);
        resumed.load_state_dict(&state).unwrap();
        assert_eq!(probed(&mut resumed, &mut trainer, 60..70, loss), [62]);
        let mut afresh = probe(&own.path().join("third"), toml);
        assert!(probed(&mut afresh, &mut trainer, 60..66, loss).is_empty(), "nothing to judge by");
        drop((first, resumed, afresh));
        if rank == 0 {
            let [(triggered, snapshot)] = &written(&own.path().join("first"))[..] else { panic!("one") };
            assert_eq!((triggered.step, *snapshot), (25, 25));
            let [Cause::LossSpike { loss: Some(spike), score: Some(score), median, .. }] =
                triggered.causes[..]
            else {
                panic!("{triggered:?}")
            };
            let shift = 0.1 * last as f64;
            let mean = usual(25, 0) + shift + 2.0 / (last + 1) as f64;
            assert!((spike - mean).abs() < 1e-12 && score > 6.0 && (2.9..3.1).contains(&(median - shift)));
            // The record from before.
            let steps: Vec<u64> = triggered.recent.iter().map(|recent| recent.step).collect();
            assert_eq!(steps, (14..=25).collect::<Vec<_>>());
            assert!((triggered.recent[3].loss.unwrap() - usual(17, 0) - shift).abs() < 1e-12);
            let [(resumed, _)] = &written(&own.path().join("second"))[..] else { panic!("one") };
            assert_eq!(resumed.recent[0].step, 51, "from before the restart");
        }
    });
}

/// What was cheap at each step before the spike, as it was logged then; margins against the loop's own optimizer.
#[test]
fn the_record_from_before_a_spike_holds_the_cheap_numbers_of_each_step() {
    let _lock = generator_lock();
    on_ranks(&[1, 2, 4], |group| {
        let rank = group.rank();
        let mut trainer = ready(group);
        let directory = tempfile::tempdir().unwrap();
        let toml = "[slq]\nsteps = 2\noperator = \"both\"\n[track]\nevery = 1\nproducts = 2\n[sharpness]\nevery = 1\n\
             [triggers]\nloss_spike = 6.0\nwindow = 8\nrecent = 5";
        let mut probe = probe(directory.path(), toml);
        let mut thresholds = Vec::new();
        for step in 0..9 {
            trainer.step().unwrap();
            thresholds.push(trainer.optimizer().unwrap().unwrap().threshold().unwrap());
            let spike = if step == 8 { 5.0 } else { 0.0 };
            let mut host = Told(&mut trainer, Some(usual(step, rank) + spike));
            probe.on_step_end(step, &mut host).unwrap();
            assert_eq!(probe.latest().is_some(), step == 8);
        }
        drop(probe);
        if rank > 0 {
            return;
        }
        let [(triggered, 8)] = &written(directory.path())[..] else { panic!("one") };
        let (mut tracked, mut ratios) = (Vec::new(), Vec::new());
        for record in read_jsonl(directory.path().join(JSONL_FILE)).unwrap() {
            match record.unwrap() {
                Record::Tracked(it) => tracked.push((it.step, it.lambda_max.value)),
                Record::Sharpness(it) => ratios.push((it.step, it.step_ratio_at_least())),
                _ => {}
            }
        }
        let recent = &triggered.recent;
        assert_eq!(recent.iter().map(|it| it.step).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        let lambdas: Vec<_> = recent.iter().map(|it| (it.step, it.lambda_max.unwrap())).collect();
        assert_eq!(lambdas, tracked[4..]);
        assert!(lambdas.windows(2).all(|pair| pair[0].1 != pair[1].1), "{lambdas:?}");
        assert_eq!(recent.iter().map(|it| (it.step, it.step_ratio)).collect::<Vec<_>>(), ratios[4..]);
        for it in recent {
            let margin = it.lambda_max.unwrap() / thresholds[it.step as usize];
            assert!((it.margin.unwrap() / margin - 1.0).abs() < 1e-12, "{it:?} for {margin}");
            assert!(it.step_ratio.is_some() && it.loss.is_some());
        }
    });
}

/// Rank 0's file: the other ranks cannot see it.
#[test]
fn a_file_that_the_user_touches_starts_one_probe_on_all_ranks() {
    let _lock = generator_lock();
    on_ranks(&[1, 2, 4], |group| {
        let rank = group.rank();
        let mut trainer = ready(group);
        let directory = tempfile::tempdir().unwrap();
        // The same words on all ranks, relative to directories of their own.
        std::env::set_current_dir(directory.path()).unwrap();
        let toml = "[slq]\nsteps = 2\n[triggers]\nfile = \"probe-now\"";
        let mut probe = probe(&directory.path().join("logs"), toml);
        let found = probed(&mut probe, &mut trainer, 0..12, |step| {
            if rank == 0 && [3, 7, 8].contains(&step) {
                std::fs::write("probe-now", b"").unwrap();
                // No step waits for the disk: the one that follows the look heeds it.
                let until = Instant::now() + Duration::from_secs(20);
                while Path::new("probe-now").exists() && Instant::now() < until {
                    sleep(Duration::from_millis(2));
                }
            }
            None
        });
        assert_eq!(found, [3, 7, 8], "once for each time, whatever the cool-down");
        assert!(!Path::new("probe-now").exists());
        drop(probe);
        std::env::set_current_dir(std::env::temp_dir()).unwrap();
        if rank == 0 {
            let causes: Vec<_> =
                written(&directory.path().join("logs")).into_iter().flat_map(|(it, _)| it.causes).collect();
            assert_eq!(causes, vec![Cause::File { path: "probe-now".into() }; 3]);
        }
    });
}

/// The margin of the sharded AdamW that tracking finds, against limits about it.
#[test]
fn a_margin_above_its_limit_starts_a_probe_and_asks_the_loop_as_configured() {
    let _lock = generator_lock();
    on_ranks(&[1, 2, 4], |group| {
        let rank = group.rank();
        let mut trainer = ready(group);
        let directory = tempfile::tempdir().unwrap();
        let watched = |name: &str, triggers: &str| {
            let toml = format!(
                "[slq]\nsteps = 3\noperator = \"both\"\n[track]\nevery = 1\n[sharpness]\nevery = 1\n[triggers]\ncooldown = 3\n{triggers}"
            );
            probe(&directory.path().join(name), &toml)
        };
        let mut tracking = watched("tracking", "");
        let tracked = tracking.track(0, &mut trainer).unwrap();
        let margin = tracked.stability.clone().unwrap().margin.unwrap();
        assert!(tracked.operator == hessian_probe::config::SpectrumOf::Preconditioned && margin > 0.0);
        let ratio = tracking.critical_sharpness(0, &mut trainer).unwrap().unwrap().step_ratio.unwrap();

        let mut run = |name: &str, triggers: String| {
            let mut probe = watched(name, &triggers);
            let controls: Vec<Control> =
                (0..5).map(|step| probe.on_step_end(step, &mut Told(&mut trainer, None)).unwrap()).collect();
            (controls, probe.latest().map(|snapshot| snapshot.step))
        };
        let quiet = vec![Control::Continue; 5];
        assert_eq!(run("above", format!("margin = {}", 4.0 * margin)), (quiet.clone(), None));
        // At step 0 and, cooled down, at step 3.
        assert_eq!(run("below", format!("margin = {}", 0.25 * margin)), (quiet.clone(), Some(3)));
        assert_eq!(run("ratio-above", format!("step_ratio = {}", 4.0 * ratio)), (quiet.clone(), None));
        assert_eq!(run("ratio-below", format!("step_ratio = {}", 0.25 * ratio)), (quiet, Some(3)));
        let (controls, probes) = run("saves", format!("checkpoint_margin = {}", 0.25 * margin));
        let saves = [0, 3].map(|step| controls[step] == Control::RequestCheckpoint);
        assert!(saves == [true, true] && controls[1..3] == [Control::Continue; 2] && probes.is_none());
        let limits = format!("checkpoint_margin = {m}\nstop_margin = {m}", m = 0.25 * margin);
        assert_eq!(run("stops", limits), (vec![Control::RequestStop; 5], None));
        if rank == 0 {
            let [(triggered, _), _] = &written(&directory.path().join("below"))[..] else { panic!("two") };
            let [Cause::Margin { value, limit }] = triggered.causes[..] else { panic!("{triggered:?}") };
            assert!(value > limit && triggered.recent[0].margin == Some(value));
            assert!(triggered.recent[0].step_ratio.is_some() && triggered.recent[0].lambda_max.is_some());
        }
    });
}
