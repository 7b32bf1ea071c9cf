//! The process that measures this crate: what `benches/peers/measure.py` does for the others.

use super::found::{Found, Memory, Outcome, RESULT, Times};
use super::task::{AUTO, Measure, REFERENCE, Task};
use super::{clock, inputs};
use crate::{Result, memory};
use hessian_probe::config::{Difference, HvpConfig, LogConfig, SlqConfig};
use hessian_probe::krylov::Operator;
use hessian_probe::operator::{Calibration, FiniteDifference, Start};
use hessian_probe::sharded::Layout;
use hessian_probe::{HessianProbe, Host, Interrupter, OnError, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Attention, Dtype, Evaluation, EvaluationConfig, ModelSource};
use std::path::Path;
use tch::{Kind, Tensor};

/// Does a task, and prints what was found as one line.
///
/// # Errors
/// Where something of ours fails: that is no result.
pub fn work(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task)?;
    tch::set_num_threads(i32::try_from(task.threads)?);
    let group = ProcessGroup::single();
    let mut host = evaluation(&task, &group)?;
    let found = match task.measure {
        Measure::Time => serde_json::to_value(found(times(&mut host, &task)?))?,
        Measure::Memory => serde_json::to_value(found(peaks(&mut host, &task)?))?,
    };
    println!("{RESULT}{found}");
    Ok(())
}

fn found<T>(measured: T) -> Found<T> {
    Found { version: env!("CARGO_PKG_VERSION").into(), outcome: Outcome::Measured(measured) }
}

/// As `hessian-probe spectrum` evaluates a model: fused attention where gradients are enough.
fn evaluation<'g>(task: &Task, group: &'g ProcessGroup) -> Result<Evaluation<'g>> {
    let config = EvaluationConfig {
        dtype: if task.products == REFERENCE { Dtype::F64 } else { Dtype::F32 },
        attention: if task.products == AUTO { Attention::Sdpa } else { Attention::Plain },
        ..EvaluationConfig::default()
    };
    let mut evaluation = Evaluation::new(&ModelSource::open_together(&task.model, group)?, group, config)?;
    evaluation.set_sequences(&inputs::sequences(&task.data)?)?;
    Ok(evaluation)
}

fn hvp(task: &Task) -> HvpConfig {
    let difference = if task.products == AUTO { Difference::Auto } else { Difference::Exact };
    // The noise is measured once, as in a training that is probed now and then.
    HvpConfig { difference, recalibrate_every: u64::MAX, ..HvpConfig::default() }
}

fn times(host: &mut Evaluation<'_>, task: &Task) -> Result<Times> {
    let mut products = Products::new(host, task)?;
    let (loss, gradient) = host.mean_gradient()?;
    let norm = norm(&gradient)?;
    // Once before the clock runs: the noise is measured, and buffers are made.
    products.take(host)?;
    products.write(host, &task.product)?;
    let (mut gradient_seconds, mut product_seconds) = (Vec::new(), Vec::new());
    for _ in 0..task.rounds {
        gradient_seconds.push(clock::time(|| Ok(host.mean_gradient()?.0))?.1);
        product_seconds.push(products.take(host)?);
    }
    let mut probe = HessianProbe::new(probe(task))?;
    let (snapshot, run_seconds) = clock::time(|| Ok(probe.probe(0, host)?.clone()))?;
    let parameters = snapshot.parameters as f64;
    let forms = snapshot.probes.iter().filter_map(|probe| probe.alpha.first());
    Ok(Times {
        loss,
        gradient_norm: norm,
        gradient_seconds,
        product_seconds,
        lambda_max: snapshot.lambda_max.value,
        residual: Some(snapshot.lambda_max.residual),
        run_products: snapshot.probes.iter().map(|probe| probe.alpha.len() as u64).sum(),
        run_seconds,
        traces: forms.map(|form| form * parameters).collect(),
        notes: Vec::new(),
    })
}

fn peaks(host: &mut Evaluation<'_>, task: &Task) -> Result<Memory> {
    host.mean_gradient()?;
    let resident = memory::resident("VmRSS:");
    let gradient_peak = memory::peak_of(|| {
        host.mean_gradient()?;
        Ok(())
    })?;
    let product_peak = memory::peak_of(|| {
        let mut products = Products::new(host, task)?;
        for _ in 0..2 {
            products.take(host)?;
        }
        Ok(())
    })?;
    Ok(Memory { resident, gradient_peak, product_peak })
}

/// Stochastic Lanczos quadrature from the vectors of the task.
fn probe(task: &Task) -> ProbeConfig {
    ProbeConfig {
        on_error: OnError::Stop,
        slq: SlqConfig {
            steps: task.steps,
            probes: task.vectors.len(),
            seed: inputs::SEED,
            ..SlqConfig::default()
        },
        hvp: hvp(task),
        log: LogConfig { tensorboard: false, jsonl: false, ..LogConfig::default() },
        ..ProbeConfig::default()
    }
}

/// Products with the first vector.
struct Products {
    layout: Layout,
    config: HvpConfig,
    calibration: Calibration,
    interrupter: Interrupter,
    vector: Tensor,
    /// Hv / `scale`.
    product: Tensor,
    scale: f64,
}

impl Products {
    fn new(host: &Evaluation<'_>, task: &Task) -> Result<Self> {
        let layout = Layout::new(host, None)?;
        let zeros = || Tensor::f_zeros([layout.local_len()], (layout.kind(), layout.device()));
        let (vector, product) = (zeros()?, zeros()?);
        inputs::draw(0).write_scaled(&layout, &vector)?;
        let (calibration, interrupter) = (Calibration::default(), Interrupter::default());
        Ok(Self { layout, config: hvp(task), calibration, interrupter, vector, product, scale: 1.0 })
    }

    /// One product, and the seconds of it alone: what a run does once, the gradient at θ₀ and the loan of the host, is
    /// in the seconds of a run.
    fn take(&mut self, host: &mut Evaluation<'_>) -> Result<f64> {
        let Self { layout, config, calibration, interrupter, vector, product, scale } = self;
        let start = Start { vector, spare: None };
        let mut operator =
            FiniteDifference::new(host, layout, config, calibration, interrupter, start, product)?;
        let (found, seconds) = clock::time(|| Ok(operator.apply(0, vector, None, product)?))?;
        *scale = found.scale;
        Ok(seconds)
    }

    /// Hv by the parameters' names.
    fn write(&self, host: &Evaluation<'_>, path: &Path) -> Result<()> {
        let product = self.product.f_to_kind(Kind::Double)?.f_mul(&Tensor::from(self.scale))?;
        let shards = host.shards();
        let tensors = self.layout.segments().iter().map(|segment| {
            let piece = product.f_narrow(0, segment.start, segment.len)?;
            Ok((shards[segment.shard].name.as_str(), piece))
        });
        Tensor::write_safetensors(&tensors.collect::<Result<Vec<_>>>()?, path)?;
        Ok(())
    }
}

fn norm(tensors: &[Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for tensor in tensors {
        let flat = tensor.f_detach()?.f_reshape([-1])?.f_to_kind(Kind::Double)?;
        sum += flat.f_dot(&flat)?.f_double_value(&[])?;
    }
    Ok(sum.sqrt())
}
