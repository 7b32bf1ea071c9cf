//! Block-diagonal fidelity against dense Hessians and their blocks.

use crate::closure_host::ClosureHost;
use crate::dense::{MatrixOperator, eigenvalues, norm2};
use crate::models::{Model, Normal, transformer};
use hessian_probe::blocks::{
    BlockDiagonal, BlocksConfig, By, Method, Partition, Plan, block_diagonal, measure,
};
use hessian_probe::config::{Distribution, SlqConfig};
use hessian_probe::sharded::Layout;
use hessian_probe::sharded::random::RandomProbe;
use hessian_probe::spectrum::Estimate;
use hessian_probe::{Host, ProbeConfig};
use tch::{Device, Kind, Tensor};

/// A dense H and its blocks as ranges of indices.
struct Dense {
    h: Tensor,
    ranges: Vec<Vec<(i64, i64)>>,
    gradient: Tensor,
}

impl Dense {
    /// By double backward; the blocks are what `partition` says.
    fn new(host: &mut ClosureHost, partition: &Partition) -> Self {
        let h = host.dense_hessian();
        Self::of(h, host, partition)
    }

    fn of(h: Tensor, host: &mut ClosureHost, partition: &Partition) -> Self {
        let gradient = host.gradient().unwrap();
        let gradient = Tensor::cat(&gradient.tensors.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
        Self { h, ranges: ranges(host, partition), gradient }
    }

    /// Ones on the entries of a block.
    fn mask(&self, block: usize) -> Tensor {
        let mask = Tensor::zeros([self.h.size()[0]], (Kind::Double, Device::Cpu));
        for &(start, len) in &self.ranges[block] {
            let _ = mask.narrow(0, start, len).fill_(1.0);
        }
        mask
    }

    /// H_bd, by deleting entries of H.
    fn block_diagonal(&self) -> Tensor {
        (0..self.ranges.len()).fold(self.h.zeros_like(), |sum, block| {
            let mask = self.mask(block);
            sum + &self.h * mask.outer(&mask)
        })
    }

    /// P_b H P_b on the block alone.
    fn block(&self, block: usize) -> Tensor {
        let indices: Vec<i64> =
            self.ranges[block].iter().flat_map(|&(start, len)| start..start + len).collect();
        let indices = Tensor::from_slice(&indices);
        self.h.index_select(0, &indices).index_select(1, &indices)
    }
}

fn ranges(host: &ClosureHost, partition: &Partition) -> Vec<Vec<(i64, i64)>> {
    let mut ranges = vec![Vec::new(); partition.blocks().len()];
    for (index, shard) in host.shards().iter().enumerate() {
        let range = (shard.global_offset as i64, shard.tensor.numel() as i64);
        ranges[partition.block_of(index).unwrap()].push(range);
    }
    ranges
}

fn rademacher(n: i64, seed: u64, index: u64) -> Tensor {
    let mut entries = vec![0.0; n as usize];
    RandomProbe::new(seed, index, Distribution::Rademacher).fill(0, &mut entries);
    Tensor::from_slice(&entries)
}

fn value(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} for {expected}");
}

fn found(host: &mut ClosureHost, toml: &str) -> (BlockDiagonal, ProbeConfig) {
    let config = ProbeConfig::from_toml_str(toml).unwrap();
    (block_diagonal(host, &config).unwrap(), config)
}

fn partition(host: &ClosureHost, config: &BlocksConfig) -> Partition {
    Partition::new(host, &Layout::new(host, None).unwrap(), config).unwrap()
}

const CENTRAL: &str = "[hvp]\ndifference = \"central\"\nmax_relative_error = 1e-9\n";

#[test]
fn the_exact_comparison_agrees_with_the_dense_hessian_along_the_same_vectors() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let h = host.dense_hessian();
    for by in ["layer", "tensor", "kind"] {
        let toml = format!(
            "[slq]\nseed = 4\n{CENTRAL}[blocks]\nby = \"{by}\"\nmethod = \"exact\"\nvectors = 3\nspectrum_steps = 0"
        );
        let (found, config) = found(&mut host, &toml);
        let partition = partition(&host, &config.blocks);
        let dense = Dense::of(h.shallow_clone(), &mut host, &partition);
        let (h, bd) = (&dense.h, dense.block_diagonal());
        let n = h.size()[0];
        let products: Vec<(Tensor, Tensor)> = (0..3)
            .map(|index| {
                let v = rademacher(n, 4, index);
                (h.mv(&v), bd.mv(&v))
            })
            .collect();
        let sum = |f: &dyn Fn(&Tensor, &Tensor) -> f64| products.iter().map(|(a, b)| f(a, b)).sum::<f64>();
        let full = sum(&|a, _| value(&a.dot(a)));
        let square = sum(&|_, b| value(&b.dot(b)));
        let along = sum(&|a, b| value(&a.dot(b)));
        let difference = sum(&|a, b| value(&(a - b).square().sum(Kind::Double)));
        let mean = |estimate: Option<Estimate>| estimate.unwrap().mean;
        close(mean(found.relative_error), (difference / full).sqrt(), 1e-6, "relative error");
        close(mean(found.cosine), along / (full * square).sqrt(), 1e-6, "cosine");
        close(mean(found.off_diagonal_share), difference / full, 1e-6, "off-diagonal share");
        assert!(mean(found.relative_error) > 0.1, "there is something off the diagonal");
        for (found, (a, b)) in found.comparisons.iter().zip(&products) {
            let scale = full / 3.0;
            close(found.product_squared, value(&a.dot(a)), 1e-6 * scale, "‖Hv‖²");
            close(found.inner_product, value(&a.dot(b)), 1e-6 * scale, "⟨Hv, H_bd v⟩");
            close(found.block_squared, value(&b.dot(b)), 1e-6 * scale, "‖H_bd v‖²");
        }

        let (a, b) = (h.mv(&dense.gradient), bd.mv(&dense.gradient));
        let gradient = found.gradient.unwrap();
        close(
            mean(gradient.relative_error),
            value(&((&a - &b).norm() / a.norm())),
            1e-6,
            "along the gradient",
        );
        close(mean(gradient.cosine), value(&(a.dot(&b) / (a.norm() * b.norm()))), 1e-6, "cosine there");
        assert_eq!(gradient.cosine.unwrap().standard_error, None, "nothing is random there");
        assert!(found.predicted_error < 1e-6, "{}", found.predicted_error);

        for (number, block) in found.blocks.iter().enumerate() {
            let mask = dense.mask(number);
            let traces = (0..3).map(|index| {
                let v = rademacher(n, 4, index) * &mask;
                value(&v.dot(&h.mv(&v)))
            });
            close(block.trace.mean, traces.sum::<f64>() / 3.0, 1e-6 * norm2(h), &block.name);
            let squares = products.iter().map(|(_, b)| value(&(b * &mask).square().sum(Kind::Double)));
            let squares: f64 = squares.sum();
            close(mean(block.frobenius_norm), (squares / 3.0).sqrt(), 1e-6 * norm2(h), &block.name);
            close(mean(block.share), squares / full, 1e-6, &block.name);
            assert_eq!(block.parameters as f64, value(&mask.sum(Kind::Double)));
        }
        let shares: f64 = found.blocks.iter().map(|block| mean(block.trace_share)).sum();
        close(shares, 1.0, 1e-9, "shares of the trace");
        assert_eq!(found.hvps, 4 * (1 + found.blocks.len() as u64));
    }
}

#[test]
fn as_many_steps_as_a_block_has_parameters_give_its_dense_spectrum() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let toml = format!(
        "{CENTRAL}[blocks]\nby = \"tensor\"\nvectors = 1\nalong_gradient = false\nspectrum_steps = 60\nmethod = \"stochastic\"\ndraws = 2"
    );
    let (found, config) = found(&mut host, &toml);
    let partition = partition(&host, &config.blocks);
    let dense = Dense::new(&mut host, &partition);
    let scale = norm2(&dense.h);
    for (number, block) in found.blocks.iter().enumerate() {
        let exact = eigenvalues(&dense.block(number));
        let spectrum = block.spectrum.as_ref().unwrap();
        // Every Ritz value is an eigenvalue, and every eigenvalue is found (repeated ones once).
        let near = |value: f64, others: &[f64]| {
            let distance = others.iter().map(|other| (other - value).abs()).fold(f64::INFINITY, f64::min);
            assert!(distance <= 1e-6 * scale, "{}: {value} is {distance:e} from the nearest", block.name);
        };
        spectrum.nodes.iter().for_each(|node| near(*node, &exact));
        exact.iter().for_each(|value| near(*value, &spectrum.nodes));
        close(block.lambda_max.unwrap().value, exact[exact.len() - 1], 1e-6 * scale, &block.name);
        close(block.lambda_min.unwrap().value, exact[0], 1e-6 * scale, &block.name);
        assert_eq!(spectrum.weights.len(), spectrum.nodes.len());
    }
}

#[test]
fn an_eigenvalue_of_the_block_lies_within_the_residual_of_its_extremes() {
    let mut host = ClosureHost::new(transformer(7), Kind::Double);
    let toml = "[blocks]\nby = \"layer\"\nvectors = 1\nalong_gradient = false\nspectrum_steps = 8";
    let (found, config) = found(&mut host, toml);
    let partition = partition(&host, &config.blocks);
    let dense = Dense::new(&mut host, &partition);
    for (number, block) in found.blocks.iter().enumerate() {
        let exact = eigenvalues(&dense.block(number));
        for extreme in [block.lambda_max.unwrap(), block.lambda_min.unwrap()] {
            let distance = crate::dense::distance(extreme.value, &exact);
            assert!(distance <= extreme.residual, "{}: {distance:e}, {extreme:?}", block.name);
        }
    }
}

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

/// What 100 measurements of `matrix` find, and what they should.
fn seeds(matrix: &Tensor, sizes: &[i64], config: &BlocksConfig) -> (Vec<BlockDiagonal>, Dense) {
    let mut host = ClosureHost::new(quadratic(matrix, sizes), Kind::Double);
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
        }
        let shares: Vec<Estimate> = found.iter().map(|found| found.off_diagonal_share.unwrap()).collect();
        let mean = shares.iter().map(|share| share.mean).sum::<f64>() / 100.0;
        let spread = (shares.iter().map(|share| (share.mean - mean).powi(2)).sum::<f64>() / 99.0).sqrt();
        let told = shares.iter().map(|share| share.standard_error.unwrap()).sum::<f64>() / 100.0;
        assert!((0.7..1.4).contains(&(told / spread)), "{method:?}: {told} for {spread}");
        assert!((mean - share).abs() <= 4.0 * spread / 10.0, "{method:?}: {mean} for {share}");
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
    let mut host = ClosureHost::new(transformer(6), Kind::Double);
    let config = |seed: u64| {
        let toml = format!(
            "[slq]\nseed = {seed}\n[blocks]\nby = \"tensor\"\nvectors = 8\ndraws = 4\nspectrum_steps = 0"
        );
        ProbeConfig::from_toml_str(&toml).unwrap()
    };
    let found: Vec<BlockDiagonal> =
        (0..12).map(|seed| block_diagonal(&mut host, &config(seed)).unwrap()).collect();
    let partition = partition(&host, &config(0).blocks);
    let dense = Dense::new(&mut host, &partition);
    let [relative_error, cosine, share] = limits(&dense);
    assert_hits(&found, "relative error", relative_error, |found| found.relative_error);
    assert_hits(&found, "cosine", cosine, |found| found.cosine);
    assert_hits(&found, "off-diagonal share", share, |found| found.off_diagonal_share);
    let (a, b) = (dense.h.mv(&dense.gradient), dense.block_diagonal().mv(&dense.gradient));
    let exact = value(&((&a - &b).norm() / a.norm()));
    for found in &found {
        // Fewer blocks than draws: no signs along the gradient.
        let along = found.gradient.unwrap().relative_error.unwrap();
        close(along.mean, exact, 5.0 * found.predicted_error, "along the gradient");
        assert!(found.predicted_error < 0.05, "{}", found.predicted_error);
    }
}
