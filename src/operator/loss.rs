//! The loss itself at displaced parameters, while θ is on loan.

use crate::error::Result;
use crate::krylov::Operator;
use crate::operator::difference::From;
use crate::operator::finite_difference::FiniteDifference;
use tch::{TchError, Tensor};

const LOSS: &str = "the loss at displaced parameters";

impl FiniteDifference<'_, '_> {
    /// L(θ₀ + hv) by a forward pass, and the displacement ⟨Δ, v⟩ that rounding left of h, for a unit vector v.
    /// Collective.
    pub(crate) fn loss_at(&mut self, v: &Tensor, h: f64) -> Result<(f64, f64)> {
        let [along, _] = self.displace(v, h, From::Saved);
        let loss = self.loss_here();
        let realised = self.sum(LOSS, 1, Ok(vec![along]))?[0];
        Ok((loss, realised))
    }

    /// L(θ₀) by a forward pass, which may be rounded otherwise than the gradient's. Collective.
    pub(crate) fn loss_at_origin(&mut self) -> Result<f64> {
        if let Err(error) = self.guard.return_to_origin() {
            self.pending.get_or_insert(error);
        }
        let loss = self.loss_here();
        let none: Result<Vec<f64>, TchError> = Ok(Vec::new());
        self.sum(LOSS, 0, none)?;
        Ok(loss)
    }

    /// A failure is kept until the next sum.
    fn loss_here(&mut self) -> f64 {
        match self.guard.loss(LOSS) {
            Ok(loss) => loss,
            Err(error) => {
                self.pending.get_or_insert(error);
                f64::NAN
            }
        }
    }
}
