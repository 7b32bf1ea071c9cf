//! A group of ranks and its collectives.

use crate::call::{Call, Signature};
use crate::environment::Environment;
use crate::error::{Error, Result, Silent};
use crate::ffi::{Endpoint, GroupHandle};
use crate::packet::{self, Opening, PACKET};
use crate::small;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tch::Tensor;

/// How contributions of the ranks are combined, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Their mean; float dtypes only.
    Avg,
}

impl ReduceOp {
    pub(crate) const ALL: [Self; 4] = [Self::Sum, Self::Max, Self::Min, Self::Avg];

    /// `c10d::ReduceOp::RedOpType`.
    fn code(self) -> i32 {
        match self {
            Self::Sum => 0,
            Self::Avg => 1,
            Self::Min => 3,
            Self::Max => 4,
        }
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::Avg => "avg",
        })
    }
}

/// What carries a collective's data.
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
#[derive(Debug)]
pub struct ProcessGroup {
    rank: usize,
    world_size: usize,
    local_rank: usize,
    /// `None` in a group of one.
    link: Option<Link>,
}

struct Link {
    handle: GroupHandle,
    address: String,
    timeout: Duration,
    /// Whether calls with a signature that was agreed upon before go without an opening exchange.
    trusting: bool,
    agreed: RefCell<HashSet<Signature>>,
    sequence: Cell<u64>,
    closed: RefCell<Option<String>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .field("timeout", &self.timeout)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// How long a rank that has lost a peer listens for the others, to be able to name the lost one.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// Groups formed so far over each address. Groups are formed by all ranks in the same order, so that
/// this number names the same group everywhere and keeps the keys of two groups in one store apart.
static FORMED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

const CHECK: &str = "HESSIAN_PROBE_C10D_CHECK";

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
        if world_size == 1 {
            return Ok(Self { local_rank, ..Self::single() });
        }
        let trusting = match std::env::var(CHECK).ok().as_deref() {
            None | Some("" | "1" | "always") => false,
            Some("first") => true,
            Some(other) => {
                return Err(Error::Environment {
                    variable: CHECK,
                    reason: format!("is {other:?}; it may be `always` (the default) or `first`"),
                });
            }
        };
        let address = format!("{}:{}", environment.master_addr, environment.master_port);
        let number = {
            let mut formed = FORMED.lock().unwrap_or_else(PoisonError::into_inner);
            let count = formed.entry(address.clone()).or_insert(0);
            *count += 1;
            *count
        };
        let endpoint = Endpoint {
            host: &environment.master_addr,
            port: environment.master_port,
            is_server: rank == 0 && !environment.agent_store,
            prefix: &format!("hessian-probe-c10d/1/attempt-{}/group-{number}", environment.attempt),
            rank,
            world_size,
            timeout,
        };
        let handle = GroupHandle::connect(&endpoint).map_err(|(message, present)| Error::Connect {
            rank,
            world_size,
            address: address.clone(),
            message,
            // All missing, not even this rank: the store itself was not reached.
            missing: if present.contains(&true) { Silent::from_present(&present) } else { Silent::default() },
        })?;
        let link = Link {
            handle,
            address,
            timeout,
            trusting,
            agreed: RefCell::default(),
            sequence: Cell::new(0),
            closed: RefCell::new(None),
        };
        let group = Self { rank, world_size, local_rank, link: Some(link) };
        // Before this returns on one rank, all ranks are connected to each other: rank 0 may now end,
        // and its store with it.
        group.collective(&Call::Connect { trusting })?;
        Ok(group)
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

    /// Reduces `input` over ranks and leaves the `rank`-th of `world_size` equal parts in `output`.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn reduce_scatter_into(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<()> {
        self.collective(&Call::ReduceScatter { output, input, op })
    }

    /// Replaces `tensor` by that of rank `root`.
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
        let Some(link) = &self.link else { return Ok(()) };
        let operation = "monitored_barrier".to_owned();
        self.ensure_open(link, &operation)?;
        let started = Instant::now();
        link.handle.monitored_barrier().map_err(|message| self.close(link, operation, started, message))
    }

    fn collective(&self, call: &Call<'_>) -> Result<()> {
        let torch = |source| Error::Torch { during: format!("rank {}: {call}", self.rank), source };
        let signature = call.signature(self.world_size);
        let Some(link) = &self.link else {
            signature.map_err(|reason| self.argument(call, reason))?;
            return small::alone(call).map_err(torch);
        };
        self.ensure_open(link, &call)?;
        let started = Instant::now();
        let sequence = link.sequence.get();
        link.sequence.set(sequence + 1);
        let small = signature.is_ok() && small::fits(call);
        let known = link.trusting
            && !small
            && signature.as_ref().is_ok_and(|signature| link.agreed.borrow().contains(signature));
        if !known {
            // A rank that cannot take part says so to the others, which would otherwise wait for it.
            let ready = signature.and_then(|signature| match small {
                true => Ok((signature, small::payload(call, self.rank).map_err(|error| error.to_string())?)),
                false => Ok((signature, Vec::new())),
            });
            let packet = match &ready {
                Ok((signature, payload)) => packet::encode(&Opening::Call(*signature), sequence, payload),
                Err(reason) => packet::encode(&Opening::Refusal(reason.clone()), sequence, &[]),
            };
            let packets = link
                .handle
                .exchange(&packet)
                .map_err(|message| self.close(link, call.to_string(), started, message))?;
            let (signature, _) = ready.map_err(|reason| self.argument(call, reason))?;
            let payloads = self.agree(call, signature, sequence, &packets)?;
            if small {
                return small::finish(call, self.rank, &payloads).map_err(torch);
            }
            if link.trusting {
                link.agreed.borrow_mut().insert(signature);
            }
        }
        if call.input().is_none_or(|input| input.numel() == 0) {
            return Ok(());
        }
        match call {
            Call::AllReduce { tensor, op } => link.handle.all_reduce(tensor, op.code()),
            Call::AllGather { output, input } => link.handle.all_gather(output, input),
            Call::ReduceScatter { output, input, op } => link.handle.reduce_scatter(output, input, op.code()),
            Call::Broadcast { tensor, root } => link.handle.broadcast(tensor, *root),
            Call::Connect { .. } | Call::Barrier => Ok(()),
        }
        .map_err(|message| self.close(link, call.to_string(), started, message))
    }

    /// The payloads of all ranks, where all of them make the same call.
    fn agree<'p>(
        &self,
        call: &Call<'_>,
        mine: Signature,
        sequence: u64,
        packets: &'p [u8],
    ) -> Result<Vec<&'p [u8]>> {
        let mut payloads = Vec::with_capacity(self.world_size);
        let mut calls: Vec<(String, Vec<usize>)> = Vec::new();
        for (peer, packet) in packets.chunks(PACKET).enumerate() {
            let theirs = match packet::decode(packet) {
                Some((Opening::Refusal(reason), ..)) => {
                    return Err(Error::PeerArgument {
                        rank: self.rank,
                        operation: call.to_string(),
                        peer,
                        reason,
                    });
                }
                Some((Opening::Call(signature), number, payload)) => {
                    payloads.push(payload);
                    if signature == mine && number == sequence {
                        continue;
                    }
                    format!("{signature} (collective {number})")
                }
                None => "something that is not a packet of this crate".to_owned(),
            };
            match calls.iter_mut().find(|(text, _)| *text == theirs) {
                Some((_, ranks)) => ranks.push(peer),
                None => calls.push((theirs, vec![peer])),
            }
        }
        if calls.is_empty() {
            return Ok(payloads);
        }
        let others: Vec<_> =
            calls.iter().map(|(text, ranks)| format!("{text} on rank {}", list(ranks))).collect();
        Err(Error::Mismatch {
            rank: self.rank,
            sequence,
            calls: format!("{mine} here, {}", others.join(", ")),
        })
    }

    fn argument(&self, call: &Call<'_>, reason: String) -> Error {
        Error::Argument { rank: self.rank, operation: call.to_string(), reason }
    }

    fn ensure_open(&self, link: &Link, operation: &impl fmt::Display) -> Result<()> {
        match link.closed.borrow().as_ref() {
            None => Ok(()),
            Some(cause) => {
                Err(Error::Closed { rank: self.rank, operation: operation.to_string(), cause: cause.clone() })
            }
        }
    }

    /// Closes the group after a failed exchange. The connections go first: that wakes the ranks which
    /// wait for this one, so that one lost rank stops them all at once and not one timeout after another.
    fn close(&self, link: &Link, operation: String, started: Instant, message: String) -> Error {
        let elapsed = started.elapsed();
        if let Err(message) = link.handle.close() {
            log::warn!("rank {}: closing the process group: {message}", self.rank);
        }
        let silent = match link.handle.roll_call(ROLL_CALL) {
            Ok(present) => Silent::from_present(&present),
            // The store is gone, and with it whoever hosted it: nothing is known of the others.
            Err(_) => Silent::default(),
        };
        let rank = self.rank;
        // c10d has no type for a timeout that survives the boundary, and its texts change.
        let error = if elapsed >= link.timeout.mul_f64(0.95) {
            Error::TimedOut { rank, operation, timeout: link.timeout, silent, message }
        } else {
            Error::PeerLost { rank, operation, elapsed, silent, message }
        };
        *link.closed.borrow_mut() = Some(error.to_string());
        error
    }
}

fn list(ranks: &[usize]) -> String {
    ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
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
