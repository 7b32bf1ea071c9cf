//! How much of the Hessian is block-diagonal, and a table of its blocks.

use crate::number::{NONE, Short, optional, short};
use crate::table::{Table, row};
use hessian_probe::blocks::{BlockDiagonal, BlockRecord};
use hessian_probe::spectrum::Extreme;
use std::fmt;

/// A longer table is cut to so many blocks.
const MOST: usize = 12;

pub(super) fn write(f: &mut fmt::Formatter<'_>, found: &BlockDiagonal) -> fmt::Result {
    writeln!(f)?;
    let vectors = match found.vectors {
        1 => "1 random vector (no standard errors)".into(),
        count => format!("{count} random vectors"),
    };
    let comparison =
        format!("H with its {} diagonal blocks, H_bd: {vectors}, {}", found.blocks.len(), method(found));
    row(f, "compared", &comparison)?;
    row(f, "relative error", &format_args!("{} = ‖Hv − H_bd v‖ / ‖Hv‖", optional(found.relative_error)))?;
    row(f, "cosine", &format_args!("{} of Hv and H_bd v", optional(found.cosine)))?;
    row(f, "off-diagonal", &format_args!("{} of ‖H‖_F²", optional(found.off_diagonal_share)))?;
    if let Some(along) = &found.gradient {
        let [error, cosine] = [along.relative_error, along.cosine].map(optional);
        row(f, "along gradient", &format_args!("relative error {error}, cosine {cosine}"))?;
    }
    if let Some(spread) = found.draw_spread {
        row(f, "one draw", &format_args!("is off by {} of ‖H_bd v‖", Short(spread)))?;
    }
    let error = Short(found.predicted_error);
    row(
        f,
        "products",
        &format_args!(
            "{}, and {} computed again; their errors change the relative error by {error} at most",
            found.hvps, found.products.redone
        ),
    )?;
    for what in &found.left_out {
        row(f, "left out", what)?;
    }
    writeln!(f)?;
    table(f, &found.blocks)?;
    writeln!(f)
}

/// What was spent on each random vector.
pub(crate) fn method(found: &BlockDiagonal) -> String {
    match found.draws {
        0 => "a product for each block".into(),
        draws => format!("{draws} draws of signs for each"),
    }
}

/// The largest blocks by their norm, in the model's order.
fn table(f: &mut fmt::Formatter<'_>, blocks: &[BlockRecord]) -> fmt::Result {
    let mut by_norm: Vec<usize> = (0..blocks.len()).collect();
    let norm = |index: usize| blocks[index].frobenius_norm.map_or(0.0, |norm| norm.mean);
    by_norm.sort_by(|&a, &b| norm(b).total_cmp(&norm(a)));
    let (shown, rest) = by_norm.split_at(MOST.min(blocks.len()));
    let mut shown = shown.to_vec();
    shown.sort_unstable();
    let mut table = Table::default();
    table.row("block", ["parameters", "trace", "‖·‖_F", "λ_max", "share of ‖H‖_F²"].map(str::to_owned));
    for &index in &shown {
        table.row(&blocks[index].name, cells(&blocks[index]));
    }
    write!(f, "{table}")?;
    if !rest.is_empty() {
        let parameters: u64 = rest.iter().map(|&index| blocks[index].parameters).sum();
        let count = rest.len();
        writeln!(f, "and {count} more of smaller norm, {parameters} parameters: the report has all")?;
    }
    Ok(())
}

fn cells(block: &BlockRecord) -> [String; 5] {
    [
        block.parameters.to_string(),
        short(block.trace),
        optional(block.frobenius_norm),
        block.lambda_max.map_or_else(|| NONE.into(), top),
        optional(block.share),
    ]
}

fn top(value: Extreme) -> String {
    format!("{} ± {}", Short(value.value), Short(value.residual))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hessian_probe::spectrum::Estimate;

    struct Shown<'a>(&'a [BlockRecord]);

    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            table(f, self.0)
        }
    }

    fn block(name: &str, norm: f64) -> BlockRecord {
        BlockRecord {
            name: name.into(),
            parameters: 10,
            trace: Estimate { mean: -2.0, standard_error: Some(0.25) },
            frobenius_norm: (norm > 0.0).then_some(Estimate { mean: norm, standard_error: None }),
            share: None,
            trace_share: None,
            predicted_error: 0.0,
            lambda_max: None,
            lambda_min: None,
            spectrum: None,
        }
    }

    #[test]
    fn a_long_table_is_cut_to_the_largest_in_the_models_order_and_says_so() {
        let blocks: Vec<BlockRecord> =
            (0..15).map(|index| block(&format!("layer {index}"), f64::from(15 - index))).rev().collect();
        let shown = Shown(&blocks).to_string();
        let names: Vec<&str> = shown.lines().map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(names.len(), 1 + MOST + 1, "{shown}");
        assert!(names[1].starts_with("layer 11") && names[MOST].starts_with("layer 0"), "{shown}");
        assert_eq!(names[MOST + 1], "and 3 more of smaller norm, 30 parameters: the report has all");
        let short = Shown(&blocks[..MOST]).to_string();
        assert_eq!(short.lines().count(), 1 + MOST, "{short}");
    }

    #[test]
    fn columns_are_aligned_also_where_a_value_is_unknown() {
        let shown = Shown(&[block("a", 0.0), block("a longer name", 12.5)]).to_string();
        let widths: Vec<usize> = shown.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{shown}");
        assert!(shown.contains("-2.00 ± 0.250") && shown.contains(NONE), "{shown}");
    }
}
