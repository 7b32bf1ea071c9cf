//! A comparison on the terminal.

use super::quantity::{Quantity, Value};
use super::significance::Verdict;
use super::{Comparison, Side};
use crate::number::{NONE, Number, Short};
use crate::table::Table;
use std::fmt::{self, Display, Formatter};

/// A longer table of blocks is cut to so many of them.
const MOST: usize = 12;

pub(super) struct Shown<'a>(pub(super) &'a Comparison);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Comparison { a, b, notes, quantities, blocks } = self.0;
        for (name, side) in [("A", a), ("B", b)] {
            let Side { path, step, parameters, probes, warnings } = side;
            writeln!(f, "{name}  {path}, step {step}: {parameters} parameters, {probes} probe vector(s)")?;
            for warning in warnings {
                writeln!(f, "   WARNING {warning}")?;
            }
        }
        for note in notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f)?;
        let mut table = Table::default();
        table.row("", ["A", "B", "B − A", "is that a difference?"].map(str::to_owned));
        for quantity in quantities {
            table.row(quantity.name, cells(quantity));
        }
        write!(f, "{table}")?;
        of_blocks(f, blocks)
    }
}

fn of_blocks(f: &mut Formatter<'_>, blocks: &[Quantity]) -> fmt::Result {
    let mut names: Vec<&str> = blocks.iter().filter_map(|quantity| quantity.block.as_deref()).collect();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    writeln!(f)?;
    let mut table = Table::default();
    table.row("block", ["", "A", "B", "B − A", "is that a difference?"].map(str::to_owned));
    let shown =
        |quantity: &&Quantity| names.iter().take(MOST).any(|name| quantity.block.as_deref() == Some(name));
    let mut before = None;
    for quantity in blocks.iter().filter(shown).filter(|quantity| quantity.verdict != Verdict::Missing) {
        let block = quantity.block.as_deref();
        let name = block.filter(|_| block != before).unwrap_or("");
        before = block;
        table.row(name, std::iter::once(quantity.name.to_owned()).chain(cells(quantity)));
    }
    write!(f, "{table}")?;
    if names.len() > MOST {
        writeln!(f, "and {} more blocks: --json has all", names.len() - MOST)?;
    }
    Ok(())
}

fn cells(quantity: &Quantity) -> [String; 4] {
    let value = |value: Option<Value>| match value {
        Some(Value { value, error: Some(error) }) => format!("{} ± {}", Short(value), Short(error)),
        Some(Value { value, error: None }) => Number(value).to_string(),
        None => NONE.into(),
    };
    let difference =
        quantity.difference.map_or_else(|| NONE.into(), |difference| Short(difference).to_string());
    [value(quantity.a), value(quantity.b), difference, verdict(quantity)]
}

fn verdict(quantity: &Quantity) -> String {
    let times = |ratio: f64| format!("{} × its error", Short(ratio));
    match (quantity.verdict, quantity.ratio, quantity.critical) {
        (Verdict::Differs, Some(ratio), Some(critical)) => {
            format!("yes: {}, beyond {}", times(ratio), Short(critical))
        }
        (Verdict::Differs, ..) => "yes: neither has an error".into(),
        (Verdict::WithinErrors, Some(ratio), Some(critical)) => {
            format!("no: {}, within {}", times(ratio), Short(critical))
        }
        (Verdict::WithinErrors, ..) => "no".into(),
        (Verdict::NoErrorKnown, ..) => "no error is known".into(),
        (Verdict::NotComparable, ..) => "not comparable".into(),
        (Verdict::Missing, ..) => "only one has it".into(),
    }
}
