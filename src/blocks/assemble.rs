//! From samples to estimates with errors.

use super::comparison::Sample;
use super::partition::Partition;
use super::plan::Plan;
use super::record::{AlongGradient, BlockDiagonal, BlockRecord, Comparison};
use crate::spectrum::{Estimate, HvpReport, ProbeRecord, Statistics, mean, of_means};

/// Everything that was found of the blocks.
pub(super) struct Found {
    /// One for each Rademacher vector.
    pub(super) vectors: Vec<Sample>,
    /// By the stochastic method one for each group of draws; none where there was no comparison.
    pub(super) gradient: Vec<Sample>,
    pub(super) spectra: Vec<Option<ProbeRecord>>,
    pub(super) hvps: u64,
}

/// ‖Hv‖², ⟨Hv, H_bd v⟩, ‖H_bd v‖², ‖Hv − H_bd v‖².
fn whole(samples: &[Sample]) -> Vec<[f64; 4]> {
    let of = |sample: &Sample| {
        [sample.full, sample.along.iter().sum(), sample.square.iter().sum(), sample.difference]
    };
    samples.iter().map(of).collect()
}

fn relative_error(samples: &[[f64; 4]]) -> Option<Estimate> {
    of_means(samples, |[full, _, _, difference]| (difference / full).sqrt())
}

fn cosine(samples: &[[f64; 4]]) -> Option<Estimate> {
    of_means(samples, |[full, along, square, _]| along / (full.sqrt() * square.sqrt()))
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

pub(super) fn assemble(found: Found, partition: &Partition, plan: Plan) -> BlockDiagonal {
    let Found { vectors, gradient, spectra, hvps } = found;
    let n = partition.blocks().iter().map(|block| block.parameters).sum::<u64>() as f64;
    let samples = whole(&vectors);
    let along_gradient = whole(&gradient);
    let spread = || {
        let drawn: Vec<[f64; 2]> = vectors
            .iter()
            .map(|sample| Some([sample.drawn?, sample.square.iter().sum()]))
            .collect::<Option<_>>()?;
        of_means(&drawn, |[drawn, square]| ((drawn - square) / square).sqrt()).map(|spread| spread.mean)
    };
    let blocks = partition.blocks().iter().zip(spectra).enumerate().map(|(b, (block, spectrum))| {
        let statistics =
            spectrum.as_ref().and_then(|run| Statistics::new(std::slice::from_ref(run), block.parameters));
        let squares: Vec<[f64; 2]> = vectors.iter().map(|sample| [sample.square[b], sample.full]).collect();
        let traces: Vec<[f64; 2]> =
            vectors.iter().map(|sample| [sample.curvature[b], sample.curvature.iter().sum()]).collect();
        BlockRecord {
            name: block.name.clone(),
            parameters: block.parameters,
            trace: mean(&traces.iter().map(|[own, _]| n * own).collect::<Vec<_>>()),
            frobenius_norm: of_means(&squares, |[square, _]| (n * square).sqrt()),
            share: of_means(&squares, |[square, full]| square / full),
            trace_share: of_means(&traces, |[own, all]| own / all),
            predicted_error: largest(vectors.iter().map(|sample| sample.errors[b] / sample.square[b].sqrt())),
            lambda_max: statistics.as_ref().map(|statistics| statistics.lambda_max),
            lambda_min: statistics.as_ref().map(|statistics| statistics.lambda_min),
            spectrum,
        }
    });
    BlockDiagonal {
        method: if plan.exact { "exact" } else { "stochastic" }.to_owned(),
        vectors: vectors.len(),
        draws: if plan.exact { 0 } else { plan.draws },
        relative_error: relative_error(&samples),
        cosine: cosine(&samples),
        off_diagonal_share: of_means(&samples, |[full, _, _, difference]| difference / full),
        draw_spread: spread(),
        gradient: (!gradient.is_empty()).then(|| AlongGradient {
            draws: if plan.gradient_is_exact() { 0 } else { plan.vectors * plan.draws },
            relative_error: relative_error(&along_gradient),
            cosine: cosine(&along_gradient),
        }),
        blocks: blocks.collect(),
        comparisons: samples
            .iter()
            .map(|&[full, along, square, _]| Comparison {
                product_squared: n * full,
                inner_product: n * along,
                block_squared: n * square,
            })
            .collect(),
        predicted_error: largest(
            vectors
                .iter()
                .chain(&gradient)
                .map(|sample| sample.error.iter().sum::<f64>() / sample.full.sqrt()),
        ),
        hvps,
        products: HvpReport::default(),
        left_out: plan.left_out,
    }
}
