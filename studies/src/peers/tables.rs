//! The study as tables of Markdown.

use super::found::Outcome;
use super::record::{Figures, Peer, Study};
use crate::claim::{self, Claim};
use crate::number::{estimate, row, short};
use crate::page::Section;

/// The page's sections.
pub fn sections(study: &Study, claims: &[Claim]) -> Vec<Section> {
    let section = |name, markdown| Section { name, markdown };
    vec![
        section("claims", claim::list(claims)),
        section("settings", settings(study)),
        section("cost", cost(study)),
        section("results", results(study)),
        section("failures", failures(study)),
        section("packages", packages(study)),
    ]
}

/// What the README shows of it.
pub fn readme(study: &Study) -> Section {
    let mut table = String::from(
        "| | Hv ÷ gradient | working memory of Hv ÷ of a gradient | error of Hv | λ_max | trace |\n|---|---|---|---|---|---|\n",
    );
    for peer in study.compared() {
        let mut cells = vec![name(peer)];
        match &peer.outcome {
            Outcome::Measured(figures) => cells.extend([
                format!("{:.2}", figures.product_cost()),
                memory_ratio(figures),
                format!("{:.0e}", figures.error),
                short(figures.times.lambda_max),
                estimate(&figures.trace()),
            ]),
            Outcome::Failed(_) => {
                cells.extend(["cannot run", "–", "–", "–", "–"].map(str::to_owned));
            }
        }
        table += &row(&cells);
    }
    Section { name: "peers", markdown: table }
}

fn settings(study: &Study) -> String {
    let Study { model, parameters, sequences, tokens, threads, steps, vectors, .. } = study;
    let threads = if *threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    let mut text = format!(
        "{model}: {parameters} parameters, {sequences} sequences of {tokens} tokens; {threads}; {steps} Lanczos steps, {vectors} vectors"
    );
    if let Some(times) = study.peers.iter().find_map(Peer::figures).map(|figures| &figures.times) {
        text += &format!("; medians of {} rounds", times.product_seconds.len());
    }
    text + ".\n"
}

fn cost(study: &Study) -> String {
    let mut table = String::from(
        "| library | products | attention | gradient | Hv | Hv ÷ gradient | in a search for λ_max | memory: gradient | Hv | Hv ÷ gradient |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (peer, figures) in measured(study) {
        let (gradient, product) = figures.working_memory().map_or_else(
            || ("–".into(), "–".into()),
            |(gradient, product)| (megabytes(gradient), megabytes(product)),
        );
        table += &row(&[
            library(peer),
            peer.how.clone(),
            peer.attention.clone(),
            seconds(figures.gradient_seconds()),
            seconds(figures.product_seconds()),
            format!("{:.2}", figures.product_cost()),
            format!("{:.2}", figures.run_cost()),
            gradient,
            product,
            memory_ratio(figures),
        ]);
    }
    table
}

fn results(study: &Study) -> String {
    let mut table = String::from(
        "| library | products | loss | ‖g‖ | error of Hv | λ_max | products for it | trace |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (peer, figures) in measured(study) {
        let times = &figures.times;
        table += &row(&[
            library(peer),
            peer.how.clone(),
            format!("{:.6}", times.loss),
            format!("{:.6}", times.gradient_norm),
            if figures.error == 0.0 { "reference".into() } else { format!("{:.1e}", figures.error) },
            times.residual.map_or_else(
                || format!("{:.4}", times.lambda_max),
                |residual| format!("{:.4} ± {}", times.lambda_max, short(residual)),
            ),
            times.run_products.to_string(),
            estimate(&figures.trace()),
        ]);
    }
    table
}

fn failures(study: &Study) -> String {
    let mut list = String::new();
    for peer in &study.peers {
        match &peer.outcome {
            Outcome::Failed(reason) => list += &format!("- {}, {}: `{reason}`\n", library(peer), peer.how),
            Outcome::Measured(figures) => {
                for note in &figures.times.notes {
                    list += &format!("- {}: `{note}`\n", library(peer));
                }
            }
        }
    }
    list
}

fn packages(study: &Study) -> String {
    let names: Vec<String> = study.packages.iter().map(|package| format!("`{package}`")).collect();
    format!("{}.\n", names.join(", "))
}

fn measured(study: &Study) -> impl Iterator<Item = (&Peer, &Figures)> {
    study.peers.iter().filter_map(|peer| Some((peer, peer.figures()?)))
}

fn library(peer: &Peer) -> String {
    format!("{} {}", peer.library, peer.version)
}

fn name(peer: &Peer) -> String {
    let library = if peer.is_ours() { format!("**{}**", peer.library) } else { library(peer) };
    format!("{library}, {}", peer.how)
}

fn memory_ratio(figures: &Figures) -> String {
    figures
        .working_memory()
        .map_or_else(|| "–".into(), |(gradient, product)| format!("{:.2}", product / gradient))
}

fn seconds(value: f64) -> String {
    format!("{} s", short(value))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}
