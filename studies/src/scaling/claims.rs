//! What the page says.

use super::case::LARGEST;
use super::law::{Compared, Law};
use super::record::Study;
use crate::claim::Claim;
use crate::number::{percent, short};

/// How far a point that was held out may be off.
const TIME: f64 = 0.15;
const MEMORY: f64 = 0.10;
/// Bytes that a probe has to take, so that the pages and the allocator of a process are no tenth of them.
const LARGE: f64 = 2e7;

/// All claims.
pub fn of(study: &Study, law: &Law) -> Vec<Claim> {
    vec![foretold(law), remembered(law), linear(law), mostly_gradients(law), largest(study)]
}

/// The promise of `hessian-probe plan`.
fn foretold(law: &Law) -> Claim {
    let residuals: Vec<f64> = law.held_out().map(|compared| compared.residual).collect();
    let worst = law.held_out().max_by(|a, b| a.residual.abs().total_cmp(&b.residual.abs()));
    let late = residuals.iter().filter(|residual| residual.is_nan() || residual.abs() > TIME).count();
    Claim::new(
        !residuals.is_empty() && late == 0,
        format!(
            "A plan that is told the time of one gradient foretells the time of probes that the law was not fitted to within {}.",
            percent(TIME)
        ),
        format!(
            "{late} of {} are further off; the median is {}, the worst {}",
            residuals.len(),
            percent(median_size(&residuals)),
            worst.map_or_else(|| "–".into(), place)
        ),
    )
}

fn remembered(law: &Law) -> Claim {
    let large = law.memory.iter().filter(|compared| compared.foretold as f64 > LARGE);
    let residuals: Vec<f64> = large.filter_map(|compared| compared.residual).collect();
    let far = residuals.iter().filter(|residual| residual.is_nan() || residual.abs() > MEMORY).count();
    Claim::new(
        !residuals.is_empty() && far == 0,
        format!(
            "It foretells what a probe takes in memory on top of a gradient within {}, where that is more than {} MB; nothing is fitted to it.",
            percent(MEMORY),
            short(LARGE / 1e6)
        ),
        format!(
            "{far} of {} are further off; the median is {}, the worst {}",
            residuals.len(),
            percent(median_size(&residuals)),
            percent(residuals.iter().map(|residual| residual.abs()).fold(0.0, f64::max))
        ),
    )
}

/// Vectors are gone through a number of times that n does not change.
fn linear(law: &Law) -> Claim {
    let part = "vectors of a product";
    let found = law.power_laws.iter().find(|law| law.part == part);
    let power = found.and_then(|law| law.exponents.first()).map_or(f64::NAN, |(_, power)| *power);
    Claim::new(
        (power - 1.0).abs() < 0.15,
        "The vector work of a product is proportional to the entries of a rank.",
        format!(
            "exponent {power:.2}, R² {}",
            found.map_or_else(|| "–".into(), |law| format!("{:.3}", law.r_squared))
        ),
    )
}

/// What the cost of a probe is: even on short batches.
fn mostly_gradients(law: &Law) -> Claim {
    let large = law.points.iter().filter(|compared| compared.point.sizes.parameters > 5_000_000);
    let shares: Vec<f64> = large.map(|compared| compared.point.of_it_gradients()).collect();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    Claim::new(
        least > 0.5,
        "Of models with more than five million parameters, a probe is mostly gradients, even where a batch is as short as here.",
        format!("at least {} of its time", percent(least)),
    )
}

/// What fits this class of machine.
fn largest(study: &Study) -> Claim {
    let found = study.models.iter().find(|model| model.size.name == LARGEST);
    let longest =
        found.and_then(|model| model.probes.iter().max_by_key(|probed| probed.plain.told.gradients));
    let peak = found.and_then(|model| model.memory.iter().filter_map(|taken| taken.probe_peak).max());
    let parameters = found.map_or(0, |model| model.sizes.parameters);
    let ranks = found.map_or(0, |model| model.ranks);
    let steps = longest.map_or(0, |probed| probed.probe.steps);
    Claim::new(
        parameters >= 500_000_000 && ranks == 2 && steps >= 4,
        "Half a billion parameters in f32 over two ranks, for four Lanczos steps without reorthogonalisation, fit a small machine.",
        format!(
            "{parameters} parameters over {ranks} ranks, m = {steps}: {} s, {} GB at the peak of a rank",
            longest.map_or_else(|| "–".into(), |probed| short(probed.plain.told.seconds)),
            peak.map_or_else(|| "–".into(), |bytes| short(bytes as f64 / 1e9))
        ),
    )
}

fn median_size(residuals: &[f64]) -> f64 {
    super::fit::median(&residuals.iter().map(|residual| residual.abs()).collect::<Vec<_>>())
}

fn place(compared: &Compared) -> String {
    let point = &compared.point;
    let noise = if point.calibrates { ", measuring the noise" } else { "" };
    format!(
        "{} ({} on {}, {}{noise})",
        percent(compared.residual.abs()),
        point.size,
        point.ranks,
        point.probe.name()
    )
}
