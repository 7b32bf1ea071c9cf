//! A group of ranks and its collectives.

use crate::call::Call;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::reduce_op::ReduceOp;
use crate::small;
use crate::started::Started;
use std::time::Duration;
use tch::Tensor;

/// What carries a collective's data.
///
/// ```
/// use hessian_probe_c10d::{Backend, ProcessGroup};
///
/// assert_eq!(ProcessGroup::single().backend(tch::Device::Cpu), Backend::Local);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Nothing: there is one rank.
    Local,
    /// Gloo, for CPU tensors.
    Gloo,
    /// NCCL, for CUDA tensors; with the feature `nccl`.
    Nccl,
}

/// Ranks that make the same collective calls in the same order.
///
/// See the [crate's documentation](crate) for what is checked and what happens on failure. A group may
/// move between threads but is used by one at a time.
///
/// ```
/// use hessian_probe_c10d::{ProcessGroup, ReduceOp};
/// use std::time::Duration;
/// use tch::Tensor;
///
/// // One rank, unless torchrun or a Launcher has started several.
/// let group = ProcessGroup::from_env(Duration::from_secs(60))?;
/// let gradient = Tensor::from_slice(&[1.0_f32, 2.0]);
/// group.all_reduce(&gradient, ReduceOp::Avg)?;
/// let whole = Tensor::from_slice(&vec![0.0_f32; 2 * group.world_size()]);
/// group.all_gather_into(&whole, &gradient)?;
/// # assert_eq!(Vec::<f32>::try_from(whole).unwrap(), [1.0, 2.0]);
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Debug)]
pub struct ProcessGroup {
    rank: usize,
    world_size: usize,
    local_rank: usize,
    /// `None` in a group of one.
    link: Option<Link>,
}

impl ProcessGroup {
    /// The group that torchrun's environment describes; a group of one where it is not set.
    ///
    /// Reads `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, and, where set, `LOCAL_RANK`,
    /// `TORCHELASTIC_USE_AGENT_STORE` (with `True` the launcher hosts the store; else rank 0 does) and
    /// `TORCHELASTIC_RESTART_COUNT`. `timeout` holds for forming the group and for each collective.
    ///
    /// # Errors
    /// Where a variable is missing or wrong, or the other ranks do not come within `timeout`.
    pub fn from_env(timeout: Duration) -> Result<Self> {
        match Environment::read(|variable| std::env::var(variable).ok())? {
            None => Ok(Self::single()),
            Some(environment) => Self::form(&environment, timeout),
        }
    }

    /// A group of ranks that meet at a store which rank 0 hosts at `master_addr:master_port`.
    ///
    /// # Errors
    /// Where the other ranks do not come within `timeout`.
    pub fn connect(
        rank: usize,
        world_size: usize,
        master_addr: &str,
        master_port: u16,
        timeout: Duration,
    ) -> Result<Self> {
        if rank >= world_size {
            return Err(Error::Environment {
                variable: "RANK",
                reason: format!("is {rank}, which is not below the world size {world_size}"),
            });
        }
        let environment = Environment {
            rank,
            world_size,
            local_rank: rank,
            master_addr: master_addr.to_owned(),
            master_port,
            agent_store: false,
            attempt: 0,
        };
        Self::form(&environment, timeout)
    }

    /// A group of one rank: no network, no store, collectives are local copies.
    #[must_use]
    pub fn single() -> Self {
        Self { rank: 0, world_size: 1, local_rank: 0, link: None }
    }

    fn form(environment: &Environment, timeout: Duration) -> Result<Self> {
        let Environment { rank, world_size, local_rank, .. } = *environment;
        let link = if world_size == 1 { None } else { Some(Link::form(environment, timeout)?) };
        Ok(Self { rank, world_size, local_rank, link })
    }

    /// How long a collective waits for the other ranks from now on. Ranks may start minutes apart and
    /// step in milliseconds: a loop may form its group with a long timeout and run with a shorter one.
    ///
    /// Set it to the same on all ranks, between the same collectives. NCCL keeps the one that it began with.
    ///
    /// # Errors
    /// Where the group is closed.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.link.as_mut().map_or(Ok(()), |link| link.set_timeout(timeout))
    }

    /// This rank, `0 ≤ rank < world_size`.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// This rank's number on its machine (`LOCAL_RANK`), which is that of its GPU by convention.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// What carries collectives over tensors of `device`.
    #[must_use]
    pub fn backend(&self, device: tch::Device) -> Backend {
        match (&self.link, device) {
            (None, _) => Backend::Local,
            (Some(_), tch::Device::Cuda(_)) => Backend::Nccl,
            (Some(_), _) => Backend::Gloo,
        }
    }

    /// Replaces `tensor`, in place, by its reduction over all ranks; every rank receives the same bits.
    ///
    /// The tensor is contiguous and of the same number of elements and dtype on all ranks. Autograd does
    /// not notice (no graph, no version counter), as is so of all collectives here. With `Max` and `Min`,
    /// what becomes of a NaN is unspecified, but the same on all ranks.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.collective(&Call::AllReduce { tensor, op })
    }

    /// Gathers the `input` of all ranks, in rank order, into every rank's `output` (world size × input
    /// elements; shapes are free).
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn all_gather_into(&self, output: &Tensor, input: &Tensor) -> Result<()> {
        self.collective(&Call::AllGather { output, input })
    }

    /// Begins to [gather](Self::all_gather_into) and returns: the data travels while this rank computes. `output` holds
    /// it, and `input` may change again, after [`wait`](Started::wait). Other collectives may be called before that, in
    /// the same order on all ranks.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors); what happens to the data is an error of [`wait`](Started::wait).
    pub fn start_all_gather_into(&self, output: &Tensor, input: &Tensor) -> Result<Started<'_>> {
        let call = Call::AllGather { output, input };
        let Some(link) = &self.link else {
            self.collective(&call)?;
            return Ok(Started::done());
        };
        let work = link.start_all_gather(output, input)?;
        Ok(work.map_or_else(Started::done, |work| Started::new(link, call.to_string(), work)))
    }

    /// Reduces `input` over ranks and leaves the `rank`-th of `world_size` equal parts in `output`.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn reduce_scatter_into(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<()> {
        self.collective(&Call::ReduceScatter { output, input, op })
    }

    /// Replaces `tensor` by that of rank `root`. A rank that dies while much of it is on its way is noticed at the
    /// timeout: Gloo tells those whose data has begun to arrive no earlier.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        self.collective(&Call::Broadcast { tensor, root })
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn barrier(&self) -> Result<()> {
        self.collective(&Call::Barrier)
    }

    /// A [`barrier`](Self::barrier) by which rank 0 asks every other rank in turn: slower, but where it
    /// fails rank 0's error names every rank that did not answer, even where no store is left to ask.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn monitored_barrier(&self) -> Result<()> {
        self.link.as_ref().map_or(Ok(()), Link::monitored_barrier)
    }

    fn collective(&self, call: &Call<'_>) -> Result<()> {
        let Some(link) = &self.link else {
            let torch = |source| Error::Torch { during: call.to_string(), source };
            return match call.signature(1) {
                Ok(_) => small::alone(call).map_err(torch),
                Err(reason) => Err(Error::Argument { rank: 0, operation: call.to_string(), reason }),
            };
        };
        link.collective(call)
    }
}

impl hessian_probe::ProcessGroup for ProcessGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce(
        &self,
        values: &mut [f64],
        op: hessian_probe::ReduceOp,
    ) -> Result<(), hessian_probe::HostError> {
        let op = match op {
            hessian_probe::ReduceOp::Sum => ReduceOp::Sum,
            hessian_probe::ReduceOp::Max => ReduceOp::Max,
        };
        let tensor = Tensor::f_from_slice(values)?;
        Self::all_reduce(self, &tensor, op)?;
        let count = values.len();
        Ok(tensor.f_copy_data(values, count)?)
    }

    fn barrier(&self) -> Result<(), hessian_probe::HostError> {
        Ok(Self::barrier(self)?)
    }
}
