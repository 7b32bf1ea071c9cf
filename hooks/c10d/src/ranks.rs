//! The processes of a launch, none of which outlives it.

use crate::error::{Error, Result};
use crate::launch::{Forward, Output};
use crate::rank_logger::LABELLED;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// How long the last lines of a rank are waited for after its end: a grandchild may hold its streams open.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What ranks wrote, where it is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(Arc<Mutex<Vec<(usize, String)>>>);

impl Transcript {
    fn push(&self, rank: usize, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((rank, line.to_owned()));
    }

    pub(crate) fn of(&self, rank: usize) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|(from, _)| *from == rank).map(|(_, line)| line.as_str()).collect()
    }
}

pub(crate) struct Ranks {
    command: Command,
    output: Output,
    children: Vec<Child>,
    readers: Vec<JoinHandle<()>>,
    transcript: Transcript,
}

impl Ranks {
    pub(crate) fn new(mut command: Command, output: Output) -> Self {
        end_with_parent(&mut command);
        Self { command, output, children: Vec::new(), readers: Vec::new(), transcript: Transcript::default() }
    }

    pub(crate) fn start(&mut self, rank: usize) -> Result<()> {
        let inherit = match self.output {
            Output::Inherited => true,
            Output::Prefixed => rank == 0,
            Output::PrefixedAll | Output::Captured => false,
        };
        let stream = || if inherit { Stdio::inherit() } else { Stdio::piped() };
        // So that its log lines do not say their rank twice.
        let labelled = !inherit && self.output != Output::Captured;
        if labelled {
            self.command.env(LABELLED, "1");
        } else {
            self.command.env_remove(LABELLED);
        }
        let mut child = self
            .command
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .stdin(Stdio::null())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .map_err(|source| Error::Spawn {
                rank,
                program: self.command.get_program().to_string_lossy().into_owned(),
                source,
            })?;
        let keep = (self.output == Output::Captured).then(|| self.transcript.clone());
        if let Some(stdout) = child.stdout.take() {
            self.readers.push(forward(stdout, std::io::stdout, rank, keep.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            self.readers.push(forward(stderr, std::io::stderr, rank, keep));
        }
        self.children.push(child);
        Ok(())
    }

    /// Waits for all; after the first failure no longer than `grace`. Returns which rank that was.
    pub(crate) fn wait(
        &mut self,
        grace: Duration,
        forward: &Forward,
    ) -> Result<(Option<usize>, Vec<ExitStatus>)> {
        let mut statuses: Vec<Option<ExitStatus>> = vec![None; self.children.len()];
        let mut failure: Option<(usize, Instant)> = None;
        let mut killed = false;
        loop {
            for (rank, (child, status)) in self.children.iter_mut().zip(&mut statuses).enumerate() {
                if status.is_none() {
                    *status = child.try_wait().map_err(|source| Error::Wait { rank, source })?;
                    if status.is_some_and(|status| !status.success()) && failure.is_none() {
                        failure = Some((rank, Instant::now()));
                    }
                }
            }
            if let Some(all) = statuses.iter().copied().collect::<Option<Vec<_>>>() {
                return Ok((failure.map(|(rank, _)| rank), all));
            }
            if let Some(signal) = forward.take() {
                // One that was waited for has no process any more: its number may be another's by now.
                let alive = self.children.iter().zip(&statuses).filter(|(_, status)| status.is_none());
                alive.for_each(|(child, _)| send(child, signal));
            }
            if !killed && failure.is_some_and(|(_, since)| since.elapsed() >= grace) {
                self.kill();
                killed = true;
            }
            thread::sleep(POLL);
        }
    }

    pub(crate) fn finish(&mut self) -> Transcript {
        let deadline = Instant::now() + LAST_LINES;
        for reader in self.readers.drain(..) {
            while !reader.is_finished() && Instant::now() < deadline {
                thread::sleep(POLL);
            }
        }
        self.transcript.clone()
    }

    fn kill(&mut self) {
        for child in &mut self.children {
            // Fails only where the rank has ended already.
            let _ = child.kill();
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.kill();
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

#[cfg(unix)]
fn send(child: &Child, signal: i32) {
    if let Ok(process) = libc::pid_t::try_from(child.id()) {
        // SAFETY: a system call; the process is a child that was not waited for, so the number is its own.
        unsafe { libc::kill(process, signal) };
    }
}

#[cfg(not(unix))]
fn send(_child: &Child, _signal: i32) {}

fn forward<S: Write>(
    from: impl Read + Send + 'static,
    to: impl Fn() -> S + Send + 'static,
    rank: usize,
    keep: Option<Transcript>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        // By bytes: a rank may write what is not UTF-8.
        while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            match &keep {
                Some(transcript) => transcript.push(rank, &text),
                // One write a line, so that lines of ranks do not mix. Whether our own stream still
                // exists is no concern of the ranks.
                None => {
                    let _ = to().write_all(format!("[rank {rank}] {}\n", text.trim_end()).as_bytes());
                }
            }
            line.clear();
        }
    })
}

/// Has the kernel kill the child when this thread ends, in whatever way.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    // SAFETY: between fork and exec only two system calls are made.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have ended before the request was made.
            if u32::try_from(libc::getppid()).ok() != Some(parent) {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}
