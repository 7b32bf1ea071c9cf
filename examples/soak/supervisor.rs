//! Session after session until the time is up, then one without faults to the end, and what must
//! hold after each.

use crate::Result;
use crate::again::Earlier;
use crate::curve::Curve;
use crate::damage::{entries, inflict, whole_checkpoints};
use crate::faults::{Damage, Ending, FullDisk, Plan, Planned};
use crate::logs::{Added, Ledger};
use crate::records::{Event, Orders, Phase};
use crate::report::Report;
use crate::session::{self, Outcome};
use crate::verdict;
use crate::worker::CHECKPOINT_EVERY;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The share of the time in which there are faults.
const DISTURBED: f64 = 0.6;
/// Steps of the session that ends the training: some checkpoints and some probes.
const LAST_STEPS: u64 = 4 * CHECKPOINT_EVERY;
/// For what takes longer than planned.
const ALLOWANCE: Duration = Duration::from_secs(60);
/// More steps than there is time for.
const ENDLESS: u64 = 1_000_000_000;

/// Runs it all. What goes wrong in the training is in the report; an error is that of the test itself.
pub fn run(directory: &Path, time: Duration, seed: u64, ranks: usize) -> Result<Report> {
    let started = Instant::now();
    fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    let (run, reference) = (directory.join("run"), directory.join("reference"));
    for earlier in [&run, &reference] {
        if earlier.exists() {
            fs::remove_dir_all(earlier)?;
        }
    }
    let mut supervisor = Supervisor::new(&run, seed, ranks)?;
    println!("Seed {seed}, {ranks} ranks, {:.1} minutes", time.as_secs_f64() / 60.0);
    while started.elapsed() < time.mul_f64(DISTURBED) && supervisor.report.violations.is_empty() {
        supervisor.disturbed_session()?;
    }
    if supervisor.report.violations.is_empty() {
        supervisor.last_session(time)?;
    }
    if supervisor.report.violations.is_empty() {
        let Supervisor { report, orders, .. } = &mut supervisor;
        verdict::read_log(report, orders, orders.steps - LAST_STEPS);
        verdict::compare(report, orders, &reference, ranks, time + ALLOWANCE)?;
    }
    supervisor.report.seconds = started.elapsed().as_secs_f64();
    Ok(supervisor.report)
}

struct Supervisor {
    orders: Orders,
    ranks: usize,
    plan: Plan,
    ledger: Ledger,
    report: Report,
    earlier: Earlier,
    /// What was done to files since the last session.
    damage: Option<Damage>,
}

impl Supervisor {
    fn new(directory: &Path, seed: u64, ranks: usize) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let orders =
            Orders { dir: directory.into(), session: 0, seed, steps: ENDLESS, probes: true, faults: true };
        Ok(Self {
            ledger: Ledger::new(orders.logs()),
            orders,
            ranks,
            plan: Plan::new(seed, ranks),
            report: Report { seed, ranks, ..Report::default() },
            earlier: Earlier::default(),
            damage: None,
        })
    }

    /// A session that a fault ends, and what happens to files after it.
    fn disturbed_session(&mut self) -> Result<()> {
        let planned = self.plan.session();
        let outcome = self.session(Some(&planned), Duration::ZERO)?;
        self.report.fault(planned.ending);
        if let Some(phase) = outcome.struck_in {
            *self.report.struck_in.entry(format!("{phase:?}")).or_default() += 1;
        }
        self.ended_as_planned(&planned, &outcome)?;
        self.report.restarts += 1;
        self.orders.session += 1;

        self.damage = None;
        if let Some(damage) = self.plan.damage() {
            self.inflict(damage)?;
        }
        Ok(())
    }

    /// Damages files, or leaves it for later. Damage to the newest checkpoint is noticed, and to no other.
    fn inflict(&mut self, damage: Damage) -> Result<()> {
        let before = whole_checkpoints(&self.orders.checkpoints())?;
        if !inflict(damage, &self.orders, self.plan.random())? {
            self.plan.postpone(damage);
            return Ok(());
        }
        self.report.fault(damage);
        self.damage = Some(damage);
        self.ledger.accept()?;
        let whole = &before[usize::from(damage.is_to_checkpoint())..];
        let after = whole_checkpoints(&self.orders.checkpoints())?;
        if after != whole {
            self.report.violation(format!("{damage:?}: {after:?} are called whole instead of {whole:?}"));
        }
        Ok(())
    }

    /// A session without faults, in which the training ends.
    fn last_session(&mut self, time: Duration) -> Result<()> {
        let reached = Curve::read(&self.orders.dir)?.steps();
        self.orders.steps = reached + LAST_STEPS;
        self.orders.faults = false;
        let outcome = self.session(None, time + ALLOWANCE)?;
        if !outcome.statuses.iter().all(|status| status.success()) {
            self.failed("the last session, which nothing disturbed, failed", &outcome);
            return Ok(());
        }
        let newest = whole_checkpoints(&self.orders.checkpoints())?.first().map(|(step, _)| *step);
        if newest != Some(self.orders.steps) {
            self.report.violation(format!("the newest checkpoint at the end is of step {newest:?}"));
        }
        for path in entries(&self.orders.checkpoints())? {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                self.report.violation(format!("{} is left over", path.display()));
            }
        }
        Ok(())
    }

    /// Runs one session and checks what must hold however it ends.
    fn session(&mut self, planned: Option<&Planned>, limit: Duration) -> Result<Outcome> {
        let whole = whole_checkpoints(&self.orders.checkpoints())?;
        let outcome = session::run(&self.orders, self.ranks, planned, limit)?;
        let number = self.orders.session;
        let events = Event::read(&self.orders.dir)?;
        let (mut ended, mut resumed, mut full_disks) = (None, None, 0);
        for event in &events {
            match event {
                Event::Resumed { session, step } if *session == number => resumed = Some(*step),
                Event::Ended { session, .. } if *session == number => ended = Some(event),
                Event::Gradient { session, kind, .. } if *session == number => self.report.fault(kind),
                Event::FullDisk { session, .. } if *session == number => {
                    full_disks += 1;
                    self.report.fault(FullDisk);
                }
                _ => {}
            }
        }
        println!(
            "session {number:>3}: from step {}, {}{}",
            resumed.map_or("?".into(), |step| step.to_string()),
            planned.map_or("undisturbed".into(), |it| format!("{:?} of rank {}", it.ending, it.rank)),
            outcome.struck_in.map_or(String::new(), |phase| format!(" in {phase:?}")),
        );
        if outcome.hung {
            self.failed("a session hung", &outcome);
            return Ok(outcome);
        }
        if let Some(resumed) = resumed {
            let expected = whole.first().map_or(0, |(step, _)| *step);
            if resumed != expected {
                self.failed(&format!("resumed from step {resumed}, not from {expected}"), &outcome);
            }
            self.report.fallbacks += u64::from(self.damage.is_some_and(Damage::is_to_checkpoint));
        }
        if let Some(Event::Ended { failed_checkpoints: Some(failed), .. }) = ended
            && *failed != full_disks
        {
            let text = format!("{failed} checkpoints failed, the disk was full at {full_disks}");
            self.failed(&text, &outcome);
        }
        if let Some(Event::Ended { snapshots, .. }) = ended {
            let wrong = events.iter().find(|event| {
                matches!(event, Event::Gradient { session, step, .. } if *session == number && snapshots.contains(step))
            });
            if let Some(wrong) = wrong {
                self.failed(&format!("there is a snapshot in spite of {wrong:?}"), &outcome);
            }
        }
        match self.ledger.added() {
            Ok(added) => self.account(&added, &events, ended, &outcome),
            Err(error) => self.failed(&error.to_string(), &outcome),
        }
        Ok(outcome)
    }

    /// Every record that rank 0 handed to the log is there, where it ended by itself.
    fn account(&mut self, added: &Added, events: &[Event], ended: Option<&Event>, outcome: &Outcome) {
        let number = self.orders.session;
        for snapshot in &added.snapshots {
            let learned = events.iter().find_map(|event| match event {
                Event::Probe { session, step, learned } if (*session, *step) == (number, snapshot.step) => {
                    Some(*learned)
                }
                _ => None,
            });
            let Some(learned) = learned else {
                self.failed(&format!("no probe of step {} was begun", snapshot.step), outcome);
                continue;
            };
            match self.earlier.compare(snapshot, learned) {
                Ok(same) => {
                    self.report.snapshots_again += u64::from(same.is_some());
                    self.report.snapshots_same += u64::from(same == Some(true));
                }
                Err(text) => self.failed(&text, outcome),
            }
        }
        let Some(Event::Ended { records: accepted, snapshots, .. }) = ended else {
            self.report.records_found_of_killed += added.records;
            return;
        };
        self.report.sessions_accounted += 1;
        let accepted = *accepted;
        self.report.records_accepted += accepted;
        self.report.records_found += added.records;
        let steps = added.steps();
        if added.records != accepted || added.torn || steps != *snapshots {
            let (found, torn) = (added.records, added.torn);
            let text = format!(
                "{accepted} records accepted, {found} found; snapshots {snapshots:?} and {steps:?}; torn: {torn}"
            );
            self.failed(&text, outcome);
        }
        // The version of the format, and two for the record of the session.
        let expected = if accepted == 0 { 1 } else { accepted + 2 };
        if !added.frames_whole || added.frames != expected {
            let text =
                format!("event file: {} frames, not {expected}; whole: {}", added.frames, added.frames_whole);
            self.failed(&text, outcome);
        }
    }

    fn ended_as_planned(&mut self, planned: &Planned, outcome: &Outcome) -> Result<()> {
        let Planned { ending, rank, .. } = *planned;
        if outcome.hung {
            return Ok(());
        }
        if ending.terminates() {
            if !outcome.statuses.iter().all(|status| status.success()) {
                self.failed("a session that was asked to end failed", outcome);
                return Ok(());
            }
            return self.saved_at_the_end(outcome);
        }
        // Those that were not struck end by themselves, with an error; before the group is formed they may
        // wait longer for the others than is waited for them.
        let early = matches!(outcome.struck_in, None | Some(Phase::Start));
        for (index, status) in outcome.statuses.iter().enumerate() {
            let killed = status.signal() == Some(libc::SIGKILL);
            let failed = status.code().is_some_and(|code| code != 0);
            let expected = match ending {
                Ending::KillAll => killed,
                Ending::Stall => failed,
                _ if index == rank => killed,
                _ => failed || early && killed,
            };
            if !expected {
                self.failed(&format!("rank {index} ended with {status} after {ending:?} of {rank}"), outcome);
            }
        }
        Ok(())
    }

    /// After SIGTERM there is a checkpoint of the step that the session had come to.
    fn saved_at_the_end(&mut self, outcome: &Outcome) -> Result<()> {
        let number = self.orders.session;
        let events = Event::read(&self.orders.dir)?;
        let reached = events.iter().find_map(|event| match event {
            Event::Ended { session, step, stopped: true, .. } if *session == number => Some(*step),
            _ => None,
        });
        let full = events.iter().any(|event| {
            matches!(event, Event::FullDisk { session, step } if *session == number && Some(step + 1) == reached)
        });
        let newest = whole_checkpoints(&self.orders.checkpoints())?.first().map(|(step, _)| *step);
        if !full && (reached.is_none() || newest != reached) {
            self.failed(&format!("asked to end it reached {reached:?} and saved {newest:?}"), outcome);
        }
        Ok(())
    }

    /// Something went wrong in a session: what ranks had to say is kept.
    fn failed(&mut self, text: &str, outcome: &Outcome) {
        let number = self.orders.session;
        for (rank, output) in outcome.outputs.iter().enumerate() {
            let path = self.orders.dir.join(format!("session-{number}-rank-{rank}.txt"));
            if let Err(error) = fs::write(&path, output) {
                eprintln!("{}: {error}", path.display());
            }
        }
        let seen = self.orders.dir.display();
        self.report
            .violation(format!("session {number}: {text}; output of its ranks: {seen}/session-{number}-*"));
    }
}
