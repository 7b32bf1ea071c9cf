//! The order of things: one model in memory at a time.

use super::arguments::{BasisType, CalibrateArguments, ReferenceChoice};
use super::point::{Point, points};
use super::precision::Precision;
use super::reference::{EXACT_TOKENS, Need, available_bytes, best};
use crate::data::Data;
use crate::display::Display;
use crate::failure::Failure;
use crate::signals::Stop;
use hessian_probe::Interrupter;
use hessian_probe::config::{BasisConfig, BasisKind, Difference, HvpConfig, StepSize};
use hessian_probe::regimes::{
    Method, Reference, Regime, RegimesConfig, Watch, degrade, parameters_are, round_parameters, sweep,
};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Attention, Dtype, Evaluation, EvaluationConfig, ModelSource, Sequence};
use std::time::Instant;
use tch::Kind;

/// What is to be measured, and on what.
pub struct Study<'a> {
    source: &'a ModelSource,
    group: &'a ProcessGroup,
    sequences: &'a [Sequence],
    config: RegimesConfig,
    method: Method,
    points: Vec<Point>,
    order: Vec<Precision>,
}

impl<'a> Study<'a> {
    pub fn new(
        arguments: &CalibrateArguments,
        source: &'a ModelSource,
        data: &'a Data,
        group: &'a ProcessGroup,
    ) -> Result<Self, Failure> {
        let mut order = Vec::new();
        for &precision in &arguments.precisions {
            if !order.contains(&precision) {
                order.push(precision);
            }
        }
        let judges_f64 = order.contains(&Precision::F64);
        let method = match arguments.reference {
            ReferenceChoice::Auto => {
                let lengths: Vec<usize> =
                    data.sequences.iter().map(|sequence| sequence.inputs.len()).collect();
                let single_basis = arguments.basis == Some(BasisType::F32);
                let need = Need::new(source, &lengths, arguments.steps.get(), single_basis);
                best(&need, available_bytes(), judges_f64)
            }
            ReferenceChoice::Central4 => Method::Central4,
            ReferenceChoice::Exact => Method::Exact,
            ReferenceChoice::Richardson => Method::Richardson,
        };
        if method == Method::Richardson && judges_f64 {
            return Err(Failure::from(
                "--reference richardson is computed in f32 and cannot judge f64: leave f64 out of --precisions, or take \
                 --reference central4"
                    .to_owned(),
            ));
        }
        let mut study = Self {
            source,
            group,
            sequences: &data.sequences,
            config: config(arguments, method),
            method,
            points: Vec::new(),
            order,
        };
        study.config.validate()?;
        let host = study.reference_host()?;
        let rounded = |kind| parameters_are(&host, kind);
        let (single, half) = (rounded(Kind::Float)?, rounded(Kind::BFloat16)?);
        study.points = points(&study.order, |kind| if kind == Kind::BFloat16 { half } else { single });
        Ok(study)
    }

    /// What it will take, before it starts.
    pub fn announcement(&self) -> Vec<String> {
        let plan = self.config.plan(self.method);
        let (what, dtype) = match self.method {
            Method::Exact => ("double backward passes", "f64"),
            Method::Central4 => ("gradients", "f64"),
            Method::Richardson => ("gradients", "f32"),
        };
        let names: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        vec![format!(
            "about {} {what} in {dtype} for {} reference(s), and {} gradients in each of {}",
            plan.reference,
            self.points.len(),
            plan.sweep + plan.runs,
            names.join(", ")
        )]
    }

    /// One record for each precision, in the order asked for. After each piece of work `keep` gets what there is: a
    /// precision whose Lanczos runs are to come has none in its record.
    pub fn run(
        &self,
        display: &Display,
        stop: &Stop,
        keep: &dyn Fn(Vec<Regime>) -> Result<(), Failure>,
    ) -> Result<Vec<Regime>, Failure> {
        let interrupter = Interrupter::default();
        stop.attach(interrupter.clone());
        let plan = self.config.plan(self.method);
        let total =
            plan.reference * self.points.len() as u64 + (plan.sweep + plan.runs) * self.order.len() as u64;
        let counter = display.counter(total);
        let mut before = 0;
        let mut watched =
            |what: String, planned: u64, work: &mut dyn FnMut(&mut Watch<'_>) -> Result<(), Failure>| {
                let started = Instant::now();
                counter.begin(&what);
                let mut told = 0;
                let mut gradients = |now: u64| {
                    told = now;
                    counter.set(before + now);
                };
                let done = work(&mut Watch { interrupter: &interrupter, gradients: &mut gradients });
                before += planned;
                log::info!("{what}: {told} gradients, {:.1} s", started.elapsed().as_secs_f64());
                done
            };
        let mut found: Vec<(Precision, Regime)> = Vec::new();
        for point in &self.points {
            let mut reference = None;
            let names: Vec<String> = point.precisions.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            watched(format!("reference for {names}"), plan.reference, &mut |watch| {
                let mut host = self.reference_host()?;
                round_parameters(&host, point.kind)?;
                reference = Some(Reference::measure(&mut host, self.method, &self.config, watch)?);
                Ok(())
            })?;
            let Some(mut reference) = reference else { continue };
            let first = found.len();
            for &precision in &point.precisions {
                watched(format!("{precision}: sweep"), plan.sweep, &mut |watch| {
                    let mut host = self.host(precision.evaluation())?;
                    let regime = sweep(&mut host, &precision.to_string(), &reference, &self.config, watch)?;
                    found.push((precision, regime));
                    Ok(())
                })?;
                keep(self.in_order(&found))?;
            }
            reference.drop_directions();
            for index in first..found.len() {
                let (precision, regime) = &mut found[index];
                watched(format!("{precision}: Lanczos"), plan.runs, &mut |watch| {
                    let mut host = self.host(precision.evaluation())?;
                    Ok(degrade(&mut host, regime, &reference.record, &self.config, watch)?)
                })?;
                keep(self.in_order(&found))?;
            }
        }
        Ok(self.in_order(&found))
    }

    /// As they were asked for: points are measured in an order of their own.
    fn in_order(&self, found: &[(Precision, Regime)]) -> Vec<Regime> {
        let of = |asked: &Precision| found.iter().find(|(precision, _)| precision == asked);
        self.order.iter().filter_map(of).map(|(_, regime)| regime.clone()).collect()
    }

    fn host(&self, config: EvaluationConfig) -> Result<Evaluation<'a>, Failure> {
        let mut host = Evaluation::new(self.source, self.group, config)?;
        host.set_sequences(self.sequences)?;
        Ok(host)
    }

    fn reference_host(&self) -> Result<Evaluation<'a>, Failure> {
        let dtype = if self.method == Method::Richardson { Dtype::F32 } else { Dtype::F64 };
        let config = EvaluationConfig { dtype, ..EvaluationConfig::default() };
        self.host(if self.method == Method::Exact {
            EvaluationConfig { attention: Attention::Plain, micro_batch_tokens: Some(EXACT_TOKENS), ..config }
        } else {
            EvaluationConfig { attention: Attention::Sdpa, ..config }
        })
    }
}

fn config(arguments: &CalibrateArguments, method: Method) -> RegimesConfig {
    let others =
        arguments.difference.iter().map(|&difference| HvpConfig { difference, ..HvpConfig::default() });
    let fixed = arguments.fixed_step.iter().map(|&h| HvpConfig {
        difference: Difference::Central,
        step_size: StepSize::Absolute(h),
        ..HvpConfig::default()
    });
    let dtype = match arguments.basis {
        // Parameters in f32 have vectors in f32.
        Some(BasisType::F64) if method == Method::Richardson => None,
        Some(BasisType::F64) => Some(BasisKind::F64),
        Some(BasisType::F32) => Some(BasisKind::F32),
        None => None,
    };
    RegimesConfig {
        seed: arguments.seed,
        steps: arguments.steps.get(),
        points_per_decade: arguments.points.get(),
        runs: std::iter::once(HvpConfig::default()).chain(others).chain(fixed).collect(),
        basis: BasisConfig { dtype, ..BasisConfig::default() },
    }
}
