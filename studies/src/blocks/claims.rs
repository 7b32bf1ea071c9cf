//! What the page says.

use super::record::{Comparison, OnText, Study};
use crate::claim::Claim;
use crate::number::{percent, short};
use hessian_probe::spectrum::Estimate;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    vec![order_one(study), alignment(study), most_is_outside(study), norms(study), training(study)]
}

/// The paper's: relative error of order one.
fn order_one(study: &Study) -> Claim {
    let layers = study.texts.iter().map(|text| &text.layers);
    let random = range(layers.clone().map(random_error));
    let gradient = range(layers.map(|found| mean(found.gradient_relative_error)));
    Claim::new(
        random.low > 0.5 && gradient.low > 0.5,
        "SmolLM2-135M: H_bd by layers misses Hv by an error of order one, for random vectors and along the gradient.",
        format!(
            "relative error {} on the texts, along the gradient {}",
            random.shown(short),
            gradient.shown(short)
        ),
    )
}

/// The paper's: poor directional alignment.
fn alignment(study: &Study) -> Claim {
    let layers = study.texts.iter().map(|text| &text.layers);
    let random = range(layers.clone().map(|found| mean(found.cosine)));
    let gradient = range(layers.map(|found| mean(found.gradient_cosine)));
    Claim::new(
        random.high < 0.6 && gradient.low > random.low,
        "SmolLM2-135M: for random vectors Hv and H_bd v point more than 50° apart; along the gradient they agree better.",
        format!("cosine {}, along the gradient {}", random.shown(short), gradient.shown(short)),
    )
}

/// Where ‖H‖_F² is.
fn most_is_outside(study: &Study) -> Claim {
    let share = |of: fn(&OnText) -> &Comparison| {
        range(study.texts.iter().map(|text| of(text).off_diagonal_share.map(|share| share.mean)))
    };
    let (layers, kinds) = (share(|text| &text.layers), share(|text| &text.kinds));
    Claim::new(
        layers.low > 0.5 && kinds.low > 0.5,
        "SmolLM2-135M: most of ‖H‖_F² couples one layer with another, and most couples one kind of parameter with another.",
        format!("off-diagonal share by layers {}, by kinds {}", layers.shown(percent), kinds.shown(percent)),
    )
}

/// Few parameters, much curvature.
fn norms(study: &Study) -> Claim {
    let block = |text: &OnText, name: &str| {
        let block = text.kinds.blocks.iter().find(|block| block.name == name)?;
        Some((block.parameters as f64 / text.spectrum.parameters as f64, block.share?.mean))
    };
    let of = |name: &'static str| study.texts.iter().map(move |text| block(text, name));
    let shares = |name| range(of(name).map(|found| found.map(|(_, share)| share)));
    let (norms, mlp) = (shares("norms"), shares("mlp"));
    let parameters = of("norms").flatten().map(|(parameters, _)| parameters).next().unwrap_or(f64::NAN);
    let more = of("norms").zip(of("mlp")).all(|pair| match pair {
        (Some((_, norms)), Some((_, mlp))) => norms > mlp,
        _ => false,
    });
    Claim::new(
        more,
        "SmolLM2-135M: the norms' few parameters hold more of ‖H‖_F² than the MLPs, which are most of the model.",
        format!(
            "norms, {} of the parameters: {}; MLPs: {}",
            percent(parameters),
            norms.shown(percent),
            mlp.shown(percent)
        ),
    )
}

/// It is not that training makes blocks of it.
fn training(study: &Study) -> Claim {
    let errors = range(study.training.iter().map(|point| random_error(&point.layers)));
    Claim::new(
        study.training.len() > 5 && errors.low > 0.3,
        "The demo's model: the error is of order one all through training, from the initialisation on.",
        format!("relative error {} at {} steps", errors.shown(short), study.training.len()),
    )
}

fn random_error(found: &Comparison) -> Option<f64> {
    mean(found.relative_error)
}

fn mean(value: Option<Estimate>) -> Option<f64> {
    value.map(|estimate| estimate.mean)
}

/// The smallest and the largest of several numbers.
struct Range {
    low: f64,
    high: f64,
}

/// Where one is missing, nothing is within limits.
fn range(values: impl Iterator<Item = Option<f64>>) -> Range {
    let start = Range { low: f64::INFINITY, high: f64::NEG_INFINITY };
    values.fold(start, |range, value| {
        let value = value.unwrap_or(f64::NAN);
        if value.is_nan() || range.low.is_nan() {
            return Range { low: f64::NAN, high: f64::NAN };
        }
        Range { low: range.low.min(value), high: range.high.max(value) }
    })
}

impl Range {
    fn shown(&self, number: fn(f64) -> String) -> String {
        format!("{} to {}", number(self.low), number(self.high))
    }
}
