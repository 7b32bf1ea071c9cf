//! The figures, as a table and as JSON.

use crate::case::Case;
use crate::{Result, support};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    figure: String,
    place: String,
    value: f64,
    unit: &'static str,
    /// The largest value that is well.
    target: Option<f64>,
}

impl Row {
    pub fn new(figure: &str, place: impl AsRef<str>, value: f64, unit: &'static str) -> Self {
        Self { figure: figure.into(), place: place.as_ref().into(), value, unit, target: None }
    }

    pub fn at_most(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    /// A figure that could not be measured is a miss.
    fn missed(&self) -> bool {
        self.target.is_some_and(|target| self.value.is_nan() || self.value > target)
    }
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    rows: Vec<Row>,
    /// What the figures were computed from.
    raw: Vec<serde_json::Value>,
}

impl Report {
    /// Adds a figure and shows it: a whole run takes minutes.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {}: {:.3} {}", row.figure.trim(), row.value, row.unit);
        self.rows.push(row);
    }

    pub fn keep(&mut self, what: &str, case: &Case, measured: &impl Serialize) -> Result<()> {
        self.raw.push(serde_json::json!({ "what": what, "case": case, "measured": measured }));
        Ok(())
    }

    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.missed()).count()
    }

    /// Writes `target/bench/probe_cost.json`.
    pub fn write(&self) -> Result<PathBuf> {
        let path = support::directory()?.join("probe_cost.json");
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest =
            |text: fn(&Row) -> &str| self.rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0);
        let (figure, place) = (widest(|row| &row.figure), widest(|row| &row.place));
        for row in &self.rows {
            write!(f, "{:figure$}  {:place$}  {:>9.3} {:<13}", row.figure, row.place, row.value, row.unit)?;
            match row.target {
                Some(target) if row.missed() => writeln!(f, "  ≤ {target:<4}  MISS")?,
                Some(target) => writeln!(f, "  ≤ {target:<4}  ok")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "\n{} targets missed", self.missed())
    }
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// NaN where there are no values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 - 1.0) * share).round().max(0.0) as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
