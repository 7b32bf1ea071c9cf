//! Which reference the memory that is free allows.

use hessian_probe::regimes::Method;
use hessian_probe_fsdp::{LlamaConfig, ModelSource};

/// Tokens of a micro-batch whose graph is differentiated twice: it spans the whole model.
pub const EXACT_TOKENS: usize = 512;

/// Beside the Lanczos vectors: parameters, their gradient, and three directions with their products.
const VECTORS: u64 = 2 + 6;

/// About what references in f64 keep, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The graph of a micro-batch that is differentiated twice, beside the vectors.
    graph: u64,
    /// Parameters, their gradient and the vectors of a study.
    vectors: u64,
}

impl Need {
    /// Of a model on sequences of these lengths, with a Lanczos run of `steps` vectors in f64, or in f32.
    pub fn new(source: &ModelSource, lengths: &[usize], steps: usize, single_basis: bool) -> Self {
        Self::of(source.config(), source.parameter_count(), lengths, steps, single_basis)
    }

    fn of(model: &LlamaConfig, parameters: u64, lengths: &[usize], steps: usize, single_basis: bool) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let tokens = longest.max(EXACT_TOKENS.min(lengths.iter().sum()));
        let of_basis = if single_basis { 4 } else { 8 } * steps as u64;
        Self { graph: graph_bytes(model, longest, tokens), vectors: parameters * (8 * VECTORS + of_basis) }
    }
}

/// Exact products where their graph takes no more than half of what is free; else differences of fourth order in f64
/// where the vectors fit; else extrapolated ones in f32, unless f64 itself is to be judged. Where nobody tells what is
/// free, all of it fits.
pub fn best(need: &Need, free: Option<u64>, judges_f64: bool) -> Method {
    let fits = |bytes: u64| free.is_none_or(|free| bytes <= free);
    if fits(need.graph.saturating_mul(2)) && fits(need.graph.saturating_add(need.vectors)) {
        Method::Exact
    } else if fits(need.vectors) || judges_f64 {
        Method::Central4
    } else {
        Method::Richardson
    }
}

/// About what double backward keeps: three times what a forward pass does, in f64.
fn graph_bytes(model: &LlamaConfig, longest: usize, tokens: usize) -> u64 {
    let scores = 4 * model.num_attention_heads as u64 * longest as u64;
    let layer = 16 * model.hidden_size as u64 + 6 * model.intermediate_size as u64 + scores;
    let activations = model.num_hidden_layers as u64 * layer + 6 * model.vocab_size as u64;
    3 * 8 * tokens as u64 * activations
}

/// What Linux says is free.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_reference_that_fits_is_taken() {
        let need = Need { graph: 100, vectors: 50 };
        for (free, judges_f64, expected) in [
            (None, true, Method::Exact),
            (Some(200), true, Method::Exact),
            (Some(199), true, Method::Central4),
            (Some(50), false, Method::Central4),
            (Some(49), false, Method::Richardson),
            // Only f64 can tell how far f64 is off.
            (Some(49), true, Method::Central4),
        ] {
            assert_eq!(best(&need, free, judges_f64), expected, "{free:?}, {judges_f64}");
        }
        // Vectors beside which no graph is left room for.
        assert_eq!(best(&Need { graph: 100, vectors: 150 }, Some(240), true), Method::Central4);
    }

    #[test]
    fn what_is_needed_grows_with_model_steps_and_text() {
        let model = LlamaConfig::new(256, 64, 160, 2, 4);
        let need = |lengths: &[usize], steps, single| Need::of(&model, 1000, lengths, steps, single);
        assert_eq!(need(&[8], 12, false).vectors, 1000 * 8 * (8 + 12));
        assert_eq!(need(&[8], 12, true).vectors, 1000 * (8 * 8 + 4 * 12));
        assert!(need(&[64], 1, false).graph > need(&[8], 1, false).graph);
        // Sequences share a micro-batch up to a limit.
        assert_eq!(need(&[64; 8], 1, false).graph, need(&[64; 80], 1, false).graph);
    }
}
