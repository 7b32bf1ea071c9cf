//! The programs that a study measures with, started as a user starts them.

use crate::Result;
use hessian_probe::Snapshot;
use hessian_probe::log::{Record, read_jsonl};
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The programs beside this one, and what is known of earlier runs of theirs.
pub struct Programs {
    directory: PathBuf,
    reuse: bool,
}

impl Programs {
    /// Those that were built together with this one.
    ///
    /// # Errors
    /// Where this program does not know its own place.
    pub fn beside_this(reuse: bool) -> Result<Self> {
        let this = std::env::current_exe()?;
        let directory = this.parent().ok_or("a program lies in a directory")?.to_owned();
        Ok(Self { directory, reuse })
    }

    /// `hessian-probe spectrum … --out OUT`: its report.
    ///
    /// # Errors
    /// Where it fails; its own messages are on stderr.
    pub fn spectrum(&self, out: &Path, arguments: &[OsString]) -> Result<Snapshot> {
        self.report("spectrum", out, arguments)
    }

    /// `hessian-probe SUBCOMMAND … --out OUT`: what it wrote there.
    ///
    /// # Errors
    /// Where it fails; its own messages are on stderr.
    pub fn report<T: DeserializeOwned>(
        &self,
        subcommand: &str,
        out: &Path,
        arguments: &[OsString],
    ) -> Result<T> {
        let mut command = Command::new(self.directory.join("hessian-probe"));
        command.arg(subcommand).args(arguments).arg("--out").arg(out);
        self.run(command, out)?;
        Ok(serde_json::from_slice(&fs::read(out)?)?)
    }

    /// The example `demo`, which leaves its snapshots in `logs`.
    ///
    /// # Errors
    /// Where it fails, or a line of its log is no snapshot.
    pub fn demo(&self, logs: &Path, arguments: &[OsString]) -> Result<Vec<Snapshot>> {
        let snapshots = logs.join("snapshots.jsonl");
        let mut command = Command::new(self.directory.join("examples/demo"));
        command.args(arguments).arg("--logdir").arg(logs);
        if !self.is_done(&command, &snapshots) && logs.exists() {
            // A log is appended to.
            fs::remove_dir_all(logs)?;
        }
        self.run(command, &snapshots)?;
        let records = read_jsonl(&snapshots)?.collect::<Result<Vec<_>, _>>()?;
        let snapshot = |record| match record {
            Record::Snapshot(snapshot) => Some(*snapshot),
            _ => None,
        };
        Ok(records.into_iter().filter_map(snapshot).collect())
    }

    fn run(&self, mut command: Command, out: &Path) -> Result<()> {
        let line = line(&command);
        if self.is_done(&command, out) {
            eprintln!("kept from an earlier run: {line}");
            return Ok(());
        }
        eprintln!("\n$ {line}");
        let started = Instant::now();
        let status = command.status().map_err(|error| format!("{line}: {error}"))?;
        if !status.success() {
            return Err(format!("{line}: {status}").into());
        }
        eprintln!("took {:.0} s", started.elapsed().as_secs_f64());
        Ok(fs::write(note(out), line)?)
    }

    /// Whether an earlier run of the same command left what it was to leave.
    fn is_done(&self, command: &Command, out: &Path) -> bool {
        self.reuse
            && out.is_file()
            && fs::read_to_string(note(out)).is_ok_and(|earlier| earlier == line(command))
    }
}

/// The flags by which `hessian-probe` is given a model and a text.
pub fn given(model: &Path, data: &Path) -> Vec<OsString> {
    vec!["--model".into(), model.into(), "--data".into(), data.into()]
}

/// Where the command of a report is noted.
fn note(out: &Path) -> PathBuf {
    out.with_extension("command")
}

fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_command_is_not_run_again() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("report.json");
        let programs = |reuse| Programs { directory: directory.path().into(), reuse };
        let write = |text: &str| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("echo {text} >> {}", out.display()));
            command
        };
        for (reuse, text, lines) in
            [(true, "one", 1), (true, "one", 1), (false, "one", 2), (true, "two", 3), (true, "two", 3)]
        {
            programs(reuse).run(write(text), &out).unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), lines, "{reuse} {text}");
        }
        let failed = programs(true).run(Command::new("false"), &directory.path().join("none.json"));
        assert!(failed.unwrap_err().to_string().starts_with("false: "));
    }
}
