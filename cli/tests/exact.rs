//! `--difference exact`: products by double backward, on one rank.

mod common;

use common::llama::{Example, Shape};
use common::{Case, assert_close, tokens};

fn case() -> Case {
    let shape = Shape::small(4);
    let lines = [(1, 11), (2, 6)].map(|(seed, length)| tokens(seed, length, shape.vocabulary));
    Case::new(&shape, &lines.map(|ids| Example::new(&ids, None).line()))
}

#[test]
fn exact_products_and_central_differences_agree() {
    let case = case();
    let report = |difference| case.report(&["--dtype", "f64", "--steps", "12", "--difference", difference]);
    let (exact, central) = (report("exact"), report("central"));
    assert_eq!((exact.hvp.exact, exact.hvp.central, central.hvp.exact), (24, 0, 0));
    assert_eq!(exact.cost.gradients, 1, "no more than g(θ)");
    for (a, b) in exact.probes.iter().zip(&central.probes) {
        let norm = a.nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
        for (a, b) in a.alpha.iter().chain(&a.beta).zip(b.alpha.iter().chain(&b.beta)) {
            assert_close(*b, *a, 1e-5 * norm, "an entry of T");
        }
    }
}

#[test]
fn several_ranks_are_refused_with_the_reason() {
    let error = case().error(&["--difference", "exact", "--ranks", "2"]);
    assert!(error.contains("--difference exact") && error.contains("2 ranks"), "{error}");
}
