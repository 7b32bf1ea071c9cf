//! The largest curvature that an optimizer bears.
//!
//! On a quadratic with eigenvalue λ (of H, or of P^{-1/2} H P^{-1/2} in the coordinates P^{1/2}θ, in which every rule
//! below is the same in each eigendirection) a rule with momentum is a recurrence x_{t+1} = a x_t − b x_{t−1}. With
//! 0 ≤ b < 1 its roots lie within the unit circle exactly if |a| < 1 + b (Jury), so that it is lost as λ grows where the
//! smaller root reaches −1: 1 + a + b = 0.
//!
//! | rule | a | b | λ at which 1 + a + b = 0 |
//! |---|---|---|---|
//! | gradient descent | 1 − ηλ | 0 | 2/η |
//! | heavy ball | 1 + μ − η(1−τ)λ | μ | (2+2μ) / ((1−τ)η) |
//! | Nesterov | 1 + μ − η(1+μ(1−τ))λ | μ(1 − ηλ) | (2+2μ) / ((1+μ(2−τ))η), at τ = 0 (2+2μ) / ((1+2μ)η) |
//! | Adam | 1 + β − η′(1−β)λ | β | (2+2β) / ((1−β)η′) |
//! | AdamW | d + β − η′(1−β)λ | βd | (1+β)(1+d) / ((1−β)η′), d = 1 − ηw |
//!
//! β = β₁ and η′ = η/(1−β₁ᵗ), the learning rate that the first moment's bias correction leaves, since m̂ = m/(1−β₁ᵗ)
//! (Cohen et al. have the factor in P). At β₁ = 0.9 and large t that is 38/η. Decay that is added to the gradient is
//! curvature: the eigenvalues of the loss with it are those of H + wI, so that H's own threshold is w less. AdamW's, which
//! bypasses the moments, contracts θ by d in each step instead, and takes w(1+β)/(1−β)·(1−β₁ᵗ) off the threshold.

use super::loan::OptimizerKind;

impl OptimizerKind {
    /// The eigenvalue above which the iteration on a quadratic diverges: of the Hessian of the loss for SGD, of
    /// P^{-1/2}(H + W)P^{-1/2} for Adam (W the decay that is part of its gradient), of P^{-1/2} H P^{-1/2} for AdamW.
    /// Units: loss / parameter² for SGD, 1/η otherwise.
    ///
    /// `learning_rate` is η, `weight_decay` w; `steps` is t of the bias correction, and none of it is left without
    /// one, as after many steps. `None` where no eigenvalue is too large (η = 0), where nothing is corrected yet
    /// (t = 0), and for settings that are not finite.
    ///
    /// Gradient clipping only shortens steps: a loop that clips at every step bears more than this.
    ///
    /// ```
    /// use hessian_probe::OptimizerKind;
    ///
    /// let adam = OptimizerKind::Adam { betas: (0.9, 0.999), eps: 1e-8 };
    /// assert!((adam.threshold(1e-3, 0.0, None).unwrap() - 38.0 / 1e-3).abs() < 1e-6);
    /// let sgd = OptimizerKind::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false };
    /// assert_eq!(sgd.threshold(0.5, 0.0, None), Some(4.0));
    /// ```
    #[must_use]
    pub fn threshold(self, learning_rate: f64, weight_decay: f64, steps: Option<u64>) -> Option<f64> {
        let (eta, w) = (learning_rate, weight_decay);
        let threshold = match self {
            Self::Sgd { momentum, dampening, nesterov } => {
                let share = if nesterov { 1.0 + momentum * (2.0 - dampening) } else { 1.0 - dampening };
                (2.0 + 2.0 * momentum) / (share * eta) - w
            }
            Self::Adam { betas: (beta, _), .. } => {
                (2.0 + 2.0 * beta) / (1.0 - beta) * correction(beta, steps) / eta
            }
            Self::AdamW { betas: (beta, _), .. } => {
                (1.0 + beta) * (2.0 - eta * w) / (1.0 - beta) * correction(beta, steps) / eta
            }
        };
        let known = eta > 0.0 && threshold.is_finite() && (self.adaptive().is_none() || steps != Some(0));
        known.then_some(threshold)
    }
}

/// 1 − βᵗ.
pub(super) fn correction(beta: f64, steps: Option<u64>) -> f64 {
    steps.map_or(1.0, |steps| 1.0 - beta.powf(steps as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The largest modulus of the roots of one step of the rule itself on λx²/2, as a linear map of (x, state): the
    /// growth rate of ‖Aᵏz‖ for a large k, with no polynomial and no root.
    fn growth(step: impl Fn([f64; 2]) -> [f64; 2]) -> f64 {
        let mut z = [1.0, 0.37];
        let (mut log, steps) = (0.0, 6000);
        for k in 0..steps {
            z = step(z);
            let norm = z[0].hypot(z[1]);
            // The second half: a double root grows like k at first.
            log += if k >= steps / 2 { norm.ln() } else { 0.0 };
            z = z.map(|entry| entry / norm);
        }
        (log / f64::from(steps - steps / 2)).exp()
    }

    /// Whether the rule, as its documentation writes it, diverges on λx²/2, λ a multiple of the threshold.
    fn diverges(kind: OptimizerKind, eta: f64, w: f64, steps: Option<u64>, multiple: f64) -> bool {
        let lambda = multiple * kind.threshold(eta, w, steps).unwrap();
        let rate = growth(|[x, state]| match kind {
            OptimizerKind::Sgd { momentum, dampening, nesterov } => {
                let g = lambda * x + w * x;
                let b = momentum * state + (1.0 - dampening) * g;
                [x - eta * if nesterov { g + momentum * b } else { b }, b]
            }
            OptimizerKind::Adam { betas: (beta, _), .. } => {
                let m = beta * state + (1.0 - beta) * lambda * x;
                [x - eta * m / correction(beta, steps), m]
            }
            OptimizerKind::AdamW { betas: (beta, _), .. } => {
                let m = beta * state + (1.0 - beta) * lambda * x;
                [(1.0 - eta * w) * x - eta * m / correction(beta, steps), m]
            }
        });
        rate > 1.0
    }

    proptest! {
        #[test]
        fn a_rule_diverges_just_above_its_threshold_and_converges_just_below(
            beta in 0.0_f64..0.95, tau in 0.0_f64..0.9, eta in 1e-3_f64..0.5, w in 0.0_f64..0.5, t in 1_u64..50,
        ) {
            let (betas, eps) = ((beta, 0.99), 1e-8);
            let sgd = |momentum, dampening, nesterov| OptimizerKind::Sgd { momentum, dampening, nesterov };
            for (kind, steps) in [
                (sgd(0.0, 0.0, false), None),
                (sgd(beta, tau, false), None),
                (sgd(beta, 0.0, true), None),
                (sgd(beta, tau, true), None),
                (OptimizerKind::Adam { betas, eps }, None),
                (OptimizerKind::Adam { betas, eps }, Some(t)),
                (OptimizerKind::AdamW { betas, eps }, None),
                (OptimizerKind::AdamW { betas, eps }, Some(t)),
            ] {
                prop_assert!(diverges(kind, eta, w, steps, 1.02), "{kind:?} above");
                prop_assert!(!diverges(kind, eta, w, steps, 0.98), "{kind:?} below");
            }
        }
    }

    #[test]
    fn where_nothing_is_too_large_or_nothing_is_known_there_is_no_threshold() {
        let adam = OptimizerKind::Adam { betas: (0.9, 0.999), eps: 1e-8 };
        assert_eq!(adam.threshold(0.0, 0.0, Some(10)), None);
        assert_eq!(adam.threshold(1e-3, 0.0, Some(0)), None);
        assert_eq!(adam.threshold(f64::NAN, 0.0, None), None);
        // One step: m̂ = g, and the rule is heavy ball's with β₁ at learning rate η/(1−β₁)·(1−β₁).
        assert!((adam.threshold(1e-3, 0.0, Some(1)).unwrap() - 3.8 / 1e-3).abs() < 1e-8);
    }
}
