//! What each Lanczos step sends, and how long it works on vectors.

use crate::Result;
use crate::case::Case;
use crate::instrumented::{Instrumented, Log};
use crate::report::median;
use hessian_probe::config::{Distribution, HvpConfig, Reorthogonalize};
use hessian_probe::cost::{Course, Facts, Products, Work};
use hessian_probe::krylov::{Basis, Lanczos, Operator, Product, Wrapper};
use hessian_probe::operator::{Calibration, FiniteDifference, Start};
use hessian_probe::sharded::random::RandomProbe;
use hessian_probe::sharded::{Layout, ShardedVector};
use hessian_probe::{Interrupter, ProbeConfig};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;
use tch::Tensor;

#[derive(Debug, Serialize, Deserialize)]
pub struct Traffic {
    pub full: Vec<Step>,
    pub none: Vec<Step>,
    /// Entries on this rank.
    pub local: u64,
    /// Seconds of plain copies of one vector to another.
    pub copies: Vec<f64>,
    /// Bytes of a step without stored vectors, by the [law](hessian_probe::cost::Work): with a forward product, a central
    /// one.
    pub bytes: [f64; 2],
}

/// One Lanczos step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub all_reduces: usize,
    pub values: usize,
    pub gradients: usize,
    /// Seconds of the product without its gradients and reductions: displacing θ, differences.
    pub product: f64,
    /// Seconds of the rest without reductions: recurrence, orthogonalisation, the next vector.
    pub lanczos: f64,
}

impl Traffic {
    /// The time of a step without stored vectors whose product took `gradients` gradients, over that of a plain copy of as
    /// many bytes.
    pub fn over_a_copy(&self, gradients: usize) -> f64 {
        let (product, lanczos) = self.per_entry(&self.none, gradients);
        let step = (product + lanczos) * 1e-9 * self.local as f64;
        // A copy reads a vector and writes one.
        let byte = median(&self.copies) / (8 * self.local) as f64;
        step / (byte * self.bytes[gradients - 1])
    }

    /// Nanoseconds per entry and step of products that took `gradients` gradients, and of the rest.
    pub fn per_entry(&self, steps: &[Step], gradients: usize) -> (f64, f64) {
        let product: Vec<f64> =
            steps.iter().filter(|step| step.gradients == gradients).map(|step| step.product).collect();
        let lanczos: f64 = steps.iter().map(|step| step.lanczos).sum::<f64>() / steps.len() as f64;
        let scale = 1e9 / self.local as f64;
        (median(&product) * scale, lanczos * scale)
    }
}

/// Counters at a moment.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    all_reduces: usize,
    values: usize,
    gradients: usize,
    /// Seconds that are not vector work.
    elsewhere: f64,
}

impl Mark {
    fn now(log: &Log) -> Self {
        Self {
            at: Instant::now(),
            all_reduces: log.reductions.len(),
            values: log.reductions.iter().sum(),
            gradients: log.gradients.len(),
            elsewhere: log.gradients.iter().sum::<f64>() + log.reducing,
        }
    }

    fn worked_until(self, later: Self) -> f64 {
        (later.at - self.at).as_secs_f64() - (later.elsewhere - self.elsewhere)
    }
}

/// The operator of a probe, with marks before and after each product.
struct Marked<'a, 'h> {
    inner: FiniteDifference<'a, 'h>,
    log: Rc<RefCell<Log>>,
    marks: Vec<(Mark, Mark)>,
}

impl<'a, 'h> Wrapper for Marked<'a, 'h> {
    type Inner = FiniteDifference<'a, 'h>;

    fn inner(&self) -> &Self::Inner {
        &self.inner
    }

    fn inner_mut(&mut self) -> &mut Self::Inner {
        &mut self.inner
    }

    fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> hessian_probe::Result<Product> {
        let before = Mark::now(&self.log.borrow());
        let product = self.inner.apply(index, q, expected_norm, target)?;
        self.marks.push((before, Mark::now(&self.log.borrow())));
        Ok(product)
    }
}

pub fn measure(case: &Case) -> Result<Traffic> {
    let mut trainer = case.trainer(case.group()?)?;
    trainer.step()?;
    let mut host = Instrumented::new(trainer, None);
    let layout = Layout::new(&host, None)?;
    // The first run also measures the noise, and touches all memory.
    let mut calibration = Calibration::default();
    run(case, &layout, &mut host, &mut calibration, Reorthogonalize::Full)?;
    let full = run(case, &layout, &mut host, &mut calibration, Reorthogonalize::Full)?;
    let none = run(case, &layout, &mut host, &mut calibration, Reorthogonalize::None)?;
    let local = layout.local_len() as u64;
    Ok(Traffic { full, none, local, copies: copies(&layout)?, bytes: bytes(case, &layout, &host)? })
}

/// What the law has for a step of a run without stored vectors, with a forward product and with a central one.
fn bytes(case: &Case, layout: &Layout, host: &Instrumented) -> Result<[f64; 2]> {
    let mut config = ProbeConfig::default();
    (config.slq.steps, config.slq.probes) = (case.steps, 1);
    config.slq.reorthogonalize = Reorthogonalize::None;
    let (facts, steps) = (Facts::of(host, layout, &config), case.steps as u64);
    let of = |products| -> Result<f64> {
        let work = Work::new(&facts, &config, &Course { products, ..Course::default() })?;
        Ok((work.products.bytes + work.lanczos.bytes) as f64 / steps as f64)
    };
    let none = Products::default();
    Ok([of(Products { forward: steps, ..none })?, of(Products { central: steps, ..none })?])
}

/// What the machine takes for a vector that is read and one that is written.
fn copies(layout: &Layout) -> Result<Vec<f64>> {
    let from = ShardedVector::zeros(layout)?.tensor().shallow_clone();
    let mut to = ShardedVector::zeros(layout)?.tensor().shallow_clone();
    (0..21)
        .map(|_| {
            let started = Instant::now();
            to.f_copy_(&from)?;
            Ok(started.elapsed().as_secs_f64())
        })
        .collect()
}

/// What a probe does with one vector, step by step.
fn run(
    case: &Case,
    layout: &Layout,
    host: &mut Instrumented,
    calibration: &mut Calibration,
    reorthogonalize: Reorthogonalize,
) -> Result<Vec<Step>> {
    let mut basis = Basis::new(layout, reorthogonalize, case.steps)?;
    let start = basis.next_row()?;
    RandomProbe::new(0, 0, Distribution::Rademacher).write_scaled(layout, &start)?;
    basis.commit()?;
    let mut w = ShardedVector::zeros(layout)?.tensor().shallow_clone();
    let config = HvpConfig::default();
    let (log, never) = (host.log.clone(), Interrupter::default());
    let inner = FiniteDifference::new(
        host,
        layout,
        &config,
        calibration,
        &never,
        Start { vector: &start, spare: None },
        &mut w,
    )?;
    let mut operator = Marked { inner, log: log.clone(), marks: Vec::new() };
    Lanczos { steps: case.steps, reorthogonalize }.run(&mut operator, &mut basis, &mut w)?;
    let end = Mark::now(&log.borrow());
    let marks = operator.marks;
    let starts_of_next = marks.iter().skip(1).map(|&(before, _)| before).chain([end]);
    Ok(marks
        .iter()
        .zip(starts_of_next)
        .map(|(&(before, after), next)| Step {
            all_reduces: next.all_reduces - before.all_reduces,
            values: next.values - before.values,
            gradients: next.gradients - before.gradients,
            product: before.worked_until(after),
            lanczos: after.worked_until(next),
        })
        .collect())
}
