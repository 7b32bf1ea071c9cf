//! Ranks that are killed while they write a checkpoint, with a probe's part in it: the last whole one is found, and who
//! survives hears of it.

#![cfg(unix)]

mod common;

use common::disk::die_beyond;
use common::{config, generator_lock, parameters, published, text};
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::{Callback, Control, HessianProbe, Host, ProbeConfig};
use hessian_probe_c10d::{Launcher, Outcome, Output, ProcessGroup, is_launched};
use hessian_probe_fsdp::checkpoint::{latest, retain};
use hessian_probe_fsdp::{Checkpoint, Dtype, Error, Trainer, TrainerConfig};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const DIRECTORY: &str = "CHECKPOINT_TEST_DIRECTORY";

/// Set it to kill more often than the test does by itself.
const KILLS: &str = "CHECKPOINT_TEST_KILLS";
const KILL_RANK: &str = "CHECKPOINT_TEST_KILL_RANK";
const KILL_AFTER: &str = "CHECKPOINT_TEST_KILL_AFTER_TURNS";
const KILL_IN: &str = "CHECKPOINT_TEST_KILL_IN";

/// How long a collective waits for another rank.
const PATIENCE: Duration = Duration::from_secs(20);

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("set by the parent").into()
}

fn killed_config() -> TrainerConfig {
    config(true, 0.1, Dtype::F32)
}

/// A probe whose part of a checkpoint is a state, and a vector of which each rank writes its own part.
fn tracking_probe() -> HessianProbe {
    let toml = "[slq]\nsteps = 3\n[track]\nevery = 1\n[log]\njsonl = false\ntensorboard = false";
    HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap()
}

/// A survivor: within the timeout it is told who was killed.
fn survive(error: &Error, rank: usize, killed: usize, since: Instant) {
    let text = error.to_string();
    assert!(error.is_communication(), "{text}");
    assert!(text.contains(&format!("rank {rank}:")), "{text}");
    assert!(text.replacen(&format!("rank {rank}:"), "", 1).contains(&format!("rank {killed}")), "{text}");
    assert!(since.elapsed() < PATIENCE, "{:?}: {text}", since.elapsed());
    println!("survived: {text}");
}

/// Saves as fast as it can until it is killed, so many times as long after the first save as that took.
/// Every third time the step has been saved before.
fn save_until_killed(group: ProcessGroup) {
    let (rank, directory) = (group.rank(), directory());
    let number = |name: &str| std::env::var(name).unwrap().parse::<f64>().unwrap();
    let mut trainer = Trainer::new(killed_config(), group, text()).unwrap();
    trainer.probe_on_validation(2).unwrap();
    let mut probe = tracking_probe();
    trainer.resume_latest(&directory, &mut [&mut probe]).expect("whatever was killed before");
    println!("resumed at {}", trainer.steps_done());
    probe.probe(trainer.steps_done(), &mut trainer).unwrap();
    let mut started = Instant::now();
    let killed = number(KILL_RANK) as usize;
    let mut kill = (rank == killed).then(|| number(KILL_AFTER));
    for turn in 0.. {
        if turn == 1
            && let Some(turns) = kill.take()
        {
            let after = started.elapsed().mul_f64(turns);
            std::thread::spawn(move || {
                std::thread::sleep(after);
                // SAFETY: ends this process.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            });
        }
        if turn == 0 {
            started = Instant::now();
        }
        let since = Instant::now();
        if turn % 3 != 2
            && let Err(error) = trainer.step()
        {
            return survive(&error, rank, killed, since);
        }
        let since = Instant::now();
        match trainer.save(&directory, &mut [&mut probe]) {
            Ok(_) => println!("saved {}", trainer.steps_done()),
            Err(error) => return survive(&error, rank, killed, since),
        }
        if rank == 0 {
            retain(&directory, 2, Some(trainer.steps_done())).unwrap();
        }
    }
}

/// An uninterrupted run, as far as it is asked for.
struct Reference {
    trainer: Trainer,
    /// Others draw from the process's generator in between.
    generator: Vec<u8>,
    parameters: Vec<Vec<Vec<u64>>>,
}

impl Reference {
    fn new() -> Self {
        let trainer = Trainer::new(killed_config(), ProcessGroup::single(), text()).unwrap();
        Self {
            generator: trainer.generator_state().unwrap(),
            parameters: vec![parameters(&trainer)],
            trainer,
        }
    }

    /// The parameters after `step` steps.
    fn at(&mut self, step: u64) -> &Vec<Vec<u64>> {
        self.trainer.set_generator_state(&self.generator).unwrap();
        while self.trainer.steps_done() < step {
            self.trainer.step().unwrap();
            self.parameters.push(parameters(&self.trainer));
        }
        self.generator = self.trainer.generator_state().unwrap();
        &self.parameters[step as usize]
    }
}

/// Runs the test `name` on ranks of which one is to be killed.
fn outcome(name: &str, world_size: usize, directory: &Path, variables: &[(&str, String)]) -> Outcome {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    // As long as the survivors may take.
    let launcher = Launcher::new(world_size).command(command).env(DIRECTORY, directory).grace(PATIENCE);
    launcher.output(Output::Captured).run().unwrap()
}

/// Kills a rank of the test `name` again and again in one directory.
fn kill_loop(name: &str, world_size: usize, kills: u64) {
    if is_launched() {
        tch::set_num_threads(1);
        save_until_killed(ProcessGroup::from_env(PATIENCE).unwrap());
        return;
    }
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let mut reference = Reference::new();
    let (mut last, mut left) = (None, 0);
    let kills = std::env::var(KILLS).map_or(kills, |kills| kills.parse().unwrap());
    for kill in 0..kills {
        // Spread evenly over the time of three turns, by the golden ratio.
        let after = 3.0 * (kill as f64 * 0.618_034).fract();
        let variables =
            [(KILL_RANK, (kill as usize % world_size).to_string()), (KILL_AFTER, after.to_string())];
        let outcome = outcome(name, world_size, root.path(), &variables);
        let output: Vec<_> = (0..world_size).map(|rank| outcome.output(rank)).collect();
        assert!(!outcome.success() && output.iter().all(|it| it.contains("resumed at")), "{output:#?}");
        assert!(!output.iter().any(|it| it.contains("panicked")), "{output:#?}");
        let survivors = output.iter().filter(|it| it.contains("survived: ")).count();
        assert_eq!(survivors, world_size - 1, "{output:#?}");
        left += published(root.path()).iter().filter(|name| name.starts_with('.')).count();

        let saved = output.iter().flat_map(|it| it.lines()).filter_map(|line| line.strip_prefix("saved "));
        last = last.max(saved.filter_map(|step| step.parse::<u64>().ok()).max());
        let found = latest(root.path()).expect("a whole one, or none");
        let step = found.as_ref().map(Checkpoint::step);
        assert!(step >= last, "{step:?} after {last:?} was saved\n{output:#?}");
        // One may be whole although its writer was killed before it said so.
        last = step;
        if let Some(checkpoint) = found {
            let mut loaded = Trainer::new(killed_config(), ProcessGroup::single(), text()).unwrap();
            let mut probe = tracking_probe();
            loaded.resume(checkpoint.path(), &mut [&mut probe]).unwrap();
            let state = Sidecar::load(checkpoint.path()).unwrap().expect("the probe's part");
            assert_eq!((state.top_written_by, probe.latest()), (world_size, state.latest.as_deref()));
            if world_size == 1 {
                let step = checkpoint.step();
                assert!(&parameters(&loaded) == reference.at(step), "step {step}");
            }
        }
    }
    println!("{kills} kills left {left} hidden directories behind; at step {last:?}");
    assert!(last.is_some(), "something was saved");
    // More than half of them, of one process. Of several, rank 0 cleans up where another rank is killed.
    assert!(left > 0 || world_size > 1, "no kill came while something was written");
}

#[test]
fn the_last_whole_checkpoint_survives_a_process_killed_at_any_moment() {
    kill_loop("the_last_whole_checkpoint_survives_a_process_killed_at_any_moment", 1, 16);
}

#[test]
fn the_last_whole_checkpoint_survives_a_rank_killed_at_any_moment() {
    kill_loop("the_last_whole_checkpoint_survives_a_rank_killed_at_any_moment", 2, 6);
}

/// What a rank writes when it is killed.
const PLACES: [&str; 3] = ["its file", "the probe's part", "the manifest"];

/// Comes before what is to kill this process.
struct Kill(bool);

impl Callback for Kill {
    fn on_save_checkpoint(
        &mut self,
        _step: u64,
        _directory: &Path,
        _host: &mut dyn Host,
    ) -> hessian_probe::Result<Control> {
        if self.0 {
            die_beyond(100);
        }
        Ok(Control::Continue)
    }
}

/// One whole checkpoint, and one in which a rank is killed.
fn be_killed_in_a_write(group: ProcessGroup) {
    let (rank, directory) = (group.rank(), directory());
    let killed = std::env::var(KILL_RANK).unwrap().parse().unwrap();
    let place = std::env::var(KILL_IN).unwrap();
    let here = |at: &str| rank == killed && place == at;
    let mut trainer = Trainer::new(killed_config(), group, text()).unwrap();
    trainer.probe_on_validation(2).unwrap();
    let mut probe = tracking_probe();
    for step in 0..2 {
        trainer.step().unwrap();
        probe.probe(step, &mut trainer).unwrap();
        if step == 0 {
            trainer.save(&directory, &mut [&mut probe]).unwrap();
        }
    }
    let before = parameters(&trainer);
    if here(PLACES[0]) {
        die_beyond(100);
    }
    let since = Instant::now();
    let mut kills = [Kill(here(PLACES[1])), Kill(here(PLACES[2]))];
    let [first, last] = &mut kills;
    let error = trainer.save(&directory, &mut [first, &mut probe, last]).unwrap_err();
    survive(&error, rank, killed, since);
    assert!(before == parameters(&trainer));
}

#[test]
fn a_rank_killed_in_a_write_of_a_checkpoint_is_named_by_the_other_within_the_timeout() {
    if is_launched() {
        tch::set_num_threads(1);
        return be_killed_in_a_write(ProcessGroup::from_env(PATIENCE).unwrap());
    }
    let _lock = generator_lock();
    let name = "a_rank_killed_in_a_write_of_a_checkpoint_is_named_by_the_other_within_the_timeout";
    // Rank 0 writes the manifest.
    for (place, killed) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)] {
        let root = tempfile::tempdir().unwrap();
        let variables = [(KILL_RANK, killed.to_string()), (KILL_IN, PLACES[place].to_owned())];
        let outcome = outcome(name, 2, root.path(), &variables);
        let what = format!("rank {killed}, {}", PLACES[place]);
        let survivor = outcome.output(1 - killed);
        assert!(survivor.contains("survived: ") && survivor.contains("1 passed"), "{what}: {survivor}");
        assert_eq!(outcome.statuses()[killed].signal(), Some(libc::SIGXFSZ), "{what}");

        // As an uninterrupted run, from what was saved before.
        let found = latest(root.path()).unwrap().unwrap();
        assert_eq!(found.step(), 1, "{what}");
        let mut resumed = Trainer::new(killed_config(), ProcessGroup::single(), text()).unwrap();
        let mut probe = tracking_probe();
        resumed.resume_latest(root.path(), &mut [&mut probe]).unwrap();
        assert_eq!(probe.latest().unwrap().step, 0, "{what}");
        resumed.step().unwrap();
        resumed.save(root.path(), &mut [&mut probe]).unwrap();
        assert_eq!(latest(root.path()).unwrap().unwrap().step(), 2, "{what}");
    }
}
