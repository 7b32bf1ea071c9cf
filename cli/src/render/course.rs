//! A run as it is drawn: the spectra over steps, thinned to what a page can show, and numbers over steps.

use super::figures::{Point, Series};
use super::thin;
use crate::run::Run;
use hessian_probe::Snapshot;
use hessian_probe::spectrum::{DensityColumn, DensityOverSteps, Estimate, Extreme, SpectrumAt};

/// Snapshots whose spectrum and details a page has at most.
pub const MOST_SNAPSHOTS: usize = 160;
/// Points of a series at most.
const MOST_POINTS: usize = 1200;
/// Places of a density.
const PLACES: usize = 320;

/// What is drawn of a run.
pub struct Course<'a> {
    /// What the spectra are of.
    pub operator: String,
    /// The unit of its eigenvalues.
    pub unit: &'static str,
    /// All snapshots of that operator.
    pub all: Vec<&'a Snapshot>,
    /// Those that the page has in full.
    pub shown: Vec<&'a Snapshot>,
    /// The one that it shows first.
    pub chosen: usize,
    /// The spectra of those shown, as far as they have nodes.
    pub density: Option<DensityOverSteps>,
    /// What the page does not have, and why.
    pub left_out: Vec<String>,
    run: &'a Run,
}

impl<'a> Course<'a> {
    /// `step` is that which is shown first.
    pub fn new(run: &'a Run, step: Option<u64>) -> Result<Self, String> {
        let first = run.at(step)?;
        let hessian = first.operator.includes_hessian();
        // A page has a minus sign.
        let (operator, unit) = (first.operator.name().replace('-', "−"), first.operator.unit());
        let all: Vec<&Snapshot> =
            run.snapshots.iter().filter(|snapshot| snapshot.operator.includes_hessian() == hessian).collect();
        let mut left_out = Vec::new();
        if all.len() < run.snapshots.len() {
            let others = run.snapshots.len() - all.len();
            left_out.push(format!(
                "{others} snapshot(s) of another operator are left out; this page is of {operator}"
            ));
        }
        let mut kept = thin::evenly(all.len(), MOST_SNAPSHOTS);
        let place = all.iter().position(|snapshot| std::ptr::eq(*snapshot, first)).unwrap_or_default();
        if let Err(next) = kept.binary_search(&place) {
            kept.insert(next, place);
        }
        if kept.len() < all.len() {
            left_out.push(format!(
                "spectra and details of {} of the {} snapshots are on this page, evenly chosen; curves have more, and the log has all",
                kept.len(),
                all.len()
            ));
        }
        let chosen = kept.binary_search(&place).unwrap_or_default();
        let shown: Vec<&Snapshot> = kept.into_iter().map(|index| all[index]).collect();
        let spectra: Vec<SpectrumAt> = shown.iter().map(|snapshot| SpectrumAt::of(snapshot)).collect();
        let density = DensityOverSteps::new(&spectra, PLACES);
        Ok(Self { operator, unit, all, shown, chosen, density, left_out, run })
    }

    fn series(
        &self,
        name: &'static str,
        error: &'static str,
        of: impl Fn(&Snapshot) -> Option<(f64, Option<f64>)>,
    ) -> Series {
        let point =
            |snapshot: &&Snapshot| of(snapshot).map(|(value, error)| Point(snapshot.step, value, error));
        thinned(name, error, false, self.all.iter().filter_map(point).collect())
    }

    fn dense(name: &'static str, error: &'static str, mut points: Vec<Point>) -> Series {
        points.sort_by_key(|point| point.0);
        thinned(name, error, true, points)
    }

    /// λ_max and λ_min, and λ_max between probes.
    pub fn extremes(&self) -> Vec<Series> {
        let of = |extreme: Extreme| Some((extreme.value, Some(extreme.residual)));
        // With both operators, tracking is of the preconditioned one: that is no curve beside those of H.
        let hessian = self.shown.iter().all(|snapshot| snapshot.operator.includes_hessian());
        let tracked = self.run.tracked.iter().filter(|tracked| tracked.operator.is_hessian() == hessian);
        let tracked =
            tracked.map(|found| Point(found.step, found.lambda_max.value, Some(found.lambda_max.residual)));
        vec![
            self.series("λ_max", "residual", |snapshot| of(snapshot.lambda_max)),
            self.series("λ_min", "residual", |snapshot| of(snapshot.lambda_min)),
            Self::dense("λ_max, tracked", "residual", tracked.collect()),
        ]
    }

    /// tr H.
    pub fn trace(&self) -> Vec<Series> {
        vec![self.series("trace", "standard error", |snapshot| {
            let Estimate { mean, standard_error } = snapshot.trace;
            Some((mean, standard_error))
        })]
    }

    /// λ_max over the optimizer's threshold, and the share of the critical step.
    pub fn stability(&self) -> Vec<Series> {
        let margins = self.run.tracked.iter().filter_map(|found| {
            let margin = found.stability.as_ref()?.margin?;
            // The threshold is exact: the relative error is that of the eigenvalue.
            let relative = found.lambda_max.residual / found.lambda_max.value.abs();
            Some(Point(found.step, margin, Some(margin.abs() * relative)))
        });
        let ratios = self.run.sharpness.iter().filter_map(|found| {
            let ratio = found.step_ratio?;
            let relative = found.error.zip(found.multiple).map(|(error, multiple)| error / multiple);
            Some(Point(found.step, ratio, relative.map(|relative| ratio * relative)))
        });
        vec![
            self.series("margin", "residual", |snapshot| {
                let margin = snapshot.margin()?;
                let seen =
                    snapshot.preconditioned.as_ref().map_or(snapshot.lambda_max, |seen| seen.lambda_max);
                Some((margin, Some(margin.abs() * seen.residual / seen.value.abs())))
            }),
            Self::dense("margin, tracked", "residual", margins.collect()),
            Self::dense("step ratio", "bracket", ratios.collect()),
        ]
    }

    /// The density of one of the snapshots shown, if it has nodes: those without have no column.
    pub fn column(&self, index: usize) -> Option<&DensityColumn> {
        self.density.as_ref()?.columns.iter().find(|column| column.index == index)
    }

    /// The column of the chosen snapshot.
    pub fn density_index(&self) -> Option<usize> {
        self.density.as_ref()?.columns.iter().position(|column| column.index == self.chosen)
    }

    pub fn run(&self) -> &'a Run {
        self.run
    }
}

fn thinned(name: &'static str, error: &'static str, dense: bool, points: Vec<Point>) -> Series {
    let count = points.len();
    Series { name, error, dense, points: thin::extremes(points, MOST_POINTS), count }
}
