//! Errors of estimates, over many seeds.

use super::{Dense, close, partition, transformer_hessian, value};
use crate::closure_host::ClosureHost;
use crate::dense::MatrixOperator;
use crate::models::{Model, Normal, transformer};
use hessian_probe::ProbeConfig;
use hessian_probe::blocks::{
    BlockDiagonal, BlocksConfig, By, Method, Partition, Plan, block_diagonal, measure,
};
use hessian_probe::config::SlqConfig;
use hessian_probe::sharded::Layout;
use hessian_probe::spectrum::Estimate;
use tch::{Device, Kind, Tensor};

/// Parameters whose Hessian is `matrix`, in tensors of these sizes.
fn quadratic(matrix: &Tensor, sizes: &[i64]) -> Model {
    let matrix = matrix.shallow_clone();
    let mut normal = Normal::new(3);
    let parameters = sizes.iter().map(|&size| normal.tensor(&[size], 1.0)).collect();
    let loss = move |p: &[Tensor]| {
        let theta = Tensor::cat(p, 0);
        theta.dot(&matrix.mv(&theta)) * 0.5
    };
    let names = (0..sizes.len()).map(|index| format!("layers.{index}.weight")).collect();
    Model { names, parameters, loss: Box::new(loss) }
}

/// What the estimates tend to: (relative error, cosine, off-diagonal share).
fn limits(dense: &Dense) -> [f64; 3] {
    let bd = dense.block_diagonal();
    let share = value(&((&dense.h - &bd).norm() / dense.h.norm())).powi(2);
    [share.sqrt(), value(&(bd.norm() / dense.h.norm())), share]
}

fn within(estimate: Option<Estimate>, exact: f64) -> bool {
    let known = estimate.and_then(|estimate| Some((estimate.mean, estimate.standard_error?)));
    known.is_some_and(|(mean, error)| (mean - exact).abs() <= 3.0 * error)
}

/// A matrix with strong diagonal blocks of these sizes, and something of every strength off the diagonal.
fn nearly_block_diagonal(sizes: &[i64]) -> Tensor {
    let n: i64 = sizes.iter().sum();
    let square = Normal::new(21).tensor(&[n, n], 1.0);
    let h = (&square + square.tr()) * 0.15;
    let mut start = 0;
    for &size in sizes {
        let factor = Normal::new(start as u64 + 50).tensor(&[size, size], 0.4);
        let _ = h.narrow(0, start, size).narrow(1, start, size).g_add_(&factor.matmul(&factor.tr()));
        start += size;
    }
    h
}

/// What 100 measurements of `matrix`, the Hessian of a model with tensors of these sizes, find, and what they should.
fn seeds(matrix: &Tensor, sizes: &[i64], config: &BlocksConfig) -> (Vec<BlockDiagonal>, Dense) {
    seeds_of(matrix, ClosureHost::new(quadratic(matrix, sizes), Kind::Double), config)
}

/// The same with the tensors of a host.
fn seeds_of(matrix: &Tensor, mut host: ClosureHost, config: &BlocksConfig) -> (Vec<BlockDiagonal>, Dense) {
    let layout = Layout::new(&host, None).unwrap();
    let partition = Partition::new(&host, &layout, config).unwrap();
    let dense = Dense::of(matrix.shallow_clone(), &mut host, &partition);
    let mut operator = MatrixOperator::with_layout(matrix, layout);
    let mut w = Tensor::zeros([matrix.size()[0]], (Kind::Double, Device::Cpu));
    let found = (0..100).map(|seed| {
        let slq = SlqConfig { seed, ..SlqConfig::default() };
        let plan = Plan::new(config, &partition);
        measure(&mut operator, &partition, plan, &slq, Some(&dense.gradient), &mut w).unwrap()
    });
    (found.collect(), dense)
}

fn assert_hits(
    found: &[BlockDiagonal],
    what: &str,
    exact: f64,
    estimate: impl Fn(&BlockDiagonal) -> Option<Estimate>,
) {
    let hits = found.iter().filter(|found| within(estimate(found), exact)).count();
    assert!(hits >= 95 * found.len() / 100, "{what}: {hits} of {} are right", found.len());
}

/// Over 100 seeds, on an exact operator: every estimate of either method, whose standard errors are neither too
/// small nor wider than the spread that they stand for.
#[test]
fn estimates_lie_within_three_standard_errors_in_95_of_100_seeds() {
    let sizes = [24, 8, 40, 16, 2, 30, 12, 20];
    let matrix = nearly_block_diagonal(&sizes);
    for (method, draws) in [(Method::Exact, 2), (Method::Stochastic, 4)] {
        let config = BlocksConfig {
            by: By::Tensor,
            method,
            vectors: 24,
            draws,
            spectrum_steps: 0,
            along_gradient: false,
            ..BlocksConfig::default()
        };
        let (found, dense) = seeds(&matrix, &sizes, &config);
        let [relative_error, cosine, share] = limits(&dense);
        let named = |what: &str| format!("{method:?}: {what}");
        assert_hits(&found, &named("relative error"), relative_error, |found| found.relative_error);
        assert_hits(&found, &named("cosine"), cosine, |found| found.cosine);
        assert_hits(&found, &named("off-diagonal share"), share, |found| found.off_diagonal_share);
        for number in 0..sizes.len() {
            let block = dense.block(number);
            let of_block = named(&found[0].blocks[number].name);
            assert_hits(&found, &of_block, value(&block.trace()), |found| Some(found.blocks[number].trace));
            // By draws of signs the norm of a small block may be lost in what is off the diagonal, and then has
            // no square root; its square has its error in any case.
            let exact = value(&(block.norm() / dense.h.norm()).square());
            assert_hits(&found, &of_block, exact, |found| found.blocks[number].share);
            if method == Method::Exact {
                let exact = value(&block.norm());
                assert_hits(&found, &of_block, exact, |found| found.blocks[number].frobenius_norm);
            }
        }
        let shares: Vec<Estimate> = found.iter().map(|found| found.off_diagonal_share.unwrap()).collect();
        let mean = shares.iter().map(|share| share.mean).sum::<f64>() / 100.0;
        let spread = (shares.iter().map(|share| (share.mean - mean).powi(2)).sum::<f64>() / 99.0).sqrt();
        let told = shares.iter().map(|share| share.standard_error.unwrap()).sum::<f64>() / 100.0;
        assert!((0.7..1.4).contains(&(told / spread)), "{method:?}: {told} for {spread}");
        assert!((mean - share).abs() <= 4.0 * spread / 10.0, "{method:?}: {mean} for {share}");
    }
}

/// The Hessian of a real model, whose layers are of very different strength.
#[test]
fn draws_of_signs_on_the_hessian_of_a_transformer_are_right_in_95_of_100_seeds() {
    let config = BlocksConfig {
        by: By::Layer,
        method: Method::Stochastic,
        vectors: 30,
        draws: 4,
        spectrum_steps: 0,
        along_gradient: false,
        ..BlocksConfig::default()
    };
    let host = ClosureHost::new(transformer(5), Kind::Double);
    let (found, dense) = seeds_of(&transformer_hessian(), host, &config);
    let [relative_error, cosine, share] = limits(&dense);
    assert_hits(&found, "relative error", relative_error, |found| found.relative_error);
    assert_hits(&found, "cosine", cosine, |found| found.cosine);
    assert_hits(&found, "off-diagonal share", share, |found| found.off_diagonal_share);
    for number in 0..dense.ranges.len() {
        let (block, name) = (dense.block(number), &found[0].blocks[number].name);
        assert_hits(&found, name, value(&block.trace()), |found| Some(found.blocks[number].trace));
        let exact = value(&(block.norm() / dense.h.norm()).square());
        assert_hits(&found, name, exact, |found| found.blocks[number].share);
    }
}

/// More blocks than draws: along the gradient, too, signs are drawn.
#[test]
fn along_the_gradient_draws_of_signs_are_right_in_95_of_100_seeds() {
    let sizes = [4; 26];
    let matrix = nearly_block_diagonal(&sizes);
    let config = BlocksConfig {
        by: By::Tensor,
        method: Method::Auto,
        vectors: 8,
        draws: 3,
        spectrum_steps: 0,
        ..BlocksConfig::default()
    };
    let (found, dense) = seeds(&matrix, &sizes, &config);
    let (a, b) = (dense.h.mv(&dense.gradient), dense.block_diagonal().mv(&dense.gradient));
    let exact = [value(&((&a - &b).norm() / a.norm())), value(&(a.dot(&b) / (a.norm() * b.norm())))];
    assert_eq!(found[0].gradient.unwrap().draws, 24);
    assert_eq!((found[0].hvps, found[0].method.as_str()), (8 * 4 + 1 + 24, "stochastic"));
    assert_hits(&found, "relative error", exact[0], |found| found.gradient.unwrap().relative_error);
    assert_hits(&found, "cosine", exact[1], |found| found.gradient.unwrap().cosine);
    assert_hits(&found, "off-diagonal share", limits(&dense)[2], |found| found.off_diagonal_share);
    // One draw is as far off as what is not on the diagonal is large.
    let [relative_error, cosine, _] = limits(&dense);
    let spread = found.iter().map(|found| found.draw_spread.unwrap()).sum::<f64>() / 100.0;
    close(spread, relative_error / cosine, 0.05 * spread, "spread of a draw");
}

/// The real thing: gradient differences on a transformer, signs drawn.
#[test]
fn draws_of_signs_on_a_transformer_are_within_three_standard_errors_of_its_dense_hessian() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let config = |seed: u64| {
        let toml = format!(
            "[slq]\nseed = {seed}\n[blocks]\nby = \"tensor\"\nvectors = 8\ndraws = 4\nspectrum_steps = 0"
        );
        ProbeConfig::from_toml_str(&toml).unwrap()
    };
    let found: Vec<BlockDiagonal> =
        (0..10).map(|seed| block_diagonal(&mut host, &config(seed)).unwrap()).collect();
    let partition = partition(&host, &config(0).blocks);
    let dense = Dense::of(transformer_hessian(), &mut host, &partition);
    let [relative_error, cosine, share] = limits(&dense);
    assert_hits(&found, "relative error", relative_error, |found| found.relative_error);
    assert_hits(&found, "cosine", cosine, |found| found.cosine);
    assert_hits(&found, "off-diagonal share", share, |found| found.off_diagonal_share);
    let (a, b) = (dense.h.mv(&dense.gradient), dense.block_diagonal().mv(&dense.gradient));
    let exact = value(&((&a - &b).norm() / a.norm()));
    for found in &found {
        // Fewer blocks than draws: no signs along the gradient.
        let along = found.gradient.unwrap().relative_error.unwrap();
        let predicted = found.gradient.unwrap().predicted_error;
        close(along.mean, exact, predicted, "along the gradient");
        assert!(predicted < 0.01 && found.predicted_error < 0.01, "{predicted}, {}", found.predicted_error);
    }
}
