//! What a measuring process tells.

use crate::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the line with it starts with.
pub const RESULT: &str = "peers result: ";

/// The result of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found<T> {
    /// The library's.
    pub version: String,
    #[serde(flatten)]
    pub outcome: Outcome<T>,
}

/// What was measured, or why nothing could be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome<T> {
    Measured(T),
    Failed(String),
}

/// What takes how long, and what comes of it. Seconds are those of the processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub loss: f64,
    pub gradient_norm: f64,
    /// Of each round.
    pub gradient_seconds: Vec<f64>,
    pub product_seconds: Vec<f64>,
    pub lambda_max: f64,
    /// Where the library tells one.
    pub residual: Option<f64>,
    /// Products that λ_max took, and the seconds of all of its search.
    pub run_products: u64,
    pub run_seconds: f64,
    /// vᵀHv of each vector of signs.
    pub traces: Vec<f64>,
    /// What else the library was asked for and could not do.
    pub notes: Vec<String>,
}

/// Bytes; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// With the model loaded, between gradients.
    pub resident: Option<u64>,
    /// The peak of a gradient, and of two products with all that they are made from.
    pub gradient_peak: Option<u64>,
    pub product_peak: Option<u64>,
}

/// The result in what a process printed.
///
/// # Errors
/// Where there is none, or one of another form.
pub fn parse<T: DeserializeOwned>(output: &str) -> Result<Found<T>> {
    let line = output.lines().rev().find_map(|line| line.strip_prefix(RESULT));
    Ok(serde_json::from_str(line.ok_or("the process told no result")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `benches/peers/measure.py` printed it.
    const TIMES: &str = include_str!("../../../benches/peers/fixtures/times.txt");
    const MEMORY: &str = include_str!("../../../benches/peers/fixtures/memory.txt");
    const FAILED: &str = include_str!("../../../benches/peers/fixtures/failed.txt");

    #[test]
    fn what_the_side_of_python_prints_is_read() {
        let times: Found<Times> = parse(TIMES).unwrap();
        let Outcome::Measured(measured) = &times.outcome else { panic!("{times:?}") };
        assert_eq!(measured.gradient_seconds.len(), measured.product_seconds.len());
        assert!(measured.traces.len() > 1 && measured.run_products > 0 && !times.version.is_empty());
        let memory: Found<Memory> = parse(MEMORY).unwrap();
        let Outcome::Measured(measured) = &memory.outcome else { panic!("{memory:?}") };
        assert!(measured.product_peak > measured.gradient_peak);
    }

    #[test]
    fn a_reason_is_read_whatever_was_asked() {
        let times: Found<Times> = parse(FAILED).unwrap();
        let memory: Found<Memory> = parse(FAILED).unwrap();
        let (Outcome::Failed(a), Outcome::Failed(b)) = (times.outcome, memory.outcome) else {
            panic!("it failed")
        };
        assert!(a == b && a.contains("Error: "), "{a}");
    }

    #[test]
    fn a_process_without_a_result_is_an_error() {
        assert!(parse::<Memory>("Killed\n").unwrap_err().to_string().contains("no result"));
        assert!(parse::<Memory>("peers result: {\"version\": \"1\"}\n").is_err());
    }
}
