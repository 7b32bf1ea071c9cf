//! The loan of a host: its parameters, gradients and random state are saved, and restored bit for bit
//! on every way out, errors and panics included.

use crate::error::{Error, Result};
use crate::host::{Host, Precision, RandomState, Shard};
use crate::sharded::layout::unit_roundoff;
use crate::sharded::vector::{Chunk, copied, flat};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tch::{Kind, TchError, Tensor};

/// The bytes of the copies that a loan takes on this rank.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoanParts {
    /// θ as it is perturbed: no copy.
    pub(crate) parameters: u64,
    /// θ₀.
    pub(crate) saved: u64,
    /// What the host holds in f32 in full precision of narrower parameters: these, and their gradient.
    pub(crate) host_copies: u64,
    pub(crate) live_gradients: u64,
}

/// Those of a loan in `precision`.
pub(crate) fn loan_parts(host: &dyn Host, precision: Precision) -> LoanParts {
    let single = Kind::Float.elt_size_in_bytes() as u64;
    let mut parts = LoanParts::default();
    for shard in host.shards() {
        let (own, entries) = (size(&shard.tensor), shard.tensor.numel() as u64);
        if precision == Precision::Full && own < single * entries {
            parts.parameters += single * entries;
            parts.host_copies += 2 * single * entries;
        } else {
            parts.parameters += own;
        }
    }
    parts.live_gradients = host.live_gradients().iter().map(size).sum();
    parts.saved = if host.sources(precision).is_empty() { parts.parameters } else { 0 };
    parts
}

/// All of them together.
pub(crate) fn loan_bytes(host: &dyn Host, precision: Precision) -> u64 {
    let LoanParts { saved, host_copies, live_gradients, .. } = loan_parts(host, precision);
    saved + host_copies + live_gradients
}

fn size(tensor: &Tensor) -> u64 {
    tensor.numel() as u64 * tensor.kind().elt_size_in_bytes() as u64
}

const SWITCHING: &str = "switching the precision of evaluations";

/// A borrowed host with what it held when it was borrowed. Dropping it restores that.
pub(crate) struct Guard<'h> {
    host: &'h mut dyn Host,
    rank: usize,
    shards: Vec<Shard>,
    saved: Vec<Tensor>,
    /// Whether `saved` are the host's own sources.
    borrowed: bool,
    live: Vec<(Tensor, Tensor)>,
    random: Option<RandomState>,
    precision: Precision,
    compute_kind: Option<Kind>,
    restored: bool,
    pub(crate) gradients: u64,
    pub(crate) gradient_time: Duration,
}

impl<'h> Guard<'h> {
    /// Borrows the host, for gradients in that precision. Nothing may be changed before
    /// [`save`](Self::save) has succeeded on every rank.
    pub(crate) fn new(host: &'h mut dyn Host, precision: Precision) -> Self {
        let rank = host.group().rank();
        Self {
            host,
            rank,
            shards: Vec::new(),
            saved: Vec::new(),
            borrowed: false,
            live: Vec::new(),
            random: None,
            precision,
            compute_kind: None,
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
        if self.precision == Precision::Full {
            // From here on there is something to undo.
            self.restored = false;
            called(rank, SWITCHING, || host.set_precision(Precision::Full))?;
        }
        self.compute_kind = host.compute_kind();
        self.shards = host.shards();
        let sources = self.host.sources(self.precision);
        self.borrowed = !sources.is_empty();
        self.saved = if self.borrowed {
            checked(rank, &self.shards, sources)?
        } else {
            self.shards.iter().map(|shard| copied(&shard.tensor)).collect::<Result<_, _>>().map_err(torch)?
        };
        let live = self.host.live_gradients();
        let copies = live.iter().map(copied).collect::<Result<Vec<_>, _>>().map_err(torch)?;
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

    /// θ₀, aligned with [`shards`](Self::shards); not always of their type.
    pub(crate) fn saved(&self) -> &[Tensor] {
        &self.saved
    }

    /// A piece of θ₀, in the parameter's type.
    pub(crate) fn origin(&self, chunk: &Chunk) -> Result<Tensor, TchError> {
        chunk.of_shard(&self.saved)?.f_to_kind(self.shards[chunk.shard].tensor.f_kind()?)
    }

    /// The type that the forward pass rounds parameters to, where it is not their own.
    pub(crate) fn compute_kind(&self) -> Option<Kind> {
        self.compute_kind
    }

    /// The unit roundoff of the least precise parameter as the forward pass uses it; equal on all ranks.
    pub(crate) fn roundoff(&self) -> f64 {
        let kinds = self.shards.iter().map(|shard| shard.tensor.kind()).chain(self.compute_kind);
        kinds.filter_map(unit_roundoff).fold(0.0, f64::max)
    }

    /// Bytes of all copies on this rank.
    pub(crate) fn bytes(&self) -> u64 {
        let live = self.live.iter().map(|(_, copy)| copy);
        let saved = if self.borrowed { &[] } else { &self.saved[..] };
        saved.iter().chain(live).map(size).sum()
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
        self.check(&gradient.tensors, "gradient()")?;
        if !gradient.loss.is_finite() {
            return Err(Error::NonFinite { rank, what: "the loss", during });
        }
        Ok((gradient.loss, gradient.tensors))
    }

    /// The loss at the parameters' present values, with the random state of the loan's start.
    pub(crate) fn loss(&mut self, during: &'static str) -> Result<f64> {
        let (host, random) = (&mut *self.host, self.random.as_ref());
        let started = Instant::now();
        let loss = called(self.rank, during, || {
            if let Some(state) = random {
                host.set_random_state(state)?;
            }
            host.loss()
        });
        self.gradient_time += started.elapsed();
        let loss = loss?;
        if loss.is_finite() {
            Ok(loss)
        } else {
            Err(Error::NonFinite { rank: self.rank, what: "the loss", during })
        }
    }

    /// Hv at the parameters' present values, as the host computes it.
    pub(crate) fn exact_hvp(&mut self, v: &[Tensor], during: &'static str) -> Result<Vec<Tensor>> {
        let (host, random) = (&mut *self.host, self.random.as_ref());
        let started = Instant::now();
        let product = called(self.rank, during, || {
            if let Some(state) = random {
                host.set_random_state(state)?;
            }
            host.exact_hvp(v)
        });
        self.gradient_time += started.elapsed();
        let product = product?;
        self.check(&product, "exact_hvp()")?;
        Ok(product)
    }

    fn check(&self, tensors: &[Tensor], call: &str) -> Result<()> {
        let fits = tensors.len() == self.shards.len()
            && tensors.iter().zip(&self.shards).all(|(t, shard)| t.numel() == shard.tensor.numel());
        if fits {
            return Ok(());
        }
        let reason = format!("`{call}` does not return one tensor of the shard's size for every shard");
        Err(Error::Layout { rank: self.rank, parameter: "*".into(), reason })
    }

    /// Puts θ₀ back while the loan goes on.
    pub(crate) fn return_to_origin(&self) -> Result<()> {
        let torch = |source| Error::Torch { rank: self.rank, during: "returning to the parameters", source };
        let mut parameters = self.shards.iter().map(|shard| &shard.tensor).zip(&self.saved);
        parameters.try_for_each(|(live, copy)| overwrite(live, copy).map_err(torch))
    }

    /// Puts everything back.
    pub(crate) fn restore(mut self) -> Result<()> {
        self.put_back()
    }

    /// The same for who still needs the host.
    pub(super) fn put_back(&mut self) -> Result<()> {
        self.restored = true;
        let torch = |source| Error::Torch { rank: self.rank, during: "restoring the parameters", source };
        let parameters = self.shards.iter().map(|shard| &shard.tensor).zip(&self.saved);
        let gradients = self.live.iter().map(|(live, copy)| (live, copy));
        let mut outcome = Ok(());
        // One that fails must not keep the others from being restored.
        for (live, copy) in parameters.chain(gradients) {
            outcome = outcome.and(overwrite(live, copy).map_err(torch));
        }
        let host = &mut *self.host;
        if let Some(state) = &self.random {
            let restored = called(self.rank, "restoring the random state", || host.set_random_state(state));
            outcome = outcome.and(restored);
        }
        if self.precision == Precision::Full {
            // Its own tensors, if it lent others than the loop's, must not be kept alive by us.
            self.shards.clear();
            self.saved.clear();
            outcome = outcome.and(called(self.rank, SWITCHING, || host.set_precision(Precision::Loop)));
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

/// The sources, if they hold what the shards do.
fn checked(rank: usize, shards: &[Shard], sources: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let misfit = |name: &str, reason: &str| Error::Layout {
        rank,
        parameter: name.to_owned(),
        reason: format!("`sources()` {reason}"),
    };
    if sources.len() != shards.len() {
        return Err(misfit("*", "does not return one tensor for every shard"));
    }
    for (shard, source) in shards.iter().zip(&sources) {
        let (live, name) = (&shard.tensor, shard.name.as_str());
        if live.numel() != source.numel() {
            return Err(misfit(name, "returns a tensor of another size than the shard's"));
        }
        if live.numel() > 0 && live.data_ptr() == source.data_ptr() {
            return Err(misfit(name, "returns the shard's own memory, which is about to be perturbed"));
        }
        let same = same_bits(live, source);
        if !same.map_err(|source| Error::Torch {
            rank,
            during: "comparing parameters and sources",
            source,
        })? {
            return Err(misfit(name, "does not hold what `shards()` lends, bit for bit"));
        }
    }
    Ok(sources)
}

/// Whether `source`, converted, has the bits of `live`; piece by piece, since what is converted is a copy.
fn same_bits(live: &Tensor, source: &Tensor) -> Result<bool, TchError> {
    const PIECE: i64 = 1 << 20;
    let _no_grad = tch::no_grad_guard();
    let (live, source) = (flat(live)?, flat(source)?);
    let kind = live.f_kind()?;
    let bits = match kind.elt_size_in_bytes() {
        2 => Kind::Int16,
        4 => Kind::Int,
        _ => Kind::Int64,
    };
    let end = live.numel() as i64;
    for start in (0..end).step_by(PIECE as usize) {
        let piece = |tensor: &Tensor| {
            let piece = tensor.f_narrow(0, start, PIECE.min(end - start))?;
            piece.f_to_kind(kind)?.f_view_dtype(bits)
        };
        if !piece(&live)?.f_equal(&piece(&source)?)? {
            return Ok(false);
        }
    }
    Ok(true)
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
