//! What a probe does on a rank, counted.
//!
//! With P the bytes of θ on the rank, V those of a vector and B those of a stored one; r runs of m steps; M(j) vectors
//! stored after j steps:
//!
//! | work | bytes that have to be moved |
//! |---|---|
//! | forward product | 3P + 4V: θ₀ + hv; g₊ − g₀ with its two sums |
//! | central product | 7P + 7V: θ₀ ± hv; g₊ kept; g₊ − g₋ with its three sums |
//! | central4 product | 14P + 16V |
//! | exact product | 3P + 3V |
//! | step j: recurrence, next vector | 4V (3V for the first), 2V |
//! | … orthogonalised against M(j) vectors | M(j)·B, then V + M(j)·B |
//! | … stored in another type or elsewhere | V + B |
//! | θ₀ and g(θ₀) saved, θ restored | 6P + 4V, and 4 times live gradients |
//!
//! What a piece of a pass needs twice is in the cache the second time. Drawing is counted in entries, the check of
//! orthogonality (QQᵀ) in multiplications. One all_reduce has its values and one more, which carries failures:
//!
//! | all_reduces | number | values of each, without the one for failures |
//! |---|---|---|
//! | room, start vector, loan; norms; memory | 3; 1; 1 | 0; 2; 2 |
//! | calibration | 4 + (one for each pair of gradients) | 1 (central: 5, with the even part 6) |
//! | forward, central, central4, exact product | 1, 1, 2, 1 | 4, 5, 5 and 4, 2 |
//! | Lanczos step | 1 | 1 + M(j) |
//! | a run: Gaussian start vector; check | 1; 1 | 1; m² |
//!
//! Where the Krylov space is exhausted before m steps, or a vector is orthogonalised twice, it is another number.

use super::course::{Course, Products};
use super::facts::{Facts, bytes};
use crate::config::{Distribution, ProbeConfig, Reorthogonalize, SlqConfig};
use crate::error::{Error, Result};
use crate::krylov::room::Room;
use serde::Serialize;

/// More Lanczos steps, or probe vectors, than anybody takes.
const MOST: usize = 1 << 20;

/// Passes over the entries of a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passes {
    /// Bytes read and written.
    pub bytes: u64,
    /// Pieces, each a few calls of libtorch.
    pub pieces: u64,
}

/// What a probe does on one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Gradients, all together.
    pub gradients: u64,
    /// Of these, for measuring the noise.
    pub calibration_gradients: u64,
    /// Exact products of the host.
    pub exact_products: u64,
    /// all_reduces of the probe itself.
    pub all_reduces: u64,
    /// `f64` values in them.
    pub reduced_values: u64,
    /// Of these, all_reduces and values for measuring the noise.
    pub calibration_reductions: (u64, u64),
    /// Vector work of products.
    pub products: Passes,
    /// Of Lanczos steps.
    pub lanczos: Passes,
    /// Of measuring the noise.
    pub calibration: Passes,
    /// Of saving and restoring.
    pub saving: Passes,
    /// Entries of probe vectors drawn.
    pub drawn: u64,
    /// Multiplications and additions of the check of orthogonality.
    pub checked: u64,
    /// Bytes of the basis that move between the CPU's memory and an accelerator.
    pub moved: u64,
    /// Bytes of the line that the writer thread appends to `snapshots.jsonl`, about: training does not wait for it.
    pub logged: u64,
}

/// Whether there are so many steps and probe vectors that counts stay numbers.
pub(super) fn check(slq: &SlqConfig) -> Result<()> {
    for (key, value) in [("slq.steps", slq.steps), ("slq.probes", slq.probes)] {
        if value == 0 || value > MOST {
            return Err(Error::config(key, format!("{value}; 1 to 2^20 are planned")));
        }
    }
    Ok(())
}

/// Lanczos runs on the Hessian.
pub(super) fn runs(slq: &SlqConfig) -> u64 {
    slq.probes as u64 + u64::from(slq.deflate > 0)
}

/// Σ min(j, most) for j = 1 … count.
fn ramp(count: u128, most: u128) -> u128 {
    let rising = count.min(most);
    rising * (rising + 1) / 2 + (count - rising) * most
}

impl Work {
    /// Counts the work of a probe that takes this course: on the Hessian, without deflation, single directions and diagonal
    /// blocks.
    ///
    /// # Errors
    /// [`Error::Config`] for what is not counted, and where a number does not fit into 64 bits.
    pub fn new(facts: &Facts, config: &ProbeConfig, course: &Course) -> Result<Self> {
        let slq = &config.slq;
        check(slq)?;
        let uncounted = [
            ("slq.operator", !slq.operator.is_hessian()),
            ("slq.deflate", slq.deflate > 0),
            ("blocks", config.blocks.is_on()),
            ("directions", config.directions.is_on()),
        ];
        if let Some((key, _)) = uncounted.into_iter().find(|(_, is_on)| *is_on) {
            return Err(Error::config(key, "the law counts plain probes of the Hessian only"));
        }
        let counting = Counting::new(facts, slq);
        let (steps, runs) = (slq.steps as u128, u128::from(runs(slq)));
        let calibration = counting.calibration(course)?;
        let (own_reductions, own_values) = counting.reductions(course)?;
        let (noise_reductions, noise_values) = calibration_reductions(course);
        let keeps_all = slq.reorthogonalize.keeps_all();
        let checked = if keeps_all { runs * steps * steps * u128::from(facts.counted) } else { 0 };
        let (lanczos, moved) = counting.lanczos(course)?;
        Ok(Self {
            gradients: course.gradients(),
            calibration_gradients: course.calibration_gradients(),
            exact_products: course.products.exact,
            all_reduces: own_reductions + noise_reductions,
            reduced_values: own_values + noise_values,
            calibration_reductions: (noise_reductions, noise_values),
            products: counting.products(course.products.and(course.redone))?,
            lanczos,
            calibration,
            saving: counting.saving()?,
            // The first vector once more, before the noise is measured along it.
            drawn: bytes((runs + 1) * u128::from(facts.entries), "probe vectors")?,
            checked: bytes(checked, "the check of orthogonality")?,
            moved,
            logged: 3000 + 110 * (slq.steps as u64) * (slq.probes as u64),
        })
    }
}

/// all_reduces and values of measuring the noise.
fn calibration_reductions(course: &Course) -> (u64, u64) {
    let Some(distances) = course.calibration else { return (0, 0) };
    // The repeated gradient; two central products and two inner products; three points at each distance.
    (1 + 2 + 2 + 3 * distances, 2 + 2 * 6 + 2 * 2 + 3 * 7 * distances)
}

/// The numbers that all counts are made of.
struct Counting<'a> {
    facts: &'a Facts,
    slq: &'a SlqConfig,
    room: Room,
    /// Bytes of θ, a vector, a stored vector.
    parameters: u128,
    vector: u128,
    stored: u128,
}

impl<'a> Counting<'a> {
    fn new(facts: &'a Facts, slq: &'a SlqConfig) -> Self {
        let room =
            Room::new(slq.reorthogonalize, slq.steps, slq.basis, facts.vector_width, facts.accelerated);
        let entries = u128::from(facts.entries);
        Self {
            facts,
            slq,
            room,
            parameters: u128::from(facts.parameters),
            vector: entries * u128::from(facts.vector_width),
            stored: entries * u128::from(room.width),
        }
    }

    /// `passes` over shards of parameters.
    fn passes(&self, moved: u128, passes: u128) -> Result<Passes> {
        Ok(Passes {
            bytes: bytes(moved, "vector work")?,
            pieces: bytes(passes * u128::from(self.facts.pieces), "pieces of vector work")?,
        })
    }

    fn products(&self, products: Products) -> Result<Passes> {
        let (p, v) = (self.parameters, self.vector);
        let kinds = [
            (products.forward, 3 * p + 4 * v, 2),
            (products.central, 7 * p + 7 * v, 4),
            (products.central4, 14 * p + 16 * v, 8),
            (products.exact, 3 * p + 3 * v, 2),
        ];
        let moved = kinds.iter().map(|&(count, bytes, _)| u128::from(count) * bytes).sum();
        let passes = kinds.iter().map(|&(count, _, passes)| u128::from(count) * passes).sum();
        self.passes(moved, passes)
    }

    fn calibration(&self, course: &Course) -> Result<Passes> {
        let (p, v) = (self.parameters, self.vector);
        if course.calibration.is_none() {
            return Ok(Passes::default());
        }
        let differences = u128::from(course.calibration_differences());
        // Differences that also take the even part along v; the repeated gradient; two inner products.
        let moved = differences * (7 * p + 8 * v) + p + v + 4 * v;
        self.passes(moved, 4 * differences + 3)
    }

    fn saving(&self) -> Result<Passes> {
        let (p, v) = (self.parameters, self.vector);
        self.passes(6 * p + 4 * v + 4 * u128::from(self.facts.live_gradients), 5)
    }

    /// The runs' own work, and what of it moves between memories.
    fn lanczos(&self, course: &Course) -> Result<(Passes, u64)> {
        let (v, b) = (self.vector, self.stored);
        let (runs, steps) = (u128::from(runs(self.slq)), self.slq.steps as u128);
        let capacity = self.room.capacity as u128;
        // The recurrence; then each but the last step makes the next vector.
        let mut moved = runs * ((4 * steps - 1) * v + (steps - 1) * 2 * v);
        // Bytes of stored vectors read.
        let read = match self.slq.reorthogonalize {
            Reorthogonalize::None => 0,
            Reorthogonalize::Full | Reorthogonalize::Window(_) => {
                moved += runs * (steps - 1) * v;
                runs * (ramp(steps, capacity) + ramp(steps - 1, capacity)) * b
            }
            // On average half of the basis is there, at a step that goes through it.
            Reorthogonalize::Partial => {
                let times = u128::from(course.reorthogonalized);
                moved += times * 2 * v;
                times * (steps + 1) * b
            }
        };
        moved += read;
        let mut between = 0;
        if self.room.apart {
            moved += runs * steps * (v + b);
            if self.facts.accelerated && self.slq.basis.device.is_some() {
                between = read + runs * steps * b;
            }
        }
        let a_pass = u128::from(self.facts.entries.div_ceil(self.facts.piece.max(1)));
        let more = match self.slq.reorthogonalize {
            Reorthogonalize::Partial => u128::from(course.reorthogonalized),
            _ => 0,
        };
        let passes = runs * (2 * steps - 1) + more;
        let done = Passes {
            bytes: bytes(moved, "vector work")?,
            pieces: bytes(passes * a_pass, "pieces of vector work")?,
        };
        Ok((done, bytes(between, "a basis that moves")?))
    }

    /// all_reduces and values of everything but measuring the noise.
    fn reductions(&self, course: &Course) -> Result<(u64, u64)> {
        let (runs, steps) = (u128::from(runs(self.slq)), self.slq.steps as u128);
        let capacity = self.room.capacity as u128;
        let done = course.products.and(course.redone);
        let [forward, central, central4, exact] =
            [done.forward, done.central, done.central4, done.exact].map(u128::from);
        // Room, start vector, loan; norms; memory.
        let mut number = 5;
        let mut values = 3 + 3 + 3;
        number += forward + central + 2 * central4 + exact;
        values += 5 * forward + 6 * central + (6 + 5) * central4 + 3 * exact;
        number += runs * steps;
        values += runs * steps * 2;
        match self.slq.reorthogonalize {
            Reorthogonalize::None => {}
            Reorthogonalize::Full | Reorthogonalize::Window(_) => values += runs * ramp(steps, capacity),
            Reorthogonalize::Partial => {
                // Half of the basis, as above.
                let times = u128::from(course.reorthogonalized);
                number += times;
                values += times * (2 + steps.div_ceil(2));
            }
        }
        if self.slq.distribution == Distribution::Gaussian {
            number += runs;
            values += 2 * runs;
        }
        if self.slq.reorthogonalize.keeps_all() {
            number += runs;
            values += runs * (steps * steps + 1);
        }
        Ok((bytes(number, "all_reduces")?, bytes(values, "values of all_reduces")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_is_its_sum() {
        for count in 0..12_u128 {
            for most in 0..9_u128 {
                assert_eq!(
                    ramp(count, most),
                    (1..=count).map(|j| j.min(most)).sum::<u128>(),
                    "{count} {most}"
                );
            }
        }
    }
}
