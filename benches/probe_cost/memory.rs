//! How much memory a probe takes on top of training.
//!
//! Two processes that train and compute the probe's gradient; one of them also probes. Their peaks of
//! resident memory differ by what the probe holds at its gradients' own peak, temporaries included. The
//! batch is small, so that the peak is not one of activations that would hide the probe's temporaries, and
//! malloc is told to return what is freed. Both probe a host of a few parameters first: what a first probe
//! brings into any process (libtorch's code for it, a thread that writes logs) is told apart.

use crate::Result;
use crate::case::Case;
use crate::support::memory::resident;
use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
use serde::{Deserialize, Serialize};
use tch::Tensor;

#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The peak of resident memory in bytes; `None` where the system does not tell.
    pub peak: Option<u64>,
    /// Resident bytes that a first probe of a few parameters left.
    pub once: Option<u64>,
    /// The probe's own account.
    pub basis: u64,
    /// Of all other vectors.
    pub vectors: u64,
    /// Bytes of this rank's parameters.
    pub shard: u64,
}

pub fn measure(case: &Case, probe: bool) -> Result<Memory> {
    let mut trainer = case.trainer(case.group()?)?;
    let before = resident("VmRSS:");
    {
        let (mut first, _directory) = case.probe(|_| {})?;
        // Different values, so that the Hessian has many eigenvalues and no code path is left out.
        let values: Vec<f32> = (1..=64_u8).map(|index| f32::from(index) / 64.0).collect();
        first.probe(0, &mut Few(Tensor::f_from_slice(&values)?))?;
    }
    let once = resident("VmRSS:").zip(before).map(|(after, before)| after.saturating_sub(before));
    for _ in 0..2 {
        trainer.step()?;
        trainer.gradient()?;
    }
    let shard = trainer.shards().iter().map(|shard| 4 * shard.tensor.numel() as u64).sum();
    let mut memory = Memory { peak: None, once, basis: 0, vectors: 0, shard };
    if probe {
        let (mut probe, _directory) = case.probe(|_| {})?;
        let cost = &probe.probe(0, &mut trainer)?.cost;
        (memory.basis, memory.vectors) = (cost.basis_bytes, cost.vector_bytes);
    }
    memory.peak = resident("VmHWM:");
    Ok(memory)
}

/// A host of few parameters with the loss Σ θ⁴/4.
struct Few(Tensor);

impl Host for Few {
    fn shards(&self) -> Vec<Shard> {
        vec![Shard {
            name: "few".into(),
            block: "few".into(),
            tensor: self.0.shallow_clone(),
            global_offset: 0,
            replicated: false,
        }]
    }

    fn gradient(&mut self) -> std::result::Result<Gradient, HostError> {
        let cube = self.0.f_mul(&self.0)?.f_mul(&self.0)?;
        Ok(Gradient { loss: cube.f_dot(&self.0)?.f_double_value(&[])? / 4.0, tensors: vec![cube] })
    }

    fn group(&self) -> &dyn ProcessGroup {
        &SingleProcess
    }
}
