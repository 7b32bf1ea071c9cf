//! What is on the disk when a process ends before its time: with an error, or killed while it writes.

#[path = "support/closure_host.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod closure_host;
#[cfg(unix)]
#[path = "../hooks/fsdp/tests/common/disk.rs"]
#[expect(dead_code, reason = "no disk is full here")]
mod disk;
#[path = "support/models.rs"]
#[expect(dead_code, reason = "only the perceptron is needed")]
mod models;

use closure_host::ClosureHost;
use hessian_probe::log::{JSONL_FILE, Record, read_jsonl};
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use std::path::{Path, PathBuf};
use tch::Kind;

fn host() -> ClosureHost {
    ClosureHost::new(models::mlp(1), Kind::Float)
}

fn probe(toml: &str, log: &str, directory: &Path) -> HessianProbe {
    let toml = format!("{toml}\n[log]\n{log}\ndir = {:?}", directory.to_str().unwrap());
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// The steps that are in a log, of which each line is whole or skipped; `None` for a session.
fn steps(directory: &Path) -> Vec<Option<u64>> {
    let records = read_jsonl(directory.join(JSONL_FILE)).unwrap();
    records
        .map(|record| match record.unwrap() {
            Record::Snapshot(snapshot) => Some(snapshot.step),
            Record::Tracked(tracked) => Some(tracked.step),
            _ => None,
        })
        .collect()
}

/// The loop keeps the probe: nothing is dropped.
#[test]
fn after_an_exception_the_log_holds_every_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    // Pictures take the writer longer than these probes take.
    let toml = "[schedule]\nevery = 2\n[slq]\nsteps = 3\n[track]\nevery = 1";
    let mut probe = probe(toml, "", directory.path());
    for step in 0..20 {
        probe.on_step_end(step, &mut host).unwrap();
    }
    probe.on_exception(&std::io::Error::other("the loop's own"));
    let files = || -> Vec<(PathBuf, u64)> {
        let entries = directory.path().read_dir().unwrap().map(Result::unwrap);
        let mut files: Vec<_> =
            entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect();
        files.sort();
        files
    };
    let at_once = files();
    assert_eq!(steps(directory.path()), [None].into_iter().chain((0..20).map(Some)).collect::<Vec<_>>());
    drop(probe);
    assert_eq!(at_once.len(), 2, "TensorBoard's file is as complete: {at_once:?}");
    assert_eq!(files(), at_once);
}

#[cfg(unix)]
mod killed {
    use super::disk::die_beyond;
    use super::{host, probe, steps};
    use hessian_probe::checkpoint::Sidecar;
    use hessian_probe::log::JSONL_FILE;
    use hessian_probe::{Callback, HessianProbe, Snapshot};
    use serde_json::Value;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::{Duration, Instant};

    const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";
    const QUIET: &str = "tensorboard = false\njsonl = false";
    const LINES: &str = "tensorboard = false";

    /// With a memory of nothing, so that its T depends on nothing else.
    fn resumable(log: &str, directory: &Path) -> HessianProbe {
        let toml = "[slq]\nsteps = 6\nprobes = 2\n[track]\nevery = 1\nproducts = 2\n[resume]\nevery = 1";
        probe(toml, log, &directory.join("logs"))
    }

    /// One whose state has a vector beside it, or has none.
    fn kept(track: bool) -> HessianProbe {
        let track = if track { "[track]\nevery = 1" } else { "" };
        probe(&format!("[slq]\nsteps = 3\n{track}"), QUIET, Path::new("logs"))
    }

    fn logged(directory: &Path) -> HessianProbe {
        probe("[slq]\nsteps = 3", LINES, directory)
    }

    /// Has a copy of this process do `work` and end.
    fn copy(work: impl FnOnce()) -> libc::pid_t {
        // SAFETY: of this process one thread does something, this one; the copy never returns from here.
        match unsafe { libc::fork() } {
            0 => {
                let done = catch_unwind(AssertUnwindSafe(work));
                // SAFETY: as above.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            child => child,
        }
    }

    /// Whether a copy has come to its end; otherwise it was killed by `signal`.
    fn came_to_its_end(child: libc::pid_t, signal: i32) -> bool {
        let mut status = 0;
        // SAFETY: a plain system call with valid arguments.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        if libc::WIFSIGNALED(status) {
            assert_eq!(libc::WTERMSIG(status), signal);
            return false;
        }
        assert_eq!(libc::WEXITSTATUS(status), 0, "it failed");
        true
    }

    /// Kills copies of this process amid the first file that becomes longer than so many bytes, and so on until one has
    /// written all that it had to.
    fn kill_amid_files(root: &Path, what: &str, mut work: impl FnMut(&Path)) {
        for bytes in (0..).step_by(199) {
            let directory = root.join(format!("{what}-{bytes}"));
            std::fs::create_dir_all(&directory).unwrap();
            let child = copy(|| work(&directory));
            if came_to_its_end(child, libc::SIGXFSZ) {
                assert!(bytes > 500, "{what}: nobody was killed amid it");
                return std::fs::remove_dir_all(directory).unwrap();
            }
        }
    }

    fn amid(directory: &Path) {
        let name = directory.file_name().unwrap().to_str().unwrap();
        die_beyond(name.rsplit_once('-').unwrap().1.parse().unwrap());
    }

    /// Kills copies of this process at some moment or other, until enough were killed in a probe.
    fn kill_at_moments(root: &Path) {
        let (mut kill, mut under_way) = (0, 0);
        while kill < 16 || under_way < 4 {
            assert!(kill < 400, "no kill came in a probe");
            let directory = root.join(format!("moment-{kill}"));
            std::fs::create_dir_all(&directory).unwrap();
            let child = copy(|| {
                let mut host = host();
                for step in 0.. {
                    let mut probe = resumable(LINES, &directory);
                    probe.probe(step, &mut host).unwrap();
                    probe.on_save_checkpoint(step, &directory, &mut host).unwrap();
                    std::fs::write(directory.join("ready"), "").unwrap();
                }
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            while !directory.join("ready").exists() {
                assert!(Instant::now() < deadline, "it does not write");
                std::thread::sleep(Duration::from_millis(1));
            }
            // Spread over the time of some turns, by the golden ratio.
            std::thread::sleep(Duration::from_secs_f64(0.05 * (f64::from(kill) * 0.618_034).fract()));
            // SAFETY: ends that copy.
            unsafe { libc::kill(child, libc::SIGKILL) };
            assert!(!came_to_its_end(child, libc::SIGKILL));
            under_way +=
                probes_under_way(&directory).iter().filter(|path| path.join("state").exists()).count();
            kill += 1;
        }
    }

    fn write_and_be_killed(root: &Path) {
        // First those that take gradients: libtorch takes none in the copy of a process that has taken one.
        kill_at_moments(root);
        kill_amid_files(root, "krylov", |directory| {
            let mut probe = resumable(QUIET, directory);
            amid(directory);
            probe.probe(0, &mut host()).unwrap();
        });
        kill_amid_files(root, "log", |directory| {
            amid(directory);
            let mut probe = logged(directory);
            for step in 0..3 {
                probe.probe(step, &mut host()).unwrap();
            }
            probe.on_train_end(&mut host()).unwrap();
        });
        for (what, track) in [("state", false), ("vector", true)] {
            let mut host = host();
            let [mut before, mut after] = [kept(track), kept(track)];
            before.probe(0, &mut host).unwrap();
            after.probe(1, &mut host).unwrap();
            kill_amid_files(root, what, |directory| {
                before.on_save_checkpoint(0, directory, &mut host).unwrap();
                amid(directory);
                after.on_save_checkpoint(1, directory, &mut host).unwrap();
            });
        }
    }

    fn probes_under_way(directory: &Path) -> Vec<PathBuf> {
        let entries = directory.join("logs/krylov").read_dir();
        entries.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
    }

    /// The lengths of files that were being written.
    fn unfinished(directory: &Path) -> Vec<u64> {
        let paths = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| match path.extension() {
                _ if path.is_dir() => unfinished(&path),
                Some(extension) if extension == "tmp" => vec![path.metadata().unwrap().len()],
                _ => Vec::new(),
            })
            .collect()
    }

    /// Each probe that was under way is what it would have been; how many went on from what was saved.
    fn go_on(directory: &Path, expected: &Snapshot) -> usize {
        let mut resumed = 0;
        for path in probes_under_way(directory) {
            let step = path.file_name().unwrap().to_str().unwrap().strip_prefix("step-").unwrap();
            let saved = path.join("state").exists();
            let (mut host, mut next) = (host(), resumable(QUIET, directory));
            let found = next.probe(step.parse().unwrap(), &mut host).unwrap();
            assert_eq!((&found.probes, &found.hvp), (&expected.probes, &expected.hvp), "{}", path.display());
            assert_eq!(host.calls < expected.cost.gradients, saved, "{}", path.display());
            assert!(!path.exists(), "one that is complete leaves nothing");
            resumed += usize::from(saved);
        }
        resumed
    }

    /// The state of the last checkpoint that was complete.
    fn load(checkpoint: &Path, mut probe: HessianProbe) -> u64 {
        let state = Sidecar::load(checkpoint).unwrap().unwrap();
        assert_eq!(state.latest.unwrap().step, state.step);
        probe.on_load_checkpoint(checkpoint, &mut host()).unwrap();
        assert_eq!(probe.latest().unwrap().step, state.step);
        state.step
    }

    /// Those that are whole are read, and then what the next process writes.
    fn read_lines(directory: &Path) {
        let whole = std::fs::read_to_string(directory.join(JSONL_FILE)).unwrap();
        let whole = whole.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        let mut next = logged(directory);
        next.probe(9, &mut host()).unwrap();
        next.on_train_end(&mut host()).unwrap();
        let written = [None, Some(0), Some(1), Some(2)];
        assert_eq!(steps(directory), [&written[..whole], &[None, Some(9)]].concat());
    }

    #[test]
    fn a_process_killed_while_it_writes_leaves_whole_files_or_none_and_the_next_one_goes_on() {
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            return write_and_be_killed(Path::new(&directory));
        }
        let root = tempfile::tempdir().unwrap();
        let name =
            "killed::a_process_killed_while_it_writes_leaves_whole_files_or_none_and_the_next_one_goes_on";
        let mut writer = Command::new(std::env::current_exe().unwrap());
        writer.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(DIRECTORY, root.path());
        let written = writer.output().unwrap();
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let expected = resumable(QUIET, &root.path().join("whole")).probe(0, &mut host()).unwrap().clone();
        let (mut resumed, mut places) = (0, std::collections::BTreeMap::<String, usize>::new());
        for entry in root.path().read_dir().unwrap() {
            let path = entry.unwrap().path();
            let Some((what, place)) = path.file_name().unwrap().to_str().unwrap().split_once('-') else {
                continue;
            };
            let place: u64 = place.parse().unwrap();
            match what {
                "log" => {
                    assert_eq!(path.join(JSONL_FILE).metadata().unwrap().len(), place);
                    read_lines(&path);
                }
                "krylov" => {
                    assert_eq!(unfinished(&path), [place]);
                    resumed += go_on(&path, &expected);
                }
                "state" | "vector" => {
                    assert_eq!(unfinished(&path), [place]);
                    assert_eq!(load(&path, kept(what == "vector")), 0, "{}", path.display());
                }
                _ => {
                    load(&path, resumable(QUIET, &path));
                    steps(&path.join("logs"));
                    resumed += go_on(&path, &expected);
                }
            }
            *places.entry(what.to_owned()).or_default() += 1;
        }
        println!("killed {places:?} times; {resumed} probes were resumed");
        assert_eq!(places.len(), 5);
        assert!(resumed > 0);
    }
}
