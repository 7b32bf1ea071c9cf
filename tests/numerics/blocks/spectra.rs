//! Spectra of single blocks.

use super::{CENTRAL, Dense, PARTITIONS, close, found, partition, rademacher, transformer_hessian, value};
use crate::closure_host::ClosureHost;
use crate::dense::{eigenvalues, norm2};
use crate::models::transformer;
use tch::Kind;

/// Every block's spectrum, by every partition. The start is the block's part of a random vector q, so that weights and nodes
/// give qᵀHq and ‖P_b Hq‖², too.
#[test]
fn as_many_steps_as_a_block_has_parameters_give_its_dense_spectrum() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let h = transformer_hessian();
    for by in PARTITIONS {
        let toml = format!(
            "[slq]\nseed = 6\n{CENTRAL}[blocks]\n{by}\nvectors = 1\nalong_gradient = false\nspectrum_steps = 700\nmethod = \"stochastic\"\ndraws = 2"
        );
        let (found, config) = found(&mut host, &toml);
        let partition = partition(&host, &config.blocks);
        let dense = Dense::of(h.shallow_clone(), &mut host, &partition);
        for (number, block) in found.blocks.iter().enumerate() {
            let part = dense.block(number);
            let (exact, scale) = (eigenvalues(&part), norm2(&part));
            let spectrum = block.spectrum.as_ref().unwrap();
            let what = format!("{by}, {}", block.name);
            // Every Ritz value is an eigenvalue, and every eigenvalue is found (repeated ones once).
            let near = |value: f64, others: &[f64]| {
                let distance = crate::dense::distance(value, others);
                assert!(distance <= 1e-6 * scale, "{what}: {value} is {distance:e} from the nearest");
            };
            spectrum.nodes.iter().for_each(|node| near(*node, &exact));
            exact.iter().for_each(|value| near(*value, &spectrum.nodes));
            close(block.lambda_max.unwrap().value, exact[exact.len() - 1], 1e-6 * scale, &what);
            close(block.lambda_min.unwrap().value, exact[0], 1e-6 * scale, &what);
            let q = rademacher(h.size()[0], 6, 0) * dense.mask(number);
            let q = &q / q.norm();
            let product = h.mv(&q) * dense.mask(number);
            let moment = |power: i32| {
                spectrum
                    .nodes
                    .iter()
                    .zip(&spectrum.weights)
                    .map(|(node, w)| w * node.powi(power))
                    .sum::<f64>()
            };
            close(moment(0), 1.0, 1e-9, &what);
            close(moment(1), value(&q.dot(&product)), 1e-6 * scale, &what);
            close(moment(2), value(&product.dot(&product)), 1e-6 * scale * scale, &what);
        }
    }
}

#[test]
fn an_eigenvalue_of_the_block_lies_within_the_residual_of_its_extremes() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let toml = "[blocks]\nby = \"layer\"\nvectors = 1\nalong_gradient = false\nspectrum_steps = 8";
    let (found, config) = found(&mut host, toml);
    let partition = partition(&host, &config.blocks);
    let dense = Dense::of(transformer_hessian(), &mut host, &partition);
    for (number, block) in found.blocks.iter().enumerate() {
        let exact = eigenvalues(&dense.block(number));
        for extreme in [block.lambda_max.unwrap(), block.lambda_min.unwrap()] {
            let distance = crate::dense::distance(extreme.value, &exact);
            assert!(distance <= extreme.residual, "{}: {distance:e}, {extreme:?}", block.name);
        }
    }
}
