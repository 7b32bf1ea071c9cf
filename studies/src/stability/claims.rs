//! What the page says.

use super::record::{Risen, Run, Study, quantile};
use crate::claim::Claim;
use crate::number::short;

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
    let largest = free.tracked.iter().map(|tracked| tracked.lambda_max).fold(f64::NEG_INFINITY, f64::max);
    let highest = runs.iter().map(|run| run.threshold).fold(f64::NEG_INFINITY, f64::max);
    Claim::new(
        free.arrival().is_none() && largest > (1.0 + NEAR) * highest,
        "It is the learning rate that holds it there: at a lower one λ_max rises past all of these thresholds.",
        format!(
            "η = {}: λ_max up to {}; the thresholds are {} at most",
            free.learning_rate,
            short(largest),
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
