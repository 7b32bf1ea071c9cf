//! What connects this rank to the others: the opening exchange before each collective, and the end of it
//! all when one fails.

use crate::call::{Call, Signature};
use crate::environment::Environment;
use crate::error::{Error, Result, Silent};
use crate::ffi::{Endpoint, GroupHandle, WorkHandle};
use crate::packet::{self, Opening, PACKET};
use crate::small;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tch::Tensor;

/// How long a rank that has lost a peer listens for the others, to be able to name the lost one.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// Groups formed so far over each address. Groups are formed by all ranks in the same order, so that
/// this number names the same group everywhere and keeps the keys of two groups in one store apart.
static FORMED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

const CHECK: &str = "HESSIAN_PROBE_C10D_CHECK";

pub(crate) struct Link {
    rank: usize,
    world_size: usize,
    handle: GroupHandle,
    timeout: Duration,
    /// Whether calls with a signature that was agreed upon before go without an opening exchange.
    trusting: bool,
    agreed: RefCell<HashSet<Signature>>,
    sequence: Cell<u64>,
    /// The error that closed the group.
    closed: RefCell<Option<String>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("timeout", &self.timeout)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Whether the environment asks to check first calls only.
fn trusting() -> Result<bool> {
    match std::env::var(CHECK).ok().as_deref() {
        None | Some("" | "1" | "always") => Ok(false),
        Some("first") => Ok(true),
        Some(other) => Err(Error::Environment {
            variable: CHECK,
            reason: format!("is {other:?}; it may be `always` (the default) or `first`"),
        }),
    }
}

impl Link {
    pub(crate) fn form(environment: &Environment, timeout: Duration) -> Result<Self> {
        let Environment { rank, world_size, .. } = *environment;
        let trusting = trusting()?;
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
            address,
            message,
            // All missing, even this rank: the store itself was not reached, and nothing is known.
            missing: if present.contains(&true) { Silent::from_present(&present) } else { Silent::default() },
        })?;
        let link = Self {
            rank,
            world_size,
            handle,
            timeout,
            trusting,
            agreed: RefCell::default(),
            sequence: Cell::new(0),
            closed: RefCell::new(None),
        };
        // Before this returns on one rank, all ranks are connected to each other: rank 0 may now end,
        // and its store with it.
        link.collective(&Call::Connect { trusting })?;
        Ok(link)
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        let operation = "set_timeout".to_owned();
        self.ensure_open(&operation)?;
        self.handle.set_timeout(timeout).map_err(|reason| Error::Argument {
            rank: self.rank,
            operation,
            reason,
        })?;
        self.timeout = timeout;
        Ok(())
    }

    pub(crate) fn monitored_barrier(&self) -> Result<()> {
        let operation = "monitored_barrier".to_owned();
        self.ensure_open(&operation)?;
        let started = Instant::now();
        self.handle.monitored_barrier().map_err(|message| self.close(operation, started, message))
    }

    pub(crate) fn collective(&self, call: &Call<'_>) -> Result<()> {
        let started = Instant::now();
        if !self.open(call)? {
            return Ok(());
        }
        match call {
            Call::AllReduce { tensor, op } => self.handle.all_reduce(tensor, op.code()),
            Call::AllGather { output, input } => {
                self.handle.start_all_gather(output, input).and_then(|work| self.handle.wait(work))
            }
            Call::ReduceScatter { output, input, op } => self.handle.reduce_scatter(output, input, op.code()),
            Call::Broadcast { tensor, root } => self.handle.broadcast(tensor, *root),
            Call::Connect { .. } | Call::Barrier => Ok(()),
        }
        .map_err(|message| self.close(call.to_string(), started, message))
    }

    /// Begins to gather; the work, and when it began, unless all is done already.
    pub(crate) fn start_all_gather(
        &self,
        output: &Tensor,
        input: &Tensor,
    ) -> Result<Option<(WorkHandle, Instant)>> {
        let (started, call) = (Instant::now(), Call::AllGather { output, input });
        if !self.open(&call)? {
            return Ok(None);
        }
        match self.handle.start_all_gather(output, input) {
            Ok(work) => Ok(Some((work, started))),
            Err(message) => Err(self.close(call.to_string(), started, message)),
        }
    }

    /// Waits for what was begun at `started`; gives it up where the group is closed by now.
    pub(crate) fn finish(&self, work: WorkHandle, operation: &str, started: Instant) -> Result<()> {
        self.ensure_open(&operation)?;
        self.handle.wait(work).map_err(|message| self.close(operation.to_owned(), started, message))
    }

    /// The opening exchange of a call; whether data is still to be sent.
    fn open(&self, call: &Call<'_>) -> Result<bool> {
        self.ensure_open(call)?;
        let started = Instant::now();
        let failed = |message| self.close(call.to_string(), started, message);
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let signature = call.signature(self.world_size);
        let small = signature.is_ok() && small::fits(call);
        let known = self.trusting
            && !small
            && signature.as_ref().is_ok_and(|signature| self.agreed.borrow().contains(signature));
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
            let packets = self.handle.exchange(&packet).map_err(failed)?;
            let (signature, _) = ready.map_err(|reason| Error::Argument {
                rank: self.rank,
                operation: call.to_string(),
                reason,
            })?;
            let payloads = self.agree(call, signature, sequence, &packets)?;
            if small {
                return match small::finish(call, self.rank, &payloads) {
                    Ok(()) => Ok(false),
                    Err(source) => {
                        Err(Error::Torch { during: format!("rank {}: {call}", self.rank), source })
                    }
                };
            }
            if self.trusting {
                self.agreed.borrow_mut().insert(signature);
            }
        }
        Ok(call.input().is_some_and(|input| input.numel() > 0))
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

    fn ensure_open(&self, operation: &impl fmt::Display) -> Result<()> {
        match self.closed.borrow().as_ref() {
            None => Ok(()),
            Some(cause) => {
                Err(Error::Closed { rank: self.rank, operation: operation.to_string(), cause: cause.clone() })
            }
        }
    }

    /// Closes the group after a failed exchange. The connections go first: that wakes the ranks which
    /// wait for this one, so that one lost rank stops them all at once and not one timeout after another.
    fn close(&self, operation: String, started: Instant, message: String) -> Error {
        let elapsed = started.elapsed();
        if let Err(message) = self.handle.close() {
            log::warn!("rank {}: closing the process group: {message}", self.rank);
        }
        let silent = match self.handle.roll_call(ROLL_CALL) {
            Ok(present) => Silent::from_present(&present),
            // The store is gone, and with it whoever hosted it: nothing is known of the others.
            Err(_) => Silent::default(),
        };
        let rank = self.rank;
        // c10d has no type for a timeout that survives the boundary, and its texts change.
        let error = if elapsed >= self.timeout.mul_f64(0.95) {
            Error::TimedOut { rank, operation, timeout: self.timeout, silent, message }
        } else {
            Error::PeerLost { rank, operation, elapsed, silent, message }
        };
        *self.closed.borrow_mut() = Some(error.to_string());
        error
    }
}

fn list(ranks: &[usize]) -> String {
    ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
