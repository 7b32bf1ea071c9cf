//! Probe vectors whose entry at a global index depends on (seed, probe, index) only: any number of
//! ranks, sharded in any way, draws the same vector, and no generator of libtorch is touched.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011): a block cipher of ten rounds that turns a 128-bit counter, under a 64-bit key,
//! into 128 random bits. The key is the seed; the counter holds the probe's index and the position.

use crate::config::Distribution;
use crate::sharded::layout::{Layout, Segment};
use tch::{TchError, Tensor};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// 128 random bits as a function of a counter and a key.
#[must_use]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c, mut k] = [counter, [key[0], key[1], 0, 0]];
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k[0] = k[0].wrapping_add(WEYL[0]);
        k[1] = k[1].wrapping_add(WEYL[1]);
    }
    c
}

/// The entries of one probe vector.
#[derive(Clone, Copy, Debug)]
pub struct RandomProbe {
    seed: u64,
    index: u64,
    distribution: Distribution,
}

impl RandomProbe {
    /// The probe vector number `index` under `seed`.
    #[must_use]
    pub fn new(seed: u64, index: u64, distribution: Distribution) -> Self {
        Self { seed, index, distribution }
    }

    /// The 128 bits of a position: half of the counter is the position, half the probe's index.
    fn block(self, position: u64) -> [u32; 4] {
        let counter =
            [position as u32, (position >> 32) as u32, self.index as u32, (self.index >> 32) as u32];
        philox4x32(counter, [self.seed as u32, (self.seed >> 32) as u32])
    }

    /// The entries at global indices `offset..offset + out.len()`, with mean 0 and variance 1.
    pub fn fill(self, offset: u64, out: &mut [f64]) {
        match self.distribution {
            Distribution::Rademacher => self.fill_signs(offset, out),
            Distribution::Gaussian => self.fill_normals(offset, out),
        }
    }

    /// One bit an entry: 128 entries a block.
    fn fill_signs(self, offset: u64, out: &mut [f64]) {
        let mut position = u64::MAX;
        let mut bits = [0; 4];
        for (index, entry) in (offset..).zip(out) {
            if index / 128 != position {
                position = index / 128;
                bits = self.block(position);
            }
            let bit = index % 128;
            let set = bits[(bit / 32) as usize] >> (bit % 32) & 1;
            *entry = if set == 1 { 1.0 } else { -1.0 };
        }
    }

    /// Box and Muller: two entries a block.
    fn fill_normals(self, offset: u64, out: &mut [f64]) {
        let mut position = u64::MAX;
        let mut pair = [0.0; 2];
        for (index, entry) in (offset..).zip(out) {
            if index / 2 != position {
                position = index / 2;
                let bits = self.block(position);
                let [u, angle] = [uniform(bits[0], bits[1]), uniform(bits[2], bits[3])];
                let radius = (-2.0 * u.ln()).sqrt();
                let (sine, cosine) = (std::f64::consts::TAU * angle).sin_cos();
                pair = [radius * cosine, radius * sine];
            }
            *entry = pair[(index % 2) as usize];
        }
    }

    /// Writes this rank's entries, times `scale`, into a local vector.
    ///
    /// # Errors
    /// When libtorch fails in a copy.
    pub fn write(self, layout: &Layout, scale: f64, target: &Tensor) -> Result<(), TchError> {
        self.write_segments(layout.segments(), scale, target)
    }

    /// Writes this rank's entries divided by √n: for signs a unit vector.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_scaled(self, layout: &Layout, target: &Tensor) -> Result<(), TchError> {
        self.write(layout, (layout.parameters() as f64).sqrt().recip(), target)
    }

    /// As [`write`](Self::write), in some segments only; the rest of `target` stays.
    pub(crate) fn write_segments<'s>(
        self,
        segments: impl IntoIterator<Item = &'s Segment>,
        scale: f64,
        target: &Tensor,
    ) -> Result<(), TchError> {
        const BUFFER: usize = 1 << 16;
        let mut buffer = Vec::new();
        let _no_grad = tch::no_grad_guard();
        for &Segment { start, len, global_offset, .. } in segments {
            for done in (0..len).step_by(BUFFER) {
                let size = BUFFER.min((len - done) as usize);
                if buffer.len() < size {
                    buffer.resize(size, 0.0);
                }
                let piece = &mut buffer[..size];
                self.fill(global_offset + done as u64, piece);
                piece.iter_mut().for_each(|entry| *entry *= scale);
                target
                    .f_narrow(0, start + done, piece.len() as i64)?
                    .f_copy_(&Tensor::f_from_slice(piece)?)?;
            }
        }
        Ok(())
    }
}

/// Uniform in (0, 1), never 0, with 52 random bits.
fn uniform(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 20) | u64::from(low >> 12);
    (bits as f64 + 0.5) / 2.0_f64.powi(52)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that accompany the reference implementation (Random123, `kat_vectors`).
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn an_entry_depends_on_its_global_index_only() {
        for distribution in [Distribution::Rademacher, Distribution::Gaussian] {
            let probe = RandomProbe::new(7, 3, distribution);
            let mut whole = vec![0.0; 1000];
            probe.fill(0, &mut whole);
            for (offset, len) in [(0, 1), (1, 130), (127, 2), (128, 256), (501, 499)] {
                let mut part = vec![0.0; len];
                probe.fill(offset as u64, &mut part);
                assert_eq!(part, whole[offset..offset + len], "{distribution:?} at {offset}");
            }
        }
    }

    #[test]
    fn entries_have_the_moments_of_their_distribution_and_probes_are_uncorrelated() {
        let n = 200_000;
        for (distribution, fourth) in [(Distribution::Rademacher, 1.0), (Distribution::Gaussian, 3.0)] {
            let [mut a, mut b] = [vec![0.0; n], vec![0.0; n]];
            RandomProbe::new(1, 0, distribution).fill(0, &mut a);
            RandomProbe::new(1, 1, distribution).fill(0, &mut b);
            let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
            let within = 5.0 / (n as f64).sqrt();
            assert!(mean(&|i| a[i]).abs() < within);
            assert!((mean(&|i| a[i] * a[i]) - 1.0).abs() < 2.0 * within);
            assert!((mean(&|i| a[i].powi(4)) - fourth).abs() < 12.0 * within);
            assert!(mean(&|i| a[i] * b[i]).abs() < within);
            assert!(mean(&|i| a[i] * a[(i + 1) % n]).abs() < within);
        }
    }
}
