//! What is compared.

use super::significance::{Significance, Verdict};
use hessian_probe::Snapshot;
use hessian_probe::blocks::{BlockDiagonal, BlockRecord};
use hessian_probe::config::SpectrumOf;
use hessian_probe::spectrum::{Estimate, Extreme};
use serde::Serialize;

/// A number of both, and their difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// The block that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    pub name: &'static str,
    pub unit: &'static str,
    pub a: Option<Value>,
    pub b: Option<Value>,
    /// b − a, where they are comparable.
    pub difference: Option<f64>,
    /// What the difference is measured by: the combined standard error, or the sum of the residuals.
    pub error: Option<f64>,
    /// |difference| / error.
    pub ratio: Option<f64>,
    /// The ratio beyond which it is significant.
    pub critical: Option<f64>,
    pub verdict: Verdict,
}

/// With its standard error or its residual, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Value {
    pub value: f64,
    pub error: Option<f64>,
}

/// How errors are to be read.
#[derive(Clone, Copy)]
enum Errors {
    /// Standard errors over so many vectors.
    Standard([usize; 2]),
    /// Bounds.
    Residual,
    None,
}

impl Quantity {
    fn new(name: &'static str, unit: &'static str, [a, b]: [Option<Value>; 2], errors: Errors) -> Self {
        let difference = a.zip(b).map(|(a, b)| b.value - a.value);
        let found = match (difference, a.zip(b)) {
            (Some(difference), Some((a, b))) => match (errors, a.error.zip(b.error)) {
                (Errors::Standard(vectors), _) => {
                    Significance::of_estimates(difference, [a.error, b.error], vectors)
                }
                (Errors::Residual, Some((a, b))) => Significance::of_bounds(difference, [a, b]),
                _ => Significance::NO_ERROR,
            },
            _ => Significance { verdict: Verdict::Missing, ..Significance::NO_ERROR },
        };
        let Significance { error, ratio, critical, verdict } = found;
        Self { block: None, name, unit, a, b, difference, error, ratio, critical, verdict }
    }

    /// The numbers alone.
    fn not_comparable(mut self) -> Self {
        if self.verdict != Verdict::Missing {
            self.verdict = Verdict::NotComparable;
            (self.difference, self.error, self.ratio, self.critical) = (None, None, None, None);
        }
        self
    }
}

fn plain(value: f64) -> Option<Value> {
    Some(Value { value, error: None })
}

fn extreme(found: Extreme) -> Option<Value> {
    Some(Value { value: found.value, error: Some(found.residual) })
}

fn estimate(found: Estimate) -> Option<Value> {
    Some(Value { value: found.mean, error: found.standard_error })
}

/// Of two snapshots; what only one can have is there where one has it.
pub fn quantities(a: &Snapshot, b: &Snapshot) -> Vec<Quantity> {
    let both = |f: &dyn Fn(&Snapshot) -> Option<Value>| [f(a), f(b)];
    let vectors = Errors::Standard([a.probes.len(), b.probes.len()]);
    let same_operator = same_operator(a, b);
    let same_size = a.parameters == b.parameters;
    // Sums over eigenvalues grow with their number, means and shares do not.
    let of_spectrum = |quantity: Quantity, is_sum: bool| {
        if same_operator && (same_size || !is_sum) { quantity } else { quantity.not_comparable() }
    };
    let unit = a.operator.unit();
    let mut all = vec![
        Quantity::new("loss", "loss", both(&|s| plain(s.loss)), Errors::None),
        Quantity::new("‖gradient‖", "loss / parameter", both(&|s| plain(s.gradient_norm)), Errors::None),
        Quantity::new("‖θ‖", "parameter", both(&|s| plain(s.parameter_norm)), Errors::None),
    ];
    for (name, of) in [("λ_max", (|s| s.lambda_max) as fn(&Snapshot) -> Extreme), ("λ_min", |s| s.lambda_min)]
    {
        all.push(of_spectrum(Quantity::new(name, unit, both(&|s| extreme(of(s))), Errors::Residual), false));
    }
    type Of = fn(&Snapshot) -> Option<Estimate>;
    let estimates: [(&str, &str, bool, Of); 9] = [
        ("trace", unit, true, |s| Some(s.trace)),
        ("mean eigenvalue", unit, false, |s| Some(s.mean_eigenvalue)),
        ("‖H‖_F", unit, true, |s| Some(s.frobenius_norm)),
        ("effective rank", "eigenvalues", true, |s| s.effective_rank),
        ("stable rank", "eigenvalues", true, |s| s.stable_rank),
        ("spectral entropy", "nats", true, |s| s.spectral_entropy),
        ("negative share", "1", false, |s| Some(s.negative_share)),
        ("of it resolved", "1", false, |s| Some(s.negative_share_resolved)),
        ("unresolved mass", "1", false, |s| Some(s.unresolved.mass)),
    ];
    for (name, unit, is_sum, of) in estimates {
        let values = both(&|s| of(s).and_then(estimate));
        if values.iter().any(Option::is_some) {
            all.push(of_spectrum(Quantity::new(name, unit, values, vectors), is_sum));
        }
    }
    let preconditioned = both(&|s| extreme(s.preconditioned.as_ref()?.lambda_max));
    let margin = both(&|s| plain(s.margin()?));
    for (name, unit, values, errors) in [
        ("preconditioned λ_max", SpectrumOf::Preconditioned.unit(), preconditioned, Errors::Residual),
        ("margin", "1", margin, Errors::None),
    ] {
        if values.iter().any(Option::is_some) {
            all.push(Quantity::new(name, unit, values, errors));
        }
    }
    let comparison = |of: fn(&BlockDiagonal) -> Option<Estimate>| {
        both(&|s| of(s.block_diagonal.as_ref()?).and_then(estimate))
    };
    let block_vectors =
        Errors::Standard(both_blocks(a, b).map(|blocks| blocks.map_or(0, |found| found.vectors)));
    for (name, values) in [
        ("block-diagonal error", comparison(|found| found.relative_error)),
        ("cosine with H_bd", comparison(|found| found.cosine)),
        ("off-diagonal share", comparison(|found| found.off_diagonal_share)),
    ] {
        if values.iter().any(Option::is_some) {
            all.push(Quantity::new(name, "1", values, block_vectors));
        }
    }
    all
}

/// Of the blocks that both have, by name.
pub fn of_blocks(a: &Snapshot, b: &Snapshot) -> Vec<Quantity> {
    let [Some(of_a), Some(of_b)] = both_blocks(a, b) else { return Vec::new() };
    let mut all = Vec::new();
    for block in &of_a.blocks {
        let Some(other) = of_b.blocks.iter().find(|other| other.name == block.name) else { continue };
        let both = |f: &dyn Fn(&BlockRecord) -> Option<Value>| [f(block), f(other)];
        let vectors = Errors::Standard([of_a.vectors, of_b.vectors]);
        let rows = [
            Quantity::new("trace", SpectrumOf::Hessian.unit(), both(&|block| estimate(block.trace)), vectors),
            Quantity::new(
                "‖·‖_F",
                SpectrumOf::Hessian.unit(),
                both(&|block| estimate(block.frobenius_norm?)),
                vectors,
            ),
            Quantity::new(
                "λ_max",
                SpectrumOf::Hessian.unit(),
                both(&|block| extreme(block.lambda_max?)),
                Errors::Residual,
            ),
            Quantity::new("share of ‖H‖_F²", "1", both(&|block| estimate(block.share?)), vectors),
        ];
        all.extend(rows.into_iter().map(|quantity| {
            let same = block.parameters == other.parameters;
            let quantity = if same { quantity } else { quantity.not_comparable() };
            Quantity { block: Some(block.name.clone()), ..quantity }
        }));
    }
    all
}

pub fn same_operator(a: &Snapshot, b: &Snapshot) -> bool {
    a.operator.includes_hessian() == b.operator.includes_hessian()
}

pub fn both_blocks<'a>(a: &'a Snapshot, b: &'a Snapshot) -> [Option<&'a BlockDiagonal>; 2] {
    [a, b].map(|snapshot| snapshot.block_diagonal.as_ref())
}
