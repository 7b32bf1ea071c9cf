//! The study as tables of Markdown.

use super::record::{Alarmed, Run, Study, quantile};
use crate::claim::{self, Claim};
use crate::number::{row, short};
use crate::page::Section;

/// The page's sections.
pub fn sections(study: &Study, claims: &[Claim]) -> Vec<Section> {
    let section = |name, markdown| Section { name, markdown };
    vec![
        section("claims", claim::list(claims)),
        section("descent", runs(&study.descent)),
        section("adam", runs(&study.adam)),
        section("driven", alarms(&study.driven) + &alarms(&study.control)),
    ]
}

fn runs(runs: &[Run]) -> String {
    let mut table = String::from("| η | threshold | start | median | 5 % | 95 % | end | loss |\n|---|---|---|---|---|---|---|---|\n");
    for run in runs {
        let settled = run.settled();
        let losses = [run.tracked.first(), run.tracked.last()].map(|tracked| tracked.map_or(f64::NAN, |it| it.loss));
        table += &row(&[
            run.learning_rate.to_string(),
            short(run.threshold),
            short(run.start()),
            short(quantile(&settled, 0.5)),
            short(quantile(&settled, 0.05)),
            short(quantile(&settled, 0.95)),
            short(run.end()),
            format!("{} to {}", short(losses[0]), short(losses[1])),
        ]);
    }
    table
}

fn alarms(runs: &[Alarmed]) -> String {
    let mut table = String::from("| seed | 1.0 | 1.2 | 1.5 | rise | loss alarm |\n|---|---|---|---|---|---|\n");
    let step = |step: Option<u64>| step.map_or_else(|| "–".into(), |step| step.to_string());
    for alarmed in runs {
        table += &row(&[
            alarmed.run.seed.to_string(),
            step(alarmed.run.above(1.0)),
            step(alarmed.run.above(1.2)),
            step(alarmed.run.above(1.5)),
            step(alarmed.run.rise()),
            step(alarmed.loss_alarms.first().copied()),
        ]);
    }
    table
}
