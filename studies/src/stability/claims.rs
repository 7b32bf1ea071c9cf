//! What the page says.

use super::record::{Risen, Run, Study, quantile};
use crate::claim::Claim;
use crate::number::{percent, short};

/// How near to the threshold "at" it is.
const NEAR: f64 = 0.15;
/// What is clearly below it.
const BELOW: f64 = 0.85;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    let Study { descent, free, adam, driven, control } = study;
    vec![
        comes_from_below("Gradient descent on the digits: λ_max rises to 2/η.", descent),
        settles("Gradient descent on the digits: there it stays, while the loss falls on.", descent),
        by_the_edge(descent, free),
        comes_from_below("Adam on the text: λ_max of P^{-1/2}HP^{-1/2} rises to 38/η.", adam),
        settles("Adam on the text: there it stays, while the loss falls on.", adam),
        warned(driven),
        quiet(control),
        ratio_is_late(driven),
        quadratic(driven),
        between(descent, driven),
    ]
}

fn comes_from_below(statement: &str, runs: &[Run]) -> Claim {
    let all = runs.iter().map(|run| (run.learning_rate, run.lowest(), run.arrival()));
    let holds =
        runs.len() >= 3 && all.clone().all(|(_, lowest, arrival)| lowest < BELOW && arrival.is_some());
    let shown = all.map(|(rate, lowest, arrival)| {
        let arrival =
            arrival.map_or_else(|| "never there".into(), |step| format!("above 1 after step {step}"));
        format!("η = {rate}: margin {} at its lowest, {arrival}", short(lowest))
    });
    Claim::new(holds, statement, shown.collect::<Vec<_>>().join("; "))
}

fn settles(statement: &str, runs: &[Run]) -> Claim {
    let all = runs.iter().map(|run| {
        let start = run.steps as f64 * 2.0 / 3.0;
        let before = run.tracked.iter().rfind(|tracked| (tracked.step as f64) < start);
        let losses = [before, run.tracked.last()].map(|tracked| tracked.map_or(f64::NAN, |it| it.loss));
        (run.learning_rate, quantile(&run.settled(), 0.5), losses)
    });
    let near = |median: f64| (median - 1.0).abs() <= NEAR;
    let holds =
        runs.len() >= 3 && all.clone().all(|(_, median, [before, after])| near(median) && after < before);
    let shown = all.map(|(rate, median, [before, after])| {
        format!("η = {rate}: {}, loss {} to {}", short(median), short(before), short(after))
    });
    let shown = shown.collect::<Vec<_>>().join("; ");
    Claim::new(holds, statement, format!("median of the margin over the last third of the run: {shown}"))
}

/// That it is the learning rate which holds λ_max where it is.
fn by_the_edge(runs: &[Run], free: &Run) -> Claim {
    let last = free.tracked.last().map_or(f64::NAN, |tracked| tracked.lambda_max);
    let highest = runs.iter().map(|run| run.threshold).fold(f64::NEG_INFINITY, f64::max);
    Claim::new(
        free.arrival().is_none() && last > (1.0 + NEAR) * highest,
        "It is the learning rate that holds it there: at a lower one λ_max rises past all of these thresholds.",
        format!(
            "η = {}: λ_max {} at the end; those thresholds are {} at most",
            free.learning_rate,
            short(last),
            short(highest)
        ),
    )
}

fn warned(runs: &[Risen]) -> Claim {
    let warnings: Vec<Option<i64>> = runs.iter().map(Risen::warning).collect();
    let alarmed = runs.iter().all(|run| run.loss_alarm.is_some());
    let shown = warnings.iter().map(|steps| steps.map_or_else(|| "none".into(), |steps| steps.to_string()));
    Claim::new(
        runs.len() >= 3 && alarmed && warnings.iter().all(|steps| steps.is_some_and(|steps| steps > 0)),
        "A learning rate that rises over the edge: the margin's alarm comes before the loss rises, from every initialisation.",
        format!("steps of warning: {}", shown.collect::<Vec<_>>().join(", ")),
    )
}

fn quiet(runs: &[Risen]) -> Claim {
    let alarms = runs.iter().filter(|run| run.margin_alarm.is_some() || run.loss_alarm.is_some()).count();
    let largest = runs.iter().map(|run| run.largest_margin).fold(f64::NEG_INFINITY, f64::max);
    Claim::new(
        runs.len() >= 3 && alarms == 0,
        "A learning rate that rises as long and stays below the edge raises no alarm.",
        format!("{alarms} alarms in {} runs, margin {} at most", runs.len(), short(largest)),
    )
}

/// The other cheap number warns, too, but when the oscillation is there already.
fn ratio_is_late(runs: &[Risen]) -> Claim {
    let after = |run: &Risen| Some(run.ratio_above?.cast_signed() - run.margin_alarm?.cast_signed());
    let steps: Vec<Option<i64>> = runs.iter().map(after).collect();
    let shown = steps.iter().map(|steps| steps.map_or_else(|| "never".into(), |steps| steps.to_string()));
    Claim::new(
        runs.len() >= 3 && steps.iter().all(|steps| steps.is_some_and(|steps| steps > 0)),
        "There the step's share of the critical one exceeds 1 after the margin does.",
        format!("so many steps later: {}", shown.collect::<Vec<_>>().join(", ")),
    )
}

/// The model of the loss holds: it is not beyond its range that the step is unstable.
fn quadratic(runs: &[Risen]) -> Claim {
    let before = |run: &Risen, step: u64| run.rise_seen.is_some_and(|seen| step < seen);
    let changes = runs.iter().flat_map(|run| run.changes.iter().filter(|change| before(run, change.step)));
    let mut errors: Vec<f64> =
        changes.map(|change| (change.predicted / change.measured - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    let worst = errors.last().copied().unwrap_or(f64::NAN);
    Claim::new(
        errors.len() > 50 && worst < 0.1,
        "Until the loss rises, the quadratic model says what each step does to it.",
        format!(
            "{} steps, off by {} at worst, {} in the median",
            errors.len(),
            percent(worst),
            percent(quantile(&errors, 0.5))
        ),
    )
}

/// A limit that leaves alone what has settled.
fn between(settled: &[Run], driven: &[Risen]) -> Claim {
    const LIMIT: f64 = 1.2;
    let margins: Vec<f64> = settled.iter().flat_map(Run::settled).collect();
    let above = margins.iter().filter(|margin| **margin > LIMIT).count();
    let warnings: Vec<Option<i64>> = driven.iter().map(|run| run.warning_of(LIMIT)).collect();
    let shown = warnings.iter().map(|steps| steps.map_or_else(|| "none".into(), |steps| steps.to_string()));
    Claim::new(
        !margins.is_empty()
            && above == 0
            && warnings.iter().all(|steps| steps.is_some_and(|steps| steps > 0)),
        format!(
            "A limit of {LIMIT} leaves gradient descent that has settled at the edge alone, and warns in time of a rate that is too high."
        ),
        format!(
            "{above} of {} settled margins above it; steps of warning: {}",
            margins.len(),
            shown.collect::<Vec<_>>().join(", ")
        ),
    )
}
