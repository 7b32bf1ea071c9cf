//! The comparison along given vectors.

use super::{CENTRAL, Dense, PARTITIONS, close, found, partition, rademacher, transformer_hessian, value};
use crate::closure_host::ClosureHost;
use crate::dense::{MatrixOperator, norm2};
use crate::models::transformer;
use hessian_probe::blocks::{Plan, measure};
use hessian_probe::sharded::Layout;
use hessian_probe::spectrum::Estimate;
use tch::{Kind, Tensor};

#[test]
fn the_exact_comparison_agrees_with_the_dense_hessian_along_the_same_vectors() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let h = transformer_hessian();
    for by in PARTITIONS {
        let toml = format!(
            "[slq]\nseed = 4\n{CENTRAL}[blocks]\n{by}\nmethod = \"exact\"\nvectors = 3\nspectrum_steps = 0"
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

/// In f32 and with one gradient a product wherever that seems enough: what is told of the errors is right.
#[test]
fn predicted_errors_cover_what_differences_do_to_the_comparison() {
    let mut host = ClosureHost::new(transformer(5), Kind::Float);
    let mut exact = ClosureHost::at_the_same_parameters(transformer(5), &host);
    let h = exact.dense_hessian();
    let layout = Layout::new(&exact, None).unwrap();
    for method in ["exact", "stochastic"] {
        let toml =
            format!("[blocks]\nby = \"layer\"\nmethod = \"{method}\"\nvectors = 3\nspectrum_steps = 0");
        let (found, config) = found(&mut host, &toml);
        let partition = partition(&exact, &config.blocks);
        let dense = Dense::of(h.shallow_clone(), &mut exact, &partition);
        // The same vectors and signs on the exact operator.
        let mut operator = MatrixOperator::with_layout(&h, layout.clone());
        let mut w = dense.gradient.zeros_like();
        let plan = Plan::new(&config.blocks, &partition);
        let expected =
            measure(&mut operator, &partition, plan, &config.slq, Some(&dense.gradient), &mut w).unwrap();
        let mean = |estimate: Option<Estimate>| estimate.unwrap().mean;
        let off = (mean(found.relative_error) - mean(expected.relative_error)).abs();
        assert!(off <= found.predicted_error, "{method}: {off} for {}", found.predicted_error);
        assert!(found.predicted_error < 0.01, "and of some use: {}", found.predicted_error);
        assert!(found.products.forward > 0, "one gradient a product");
        for (block, exact) in found.blocks.iter().zip(&expected.blocks) {
            let (norm, exact) = (mean(block.frobenius_norm), mean(exact.frobenius_norm));
            let off = (norm - exact).abs() / exact;
            assert!(
                off <= block.predicted_error,
                "{method}, {}: {off} for {}",
                block.name,
                block.predicted_error
            );
        }
    }
}
