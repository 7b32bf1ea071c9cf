//! What the page says.

use super::record::{InPrecision, Model, Run, Study, Sweep};
use crate::claim::Claim;
use crate::number::{percent, short};
use hessian_probe::regimes::DirectionKind;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    let model = &study.model;
    vec![
        no_fixed_step(model),
        automatic_is_near_the_best(model),
        automatic_run(model),
        fixed_runs(model),
        bf16_compute(model),
    ]
}

/// In f32 the best steps of a random vector and of the top eigenvector are far apart.
fn no_fixed_step(model: &Model) -> Claim {
    let best = |direction| precision(model, "f32").and_then(|f32| sweep(f32, direction)?.best_step());
    let (random, top) = (best(DirectionKind::Random), best(DirectionKind::Top));
    let (random, top) = (random.unwrap_or(f64::NAN), top.unwrap_or(f64::NAN));
    Claim::new(
        random >= 10.0 * top,
        format!("{}: no fixed step is right for every vector of a run.", model.name),
        format!(
            "in f32 the best step is {random:.0e} for a random vector, {top:.0e} near the top eigenvector"
        ),
    )
}

/// The contract of the automatic step.
fn automatic_is_near_the_best(model: &Model) -> Claim {
    let mut worst: f64 = 0.0;
    for precision in model.precisions.iter().filter(|precision| precision.name != "bf16") {
        for sweep in &precision.sweeps {
            worst = worst.max(sweep.automatic.ratio.unwrap_or(f64::INFINITY));
        }
    }
    Claim::new(
        worst <= 3.0,
        format!("{}: the automatic step's error is at most 3 times the best of the sweep.", model.name),
        format!("at worst {} times, over all vectors and precisions but pure bf16", short(worst)),
    )
}

/// What a run with automatic steps in f32 is worth.
fn automatic_run(model: &Model) -> Claim {
    let run = precision(model, "f32").and_then(|f32| f32.runs.iter().find(|run| is_automatic_central(run)));
    let deviations = run.map(|run| [run.lambda_max, run.lambda_min, run.first_moment, run.second_moment]);
    let worst = deviations.map_or(f64::INFINITY, |all| {
        all.iter().map(|value| value.deviation.map_or(0.0, f64::abs)).fold(0.0, f64::max)
    });
    Claim::new(
        worst <= 0.02,
        format!(
            "{}: with central differences and a step for each vector, extreme values and moments of a run in f32 are those of exact products to 2 %.",
            model.name
        ),
        format!("at worst {} off", percent(worst)),
    )
}

/// What fixed steps do.
fn fixed_runs(model: &Model) -> Claim {
    let runs = precision(model, "f32").map_or(&[][..], |f32| &f32.runs);
    let fixed: Vec<&Run> = runs.iter().filter(|run| run.products.contains("h =")).collect();
    let off = |run: &Run| {
        [run.lambda_max, run.lambda_min, run.first_moment, run.second_moment]
            .iter()
            .map(|value| value.deviation.map_or(0.0, f64::abs))
            .fold(0.0, f64::max)
    };
    let automatic = runs.iter().filter(|run| is_automatic_central(run)).map(off).fold(0.0, f64::max);
    let worse = fixed.iter().filter(|run| off(run) > automatic).count();
    let figures: Vec<String> =
        fixed.iter().map(|run| format!("{}: {}", run.products, percent(off(run)))).collect();
    Claim::new(
        !fixed.is_empty() && worse == fixed.len(),
        format!("{}: each of the fixed steps does worse than the automatic one.", model.name),
        format!(
            "worst deviation of an extreme value or a moment: {}; automatic: {}",
            figures.join(", "),
            percent(automatic)
        ),
    )
}

/// In bf16 compute the extreme values are good, the moments are not.
fn bf16_compute(model: &Model) -> Claim {
    let runs = precision(model, "bf16-compute").map_or(&[][..], |found| &found.runs);
    let run = runs.iter().find(|run| is_automatic_central(run));
    let of = |value: Option<f64>| value.map_or(f64::NAN, f64::abs);
    let (top, moment) = run
        .map_or((f64::NAN, f64::NAN), |run| (of(run.lambda_max.deviation), of(run.second_moment.deviation)));
    Claim::new(
        top < 0.1 && top < moment,
        format!("{}: in bf16 compute λ_max is usable; the moments are worse.", model.name),
        format!("λ_max {} off, Σ τθ² {}", percent(top), percent(moment)),
    )
}

fn is_automatic_central(run: &Run) -> bool {
    run.products.starts_with("central,") && !run.products.contains("h =")
}

fn precision<'a>(model: &'a Model, name: &str) -> Option<&'a InPrecision> {
    model.precisions.iter().find(|precision| precision.name == name)
}

fn sweep(precision: &InPrecision, direction: DirectionKind) -> Option<&Sweep> {
    precision.sweeps.iter().find(|sweep| sweep.direction == direction)
}
