//! When a run that does not always reorthogonalise must.
//!
//! Simon's recurrence (Math. Comp. 42 (1984) 115–142) carries estimates ω_{j,k} of q_jᵀq_k along with T. From
//! β_j q_{j+1} = Hq_j + f_j − α_j q_j − β_{j−1} q_{j−1}, multiplied by q_k, minus the same with j and k exchanged:
//!
//! β_j ω_{j+1,k} = β_k ω_{j,k+1} + (α_k − α_j) ω_{j,k} + β_{k−1} ω_{j,k−1} − β_{j−1} ω_{j−1,k} + q_kᵀf_j − q_jᵀf_k.
//!
//! Simon's f_j is rounding. Here it is also the error of a product, which the operator predicts: that is what
//! makes vectors lose their orthogonality long before rounding does. Where an estimate exceeds √(noise level), the
//! vector is orthogonalised against the whole basis, and so is the next one, as the estimates of two vectors
//! enter each new one. T then is what full reorthogonalisation would give up to the noise level itself.

use serde::{Deserialize, Serialize};

/// The estimates of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Omega {
    /// ω_{j,k} for k ≤ j, the last one being 1.
    current: Vec<f64>,
    /// ω_{j−1,k} for k ≤ j − 1.
    previous: Vec<f64>,
    /// Whether the last vector was orthogonalised on account of its own estimates.
    again: bool,
}

/// What the step of a run knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// α_0 … α_j.
    pub(super) alpha: &'a [f64],
    /// β_0 … β_{j−1}.
    pub(super) beta: &'a [f64],
    /// β_j.
    pub(super) next_beta: f64,
    /// The norms of f_0 … f_j: predicted errors of the products.
    pub(super) errors: &'a [f64],
    /// ‖T‖ so far.
    pub(super) norm_of_t: f64,
    /// The unit roundoff of vectors.
    pub(super) roundoff: f64,
}

impl Step<'_> {
    /// The relative size of what disturbs the recurrence: the largest error of a product, or rounding.
    fn noise_level(&self) -> f64 {
        let error = self.errors.iter().fold(0.0_f64, |worst, &error| worst.max(error));
        if self.norm_of_t > 0.0 { (error / self.norm_of_t).max(self.roundoff) } else { self.roundoff }
    }
}

impl Omega {
    /// Whether these are the estimates after `steps` steps, of a run that keeps any or none.
    pub(crate) fn is_of(&self, steps: usize, any: bool) -> bool {
        let (current, previous) = if any { (steps + 1, steps) } else { (0, 0) };
        self.current.len() == current && self.previous.len() == previous
    }

    /// Takes up q_{j+1}; returns whether it has to be orthogonalised against the whole basis.
    pub(super) fn advance(&mut self, step: Step<'_>) -> bool {
        let j = step.alpha.len() - 1;
        if self.current.is_empty() {
            self.current.push(1.0);
        }
        let rounding = step.roundoff * step.norm_of_t;
        let beta = |k: usize| step.beta.get(k).copied().unwrap_or(step.next_beta);
        let mut next: Vec<f64> = (0..j)
            .map(|k| {
                let below = k.checked_sub(1).map_or(0.0, |before| beta(before) * self.current[before]);
                let earlier =
                    if j > 0 { beta(j - 1) * self.previous.get(k).copied().unwrap_or(0.0) } else { 0.0 };
                let value =
                    beta(k) * self.current[k + 1] + (step.alpha[k] - step.alpha[j]) * self.current[k] + below
                        - earlier;
                let disturbance = rounding + step.errors[j].hypot(step.errors[k]);
                (value + disturbance.copysign(value)) / step.next_beta
            })
            .collect();
        // The two neighbours are orthogonal up to the rounding of one subtraction.
        next.push(step.roundoff * step.norm_of_t / step.next_beta);
        let worst = next.iter().fold(0.0_f64, |worst, value| worst.max(value.abs()));
        // NaN, from a β of 0, asks for it too.
        let due = worst.is_nan() || worst > step.noise_level().sqrt();
        let orthogonalise = due || self.again;
        if orthogonalise {
            next.fill(step.roundoff);
        }
        self.again = due && !self.again;
        next.push(1.0);
        self.previous = std::mem::replace(&mut self.current, next);
        orthogonalise
    }
}
