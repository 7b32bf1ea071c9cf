//! Several models, or numbers of ranks, side by side.

use super::answer::{Answer, Answers};
use super::show::{name, steps};
use crate::number::{NONE, count, percent, seconds, volume};
use crate::table::Table;

/// One row for each.
pub fn table(answers: &Answers) -> Table {
    let mut table = Table::default();
    let heads = [
        "ranks",
        "a gradient",
        "a probe",
        "of it gradients",
        "memory",
        "keeping",
        "its memory",
        "its probe",
        "every",
    ];
    table.row("model", heads.map(str::to_owned));
    for answer in &answers.answers {
        table.row(&answer.model, row(answer));
    }
    table
}

fn row(answer: &Answer) -> [String; 9] {
    let plan = &answer.plan;
    let way = plan.recommended();
    let none = || NONE.to_owned();
    [
        count(answer.ranks),
        seconds(answer.gradient_seconds),
        seconds(plan.mean_seconds),
        percent(plan.gradient_share()),
        volume(plan.memory.on_device() as f64),
        way.map_or_else(|| "nothing fits".into(), |way| name(way.reorthogonalize, way.basis)),
        way.map_or_else(none, |way| volume(way.memory.on_device() as f64)),
        way.map_or_else(none, |way| seconds(way.mean_seconds)),
        // Where nothing fits there is no probe to come every so often.
        plan.every.filter(|_| way.is_some()).map_or_else(none, steps),
    ]
}
