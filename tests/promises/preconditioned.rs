//! The optimizer's view on 1, 2 and 4 ranks: the same; so are directions, and what is tracked.

use crate::common::{config, found_on, text};
use hessian_probe::tracking::Tracked;
use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
use hessian_probe_fsdp::{Dtype, Trainer};

/// After a few steps of the sharded AdamW, whose moments differ between numbers of ranks by rounding only. Blocks are
/// not divisible by 4, and rows of the embedding have never had a gradient.
#[test]
fn the_preconditioned_spectrum_is_the_same_on_1_2_and_4_ranks() {
    let found = found_on([1, 2, 4], |group| -> (Snapshot, Tracked) {
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(8).unwrap();
        for _ in 0..3 {
            trainer.step().unwrap();
        }
        let toml = "[slq]\nsteps = 12\nseed = 3\nprobes = 2\noperator = \"both\"\n[hvp]\ndifference = \"central\"\n\
             [directions]\ngradient = true\nupdate = true\n[track]\nevery = 1\n[log]\ntensorboard = false\njsonl = false";
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap();
        let snapshot = probe.probe(2, &mut trainer).unwrap().clone();
        trainer.step().unwrap();
        (snapshot, probe.track(3, &mut trainer).unwrap())
    });
    let Some([one, others @ ..]) = found else { return };
    let (one, tracked) = one;
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-5;
    let along = |snapshot: &Snapshot| {
        let found = snapshot.directions.unwrap();
        let (gradient, update) = (found.gradient.unwrap(), found.update.unwrap());
        [gradient.curvature, update.along.curvature, update.predicted_change, update.measured_change]
    };
    let directions = along(&one);
    let expected = one.preconditioned.unwrap();
    assert!(expected.moved < one.parameters);
    for (other, other_tracked) in others {
        for (a, b) in directions.into_iter().zip(along(&other)) {
            assert!(close(a, b), "{a} and {b} on {} ranks", other.world_size);
        }
        let [a, b] = [&tracked, &other_tracked].map(|it| (it.lambda_max.value, it.overlap.unwrap()));
        assert!(close(a.0, b.0) && close(a.1, b.1), "{a:?} and {b:?} on {} ranks", other.world_size);
        let found = other.preconditioned.unwrap();
        assert_eq!(
            (found.moved, &found.stability.optimizer),
            (expected.moved, &expected.stability.optimizer)
        );
        for (a, b) in expected.probes.iter().zip(&found.probes) {
            let norm = a.nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
            let [alpha, beta] =
                [(&a.alpha, &b.alpha), (&a.beta, &b.beta)].map(|(a, b)| a.iter().zip(b).take(10));
            for (a, b) in alpha.chain(beta) {
                let off = (a - b).abs();
                assert!(off <= 1e-6 * norm, "{a} and {b} on {} ranks differ by {off:e}", other.world_size);
            }
        }
        let margins = [&expected, &found].map(|spectrum| spectrum.stability.margin.unwrap());
        assert!((margins[0] / margins[1] - 1.0).abs() < 1e-5, "{margins:?}");
    }
}
