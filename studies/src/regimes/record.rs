//! What is kept of the reports.

use hessian_probe::Snapshot;
use hessian_probe::config::{Difference, StepSize};
use hessian_probe::regimes::{Choice, Compared, DirectionKind, Regime, RunRecord};
use hessian_probe::spectrum::Estimate;
use serde::{Deserialize, Serialize};

/// All that the study measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Study {
    /// The demo's model after its training.
    pub demo: Model,
    /// SmolLM2-135M in f32.
    pub smollm2: Model,
}

/// A model in several precisions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Model {
    /// What tables call it.
    pub name: String,
    /// n.
    pub parameters: u64,
    /// Counted targets.
    pub tokens: u64,
    /// One for each precision.
    pub precisions: Vec<InPrecision>,
    /// Spectra with outliers deflated, where they were measured.
    pub deflation: Option<Deflation>,
}

/// What was measured in one precision.
#[derive(Debug, Serialize, Deserialize)]
pub struct InPrecision {
    /// As `hessian-probe calibrate` calls it.
    pub name: String,
    /// ‖g‖.
    pub gradient_norm: f64,
    /// ‖θ‖.
    pub parameter_norm: f64,
    /// ‖g − g_reference‖ / ‖g_reference‖.
    pub gradient_error: Option<f64>,
    /// η.
    pub noise: f64,
    /// One for each vector.
    pub sweeps: Vec<Sweep>,
    /// One for each way to compute products.
    pub runs: Vec<Run>,
}

/// Errors over steps.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// Along which vector.
    pub direction: DirectionKind,
    /// ‖Hv‖ of the reference.
    pub norm: f64,
    /// vᵀHv of the reference.
    pub curvature: f64,
    /// By central differences, h ascending.
    pub points: Vec<Point>,
    /// By `step_size = "auto"`.
    pub automatic: Choice,
}

/// One step.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    pub step: f64,
    /// h̄.
    pub realised: f64,
    /// The true relative error.
    pub error: f64,
    pub predicted: f64,
    /// vᵀw.
    pub curvature: f64,
}

/// A Lanczos run against the reference's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub formula: Difference,
    /// h, where it is the same for all products.
    pub fixed_step: Option<f64>,
    pub lambda_max: Compared,
    pub lambda_min: Compared,
    pub first_moment: Compared,
    pub second_moment: Compared,
    /// The largest deviation of an α or a β, over the largest of all.
    pub worst_deviation: f64,
    pub orthogonality_defect: Option<f64>,
    /// The median of what was predicted for its products; none in records from before it was kept.
    #[serde(default)]
    pub predicted_error: Option<f64>,
    pub gradients: u64,
}

/// Spectra with more and more outliers deflated.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deflation {
    /// m, for the run that finds the outliers and for each probe vector.
    pub steps: usize,
    /// One for each number of outliers, ascending from 0.
    pub spectra: Vec<Deflated>,
}

/// A spectrum with outliers deflated.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deflated {
    /// How many were asked for.
    pub deflate: usize,
    /// How many were.
    pub deflated: usize,
    /// Below it nodes are unresolved.
    pub floor: f64,
    /// The quadrature mass there.
    pub mass: Estimate,
    pub lambda_max: f64,
    /// All gradients, those of the run that finds the outliers included.
    pub gradients: u64,
}

impl Model {
    /// What was measured in the precision of this name.
    pub fn precision(&self, name: &str) -> Option<&InPrecision> {
        self.precisions.iter().find(|precision| precision.name == name)
    }
}

impl InPrecision {
    /// Along this vector.
    pub fn sweep(&self, direction: DirectionKind) -> Option<&Sweep> {
        self.sweeps.iter().find(|sweep| sweep.direction == direction)
    }

    /// By this formula, and with a step for each vector.
    pub fn run(&self, formula: Difference) -> Option<&Run> {
        self.runs.iter().find(|run| run.formula == formula && run.fixed_step.is_none())
    }

    /// With central differences, and a step for each vector.
    pub fn automatic_run(&self) -> Option<&Run> {
        self.run(Difference::Central)
    }

    /// With one step for all vectors.
    pub fn fixed_runs(&self) -> impl Iterator<Item = (f64, &Run)> {
        self.runs.iter().filter_map(|run| Some((run.fixed_step?, run)))
    }
}

impl From<&Regime> for InPrecision {
    fn from(regime: &Regime) -> Self {
        let sweep = |found: &hessian_probe::regimes::DirectionRecord| Sweep {
            direction: found.direction,
            norm: found.norm,
            curvature: found.curvature,
            points: found
                .rows
                .iter()
                .filter_map(|row| {
                    let central = row.central?;
                    Some(Point {
                        step: row.step,
                        realised: central.realised,
                        error: central.error,
                        predicted: central.predicted,
                        curvature: central.curvature,
                    })
                })
                .collect(),
            automatic: found.automatic,
        };
        Self {
            name: regime.name.clone(),
            gradient_norm: regime.gradient_norm,
            parameter_norm: regime.parameter_norm,
            gradient_error: regime.gradient_error,
            noise: regime.noise.gradient,
            sweeps: regime.directions.iter().map(sweep).collect(),
            runs: regime.runs.iter().map(Run::from).collect(),
        }
    }
}

impl Sweep {
    /// The one of the smallest error.
    pub fn best(&self) -> Option<&Point> {
        self.points.iter().min_by(|a, b| a.error.total_cmp(&b.error))
    }
}

impl Run {
    /// How its products were computed.
    pub fn products(&self) -> String {
        let formula = format!("{:?}", self.formula).to_lowercase();
        match self.fixed_step {
            Some(h) => format!("{formula}, h = {h:e}"),
            None => format!("{formula}, h per vector"),
        }
    }

    /// The largest deviation of an extreme value.
    pub fn extremes(&self) -> f64 {
        largest([self.lambda_max, self.lambda_min])
    }

    /// The largest deviation of a moment.
    pub fn moments(&self) -> f64 {
        largest([self.first_moment, self.second_moment])
    }

    /// The largest of these.
    pub fn worst(&self) -> f64 {
        self.extremes().max(self.moments())
    }
}

fn largest(values: [Compared; 2]) -> f64 {
    values.iter().map(|value| value.deviation.map_or(0.0, f64::abs)).fold(0.0, f64::max)
}

impl From<&RunRecord> for Run {
    fn from(found: &RunRecord) -> Self {
        Self {
            formula: found.hvp.difference,
            fixed_step: match found.hvp.step_size {
                StepSize::Absolute(h) => Some(h),
                // Relative steps are not asked for.
                StepSize::Auto | StepSize::Relative(_) => None,
            },
            lambda_max: found.lambda_max,
            lambda_min: found.lambda_min,
            first_moment: found.first_moment,
            second_moment: found.second_moment,
            worst_deviation: found.worst_deviation(),
            orthogonality_defect: found.run.orthogonality_defect,
            predicted_error: Some(found.run.predicted_error_median),
            gradients: found.run.gradients,
        }
    }
}

impl Deflated {
    /// Of a snapshot for which `deflate` values were to be deflated.
    pub fn of(deflate: usize, snapshot: &Snapshot) -> Self {
        Self {
            deflate,
            deflated: snapshot.probes.iter().map(|probe| probe.deflated.len()).max().unwrap_or(0),
            floor: snapshot.unresolved.floor,
            mass: snapshot.unresolved.mass,
            lambda_max: snapshot.lambda_max.value,
            gradients: snapshot.cost.gradients,
        }
    }
}
