//! What is kept.

use super::found::{Memory, Outcome, Times};
use super::task::{EXACT, OURS, REFERENCE, REWRITTEN};
use hessian_probe::spectrum::Estimate;
use serde::{Deserialize, Serialize};

/// All that was measured on one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Study {
    pub model: String,
    pub parameters: u64,
    pub sequences: usize,
    /// Of a sequence.
    pub tokens: usize,
    pub threads: usize,
    /// Lanczos steps of a run, and vectors.
    pub steps: usize,
    pub vectors: usize,
    /// The packages that the environment of the others is made of.
    pub packages: Vec<String>,
    /// The reference first.
    pub peers: Vec<Peer>,
}

/// A library with one kind of product.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    pub library: String,
    pub version: String,
    /// Its key, and in words.
    pub products: String,
    pub how: String,
    pub attention: String,
    #[serde(flatten)]
    pub outcome: Outcome<Figures>,
}

/// What it takes, and how near it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub times: Times,
    pub memory: Memory,
    /// ‖Hv − reference‖ / ‖reference‖.
    pub error: f64,
}

impl Study {
    /// The one of that library and kind, if it could be measured.
    pub fn figures(&self, library: &str, products: &str) -> Option<&Figures> {
        let same = |peer: &&Peer| peer.library == library && peer.products == products;
        self.peers.iter().find(same)?.figures()
    }

    /// What errors are told of.
    pub fn reference(&self) -> Option<&Figures> {
        self.figures(OURS, REFERENCE)
    }

    /// All others.
    pub fn compared(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.products != REFERENCE)
    }
}

impl Peer {
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            Outcome::Failed(_) => None,
        }
    }

    /// Whether it differentiates twice.
    pub fn is_exact(&self) -> bool {
        [EXACT, REWRITTEN].contains(&self.products.as_str())
    }

    pub fn is_ours(&self) -> bool {
        self.library == OURS
    }
}

impl Figures {
    pub fn gradient_seconds(&self) -> f64 {
        median(&self.times.gradient_seconds)
    }

    pub fn product_seconds(&self) -> f64 {
        median(&self.times.product_seconds)
    }

    /// Gradients that one product takes the time of.
    pub fn product_cost(&self) -> f64 {
        self.product_seconds() / self.gradient_seconds()
    }

    /// The same of a product in a search for λ_max, with everything that the search does besides.
    pub fn run_cost(&self) -> f64 {
        self.times.run_seconds / (self.times.run_products as f64 * self.gradient_seconds())
    }

    /// What a gradient holds at its peak beyond the loaded model, and what a product does, in bytes.
    pub fn working_memory(&self) -> Option<(f64, f64)> {
        let Memory { resident, gradient_peak, product_peak } = self.memory;
        let beyond = |peak: Option<u64>| Some(peak? as f64 - resident? as f64);
        Some((beyond(gradient_peak)?, beyond(product_peak)?))
    }

    /// The mean of vᵀHv over the vectors.
    pub fn trace(&self) -> Estimate {
        let count = self.times.traces.len() as f64;
        let mean = self.times.traces.iter().sum::<f64>() / count;
        let squares: f64 = self.times.traces.iter().map(|trace| (trace - mean).powi(2)).sum();
        let standard_error = (count > 1.0).then(|| (squares / (count - 1.0) / count).sqrt());
        Estimate { mean, standard_error }
    }
}

/// NaN where there are no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len() % 2 == 1 => sorted[middle],
        sorted => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_standard_errors_are_those_of_the_textbook() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan());
        let times = Times {
            loss: 0.0,
            gradient_norm: 0.0,
            gradient_seconds: vec![2.0, 9.0, 2.0],
            product_seconds: vec![5.0, 4.0, 4.0],
            lambda_max: 1.0,
            residual: None,
            run_products: 10,
            run_seconds: 60.0,
            traces: vec![1.0, 2.0, 3.0, 6.0],
            notes: Vec::new(),
        };
        let memory = Memory { resident: Some(10), gradient_peak: Some(15), product_peak: Some(30) };
        let figures = Figures { times, memory, error: 0.0 };
        assert_eq!((figures.product_cost(), figures.run_cost()), (2.0, 3.0));
        assert_eq!(figures.working_memory(), Some((5.0, 20.0)));
        // The sum of squares about the mean of 3 is 14.
        let trace = figures.trace();
        assert_eq!((trace.mean, trace.standard_error), (3.0, Some((14.0_f64 / 3.0 / 4.0).sqrt())));
    }
}
