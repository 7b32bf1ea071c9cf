//! Whether the training is, after all, what it would have been: the undisturbed run, and the comparison.

use crate::Result;
use crate::curve::Curve;
use crate::logs;
use crate::records::{Event, Orders};
use crate::report::Report;
use crate::session;
use crate::worker::PROBE_EVERY;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Trains as `orders` say in `directory`, but without probes, checkpoints and faults, and compares.
pub fn compare(
    report: &mut Report,
    orders: &Orders,
    directory: &Path,
    ranks: usize,
    limit: Duration,
) -> Result<()> {
    fs::create_dir_all(directory)?;
    let undisturbed = Orders { dir: directory.into(), probes: false, faults: false, ..orders.clone() };
    let started = Instant::now();
    let outcome = session::run(&undisturbed, ranks, None, limit)?;
    report.reference_seconds = started.elapsed().as_secs_f64();
    if outcome.hung || !outcome.statuses.iter().all(|status| status.success()) {
        report.violation(format!("the undisturbed run failed: {}", outcome.outputs.join("\n")));
        return Ok(());
    }
    let (mine, theirs) = (Curve::read(&orders.dir)?, Curve::read(directory)?);
    report.steps = mine.losses.len() as u64;
    report.steps_recomputed = mine.recomputed();
    if !mine.contradictions.is_empty() {
        report.violation(format!("steps {:?} had other losses again", mine.contradictions));
    }
    if mine.losses.len() != theirs.losses.len() {
        report.violation(format!("{} losses, {} undisturbed", mine.losses.len(), theirs.losses.len()));
    }
    if let Some(step) = mine.first_difference(&theirs, orders.steps) {
        report.violation(format!("the loss of step {step} is not that of the undisturbed run"));
    }
    let (mine, theirs) = (finals(&orders.dir)?, finals(directory)?);
    if mine.len() != ranks || mine != theirs {
        report.violation(format!(
            "final states (rank, parameters, moments, random state): {mine:x?}, undisturbed {theirs:x?}"
        ));
    }
    Ok(())
}

/// Reads the log as a whole, with all that happened to it, as a user does. Of every probe of the last session,
/// from step `last` on, there must be a snapshot.
pub fn read_log(report: &mut Report, orders: &Orders, last: u64) {
    let snapshots = match logs::snapshots(&orders.logs()) {
        Ok(snapshots) => snapshots,
        Err(error) => return report.violation(format!("the log cannot be read: {error}")),
    };
    report.snapshots = snapshots.len() as u64;
    let steps: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.step).collect();
    if !steps.is_sorted_by(|a, b| a < b) {
        report.violation(format!("snapshots that count are not in order: {steps:?}"));
    }
    let mut due = (last..orders.steps).filter(|step| step.is_multiple_of(PROBE_EVERY));
    if let Some(step) = due.find(|step| !steps.contains(step)) {
        report.violation(format!("the snapshot of step {step} is missing in the log"));
    }
}

/// Rank, parameters, moments and random state of each rank at the end.
fn finals(directory: &Path) -> Result<Vec<(usize, u64, u64, u64)>> {
    let state = |event| match event {
        Event::Final { rank, parameters, moments, random_state } => {
            Some((rank, parameters, moments, random_state))
        }
        _ => None,
    };
    let mut finals: Vec<_> = Event::read(directory)?.into_iter().filter_map(state).collect();
    finals.sort_unstable();
    Ok(finals)
}
