//! The study as tables of Markdown.

use super::record::{Block, Comparison, Study};
use crate::claim::{self, Claim};
use crate::number::{estimate, extreme, optional, percent, row, short};
use crate::page::Section;

/// The page's sections.
pub fn sections(study: &Study, claims: &[Claim]) -> Vec<Section> {
    vec![
        Section { name: "settings", markdown: settings(study) },
        Section { name: "claims", markdown: claim::list(claims) },
        Section { name: "spectra", markdown: spectra(study) },
        Section { name: "layers", markdown: compared(study, |text| &text.layers) },
        Section { name: "kinds", markdown: compared(study, |text| &text.kinds) },
        Section { name: "blocks by kind", markdown: kinds(study) },
        Section { name: "blocks by layer", markdown: layers(study) },
        Section { name: "training", markdown: training(study) },
    ]
}

fn settings(study: &Study) -> String {
    let parameters =
        |spectrum: Option<&super::record::Spectrum>| spectrum.map_or(0, |found| found.parameters);
    format!(
        "SmolLM2-135M: {} parameters in f32, on {} rank(s), one sequence of {} tokens, {} Lanczos steps for each probe vector; \
         the demo's model: {} parameters, sharded over 2 ranks.",
        parameters(study.texts.first().map(|text| &text.spectrum)),
        study.ranks,
        study.tokens,
        study.steps,
        parameters(study.training.first().map(|point| &point.spectrum))
    )
}

fn spectra(study: &Study) -> String {
    let mut table = String::from(
        "| text | loss | ‖g‖ | λ_max | λ_min | trace | ‖H‖_F |\n|---|---|---|---|---|---|---|\n",
    );
    for text in &study.texts {
        let found = &text.spectrum;
        table += &row(&[
            text.text.clone(),
            short(found.loss),
            short(found.gradient_norm),
            extreme(&found.lambda_max),
            extreme(&found.lambda_min),
            estimate(&found.trace),
            estimate(&found.frobenius_norm),
        ]);
    }
    table
}

const COMPARED: &str = "relative error | cosine | off-diagonal share of ‖H‖_F² | along g: relative error | along g: cosine | products |\n";

fn compared(study: &Study, which: impl Fn(&super::record::OnText) -> &Comparison) -> String {
    let mut table = format!("| text | {COMPARED}|---|---|---|---|---|---|---|\n");
    for text in &study.texts {
        table += &row(&[vec![text.text.clone()], comparison(which(text))].concat());
    }
    table
}

fn training(study: &Study) -> String {
    let mut table =
        format!("| step | loss | λ_max | λ_min | {COMPARED}|---|---|---|---|---|---|---|---|---|---|\n");
    for point in &study.training {
        let found = &point.spectrum;
        let first = vec![
            point.step.to_string(),
            short(found.loss),
            extreme(&found.lambda_max),
            extreme(&found.lambda_min),
        ];
        table += &row(&[first, comparison(&point.layers)].concat());
    }
    table
}

fn comparison(found: &Comparison) -> Vec<String> {
    vec![
        optional(found.relative_error.as_ref()),
        optional(found.cosine.as_ref()),
        optional(found.off_diagonal_share.as_ref()),
        optional(found.gradient_relative_error.as_ref()),
        optional(found.gradient_cosine.as_ref()),
        found.hvps.to_string(),
    ]
}

fn kinds(study: &Study) -> String {
    let mut table = String::from(
        "| text | block | parameters | trace | ‖·‖_F | share of ‖H‖_F² | λ_max | λ_min |\n|---|---|---|---|---|---|---|---|\n",
    );
    for text in &study.texts {
        for block in &text.kinds.blocks {
            let extremes = [block.lambda_max, block.lambda_min];
            let extremes = extremes.map(|value| value.as_ref().map_or_else(|| "–".into(), extreme));
            table += &row(&[vec![text.text.clone()], of_block(block), extremes.to_vec()].concat());
        }
    }
    table
}

/// Of the first text: thirty layers on five texts are more than anyone reads.
fn layers(study: &Study) -> String {
    let Some(text) = study.texts.first() else { return String::new() };
    let mut table = format!(
        "| block, on {} | parameters | trace | ‖·‖_F | share of ‖H‖_F² |\n|---|---|---|---|---|\n",
        text.text
    );
    for block in &text.layers.blocks {
        table += &row(&of_block(block));
    }
    table
}

fn of_block(block: &Block) -> Vec<String> {
    vec![
        block.name.clone(),
        block.parameters.to_string(),
        estimate(&block.trace),
        optional(block.frobenius_norm.as_ref()),
        block.share.map_or_else(|| "–".into(), |share| percent(share.mean)),
    ]
}
