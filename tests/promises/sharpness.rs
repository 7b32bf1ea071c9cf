//! Critical sharpness on real ranks: the same number, and everything put back.

use crate::common::{config, found_on, generator_lock, on_ranks, text};
use crate::faulty::{Faulty, state};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::{Error, HessianProbe, ProbeConfig};
use hessian_probe_fsdp::{Dtype, Trainer};
use std::ops::RangeInclusive;

fn probe() -> HessianProbe {
    let toml = "[log]\ntensorboard = false\njsonl = false";
    HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap()
}

#[test]
fn critical_sharpness_is_the_same_on_1_2_and_4_ranks() {
    let found = found_on([1, 2, 4], |group| -> Vec<CriticalSharpness> {
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(8).unwrap();
        let mut probe = probe();
        let mut measured = |step| {
            trainer.step().unwrap();
            probe.critical_sharpness(step, &mut trainer).unwrap().unwrap()
        };
        (0..3).map(&mut measured).collect()
    });
    let Some([one, others @ ..]) = found else { return };
    for other in others {
        for (a, b) in one.iter().zip(&other) {
            assert_eq!((a.passes, a.coming), (b.passes, false));
            let off = a.multiple.unwrap() / b.multiple.unwrap() - 1.0;
            assert!(off.abs() < 1e-6, "{a:?}\n{b:?}");
        }
    }
}

/// A forward pass that fails or panics, on the last rank, at each pass in turn.
#[test]
fn a_forward_pass_that_fails_restores_everything_and_is_told_to_all() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let (rank, last) = (group.rank(), group.world_size() - 1);
        let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        trainer.step().unwrap();
        let before = state(&trainer);
        let mut host = Faulty::new(&mut trainer, |_, _| Ok(()));
        let passes = probe().critical_sharpness(0, &mut host).unwrap().unwrap().passes;
        assert_eq!(host.finish(), passes);
        assert!(before == state(&trainer));
        for panics in [false, true] {
            for at in 1..=passes {
                let mut host = Faulty::new(&mut trainer, move |call, evaluated| {
                    assert!(evaluated.tensors.is_empty(), "forward passes alone");
                    if call != at || rank != last {
                        return Ok(());
                    }
                    if panics { panic!("the loop's own panic") } else { Err("out of memory, say".into()) }
                });
                let error = probe().critical_sharpness(0, &mut host).unwrap_err();
                assert_eq!(host.finish(), at, "no rank goes on");
                assert!(before == state(&trainer), "pass {at}: everything is restored");
                let Error::AtStep { step: 0, source } = &error else { panic!("{error}") };
                let told = match &**source {
                    Error::Peer { failed, .. } => rank != last && *failed == last,
                    Error::Host { .. } => rank == last && !panics,
                    Error::HostPanicked { .. } => rank == last && panics,
                    _ => false,
                };
                assert!(told, "pass {at} on rank {rank}: {error}");
            }
        }
        trainer.step().unwrap();
    });
}

/// At θ a loss that is no number is an error; beyond, it counts as a rise. Whichever rank finds it, it is all ranks'.
#[test]
fn a_loss_that_is_no_number_on_any_rank_is_none_on_all() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let (rank, ranks) = (group.rank(), group.world_size());
        let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        trainer.step().unwrap();
        let before = state(&trainer);
        let mut with_nan = |at: u64, on: RangeInclusive<usize>| {
            let mut host = Faulty::new(&mut trainer, |call, evaluated| {
                if call == at && on.contains(&rank) {
                    evaluated.loss = f64::NAN;
                }
                Ok(())
            });
            let found = probe().critical_sharpness(0, &mut host);
            let passes = host.finish();
            assert!(before == state(&trainer), "pass {at}: everything is restored");
            (found.map(Option::unwrap), passes)
        };
        let undisturbed = with_nan(0, 0..=0).0.unwrap();
        for on in [0..=0, ranks - 1..=ranks - 1, 0..=ranks - 1] {
            let (found, passes) = with_nan(1, on.clone());
            let error = found.unwrap_err();
            let Error::AtStep { step: 0, source } = &error else { panic!("{error}") };
            assert!(matches!(&**source, Error::NonFinite { what: "the loss", .. }), "{on:?}: {error}");
            assert_eq!(passes, 1, "{on:?}: no rank goes on");
            for at in 2..=undisturbed.passes {
                let (found, passes) = with_nan(at, on.clone());
                let found = found.unwrap();
                let all = with_nan(at, 0..=ranks - 1).0.unwrap();
                assert_eq!(found.passes, passes, "{on:?}");
                let told =
                    |found: &CriticalSharpness| (found.multiple, found.lower, found.upper, found.passes);
                assert_eq!(told(&found), told(&all), "pass {at} on {on:?}");
                assert!(found.error.is_none_or(f64::is_finite), "{found:?}");
            }
        }
    });
}
