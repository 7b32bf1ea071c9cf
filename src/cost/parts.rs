//! Where the time of a probe goes, as named parts that exclude each other.

use serde::{Deserialize, Serialize};

/// Seconds of a probe on one rank, measured or predicted. The parts add up to the whole.
///
/// On an accelerator, work is queued: its time is counted where the sums of a pass are read, which is in the part that
/// the pass belongs to. Nothing waits for the device that would not wait otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// In the host's gradients, losses and exact products, but for those of `calibration`; the host's own communication
    /// is in there.
    pub gradients: f64,
    /// Measuring the gradient's noise, where it was due: gradients, vector work and all_reduces.
    pub calibration: f64,
    /// In all other all_reduces of the probe, waiting for other ranks included.
    pub all_reduces: f64,
    /// Making room, saving θ₀ and g(θ₀), and putting everything back.
    pub saving: f64,
    /// Drawing probe vectors.
    pub drawing: f64,
    /// Vector work of Hessian-vector products: displacing θ, and differences of gradients.
    pub products: f64,
    /// Vector work of Lanczos steps: the recurrence, and orthogonalisation.
    pub lanczos: f64,
    /// How orthogonal the vectors of each run are, and its quadrature.
    pub checks: f64,
    /// Vector work of the comparison with diagonal blocks besides that of its products.
    pub blocks: f64,
    /// What is left: statistics, single directions, states that are saved for [`[resume]`](crate::config::ResumeConfig).
    pub other: f64,
}

impl Parts {
    /// Each part with its name, in the order of the fields.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 10] {
        [
            ("gradients", self.gradients),
            ("calibration", self.calibration),
            ("all_reduces", self.all_reduces),
            ("saving", self.saving),
            ("drawing", self.drawing),
            ("products", self.products),
            ("lanczos", self.lanczos),
            ("checks", self.checks),
            ("blocks", self.blocks),
            ("other", self.other),
        ]
    }

    /// The whole.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.named().iter().map(|(_, seconds)| seconds).sum()
    }

    /// The part that is neither gradients nor communication: what a probe adds to the gradients that it asks for.
    #[must_use]
    pub fn vector_work(&self) -> f64 {
        self.saving + self.drawing + self.products + self.lanczos + self.checks + self.blocks + self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_fields_and_all_of_them() {
        let parts = Parts { gradients: 1.0, lanczos: 2.0, other: 4.0, calibration: 8.0, ..Parts::default() };
        let written = serde_json::to_value(parts).unwrap();
        let written = written.as_object().unwrap();
        assert_eq!(written.len(), parts.named().len());
        for (name, seconds) in parts.named() {
            assert_eq!(written[name], seconds, "{name}");
        }
        assert_eq!((parts.total(), parts.vector_work()), (15.0, 6.0));
        assert_eq!(serde_json::from_str::<Parts>("{}").unwrap(), Parts::default(), "as in old records");
    }
}
