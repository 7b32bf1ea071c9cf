//! What the page says.

use super::record::{Figures, Peer, Study};
use super::task::{AUTO, OURS};
use crate::claim::Claim;
use crate::number::{percent, short};
use hessian_probe::config::HvpConfig;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    vec![
        same_function(study),
        confirmed(study),
        within_its_tolerance(study),
        cheapest(study),
        smallest(study),
        same_extreme(study),
        same_trace(study),
    ]
}

/// All look at the same loss at the same parameters.
fn same_function(study: &Study) -> Claim {
    let off = worst(study, |figures, reference| {
        let loss = (figures.times.loss / reference.times.loss - 1.0).abs();
        loss.max((figures.times.gradient_norm / reference.times.gradient_norm - 1.0).abs())
    });
    Claim::new(
        off < 1e-4,
        "All compute the same function: loss and ‖g‖ agree.",
        format!("at worst {off:.0e} off, relative"),
    )
}

/// Ours by differentiating twice, and theirs, are the same to the rounding of f32.
fn confirmed(study: &Study) -> Claim {
    let exact = |ours: bool| {
        let peers = study.compared().filter(move |peer| peer.is_ours() == ours && peer.is_exact());
        peers.filter_map(Peer::figures).map(|figures| figures.error).fold(f64::NAN, f64::max)
    };
    let (ours, theirs) = (exact(true), exact(false));
    Claim::new(
        ours < 1e-4 && theirs < 1e-4,
        "Products by differentiating twice in f32 are ours in f64 to the rounding of f32, whoever computes them.",
        format!("errors of Hv: ours {ours:.0e}, the others' at most {theirs:.0e}"),
    )
}

/// What `max_relative_error` promises.
fn within_its_tolerance(study: &Study) -> Claim {
    let bound = HvpConfig::default().max_relative_error;
    let error = auto(study).map_or(f64::NAN, |figures| figures.error);
    Claim::new(
        error <= bound,
        format!("Our differences keep to `hvp.max_relative_error`, {} by default.", percent(bound)),
        format!("the error of Hv is {}", percent(error)),
    )
}

/// The time of a product by differences is at most that of two gradients and a little.
fn cheapest(study: &Study) -> Claim {
    let cost = auto(study).map_or(f64::NAN, Figures::product_cost);
    let others = others(study).map(Figures::product_cost).fold(f64::NAN, f64::min);
    Claim::new(
        cost <= 2.1,
        "A product by our differences takes the time of one or two gradients.",
        format!("{cost:.2} gradients; the cheapest of the others {others:.2}"),
    )
}

/// And needs no graph of a second derivative.
fn smallest(study: &Study) -> Claim {
    let ratio = |figures: &Figures| {
        figures.working_memory().map_or(f64::NAN, |(gradient, product)| product / gradient)
    };
    let bytes = |figures: &Figures| figures.working_memory().map_or(f64::NAN, |(_, product)| product / 1e6);
    let ours = auto(study);
    let least = others(study).map(bytes).fold(f64::NAN, f64::min);
    let mine = ours.map_or(f64::NAN, bytes);
    Claim::new(
        mine < least,
        "A product by our differences has the smallest working memory.",
        format!(
            "{mine:.0} MB, {} times that of our gradient; the least of the others {least:.0} MB",
            short(ours.map_or(f64::NAN, ratio))
        ),
    )
}

/// λ_max agrees as far as each can tell.
fn same_extreme(study: &Study) -> Claim {
    let off = worst(study, |figures, reference| {
        (figures.times.lambda_max / reference.times.lambda_max - 1.0).abs()
    });
    Claim::new(off < 0.01, "All find the same λ_max to 1 %.", format!("at worst {} off", percent(off)))
}

/// The same vectors: what differs is the products.
fn same_trace(study: &Study) -> Claim {
    let off = worst(study, |figures, reference| {
        let (found, expected) = (figures.trace(), reference.trace());
        (found.mean - expected.mean).abs() / expected.standard_error.unwrap_or(f64::NAN)
    });
    Claim::new(
        off < 0.1,
        "The estimates of the trace, from the same vectors, differ by far less than their standard errors.",
        format!("at worst by {} standard errors", short(off)),
    )
}

fn auto(study: &Study) -> Option<&Figures> {
    study.figures(OURS, AUTO)
}

fn others(study: &Study) -> impl Iterator<Item = &Figures> {
    study.compared().filter(|peer| !peer.is_ours()).filter_map(Peer::figures)
}

/// The largest of a deviation from the reference; not a number, where there is none or one is not.
fn worst(study: &Study, deviation: impl Fn(&Figures, &Figures) -> f64) -> f64 {
    let Some(reference) = study.reference() else { return f64::NAN };
    let deviations = study.compared().filter_map(Peer::figures).map(|figures| deviation(figures, reference));
    let found: Vec<f64> = deviations.collect();
    if found.is_empty() || found.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    found.into_iter().fold(0.0, f64::max)
}
