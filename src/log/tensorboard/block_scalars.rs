//! The scalars of block-diagonal fidelity.

use super::scalars::{Scalar, push};
use crate::blocks::BlockDiagonal;
use crate::spectrum::{Estimate, Extreme};

/// The statistics that have a chart: name, meaning, value.
type Headline = (&'static str, &'static str, fn(&BlockDiagonal) -> Option<Estimate>);

pub(super) const HEADLINES: [Headline; 5] = [
    ("relative_error", "‖H − H_bd‖_F / ‖H‖_F, H_bd the diagonal blocks of H.", |blocks| {
        blocks.relative_error
    }),
    ("cosine", "The cosine of Hv and H_bd v over random v.", |blocks| blocks.cosine),
    ("off_diagonal_share", "‖H − H_bd‖_F² / ‖H‖_F².", |blocks| blocks.off_diagonal_share),
    ("gradient/relative_error", "‖Hg − H_bd g‖ / ‖Hg‖, g the gradient.", |blocks| {
        blocks.gradient.and_then(|gradient| gradient.relative_error)
    }),
    ("gradient/cosine", "The cosine of Hg and H_bd g, g the gradient.", |blocks| {
        blocks.gradient.and_then(|gradient| gradient.cosine)
    }),
];

/// The tags of a headline: value, lower and upper end of its band.
pub(super) fn band(name: &str) -> [String; 3] {
    [format!("blocks/{name}"), format!("blocks_band/{name}/lower"), format!("blocks_band/{name}/upper")]
}

pub(super) fn block_scalars(all: &mut Vec<Scalar>, blocks: &BlockDiagonal) {
    for (name, meaning, estimate) in HEADLINES {
        let Some(Estimate { mean, standard_error }) = estimate(blocks) else { continue };
        let [tag, lower, upper] = band(name);
        push(all, tag, meaning.into(), mean);
        if let Some(error) = standard_error {
            push(all, format!("blocks_error/{name}"), format!("The standard error of: {meaning}"), error);
        }
        let width = standard_error.unwrap_or(0.0);
        push(all, lower, format!("Less the standard error: {meaning}"), mean - width);
        push(all, upper, format!("Plus the standard error: {meaning}"), mean + width);
    }
    let mut plain = |name: &str, meaning: &str, value: f64| {
        push(all, format!("blocks/{name}"), meaning.into(), value);
    };
    plain(
        "predicted_error",
        "By how much errors of the products are predicted to change the relative error at most.",
        blocks.predicted_error,
    );
    plain("hvps", "Hessian-vector products for block-diagonal fidelity.", blocks.hvps as f64);
    if let Some(spread) = blocks.draw_spread {
        plain("draw_spread", "How far one draw of signs is from their mean, relative to that.", spread);
    }
    for block in &blocks.blocks {
        let mut estimate = |what: &str, meaning: &str, estimate: Option<Estimate>| {
            let Some(Estimate { mean, standard_error }) = estimate else { return };
            push(all, format!("blocks/{}/{what}", block.name), meaning.into(), mean);
            if let Some(error) = standard_error {
                let tag = format!("blocks_error/{}/{what}", block.name);
                push(all, tag, format!("The standard error of: {meaning}"), error);
            }
        };
        estimate("trace", "The trace of this diagonal block; loss / parameter².", Some(block.trace));
        estimate("frobenius_norm", "Its Frobenius norm; loss / parameter².", block.frobenius_norm);
        estimate("share", "Its squared norm over ‖H‖_F².", block.share);
        estimate("trace_share", "Its trace over tr H.", block.trace_share);
        let mut extreme = |what: &str, meaning: &str, extreme: Option<Extreme>| {
            let Some(Extreme { value, residual, .. }) = extreme else { return };
            push(all, format!("blocks/{}/{what}", block.name), meaning.into(), value);
            let tag = format!("blocks_error/{}/{what}", block.name);
            push(all, tag, format!("The residual of: {meaning}"), residual);
        };
        extreme("lambda_max", "Its largest Ritz value; loss / parameter².", block.lambda_max);
        extreme("lambda_min", "Its smallest Ritz value; loss / parameter².", block.lambda_min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_is_in_the_documentation() {
        let documentation = include_str!("mod.rs");
        for (name, ..) in HEADLINES {
            assert!(documentation.contains(&format!("`blocks/{name}`")), "{name}");
        }
        for name in ["predicted_error", "hvps", "draw_spread"] {
            assert!(documentation.contains(&format!("`blocks/{name}`")), "{name}");
        }
        for what in ["trace", "frobenius_norm", "share", "trace_share", "lambda_max", "lambda_min"] {
            assert!(documentation.contains(&format!("`blocks/BLOCK/{what}`")), "{what}");
        }
    }
}
