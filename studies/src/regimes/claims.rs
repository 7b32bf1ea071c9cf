//! What the page says.

use super::measure::STEPS;
use super::record::{Deflated, Model, Run, Study};
use crate::claim::Claim;
use crate::number::{percent, short};
use hessian_probe::config::Difference;
use hessian_probe::regimes::DirectionKind;
use hessian_probe::spectrum::regime::TRUSTED_ERROR;

/// Within it the automatic step is as good as any.
const RATIO: f64 = 3.0;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    let Study { demo, smollm2 } = study;
    vec![
        no_fixed_step(demo, 3.0),
        no_fixed_step(smollm2, 30.0),
        automatic_is_near_the_best(demo),
        automatic_is_near_the_best(smollm2),
        central_run(demo),
        central_run(smollm2),
        default_run(demo),
        default_run(smollm2),
        fixed_runs(demo),
        fixed_runs(smollm2),
        bf16_compute(demo),
        wrong_ones_are_told(demo),
        deflation(demo),
        deflation(smollm2),
    ]
}

/// In f32 the best steps of a random vector and of the top eigenvector are far apart.
fn no_fixed_step(model: &Model, apart: f64) -> Claim {
    let best = |direction| {
        let found = model.precision("f32")?.sweep(direction)?;
        Some(found.best()?.step)
    };
    let random = best(DirectionKind::Random).unwrap_or(f64::NAN);
    let top = best(DirectionKind::Top).unwrap_or(f64::NAN);
    Claim::new(
        random >= apart * top,
        format!("{}: no fixed step is right for every vector of a run.", model.name),
        format!(
            "in f32 the best step is {random:.0e} for a random vector, {top:.0e} near the top eigenvector"
        ),
    )
}

/// The contract of the automatic step.
fn automatic_is_near_the_best(model: &Model) -> Claim {
    let inside = model.precisions.iter().filter(|precision| precision.name != "bf16");
    let ratios = inside.flat_map(|precision| &precision.sweeps).map(|sweep| sweep.automatic.ratio);
    let worst = ratios.map(|ratio| ratio.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    Claim::new(
        worst <= RATIO,
        format!("{}: the automatic step's error is at most {RATIO} times the best of the sweep.", model.name),
        format!("at worst {} times, over all vectors and precisions but pure bf16", short(worst)),
    )
}

/// What a run by central differences with automatic steps in f32 is worth, and what it costs.
fn central_run(model: &Model) -> Claim {
    let run = model.precision("f32").and_then(|found| found.automatic_run());
    let [extreme, moment, element, gradients] = run.map_or([f64::INFINITY; 4], |run| {
        let gradients = run.gradients as f64 / (2 * STEPS) as f64;
        [run.extremes(), run.moments(), run.worst_deviation, gradients]
    });
    Claim::new(
        extreme <= 0.02 && moment <= 0.005 && element <= 0.02 && gradients <= 1.15,
        format!(
            "{}: with central differences and a step for each vector, a run in f32 is that of exact products: extreme values, α and β to 2 %, moments to 0.5 %, for 1.15 times two gradients a step at most.",
            model.name
        ),
        format!(
            "extreme values {} off, α or β {}, moments {}, {gradients:.2} times",
            percent(extreme),
            percent(element),
            percent(moment)
        ),
    )
}

/// What the default is worth, which takes one gradient where that seems good enough.
fn default_run(model: &Model) -> Claim {
    let run = model.precision("f32").and_then(|found| found.run(Difference::Auto));
    let [worst, element] = run.map_or([f64::INFINITY; 2], |run| [run.worst(), run.worst_deviation]);
    Claim::new(
        worst <= 0.02 && element <= 0.05,
        format!(
            "{}: with `difference = \"auto\"`, the default, extreme values and moments in f32 are those of exact products to 2 %; α and β are a few per cent off.",
            model.name
        ),
        format!("extreme values and moments {} off at worst, α or β {}", percent(worst), percent(element)),
    )
}

/// What fixed steps do.
fn fixed_runs(model: &Model) -> Claim {
    let fixed: Vec<_> = model.precision("f32").into_iter().flat_map(|f32| f32.fixed_runs()).collect();
    let automatic = automatic(model, "f32");
    let figures: Vec<String> =
        fixed.iter().map(|(h, run)| format!("h = {h:.0e}: {}", percent(run.worst()))).collect();
    Claim::new(
        !fixed.is_empty() && fixed.iter().all(|(_, run)| run.worst() > automatic),
        format!("{}: each of the fixed steps does worse than the automatic one.", model.name),
        format!(
            "worst deviation of an extreme value or a moment in f32: {}; automatic: {}",
            figures.join(", "),
            percent(automatic)
        ),
    )
}

/// In bf16 compute a run is good for what it is taken for, and T's elements are not.
fn bf16_compute(model: &Model) -> Claim {
    let run = model.precision("bf16-compute").and_then(|found| found.automatic_run());
    let [extreme, moment, element] =
        run.map_or([f64::NAN; 3], |run| [run.extremes(), run.moments(), run.worst_deviation]);
    Claim::new(
        extreme < 0.05 && moment < 0.05 && element > 0.05,
        format!(
            "{}: in bf16 compute, with a step for each vector, extreme values and moments are good to 5 %; α and β, and with them the nodes within, are not.",
            model.name
        ),
        format!(
            "extreme values {} off, moments {}, α or β {}",
            percent(extreme),
            percent(moment),
            percent(element)
        ),
    )
}

/// No run of bf16, however its products were computed, is wrong and says nothing.
fn wrong_ones_are_told(model: &Model) -> Claim {
    const WRONG: f64 = 0.05;
    let names = ["bf16-compute", "bf16"];
    let runs = names.iter().filter_map(|name| model.precision(name)).flat_map(|precision| &precision.runs);
    let runs: Vec<&Run> = runs.collect();
    let foretold = |run: &Run| run.predicted_error.unwrap_or(0.0);
    let wrong: Vec<f64> = runs.iter().filter(|run| run.worst() > WRONG).map(|run| foretold(run)).collect();
    let least = wrong.iter().copied().fold(f64::INFINITY, f64::min);
    let told = runs.iter().filter(|run| foretold(run) > TRUSTED_ERROR).count();
    Claim::new(
        !wrong.is_empty() && least > TRUSTED_ERROR,
        format!(
            "{}: in bf16 every run whose extreme values or moments are more than {} off would be warned of: the median predicted error of its products is above {}.",
            model.name,
            percent(WRONG),
            percent(TRUSTED_ERROR)
        ),
        format!(
            "{} of {} are, with medians from {} on; {told} would be warned of",
            wrong.len(),
            runs.len(),
            percent(least)
        ),
    )
}

/// What most and no outliers deflated differ in.
fn deflation(model: &Model) -> Claim {
    let statement = format!("{}: deflation lowers the floor.", model.name);
    let spectra = model.deflation.as_ref().map(|deflation| deflation.spectra.as_slice());
    let Some([without, .., with]) = spectra else {
        return Claim::new(false, statement, "it was not measured");
    };
    let shown = |found: &Deflated| {
        let mass = 100.0 * found.mass.mean;
        format!("floor {} and mass below it {mass:.4} % with {} deflated", short(found.floor), found.deflated)
    };
    Claim::new(with.floor < without.floor, statement, format!("{}; {}", shown(without), shown(with)))
}

/// The worst of the run with central differences and a step for each vector.
fn automatic(model: &Model, precision: &str) -> f64 {
    model
        .precision(precision)
        .and_then(|found| found.automatic_run())
        .map_or(f64::INFINITY, |run| run.worst())
}
