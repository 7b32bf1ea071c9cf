//! The host.

use crate::error::Result;
use crate::evaluation::{self, evaluate};
use crate::group::SharedGroup;
use crate::parameters::Parameters;
use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Progress, RandomState, Shard};
use hessian_probe_var_store::{Error as Evaluation, Loss, agree, derivatives};
use rusttorch::distributed::ShardedTrainer;
use std::collections::BTreeMap;
use std::fmt;
use tch::Tensor;

/// What a loop on a [`ShardedTrainer`] lends to a probe: the trainer's own shards, and the loss of a closure at their present
/// values. The [crate's page](crate) has a loop with all calls.
///
/// ```
/// use hessian_probe::Host;
/// use hessian_probe_rusttorch::{ShardedTrainerHost, SharedGroup};
/// use rusttorch::distributed::{GroupOptions, ProcessGroup, ShardedTrainer};
/// use rusttorch::{Tensor, optim::Sgd};
/// use std::net::TcpListener;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let group = SharedGroup::new(ProcessGroup::accept(listener, 1, GroupOptions::new("doc"))?);
/// let parameters = vec![("w".to_owned(), Tensor::from_slice(&[1.0_f32, 2.0]))];
/// let mut trainer =
///     ShardedTrainer::new(&mut group.borrow_mut(), parameters, |store| Sgd::builder().build(store))?;
/// let mut host = ShardedTrainerHost::new(&mut trainer, &group, |p| p["w"].f_dot(&p["w"]))?.targets(1);
///
/// // L = ‖w‖².
/// let gradient = host.gradient().map_err(|error| error.to_string())?;
/// assert_eq!(gradient.loss, 5.0);
/// assert_eq!(gradient.tensors, [Tensor::from_slice(&[2.0_f32, 4.0])]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShardedTrainerHost<'a, F> {
    trainer: &'a mut ShardedTrainer,
    group: &'a SharedGroup,
    parameters: Parameters,
    closure: F,
    targets: Option<u64>,
    progress: Progress,
}

impl<F> fmt::Debug for ShardedTrainerHost<'_, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ShardedTrainerHost")
            .field("parameters", &self.parameters.names().collect::<Vec<_>>())
            .field("targets", &self.targets)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl<'a, F: FnMut(&BTreeMap<String, Tensor>) -> L, L: Loss> ShardedTrainerHost<'a, F> {
    /// A host for `trainer`, made by all ranks together: the parameters are gathered once, to learn their shapes.
    ///
    /// `loss` gets the whole parameters, as the closure of `train_step` does, and computes the mean loss of this rank's part
    /// of a fixed probe batch: a tensor of one number, or a `Result` of one. The loss of the probe is the mean over ranks, as
    /// in training.
    ///
    /// # Errors
    /// [`Collective`](crate::Error::Collective) where the parameters cannot be gathered,
    /// [`GroupInUse`](crate::Error::GroupInUse).
    pub fn new(trainer: &'a mut ShardedTrainer, group: &'a SharedGroup, loss: F) -> Result<Self> {
        let parameters = Parameters::of(trainer, group)?;
        Ok(Self { trainer, group, parameters, closure: loss, targets: None, progress: Progress::default() })
    }
}

impl<F> ShardedTrainerHost<'_, F> {
    /// Says how many targets (examples, tokens) of all ranks the loss is a mean over, for the snapshots.
    #[must_use]
    pub fn targets(self, targets: u64) -> Self {
        Self { targets: Some(targets), ..self }
    }

    /// Says where training stands, for schedules like `"0.1dur"` and `"1e9tok"`.
    pub fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// The trainer, for the loop's own steps and checkpoints.
    pub fn trainer(&mut self) -> &mut ShardedTrainer {
        self.trainer
    }
}

impl<F: FnMut(&BTreeMap<String, Tensor>) -> L, L: Loss> ShardedTrainerHost<'_, F> {
    fn evaluate<T>(
        &mut self,
        derive: impl FnOnce(&[&Tensor], &Tensor) -> hessian_probe_var_store::Result<T>,
    ) -> Result<(f64, T)> {
        let trainer = &mut *self.trainer;
        let mut full = self.group.call("gathering the parameters", |group| trainer.full_parameters(group))?;
        let outcome = match self.parameters.check(trainer, &full) {
            Ok(()) => evaluate(&mut full, &mut self.closure, derive),
            Err(error) => Ok(Err(error)),
        };
        drop(full);
        // The crate's own way of agreeing would close the group.
        agree(self.group, outcome, &mut [])
    }
}

impl<F: FnMut(&BTreeMap<String, Tensor>) -> L, L: Loss> Host for ShardedTrainerHost<'_, F> {
    fn shards(&self) -> Vec<Shard> {
        self.parameters.shards()
    }

    /// Gathers the parameters, differentiates on every rank for its own part of the batch, and reduces: what `train_step`
    /// does, with the same bits.
    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let (loss, gradient) = self.evaluate(derivatives::gradient)?;
        Ok(Gradient { loss, tensors: self.parameters.reduce_scatter(gradient, self.group)? })
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

    /// By differentiating twice; the whole vector is gathered beside the whole parameters. Fails where an operation of the
    /// model has no second derivative (libtorch's fused attention, for one).
    fn exact_hvp(&mut self, v: &[Tensor]) -> Result<Vec<Tensor>, HostError> {
        let Some(whole) = self.parameters.gather(v, self.group)? else {
            let parameters = self.parameters.names().count();
            return Err(Evaluation::Misaligned { given: v.len(), parameters }.into());
        };
        let (_, product) =
            self.evaluate(|parameters, loss| derivatives::product(parameters, loss, &whole))?;
        Ok(self.parameters.reduce_scatter(product, self.group)?)
    }

    fn probe_tokens(&self) -> Option<u64> {
        self.targets
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn random_state(&mut self) -> Result<Option<RandomState>, HostError> {
        Ok(Some(RandomState(vec![evaluation::random_state()?])))
    }

    fn set_random_state(&mut self, state: &RandomState) -> Result<(), HostError> {
        match state.0.as_slice() {
            [state] => Ok(evaluation::set_random_state(state)?),
            other => {
                Err(format!("a random state of {} generators, not of this host's one", other.len()).into())
            }
        }
    }
}
