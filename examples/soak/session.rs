//! The processes of one session: started, disturbed as planned, and waited for, but not for ever.

use crate::Result;
use crate::faults::{Ending, Planned};
use crate::records::{Orders, Phase, Presence};
use crate::signals::send;
use crate::worker::PATIENCE;
use hessian_probe_c10d::{self as c10d, Launcher, Output};
use std::process::{Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// After the first rank has ended the others must end by themselves, within this.
const GRACE: Duration = Duration::from_secs(20);
/// Between two looks at the ranks.
const POLL: Duration = Duration::from_millis(1);
/// Ranks must begin to train within this.
const BEGINNING: Duration = Duration::from_secs(60);
/// A disturbed session must end within this after the fault.
const AFTERMATH: Duration = Duration::from_secs(45);

/// How a session went.
#[derive(Debug)]
pub struct Outcome {
    pub statuses: Vec<ExitStatus>,
    /// What each rank wrote to its streams.
    pub outputs: Vec<String>,
    /// What the rank was doing when it was struck, if it was.
    pub struck_in: Option<Phase>,
    /// It had to be ended by force.
    pub hung: bool,
}

/// A running session.
struct Running<'o> {
    orders: &'o Orders,
    ranks: usize,
    /// The thread that has the ranks for children.
    launch: JoinHandle<Result<c10d::Outcome, c10d::Error>>,
    struck_in: Option<Phase>,
    hung: bool,
}

/// Runs a session, which is to end by itself before `limit` or, where a fault is planned, by that.
pub fn run(orders: &Orders, ranks: usize, planned: Option<&Planned>, limit: Duration) -> Result<Outcome> {
    Presence::clear(&orders.dir, ranks);
    let mut command = Command::new(std::env::current_exe()?);
    command.env(Orders::VARIABLE, serde_json::to_string(orders)?).env("OMP_NUM_THREADS", "1");
    // The launcher's thread is the one with which its ranks end.
    let launch = thread::spawn(move || {
        Launcher::new(ranks).command(command).grace(GRACE).output(Output::Captured).run()
    });
    let mut running = Running { orders, ranks, launch, struck_in: None, hung: false };
    match planned {
        Some(planned) => running.disturb(planned),
        None => {
            running.wait(limit, |_| false);
        }
    }
    running.finish()
}

impl Running<'_> {
    fn process(&self, rank: usize) -> Option<i32> {
        Presence::read(&self.orders.dir, rank).map(|(process, _)| process)
    }

    fn phase(&self, rank: usize) -> Option<Phase> {
        Presence::read(&self.orders.dir, rank).map(|(_, phase)| phase)
    }

    fn signal(&self, rank: usize, signal: libc::c_int) {
        if let Some(process) = self.process(rank).filter(|_| !self.launch.is_finished()) {
            send(process, signal);
        }
    }

    fn signal_all(&self, signal: libc::c_int) {
        (0..self.ranks).for_each(|rank| self.signal(rank, signal));
    }

    /// Waits until `done`, or the session's end; `false` after `limit`.
    fn wait(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while !self.launch.is_finished() && !done(self) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    fn disturb(&mut self, planned: &Planned) {
        let Planned { ending, rank, .. } = *planned;
        let ready = |running: &Self, ready: &dyn Fn(Phase) -> bool| {
            (0..running.ranks).all(|rank| running.phase(rank).is_some_and(ready))
        };
        let begun = if ending == Ending::KillAtStart {
            self.wait(BEGINNING, |running| ready(running, &|_| true))
        } else {
            self.wait(BEGINNING, |running| ready(running, &Phase::trains))
        };
        let mut aimed = begun;
        if begun {
            self.pause(planned.after);
            if let Some(aim) = ending.aim() {
                aimed = self.wait(BEGINNING, |running| running.phase(rank) == Some(aim));
                thread::sleep(planned.into);
            }
        }
        self.hung = !aimed;
        self.struck_in = self.phase(rank);
        match ending {
            _ if self.hung => {}
            Ending::Kill | Ending::KillAtStart | Ending::KillInProbe | Ending::KillInSave => {
                self.signal(rank, libc::SIGKILL);
            }
            Ending::KillAll => self.signal_all(libc::SIGKILL),
            Ending::Terminate => self.signal(rank, libc::SIGTERM),
            Ending::TerminateAll => self.signal_all(libc::SIGTERM),
            Ending::Stall | Ending::Vanish => {
                // The others must have noticed by the end of it.
                self.hold(rank, PATIENCE + Duration::from_secs(2));
                self.signal(rank, if ending == Ending::Stall { libc::SIGCONT } else { libc::SIGKILL });
            }
        }
        // The phase may have changed between the look and the signal.
        if matches!(ending, Ending::Kill | Ending::KillInProbe | Ending::KillInSave) {
            thread::sleep(POLL);
            self.struck_in = self.phase(rank);
        }
    }

    /// Keeps a rank stopped. Again and again, for a shell that ends wakes what is stopped in its group.
    fn hold(&mut self, rank: usize, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.launch.is_finished() {
            self.signal(rank, libc::SIGSTOP);
            self.pause(Duration::from_millis(50));
        }
    }

    fn pause(&mut self, time: Duration) {
        self.wait(time, |_| false);
    }

    fn finish(mut self) -> Result<Outcome> {
        let ended = self.wait(AFTERMATH, |_| false);
        if !ended || (self.hung && !self.launch.is_finished()) {
            self.hung = true;
            self.signal_all(libc::SIGKILL);
            // A rank that has not even announced itself ends when this process does.
            if !self.wait(GRACE + Duration::from_secs(5), |_| false) {
                return Err("ranks hang and cannot be ended".into());
            }
        }
        let launched = self.launch.join().map_err(|_| "the launcher panicked")??;
        Ok(Outcome {
            statuses: launched.statuses().to_vec(),
            outputs: (0..self.ranks).map(|rank| launched.output(rank)).collect(),
            struck_in: self.struck_in,
            hung: self.hung,
        })
    }
}
