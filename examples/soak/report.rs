//! The figures of a soak test.

use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that was counted, and every promise that was not kept.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub seed: u64,
    pub ranks: usize,
    pub seconds: f64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// What ranks were doing when they were killed, stopped or asked to end.
    pub struck_in: BTreeMap<String, u64>,
    pub restarts: u64,
    /// Restarts from an older checkpoint because the newest was damaged.
    pub fallbacks: u64,
    pub steps: u64,
    pub steps_recomputed: u64,
    pub snapshots: u64,
    /// Snapshots of steps of which there had been one, and how many of those have the same T in bits.
    pub snapshots_again: u64,
    pub snapshots_same: u64,
    /// Sessions whose rank 0 ended by itself: what it handed to the log, and what was read back.
    pub sessions_accounted: u64,
    pub records_accepted: u64,
    pub records_found: u64,
    /// Records of sessions whose rank 0 was killed.
    pub records_found_of_killed: u64,
    /// How fast the undisturbed run was.
    pub reference_seconds: f64,
    pub violations: Vec<String>,
}

impl Report {
    pub fn fault(&mut self, kind: impl std::fmt::Debug) {
        *self.faults.entry(format!("{kind:?}")).or_default() += 1;
    }

    pub fn violation(&mut self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("NOT KEPT: {text}");
        self.violations.push(text);
    }

    pub fn print(&self) {
        let line = |what: &str, figure: String| println!("{what:<44}{figure:>10}");
        println!("\nFaults");
        for (kind, count) in &self.faults {
            line(&format!("  {kind}"), count.to_string());
        }
        line("  in all", self.faults.values().sum::<u64>().to_string());
        println!("Ranks were struck in");
        for (phase, count) in &self.struck_in {
            line(&format!("  {phase}"), count.to_string());
        }
        line("Restarts", self.restarts.to_string());
        line("  from an older checkpoint", self.fallbacks.to_string());
        line("Steps", self.steps.to_string());
        line("  computed again", self.steps_recomputed.to_string());
        line("Records accepted, in sessions that ended", self.records_accepted.to_string());
        line("  found", self.records_found.to_string());
        line("Records found of killed sessions", self.records_found_of_killed.to_string());
        line("Snapshots that count at the end", self.snapshots.to_string());
        line("Snapshots taken again", self.snapshots_again.to_string());
        line("  with the same T, bit for bit", self.snapshots_same.to_string());
        line("Seconds", format!("{:.1}", self.seconds));
        line("  of the undisturbed run", format!("{:.1}", self.reference_seconds));
        match self.violations.len() {
            0 => println!(
                "\nLosses, parameters, moments and random states are those of the undisturbed run, bit for bit."
            ),
            _ => self.violations.iter().for_each(|text| println!("\nNOT KEPT: {text}")),
        }
    }
}
