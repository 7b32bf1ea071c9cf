//! The loan of a host: its parameters, gradients and random state are saved, and restored bit for bit
//! on every way out, errors and panics included.

use crate::error::{Error, Result};
use crate::host::{Host, RandomState, Shard};
use crate::sharded::vector::flat;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tch::{TchError, Tensor};

/// A borrowed host with what it held when it was borrowed. Dropping it restores that.
pub(crate) struct Guard<'h> {
    host: &'h mut dyn Host,
    rank: usize,
    shards: Vec<Shard>,
    saved: Vec<Tensor>,
    live: Vec<(Tensor, Tensor)>,
    random: Option<RandomState>,
    restored: bool,
    pub(crate) gradients: u64,
    pub(crate) gradient_time: Duration,
}

impl<'h> Guard<'h> {
    /// Borrows the host. Nothing may be changed before [`save`](Self::save) has succeeded on every rank.
    pub(crate) fn new(host: &'h mut dyn Host) -> Self {
        let rank = host.group().rank();
        Self {
            host,
            rank,
            shards: Vec::new(),
            saved: Vec::new(),
            live: Vec::new(),
            random: None,
            restored: true,
            gradients: 0,
            gradient_time: Duration::ZERO,
        }
    }

    /// Saves θ₀, live gradients and the random state.
    pub(crate) fn save(&mut self) -> Result<()> {
        let (host, rank) = (&mut *self.host, self.rank);
        let torch = |source| Error::Torch { rank, during: "saving the parameters", source };
        self.random = called(rank, "saving the random state", || host.random_state())?;
        self.shards = host.shards();
        self.saved =
            self.shards.iter().map(|shard| copy(&shard.tensor)).collect::<Result<_, _>>().map_err(torch)?;
        let live = host.live_gradients();
        let copies = live.iter().map(copy).collect::<Result<Vec<_>, _>>().map_err(torch)?;
        self.live = live.into_iter().zip(copies).collect();
        self.restored = false;
        Ok(())
    }

    pub(crate) fn host(&self) -> &dyn Host {
        self.host
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// θ₀, aligned with [`shards`](Self::shards).
    pub(crate) fn saved(&self) -> &[Tensor] {
        &self.saved
    }

    /// Bytes of all copies on this rank.
    pub(crate) fn bytes(&self) -> u64 {
        let live = self.live.iter().map(|(_, copy)| copy);
        self.saved.iter().chain(live).map(|t| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64).sum()
    }

    /// Loss and gradient at the parameters' present values, with the random state of the loan's start.
    pub(crate) fn gradient(&mut self, during: &'static str) -> Result<(f64, Vec<Tensor>)> {
        let (host, rank) = (&mut *self.host, self.rank);
        let started = Instant::now();
        let random = self.random.as_ref();
        let gradient = called(rank, during, || {
            if let Some(state) = random {
                host.set_random_state(state)?;
            }
            host.gradient()
        });
        self.gradient_time += started.elapsed();
        self.gradients += 1;
        let gradient = gradient?;
        let fits = gradient.tensors.len() == self.shards.len()
            && gradient.tensors.iter().zip(&self.shards).all(|(g, shard)| g.numel() == shard.tensor.numel());
        if !fits {
            return Err(Error::Layout {
                rank,
                parameter: "*".into(),
                reason: "`gradient()` does not return one tensor of the shard's size for every shard".into(),
            });
        }
        if !gradient.loss.is_finite() {
            return Err(Error::NonFinite { rank, what: "the loss", during });
        }
        Ok((gradient.loss, gradient.tensors))
    }

    /// Puts everything back.
    pub(crate) fn restore(mut self) -> Result<()> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<()> {
        self.restored = true;
        let torch = |source| Error::Torch { rank: self.rank, during: "restoring the parameters", source };
        let parameters = self.shards.iter().map(|shard| &shard.tensor).zip(&self.saved);
        let gradients = self.live.iter().map(|(live, copy)| (live, copy));
        let mut outcome = Ok(());
        // One that fails must not keep the others from being restored.
        for (live, copy) in parameters.chain(gradients) {
            outcome = outcome.and(overwrite(live, copy).map_err(torch));
        }
        if let Some(state) = &self.random {
            let host = &mut *self.host;
            outcome =
                outcome.and(called(self.rank, "restoring the random state", || host.set_random_state(state)));
        }
        outcome
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.restored
            && let Err(error) = self.put_back()
        {
            log::error!("{error}");
        }
    }
}

/// A copy of its own memory, without a graph.
fn copy(tensor: &Tensor) -> Result<Tensor, TchError> {
    let _no_grad = tch::no_grad_guard();
    let source = tensor.f_detach()?;
    let mut target = source.f_empty_like()?;
    target.f_copy_(&source)?;
    Ok(target)
}

/// Writes through an alias, so that the parameter itself is unchanged but for its values.
fn overwrite(live: &Tensor, copy: &Tensor) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    flat(live)?.f_copy_(&flat(copy)?)
}

/// Calls the host; a panic becomes an error, and leaves autograd's mode as it was.
fn called<T>(
    rank: usize,
    during: &'static str,
    call: impl FnOnce() -> Result<T, crate::group::HostError>,
) -> Result<T> {
    let mode = GradMode::current();
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|source| Error::Host { rank, during, source }),
        Err(panic) => {
            mode.set();
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without a message".to_owned());
            Err(Error::HostPanicked { rank, during, message })
        }
    }
}

/// Whether autograd records: `tch::no_grad` leaves it off when its closure panics.
#[derive(Clone, Copy)]
struct GradMode(i32);

impl GradMode {
    fn current() -> Self {
        // SAFETY: sets a flag of this thread and returns what it was; the call before the last undoes it.
        let mode = unsafe { torch_sys::at_grad_set_enabled(1) };
        unsafe { torch_sys::at_grad_set_enabled(mode) };
        Self(mode)
    }

    fn set(self) {
        // SAFETY: sets a flag of this thread.
        unsafe { torch_sys::at_grad_set_enabled(self.0) };
    }
}
