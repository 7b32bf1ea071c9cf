//! What a store holds: parameters, constants, buffers.

use crate::error::{During, Error, Result};
use hessian_probe_c10d::generator;
use std::collections::HashSet;
use tch::nn::VarStore;
use tch::{Device, Tensor};

const KEEPING: &str = "keeping the store's buffers and the random state";

/// The variables of a store by what an evaluation does with them.
#[derive(Debug)]
pub(crate) struct Variables {
    /// Those that require a gradient, by name.
    pub(crate) parameters: Vec<(String, Tensor)>,
    /// Those that a forward pass may change: registered as not trainable. Frozen parameters are not among them: nothing
    /// changes them, and they may be most of the model.
    buffers: Vec<Tensor>,
    /// Whose generators a forward pass may draw from.
    devices: Vec<Device>,
}

impl Variables {
    pub(crate) fn of(vs: &VarStore) -> Result<Self> {
        let registered: HashSet<_> = vs.trainable_variables().iter().map(Tensor::data_ptr).collect();
        let mut named: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
        // The store's own order is that of a hash table: another on each rank.
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let variables = named.len();
        let (parameters, others): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|(_, tensor)| tensor.requires_grad());
        if parameters.is_empty() {
            return Err(Error::NothingTrainable { variables });
        }
        let others = others.into_iter().map(|(_, tensor)| tensor);
        let buffers = others.filter(|tensor| !registered.contains(&tensor.data_ptr())).collect();
        let mut devices = vec![Device::Cpu];
        devices.extend(Some(vs.device()).filter(|device| *device != Device::Cpu));
        Ok(Self { parameters, buffers, devices })
    }

    pub(crate) fn tensors(&self) -> Vec<&Tensor> {
        self.parameters.iter().map(|(_, tensor)| tensor).collect()
    }

    /// Whose generators an evaluation keeps.
    pub(crate) fn devices(&self) -> &[Device] {
        &self.devices
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.parameters.iter().find(|(_, tensor)| !tensor.requires_grad()) {
            Some((name, _)) => Err(Error::Frozen { parameter: name.clone() }),
            None => Ok(()),
        }
    }

    /// The states of all generators that the closure may draw from.
    pub(crate) fn random_state(&self) -> Result<Vec<Vec<u8>>> {
        self.devices.iter().map(|device| generator::state(*device).during(KEEPING)).collect()
    }

    pub(crate) fn set_random_state(&self, states: &[Vec<u8>]) -> Result<()> {
        let mut outcome = Ok(());
        // One that fails must not keep the others from being restored.
        for (device, state) in self.devices.iter().zip(states) {
            outcome = outcome.and(generator::set_state(*device, state).during(KEEPING));
        }
        outcome
    }

    /// Copies of what an evaluation may change.
    pub(crate) fn keep(&self) -> Result<Kept> {
        let copies = self.buffers.iter().map(copied).collect::<Result<_, _>>().during(KEEPING)?;
        Ok(Kept { copies, random: self.random_state()? })
    }

    pub(crate) fn put_back(&self, kept: &Kept) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut outcome = self.set_random_state(&kept.random);
        for (buffer, copy) in self.buffers.iter().zip(&kept.copies) {
            outcome = outcome.and(buffer.shallow_clone().f_copy_(copy).during(KEEPING));
        }
        outcome
    }
}

/// What a store's buffers and the generators were.
#[derive(Debug)]
pub(crate) struct Kept {
    copies: Vec<Tensor>,
    random: Vec<Vec<u8>>,
}

fn copied(tensor: &Tensor) -> Result<Tensor, tch::TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
