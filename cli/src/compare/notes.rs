//! What is not comparable, and what else differs.

use super::quantity::{both_blocks, same_operator};
use crate::number::{NONE, Short};
use crate::run::Run;
use hessian_probe::{ProbeConfig, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;

/// Predicted errors of products that differ by more are of another precision or formula.
const PRECISION: f64 = 10.0;

/// One line each.
pub fn notes((run_a, a): (&Run, &Snapshot), (run_b, b): (&Run, &Snapshot)) -> Vec<String> {
    let mut notes = Vec::new();
    if !same_operator(a, b) {
        notes.push(format!(
            "not comparable: A's spectrum is of {}, B's of {}; nothing of the spectra is compared",
            a.operator.name(),
            b.operator.name()
        ));
    }
    if a.parameters != b.parameters {
        notes.push(format!(
            "not comparable: {} and {} parameters; trace, norms and ranks grow with their number",
            a.parameters, b.parameters
        ));
    }
    notes.extend(data(a, b));
    if a.seed == b.seed && a.parameters == b.parameters {
        notes.push(format!(
            "both saw the same random vectors (seed {}): their errors are not independent, and the combined one is, as a \
             rule, too large",
            a.seed
        ));
    } else if a.seed != b.seed {
        notes.push(format!("other random vectors: seeds {} and {}", a.seed, b.seed));
    }
    let steps = |s: &Snapshot| s.probes.iter().map(|probe| probe.alpha.len()).max().unwrap_or(0);
    if steps(a) != steps(b) {
        notes.push(format!(
            "{} and {} Lanczos steps: the extremes of the shorter runs are less converged, as their residuals say",
            steps(a),
            steps(b)
        ));
    }
    let [of_a, of_b] = [a, b].map(|s| s.hvp.predicted_error_median);
    if of_a.max(of_b) > PRECISION * of_a.min(of_b) {
        notes.push(format!(
            "products of other precision: predicted errors of {} and {} in the median; shares, unresolved mass and the bulk \
             follow from it",
            Short(of_a),
            Short(of_b)
        ));
    }
    notes.extend(blocks(a, b));
    notes.extend(settings((run_a, a), (run_b, b)));
    notes
}

/// Whether the probe losses are of the same data, as far as that can be seen.
fn data(a: &Snapshot, b: &Snapshot) -> Option<String> {
    if let (Some(of_a), Some(of_b)) = (a.tokens, b.tokens)
        && of_a != of_b
    {
        return Some(format!(
            "other data: the losses are means over {of_a} and {of_b} targets; every difference contains that of the data"
        ));
    }
    let same = a.parameters == b.parameters && a.parameter_norm == b.parameter_norm;
    let other = (a.loss - b.loss).abs() > 1e-3 * a.loss.abs().max(b.loss.abs());
    (same && other)
        .then(|| "other data or precision: the parameters' norms are the same, the losses are not".into())
}

fn blocks(a: &Snapshot, b: &Snapshot) -> Option<String> {
    match both_blocks(a, b) {
        [Some(of_a), Some(of_b)] => {
            let names = |found: &hessian_probe::blocks::BlockDiagonal| -> Vec<String> {
                found.blocks.iter().map(|block| block.name.clone()).collect()
            };
            let (of_a, of_b) = (names(of_a), names(of_b));
            let alone =
                |of: &[String], other: &[String]| of.iter().filter(|name| !other.contains(name)).count();
            let (of_a, of_b) = (alone(&of_a, &of_b), alone(&of_b, &of_a));
            (of_a + of_b > 0).then(|| format!("{of_a} block(s) of A and {of_b} of B have no counterpart"))
        }
        [None, None] => None,
        [of_a, _] => Some(format!("only {} has blocks", if of_a.is_some() { "A" } else { "B" })),
    }
}

/// What the configurations of two logs say otherwise, but for where and when they log.
fn settings((run_a, a): (&Run, &Snapshot), (run_b, b): (&Run, &Snapshot)) -> Option<String> {
    let (of_a, of_b) = (configuration(run_a, a.step)?, configuration(run_b, b.step)?);
    let keys = of_a.keys().chain(of_b.keys()).collect::<std::collections::BTreeSet<_>>();
    let told =
        |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_else(|| NONE.into());
    let differ: Vec<String> = keys
        .into_iter()
        .filter(|key| !["log.", "schedule.", "resume."].iter().any(|head| key.starts_with(head)))
        .filter(|key| of_a.get(*key) != of_b.get(*key))
        .map(|key| format!("{key} {} / {}", told(&of_a, key), told(&of_b, key)))
        .collect();
    (!differ.is_empty()).then(|| format!("other settings: {}", differ.join("; ")))
}

/// Of the session that logged a step, key by key.
fn configuration(run: &Run, step: u64) -> Option<BTreeMap<String, String>> {
    let session = run.sessions.iter().rev().find(|session| session.start_step <= step)?;
    let config = ProbeConfig::from_toml_str(&session.config).ok()?;
    let mut all = BTreeMap::new();
    flatten("", &serde_json::to_value(config).ok()?, &mut all);
    Some(all)
}

fn flatten(head: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if head.is_empty() { key.clone() } else { format!("{head}.{key}") };
                flatten(&key, value, all);
            }
        }
        value => drop(all.insert(head.into(), value.to_string())),
    }
}
