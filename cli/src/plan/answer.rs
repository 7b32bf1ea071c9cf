//! From flags to the law's answers.

use super::arguments::PlanArguments;
use super::assumed::assumptions;
use super::model::Model;
use crate::calibrate::precision::Precision;
use hessian_probe::budget::Bytes;
use hessian_probe::config::{BasisConfig, HvpConfig, SlqConfig};
use hessian_probe::cost::{Facts, GradientWork, Machine, Plan, Question, Traffic, Types};
use hessian_probe::{Precision as Evaluation, ProbeConfig};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The plan of one model on so many ranks.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub model: String,
    pub parameters: u64,
    pub ranks: u64,
    pub tokens: u64,
    /// Seconds of one gradient.
    pub gradient_seconds: f64,
    /// What they were computed from, where they were not measured.
    pub gradient: Option<GradientWork>,
    pub step_seconds: Option<f64>,
    pub facts: Facts,
    pub plan: Plan,
}

/// All that were asked for, and what they rest on.
#[derive(Debug, Serialize)]
pub struct Answers {
    pub answers: Vec<Answer>,
    pub machine: Machine,
    pub assumptions: Vec<String>,
    #[serde(skip)]
    pub memory: Option<Bytes>,
    #[serde(skip)]
    pub max_overhead: Option<f64>,
}

impl Answers {
    /// One answer for each model and number of ranks.
    pub fn of(arguments: &PlanArguments) -> Result<Self, String> {
        let machine = match &arguments.machine {
            Some(path) => read_machine(path).map_err(|reason| format!("{}: {reason}", path.display()))?,
            None => Machine::of_bandwidth(arguments.memory_bandwidth).map_err(|error| error.to_string())?,
        };
        let models = match &arguments.model {
            Some(path) => vec![Model::read(path)?],
            None => arguments.parameters.iter().map(|&parameters| Model::of_size(parameters)).collect(),
        };
        let pairs = models.iter().flat_map(|model| arguments.ranks.iter().map(move |&ranks| (model, ranks)));
        let answers = pairs.map(|(model, ranks)| answer(arguments, model, ranks, machine));
        Ok(Self {
            answers: answers.collect::<Result<_, _>>()?,
            machine,
            assumptions: assumptions(arguments, &machine),
            memory: arguments.memory,
            max_overhead: arguments.max_overhead,
        })
    }
}

fn answer(arguments: &PlanArguments, model: &Model, ranks: u64, machine: Machine) -> Result<Answer, String> {
    let said = |error: hessian_probe::Error| error.to_string();
    let widths = Widths::of(arguments.precision);
    let types = Types {
        parameter_width: widths.parameters,
        vectors: None,
        precision: Evaluation::Loop,
        accelerated: arguments.accelerator,
        threads: arguments.threads.get() as u64,
    };
    let (entries, tensors) = model.share(ranks);
    let facts = Facts::planned(model.parameters, entries, ranks, tensors, types).map_err(said)?;
    let traffic = Traffic::of(&model.blocks, ranks, arguments.micro_batches, [widths.gather, widths.reduce]);
    let attention = model.attention.map_or(0.0, |width| width as f64 * arguments.sequence as f64);
    let again = !arguments.keep_activations;
    let work = GradientWork::new(
        (model.multiplied, attention),
        arguments.tokens,
        ranks,
        again,
        traffic.map_err(said)?,
    );
    let (gradient_seconds, gradient) =
        match (arguments.gradient_seconds, arguments.flops, arguments.bandwidth) {
            (Some(seconds), ..) => (seconds, None),
            (None, Some(flops), Some(bandwidth)) => {
                (work.seconds(flops, bandwidth).map_err(said)?, Some(work))
            }
            _ => return Err("--gradient-seconds, or --flops and --bandwidth: one of them is needed".into()),
        };
    let of_training = |tokens: u64| gradient_seconds * tokens as f64 / arguments.tokens as f64;
    let step_seconds = arguments.step_seconds.or(arguments.train_tokens.map(of_training));
    let question = Question {
        distances: arguments.distances,
        redone: arguments.redone,
        memory: arguments.memory.map(|Bytes(bytes)| bytes),
        step_seconds,
        max_overhead: arguments.max_overhead.map(|percent| percent / 100.0),
        ..Question::new(facts, config(arguments), machine, gradient_seconds)
    };
    Ok(Answer {
        model: model.name.clone(),
        parameters: model.parameters,
        ranks,
        tokens: arguments.tokens,
        gradient_seconds,
        gradient,
        step_seconds,
        facts,
        plan: Plan::new(&question).map_err(said)?,
    })
}

fn config(arguments: &PlanArguments) -> ProbeConfig {
    let slq = SlqConfig {
        steps: arguments.steps.get(),
        probes: arguments.probes.get(),
        reorthogonalize: arguments.reorthogonalize,
        basis: BasisConfig { dtype: arguments.basis, device: None },
        ..SlqConfig::default()
    };
    let hvp = HvpConfig {
        difference: arguments.difference,
        recalibrate_every: arguments.recalibrate_every,
        ..HvpConfig::default()
    };
    ProbeConfig { slq, hvp, ..ProbeConfig::default() }
}

/// Bytes of an element where it is stored, gathered and reduced.
struct Widths {
    parameters: u64,
    gather: u64,
    reduce: u64,
}

impl Widths {
    fn of(precision: Precision) -> Self {
        let evaluation = precision.evaluation();
        let policy = evaluation.mixed_precision.policy(evaluation.dtype);
        let [parameters, gather, reduce] =
            [policy.parameters, policy.gather, policy.reduce].map(|kind| kind.elt_size_in_bytes() as u64);
        Self { parameters, gather, reduce }
    }
}

/// The constants in what `cargo xtask bench --scaling` wrote, or alone.
fn read_machine(path: &Path) -> Result<Machine, String> {
    #[derive(Deserialize)]
    struct Fitted {
        machine: Machine,
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let machine = match serde_json::from_slice::<Fitted>(&text) {
        Ok(fitted) => fitted.machine,
        Err(_) => {
            serde_json::from_slice(&text).map_err(|error| format!("no constants of a machine: {error}"))?
        }
    };
    machine.validate().map_err(|error| error.to_string())?;
    Ok(machine)
}
