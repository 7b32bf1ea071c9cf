//! The host.

use crate::derivatives;
use crate::error::Result;
use crate::evaluation::evaluate;
use crate::loss::Loss;
use crate::mean::{agree_at, mean};
use crate::variables::Variables;
use hessian_probe::{
    Gradient, Host, HostError, Optimizer, ProcessGroup, Progress, RandomState, Shard, SingleProcess, Update,
};
use std::fmt;
use tch::Tensor;
use tch::nn::VarStore;

/// What a loop on a [`VarStore`] lends to a probe: its trainable variables, and the loss of a closure at their present
/// values. The [crate's page](crate) has a loop with all calls.
///
/// ```
/// use hessian_probe::Host;
/// use hessian_probe_var_store::VarStoreHost;
/// use tch::{Device, Kind, Tensor, nn};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let (w, b) = (vs.root().ones("w", &[2]), vs.root().zeros("b", &[1]));
/// let _ = b.set_requires_grad(false); // a constant
/// let x = Tensor::from_slice(&[1.0_f32, 2.0]);
/// let mut host = VarStoreHost::new(&vs, || (w.dot(&x) + &b).square().sum(Kind::Float))?.targets(1);
/// assert_eq!(host.shards().len(), 1);
///
/// // L = (w·x + b)²: ∇L = 2 (w·x + b) x, and Hv = 2 (x·v) x.
/// let gradient = host.gradient()?;
/// assert_eq!(gradient.loss, 9.0);
/// assert_eq!(gradient.tensors, [Tensor::from_slice(&[6.0_f32, 12.0])]);
/// assert_eq!(host.exact_hvp(&[Tensor::from_slice(&[1.0_f32, 1.0])])?, [Tensor::from_slice(&[6.0_f32, 12.0])]);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct VarStoreHost<'g, F> {
    variables: Variables,
    closure: F,
    group: &'g dyn ProcessGroup,
    targets: Option<u64>,
    progress: Progress,
    training_loss: Option<f64>,
    optimizer: Option<Optimizer>,
    update: Option<Update>,
}

impl<F> fmt::Debug for VarStoreHost<'_, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("VarStoreHost")
            .field("parameters", &self.variables.parameters.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("targets", &self.targets)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl<F: FnMut() -> L, L: Loss> VarStoreHost<'static, F> {
    /// A host in one process. `loss` computes the mean loss of a fixed batch with the model in `vs`: a tensor of one number,
    /// or a `Result` of one.
    ///
    /// Which variables are parameters is settled here: make it after the model, and after freezing.
    ///
    /// # Errors
    /// [`NothingTrainable`](crate::Error::NothingTrainable).
    pub fn new(vs: &VarStore, loss: F) -> Result<Self> {
        let variables = Variables::of(vs)?;
        Ok(Self {
            variables,
            closure: loss,
            group: &SingleProcess,
            targets: None,
            progress: Progress::default(),
            training_loss: None,
            optimizer: None,
            update: None,
        })
    }
}

impl<'g, F> VarStoreHost<'g, F> {
    /// The same in a data-parallel loop: every rank holds all parameters, with the same values, and its closure computes the
    /// loss of its own part of the probe batch. The loss of the probe is the mean over ranks.
    #[must_use]
    pub fn over<'a>(self, group: &'a dyn ProcessGroup) -> VarStoreHost<'a, F> {
        let Self { variables, closure, targets, progress, training_loss, optimizer, update, .. } = self;
        VarStoreHost { variables, closure, group, targets, progress, training_loss, optimizer, update }
    }

    /// Says how many targets (examples, tokens) of all ranks the loss is a mean over, for the snapshots.
    #[must_use]
    pub fn targets(self, targets: u64) -> Self {
        Self { targets: Some(targets), ..self }
    }

    /// Says where training stands, for schedules like `"0.1dur"` and `"1e9tok"`.
    pub fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Says what the loss of the last training step was, of this rank's part of the batch or of all, for `[triggers]`: after
    /// every step, since a loss that was told stays, and is counted again for a step that tells none.
    pub fn set_training_loss(&mut self, loss: f64) {
        self.training_loss = Some(loss);
    }

    /// Says what the loop's optimizer is, so that a probe can tell its `margin`: before training, and again whenever the
    /// learning rate changes. For SGD rule and learning rate are enough. tch's own Adam keeps its second moments to itself:
    /// only an optimizer whose moments the loop holds can lend them, aligned with [`shards`](Host::shards), and then says
    /// after each step how many it has taken.
    pub fn set_optimizer(&mut self, optimizer: Optimizer) {
        self.optimizer = Some(optimizer);
    }

    /// Says what the optimizer's last or coming update is, for `[directions]` and `[sharpness]`: what it adds to each
    /// parameter, aligned with [`shards`](Host::shards); the same on all ranks.
    pub fn set_update(&mut self, update: Update) {
        self.update = Some(update);
    }
}

impl<F: FnMut() -> L, L: Loss> VarStoreHost<'_, F> {
    fn evaluate<T>(&mut self, derive: impl FnOnce(&Variables, &Tensor) -> Result<T>) -> Result<(f64, T)> {
        let Self { variables, closure, group, .. } = self;
        let outcome = evaluate(variables, closure, |loss| derive(variables, loss));
        agree_at(*group, variables, outcome)
    }
}

impl<F: FnMut() -> L, L: Loss> Host for VarStoreHost<'_, F> {
    fn shards(&self) -> Vec<Shard> {
        let parameters = self.variables.parameters.iter();
        let replicated = self.group.world_size() > 1;
        Shard::whole(parameters.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())), replicated)
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let (loss, tensors) =
            self.evaluate(|variables, loss| derivatives::gradient(&variables.tensors(), loss))?;
        Ok(Gradient { loss, tensors: mean(self.group, tensors)? })
    }

    // With a graph: a loss may contain gradients of its own.
    fn loss(&mut self) -> Result<f64, HostError> {
        Ok(self.evaluate(|_, _| Ok(()))?.0)
    }

    fn group(&self) -> &dyn ProcessGroup {
        self.group
    }

    fn offers_exact_hvp(&self) -> bool {
        true
    }

    /// By differentiating twice, on every rank for its own part of the batch. Fails where an operation of the model has no
    /// second derivative (libtorch's fused attention, for one).
    fn exact_hvp(&mut self, v: &[Tensor]) -> Result<Vec<Tensor>, HostError> {
        let (_, product) =
            self.evaluate(|variables, loss| derivatives::product(&variables.tensors(), loss, v))?;
        Ok(mean(self.group, product)?)
    }

    fn probe_tokens(&self) -> Option<u64> {
        self.targets
    }

    /// What [`set_optimizer`](VarStoreHost::set_optimizer) said.
    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        Ok(self.optimizer.as_ref().map(Optimizer::shallow_clone))
    }

    /// What [`set_update`](VarStoreHost::set_update) said.
    fn update(&mut self) -> Result<Option<Update>, HostError> {
        Ok(self.update.as_ref().map(Update::shallow_clone))
    }

    fn training_loss(&self) -> Option<f64> {
        self.training_loss
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn random_state(&mut self) -> Result<Option<RandomState>, HostError> {
        Ok(Some(RandomState(self.variables.random_state()?)))
    }

    fn set_random_state(&mut self, state: &RandomState) -> Result<(), HostError> {
        let (given, own) = (state.0.len(), self.variables.devices().len());
        if given != own {
            return Err(format!("a random state of {given} generators, not of this host's {own}").into());
        }
        Ok(self.variables.set_random_state(&state.0)?)
    }
}
