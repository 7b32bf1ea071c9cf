//! The loss along the update, while θ is on loan.

use super::config::SharpnessConfig;
use super::record::CriticalSharpness;
use super::search::Search;
use crate::config::ProbeConfig;
use crate::directions::Lent;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::operator::{From, Guard, displace, loan_bytes};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::ShardedVector;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tch::Tensor;

const ALONG: &str = "the loss along the update";

/// Measures critical sharpness from the multiple that was found last, and puts the new one in its place. `None` where the
/// host lends no update, or it is 0. Collective; everything is restored whatever happens.
pub(crate) fn measure(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    last: &mut Option<f64>,
    interrupter: &Interrupter,
    step: u64,
) -> Result<Option<CriticalSharpness>> {
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let rank = ranks.rank();
    let lent = Lent::of(host, true, &mut ranks)?;
    let Some(update) = lent.into_update() else { return Ok(None) };
    // What it tells of η only: without it, the multiple is known all the same.
    let optimizer = host.optimizer().ok().flatten();
    let coming = update.coming;
    let gathered = ShardedVector::zeros(layout).and_then(|mut vector| {
        vector.gather_from(layout, &update.tensors)?;
        let squared = sums::norm_squared(layout, vector.tensor())?;
        Ok((vector, squared))
    });
    // The loan needs the memory.
    drop(update);
    let gathered = gathered.map_err(|source| Error::Torch { rank, during: ALONG, source });
    let (vector, local) = match gathered {
        Ok((vector, squared)) => (Some(vector), Ok(vec![squared])),
        Err(error) => (None, Err(error)),
    };
    let squared = ranks.sum(host, ALONG, 1, local)?[0];
    let Some(vector) = vector.filter(|_| squared != 0.0) else { return Ok(None) };
    if !squared.is_finite() {
        return Err(Error::NonFinite { rank, what: "the update", during: ALONG });
    }
    let (found, restored) = {
        let mut guard = Guard::new(host, config.hvp.precision);
        let saved = guard.save();
        ranks.agree(guard.host(), ALONG, saved)?;
        let ranks = &mut ranks;
        let line =
            Line { guard, layout, interrupter, ranks, update: vector.tensor(), squared, realised: 1.0 };
        line.search(&config.sharpness, *last)?
    };
    ranks.agree(host, ALONG, restored)?;
    let Found { loss, search, passes, realised, roundoff } = found;
    *last = search.last();
    let multiple = search.multiple();
    let learning_rate = optimizer.filter(|_| coming).map(|optimizer| optimizer.learning_rate);
    let learning_rate = learning_rate.filter(|eta| *eta > 0.0 && eta.is_finite());
    Ok(Some(CriticalSharpness {
        step,
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        coming,
        loss,
        update_norm: squared.sqrt(),
        multiple,
        error: multiple.map(|multiple| error(&search, multiple, roundoff * loss.abs())).filter(finite),
        lower: search.lower(),
        upper: search.upper(),
        step_ratio: multiple.map(f64::recip),
        learning_rate,
        sharpness: multiple.zip(learning_rate).map(|(multiple, eta)| 2.0 / (multiple * eta)),
        realised,
        passes,
        seconds: started.elapsed().as_secs_f64(),
        share: None,
    }))
}

/// The bytes that it takes on this rank: θ₀, live gradients, the update, and as much again while the host makes it.
pub(crate) fn bytes(host: &dyn Host, layout: &Layout, config: &ProbeConfig) -> u64 {
    loan_bytes(host, config.hvp.precision).max(layout.vector_bytes()) + layout.vector_bytes()
}

/// To the farther end of the bracket, and what the loss's rounding adds.
fn error(search: &Search, multiple: f64, rounding: f64) -> f64 {
    let end = |end: Option<f64>| end.map_or(0.0, |end| (end - multiple).abs());
    end(search.lower()).max(end(search.upper())) + search.error_of(multiple, rounding)
}

fn finite(value: &f64) -> bool {
    value.is_finite()
}

struct Found {
    loss: f64,
    search: Search,
    passes: u64,
    realised: f64,
    roundoff: f64,
}

/// θ₀ + cu for all c.
struct Line<'a, 'h> {
    guard: Guard<'h>,
    layout: &'a Layout,
    interrupter: &'a Interrupter,
    ranks: &'a mut Ranks,
    update: &'a Tensor,
    /// ‖u‖².
    squared: f64,
    /// ⟨Δ, u⟩ / c‖u‖² of the last displacement Δ.
    realised: f64,
}

impl Line<'_, '_> {
    /// What is found, and how putting everything back went.
    fn search(mut self, config: &SharpnessConfig, last: Option<f64>) -> Result<(Found, Result<()>)> {
        let loss = self.loss(0.0)?;
        if !loss.is_finite() {
            return Err(Error::NonFinite { rank: self.guard.rank(), what: "the loss", during: ALONG });
        }
        let mut search = Search::new(last, config.tolerance);
        let mut passes = 1;
        while passes < config.passes
            && let Some(multiple) = search.next()
        {
            let there = self.loss(multiple)?;
            passes += 1;
            search.tell(multiple, there - loss);
        }
        let found = Found { loss, search, passes, realised: self.realised, roundoff: self.guard.roundoff() };
        Ok((found, self.guard.restore()))
    }

    /// L(θ₀ + cu), rank 0's, so that all ranks decide by the same bits; not a number where the loss is none on any of them.
    fn loss(&mut self, multiple: f64) -> Result<f64> {
        let rank = self.guard.rank();
        let local = if self.interrupter.is_interrupted() {
            Err(Error::Interrupted { rank })
        } else if multiple == 0.0 {
            Ok(0.0)
        } else {
            displace(&self.guard, self.layout, self.update, multiple, From::Saved)
                .map(|[along, _]| along)
                .map_err(|source| Error::Torch { rank, during: ALONG, source })
        };
        // A rank that cannot move must not keep the others waiting in the forward pass: it joins them where it is.
        let loss = match self.guard.loss(ALONG) {
            Err(Error::NonFinite { .. }) => Ok(f64::NAN),
            loss => loss,
        };
        // Hosts have the same loss on all ranks, unless one is broken, which must not pass for a number.
        let told = |loss: f64| if rank == 0 || loss.is_nan() { loss } else { 0.0 };
        let local = local.and_then(|along| loss.map(|loss| vec![told(loss), along]));
        let sums = self.ranks.sum(self.guard.host(), ALONG, 2, local)?;
        if multiple != 0.0 {
            self.realised = sums[1] / (multiple * self.squared);
        }
        Ok(sums[0])
    }
}
