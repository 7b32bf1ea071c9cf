//! What a training loop lends to a probe.

use crate::group::{HostError, ProcessGroup};
use crate::optimizer::Optimizer;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// One rank's slice of one parameter.
///
/// The parameters of a model, flattened and put one behind the other in an order that is equal on
/// all ranks, have *global indices* `0..n`. A shard is a contiguous range of them.
///
/// ```
/// use hessian_probe::Shard;
/// use tch::Tensor;
///
/// // What the second of two ranks lends of a weight of five, which is sharded, and a norm of two, which is not.
/// let (weight, norm) = (Tensor::from_slice(&[0.4, 0.5]), Tensor::from_slice(&[1.0, 1.0]));
/// let shard = |name: &str, tensor: &Tensor, global_offset, replicated| Shard {
///     name: name.into(),
///     block: "layers.0".into(),
///     tensor: tensor.shallow_clone(),
///     global_offset,
///     replicated,
/// };
/// let shards = [shard("layers.0.weight", &weight, 3, false), shard("layers.0.norm", &norm, 5, true)];
///
/// // In one process each parameter is a shard.
/// let whole = Shard::whole([("layers.0.weight".to_owned(), weight), ("layers.0.norm".to_owned(), norm)], false);
/// assert_eq!((whole[1].block.as_str(), whole[1].global_offset), ("layers.0", 2));
/// assert_eq!(shards[0].name, whole[0].name);
/// ```
#[derive(Debug)]
pub struct Shard {
    /// The parameter's name, for messages and tables.
    pub name: String,
    /// The block (layer) that the parameter belongs to.
    pub block: String,
    /// A contiguous tensor that *aliases* this rank's slice: writing to it changes the parameter that
    /// the next [`Host::gradient`] uses. Padding excluded; empty where this rank owns nothing of it.
    pub tensor: Tensor,
    /// The global index of the slice's first element.
    pub global_offset: u64,
    /// Whether every rank holds the whole parameter (a layer norm that is not sharded, all of the
    /// model under plain data parallelism). It is counted once.
    pub replicated: bool,
}

impl Shard {
    /// Shards of a model that every rank holds whole (`replicated`), or that a single process does: all of
    /// each parameter, in the order given, which must be equal on all ranks. The block is the name up to
    /// its first number (`model.layers.0`), else up to its last dot, else all of it.
    pub fn whole(parameters: impl IntoIterator<Item = (String, Tensor)>, replicated: bool) -> Vec<Self> {
        let mut end = 0;
        parameters
            .into_iter()
            .map(|(name, tensor)| {
                let global_offset = end;
                end += tensor.numel() as u64;
                let block = block_of(&name).to_owned();
                Self { name, block, tensor, global_offset, replicated }
            })
            .collect()
    }
}

/// The layer that a name tells.
fn block_of(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            return &name[..end];
        }
        end += 1;
    }
    name.rsplit_once('.').map_or(name, |(block, _)| block)
}

/// The probe loss and its gradient at the parameters' present values.
///
/// ```
/// use hessian_probe::Gradient;
/// use tch::Tensor;
///
/// // L = ‖θ‖²/2.
/// let theta = Tensor::from_slice(&[3.0, 4.0]);
/// let loss = theta.f_dot(&theta)?.f_double_value(&[])? / 2.0;
/// let gradient = Gradient { loss, tensors: vec![theta] };
/// assert_eq!(gradient.loss, 12.5);
/// # Ok::<(), tch::TchError>(())
/// ```
#[derive(Debug)]
pub struct Gradient {
    /// The mean loss over the probe batch of all ranks; equal on all ranks.
    pub loss: f64,
    /// The gradient of that mean, reduced over ranks, aligned with [`Host::shards`]: the same number
    /// of tensors with the same number of elements. May alias the loop's own buffers; is read before
    /// the next call of [`Host::gradient`].
    pub tensors: Vec<Tensor>,
}

/// A step of the loop's optimizer.
///
/// ```
/// use hessian_probe::Update;
/// use tch::{TchError, Tensor};
///
/// /// Gradient descent's, between the backward pass and the step.
/// fn coming(gradients: &[Tensor], learning_rate: f64) -> Result<Update, TchError> {
///     let tensors = gradients.iter().map(|gradient| gradient.f_mul_scalar(-learning_rate));
///     Ok(Update { tensors: tensors.collect::<Result<_, _>>()?, coming: true })
/// }
///
/// let update = coming(&[Tensor::from_slice(&[2.0, -4.0])], 0.5)?;
/// assert_eq!(update.tensors, [Tensor::from_slice(&[-1.0, 2.0])]);
/// # Ok::<(), TchError>(())
/// ```
#[derive(Debug)]
pub struct Update {
    /// u, the change of θ, aligned with [`Host::shards`]: as many tensors with as many entries.
    pub tensors: Vec<Tensor>,
    /// Whether it is the update that comes next: between the backward pass and the optimizer's step. Otherwise the last
    /// one.
    pub coming: bool,
}

impl Update {
    /// The same tensors by other handles: what a host lends of an update that it keeps.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self { tensors: self.tensors.iter().map(Tensor::shallow_clone).collect(), coming: self.coming }
    }
}

/// Where the training stands, as far as the loop can tell.
///
/// ```
/// use hessian_probe::Progress;
///
/// // `every = "0.1dur"` is then every 100 steps, and `at = ["1e9tok"]` not yet.
/// let progress = Progress { total_steps: Some(1000), tokens: Some(262_144) };
/// assert_ne!(progress, Progress::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps that the whole training will take: what `"0.1dur"` in a schedule refers to.
    pub total_steps: Option<u64>,
    /// Tokens seen so far by all ranks: what `"1e9tok"` in a schedule refers to.
    pub tokens: Option<u64>,
}

/// A saved state of the random generators that the loop's forward pass draws from: opaque bytes that
/// only the host that made them understands.
///
/// ```
/// use hessian_probe::{HostError, RandomState};
/// use hessian_probe_c10d::generator;
/// use tch::{Device, Kind, Tensor};
///
/// // What a host with dropout on the CPU returns, and gets back before each gradient.
/// let state = RandomState(vec![generator::state(Device::Cpu)?]);
/// let mask = || Tensor::f_rand([4], (Kind::Float, Device::Cpu));
/// let first = mask()?;
/// generator::set_state(Device::Cpu, &state.0[0])?;
/// assert_eq!(first, mask()?);
/// # Ok::<(), HostError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomState(pub Vec<Vec<u8>>);

/// In which precision the gradients of a probe are computed.
///
/// ```
/// use hessian_probe::{Precision, ProbeConfig};
///
/// let config = ProbeConfig::from_toml_str("[hvp]\nprecision = \"full\"")?;
/// assert_eq!(config.hvp.precision, Precision::Full);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the loop trains.
    #[default]
    Loop,
    /// At least in f32, also where the loop trains in less.
    Full,
}

/// What a loop lends: its parameter shards, its gradient, its group of ranks.
///
/// # Contract
/// - [`shards`](Self::shards) describes the same parameters at every call, in the same order, with
///   the same offsets; tensors keep aliasing the live parameters.
/// - [`gradient`](Self::gradient) is a pure function of the parameters: the same data at each call and,
///   given the same [`random_state`](Self::random_state), the same dropout masks. It leaves nothing
///   behind but its own buffers: no optimizer step, no counters.
/// - After a probe the parameters, the random state and [`live_gradients`](Self::live_gradients) hold
///   the bits that they held before.
///
/// ```
/// use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
/// use tch::{Kind, Tensor, nn};
///
/// /// A model in one process: parameters by name, and the loss of a batch that stays the same.
/// struct Loop<F> {
///     parameters: Vec<(String, Tensor)>,
///     probe_loss: F,
/// }
///
/// impl<F: FnMut() -> Result<Tensor, tch::TchError>> Host for Loop<F> {
///     fn shards(&self) -> Vec<Shard> {
///         // Aliases of the loop's own tensors.
///         Shard::whole(self.parameters.iter().map(|(name, p)| (name.clone(), p.shallow_clone())), false)
///     }
///     fn gradient(&mut self) -> Result<Gradient, HostError> {
///         let loss = (self.probe_loss)()?;
///         let parameters: Vec<&Tensor> = self.parameters.iter().map(|(_, p)| p).collect();
///         let tensors = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
///         Ok(Gradient { loss: loss.f_double_value(&[])?, tensors })
///     }
///     fn group(&self) -> &dyn ProcessGroup {
///         &SingleProcess
///     }
/// }
///
/// let vs = nn::VarStore::new(tch::Device::Cpu);
/// let w = vs.root().ones("w", &[3]);
/// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]);
/// let probe_loss = || w.f_mul(&x)?.f_square()?.f_sum(Kind::Float);
/// let mut host = Loop { parameters: vec![("w".to_owned(), w.shallow_clone())], probe_loss };
///
/// // Called twice at the same parameters, the same bits.
/// let (first, second) = (host.gradient()?, host.gradient()?);
/// assert_eq!((first.loss, second.loss), (14.0, 14.0));
/// assert_eq!(first.tensors, second.tensors);
/// # Ok::<(), HostError>(())
/// ```
///
/// Sharded over ranks: [the guide](https://github.com/hessian-probe/hessian-probe/blob/main/docs/guide/your-host.md).
pub trait Host {
    /// Every parameter's slice on this rank, in an order that is equal on all ranks.
    fn shards(&self) -> Vec<Shard>;

    /// Loss and mean gradient of the probe batch at the parameters' present values.
    ///
    /// # Errors
    /// Whatever the loop's forward and backward pass may meet. The probe restores the parameters,
    /// tells the other ranks and continues or stops as configured.
    fn gradient(&mut self) -> Result<Gradient, HostError>;

    /// The probe loss alone, by a forward pass where the host has a cheaper way than
    /// [`gradient`](Self::gradient).
    ///
    /// # Errors
    /// As [`gradient`](Self::gradient).
    fn loss(&mut self) -> Result<f64, HostError> {
        self.gradient().map(|gradient| gradient.loss)
    }

    /// The ranks that share the model.
    fn group(&self) -> &dyn ProcessGroup;

    /// The narrower type that the forward pass rounds the parameters to before it uses them, at the present
    /// [precision](Self::set_precision): `Some(Kind::BFloat16)` with f32 masters and a bf16 forward pass.
    /// `None`, the default, where it uses them as they are stored.
    fn compute_kind(&self) -> Option<Kind> {
        None
    }

    /// Switches between the loop's own precision and an evaluation in full precision. A probe with
    /// `precision = "full"` asks for [`Precision::Full`] before its first gradient and for
    /// [`Precision::Loop`] on every way out, after the parameters were restored. In full precision
    /// [`shards`](Self::shards) may be of a wider type than in the loop's. The default does nothing: right for
    /// a loop that trains in f32 or f64.
    ///
    /// # Errors
    /// Where the host cannot evaluate in that precision.
    fn set_precision(&mut self, precision: Precision) -> Result<(), HostError> {
        let _ = precision;
        Ok(())
    }

    /// Where the values that [`shards`](Self::shards) lends in `precision` are kept besides, if they are: f32 masters of
    /// parameters that are lent as copies in bf16, or the loop's own parameters in bf16 of copies in f32. One tensor for each
    /// shard, in their order and of their sizes; converted to a shard's type, it holds the shard's bits, and it is not the
    /// shard's own memory. A probe then puts the parameters back from there and keeps no copy of θ₀, which is a vector
    /// less. Empty, the default, where there is nothing of the kind. Also asked for before
    /// [`set_precision`](Self::set_precision), to know what a probe will take. Nothing is written to the sources.
    fn sources(&self, precision: Precision) -> Vec<Tensor> {
        let _ = precision;
        Vec::new()
    }

    /// Whether [`exact_hvp`](Self::exact_hvp) can be called.
    fn offers_exact_hvp(&self) -> bool {
        false
    }

    /// Hv by differentiating twice, for a vector aligned with [`shards`](Self::shards); reduced and sharded
    /// like the gradient, of the same probe batch and the same random state.
    ///
    /// # Errors
    /// As [`gradient`](Self::gradient); the default offers none.
    fn exact_hvp(&mut self, v: &[Tensor]) -> Result<Vec<Tensor>, HostError> {
        let _ = v;
        Err("this host offers no exact Hessian-vector products".into())
    }

    /// How many targets (tokens, examples) of all ranks the probe loss is a mean over.
    fn probe_tokens(&self) -> Option<u64> {
        None
    }

    /// The loop's optimizer: rule, settings and second moments, as aliases. `None`, the default, where the loop does not
    /// tell: then nothing is said about its stability. The same on all ranks but for the tensors. Asked for once a
    /// probe, at its start; nothing of it is written.
    ///
    /// # Errors
    /// Where the moments cannot be lent.
    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        Ok(None)
    }

    /// The coming update, where the loop knows it (between the backward pass and the optimizer's step), or else the last
    /// one; `None`, the default, where it does not tell, or there was none. Leaves everything as it is: no state of the
    /// optimizer changes. May communicate: asked for on all ranks together, before parameters are perturbed, and only
    /// for what the configuration or the user wants of it.
    ///
    /// # Errors
    /// Where it cannot be computed.
    fn update(&mut self) -> Result<Option<Update>, HostError> {
        Ok(None)
    }

    /// The loss of training's last step, before it: of all ranks, or of this rank's part of the batch; what counts is the mean
    /// over ranks. `None`, the default, where the loop does not tell, or has taken no step.
    fn training_loss(&self) -> Option<f64> {
        None
    }

    /// Where the training stands.
    fn progress(&self) -> Progress {
        Progress::default()
    }

    /// Gradient buffers whose contents must survive a probe (gradients accumulated so far, say), as
    /// aliases. Empty, the default, where [`gradient`](Self::gradient) may overwrite what it likes.
    fn live_gradients(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// The state of the generators that the forward pass draws from, or `None` where it draws nothing.
    ///
    /// # Errors
    /// Where the state cannot be read.
    fn random_state(&mut self) -> Result<Option<RandomState>, HostError> {
        Ok(None)
    }

    /// Restores what [`random_state`](Self::random_state) returned. Called before each gradient of a
    /// probe, so that dropout masks repeat, and at its end.
    ///
    /// # Errors
    /// Where the state cannot be restored.
    fn set_random_state(&mut self, state: &RandomState) -> Result<(), HostError> {
        let _ = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::block_of;

    #[test]
    fn the_layer_is_what_stands_up_to_the_first_number() {
        for (name, block) in [
            ("model.layers.10.self_attn.q_proj.weight", "model.layers.10"),
            ("h.0.1.weight", "h.0"),
            ("hidden.weight", "hidden"),
            ("conv1d.bias", "conv1d"),
            ("embed", "embed"),
        ] {
            assert_eq!(block_of(name), block);
        }
    }
}
