//! Several ranks on one machine from one command: what `torchrun --standalone` does, without Python.

use crate::error::{Error, Result};
use crate::ranks::{Ranks, Transcript};
use crate::store::StoreServer;
use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

/// Whether this process was started as a rank, by torchrun or a [`Launcher`].
///
/// ```
/// use hessian_probe_c10d::is_launched;
///
/// // Only the process that was started by hand says hello.
/// if !is_launched() {
///     println!("starting the ranks");
/// }
/// # assert!(!is_launched());
/// ```
#[must_use]
pub fn is_launched() -> bool {
    std::env::var_os("RANK").is_some()
}

/// Where the output of ranks goes.
///
/// ```
/// use hessian_probe_c10d::{Launcher, Output};
/// use std::process::Command;
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo rank $RANK of $WORLD_SIZE"]);
/// let outcome = Launcher::new(2).command(command).output(Output::Captured).run()?;
/// assert_eq!(outcome.output(1), "rank 1 of 2\n");
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Rank 0 writes to this process's own streams, so that its progress bar works; each line of the
    /// others gets `[rank k]` in front.
    #[default]
    Prefixed,
    /// Every rank's lines get `[rank k]` in front.
    PrefixedAll,
    /// All ranks write to this process's own streams.
    Inherited,
    /// Nothing is shown; [`Outcome::output`] has it.
    Captured,
}

/// A handle by which another thread, or a signal handler, sends a signal to the ranks that a [`Launcher`] waits for:
/// the one that this process received itself, say, which it would otherwise be ended by.
///
/// ```
/// use hessian_probe_c10d::{Forward, Launcher};
/// use std::os::unix::process::ExitStatusExt;
/// use std::process::Command;
///
/// let mut command = Command::new("sleep");
/// command.arg("60");
/// let forward = Forward::default();
/// let handler = forward.clone();
/// // In a signal handler, as a rule.
/// std::thread::spawn(move || handler.send(15));
/// let outcome = Launcher::new(2).command(command).forward(&forward).run()?;
/// assert!(outcome.statuses().iter().all(|status| status.signal() == Some(15)));
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Forward(Arc<AtomicI32>);

impl Forward {
    /// Sends `signal` (its number) to all ranks within some milliseconds. A signal that has not been sent by then is
    /// replaced. Safe to call in a signal handler: it stores one atomic number.
    pub fn send(&self, signal: i32) {
        self.0.store(signal, Relaxed);
    }

    pub(crate) fn take(&self) -> Option<i32> {
        Some(self.0.swap(0, Relaxed)).filter(|&signal| signal != 0)
    }
}

/// Starts the ranks of one machine and waits for them.
///
/// ```no_run
/// use hessian_probe_c10d::{Launcher, ProcessGroup, is_launched};
/// use std::time::Duration;
///
/// if !is_launched() {
///     // This program again, twice, with the same arguments.
///     return Launcher::new(2).run()?.into_result();
/// }
/// let group = ProcessGroup::from_env(Duration::from_secs(60))?;
/// println!("rank {} of {}", group.rank(), group.world_size());
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Debug)]
pub struct Launcher {
    world_size: usize,
    command: Option<Command>,
    variables: Vec<(OsString, OsString)>,
    grace: Duration,
    output: Output,
    forward: Forward,
}

impl Launcher {
    /// A launcher of `world_size` ranks (at least one) of this program, with this process's arguments.
    #[must_use]
    pub fn new(world_size: usize) -> Self {
        Self {
            world_size: world_size.max(1),
            command: None,
            variables: Vec::new(),
            grace: Duration::from_secs(5),
            output: Output::default(),
            forward: Forward::default(),
        }
    }

    /// Starts `command` instead. Its streams are replaced, its environment is kept.
    ///
    /// ```
    /// use hessian_probe_c10d::Launcher;
    /// use std::process::Command;
    ///
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "test $RANK -lt $WORLD_SIZE"]);
    /// Launcher::new(2).command(command).run()?.into_result()?;
    /// # Ok::<(), hessian_probe_c10d::Error>(())
    /// ```
    #[must_use]
    pub fn command(mut self, command: Command) -> Self {
        self.command = Some(command);
        self
    }

    /// Sets an environment variable of all ranks, also one that the launcher would set itself.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// How long the other ranks may go on after one has failed (default 5 s): long enough for them to
    /// notice and to say in what they were interrupted. Then they are killed.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Where the output of ranks goes.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Sends the ranks what is given to `forward`.
    #[must_use]
    pub fn forward(mut self, forward: &Forward) -> Self {
        self.forward = forward.clone();
        self
    }

    /// Starts the ranks and returns when all have ended.
    ///
    /// They get `RANK`, `LOCAL_RANK`, `WORLD_SIZE`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT` and
    /// `TORCHELASTIC_USE_AGENT_STORE` (this process hosts the store); unless set already
    /// `OMP_NUM_THREADS` = cores ÷ ranks, so that ranks do not compete for cores, and
    /// `GLOO_SOCKET_IFNAME`, the loopback interface, so that the machine's name need not resolve.
    ///
    /// On Linux the ranks are killed when the calling thread ends for whatever reason, also by SIGKILL.
    ///
    /// # Errors
    /// Where the store or a rank cannot be started. A rank that *fails* is no error here: see
    /// [`Outcome`].
    pub fn run(mut self) -> Result<Outcome> {
        let store = StoreServer::host(0)?;
        let mut command = match self.command.take() {
            Some(command) => command,
            None => {
                let program = std::env::current_exe().map_err(|source| Error::Spawn {
                    rank: 0,
                    program: "the running program".into(),
                    source,
                })?;
                let mut command = Command::new(program);
                command.args(std::env::args_os().skip(1));
                command
            }
        };
        self.describe_group(&mut command, store.port());
        let mut ranks = Ranks::new(command, self.output);
        for rank in 0..self.world_size {
            ranks.start(rank)?;
        }
        let (first_failure, statuses) = ranks.wait(self.grace, &self.forward)?;
        Ok(Outcome { first_failure, statuses, transcript: ranks.finish() })
    }

    fn describe_group(&self, command: &mut Command, port: u16) {
        let world_size = self.world_size.to_string();
        command
            .env("WORLD_SIZE", &world_size)
            .env("LOCAL_WORLD_SIZE", &world_size)
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env("TORCHELASTIC_USE_AGENT_STORE", "True");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / self.world_size).max(1).to_string();
        let loopback = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
        for (key, value) in [("OMP_NUM_THREADS", threads.as_str()), ("GLOO_SOCKET_IFNAME", loopback)] {
            let set = std::env::var_os(key).is_some() || command.get_envs().any(|(name, _)| name == key);
            if !set {
                command.env(key, value);
            }
        }
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
    }
}

/// How the ranks ended.
///
/// ```
/// use hessian_probe_c10d::Launcher;
/// use std::process::Command;
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "exit $RANK"]);
/// let outcome = Launcher::new(2).command(command).run()?;
/// assert_eq!(outcome.first_failure().map(|(rank, status)| (rank, status.code())), Some((1, Some(1))));
/// assert!(outcome.statuses()[0].success());
/// assert!(outcome.into_result().is_err());
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Debug)]
pub struct Outcome {
    first_failure: Option<usize>,
    statuses: Vec<ExitStatus>,
    transcript: Transcript,
}

impl Outcome {
    /// Whether every rank ended with success.
    #[must_use]
    pub fn success(&self) -> bool {
        self.first_failure.is_none()
    }

    /// The rank that failed first, and how: most likely the cause, since the failures of other ranks
    /// follow from the loss of it.
    #[must_use]
    pub fn first_failure(&self) -> Option<(usize, ExitStatus)> {
        self.first_failure.and_then(|rank| Some((rank, *self.statuses.get(rank)?)))
    }

    /// How each rank ended; one that had to be killed has the status of that.
    #[must_use]
    pub fn statuses(&self) -> &[ExitStatus] {
        &self.statuses
    }

    /// What a rank wrote (both streams, by lines), with [`Output::Captured`]; else empty.
    #[must_use]
    pub fn output(&self, rank: usize) -> String {
        self.transcript.of(rank)
    }

    /// The first failure as an error.
    ///
    /// # Errors
    /// [`Error::RankFailed`] where a rank failed.
    pub fn into_result(self) -> Result<()> {
        match self.first_failure() {
            None => Ok(()),
            Some((rank, status)) => Err(Error::RankFailed { rank, status }),
        }
    }
}
