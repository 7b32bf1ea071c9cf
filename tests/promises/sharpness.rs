//! Critical sharpness on real ranks: the same number, and everything put back.

use crate::common::{config, generator_lock, on_ranks, on_ranks_with, text};
use crate::faulty::{Faulty, state};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::{Error, HessianProbe, ProbeConfig};
use hessian_probe_c10d::is_launched;
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::Path;

const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";
const WORLD_SIZES: [usize; 3] = [1, 2, 4];

fn probe() -> HessianProbe {
    let toml = "[log]\ntensorboard = false\njsonl = false";
    HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap()
}

#[test]
fn critical_sharpness_is_the_same_on_1_2_and_4_ranks() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [(DIRECTORY, directory.path().as_os_str())];
    on_ranks_with(&WORLD_SIZES, &variables, |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(8).unwrap();
        let mut probe = probe();
        let mut found = Vec::new();
        for step in 0..3 {
            trainer.step().unwrap();
            found.push(probe.critical_sharpness(step, &mut trainer).unwrap().unwrap());
        }
        if rank == 0 {
            let directory = std::env::var_os(DIRECTORY).unwrap();
            let path = Path::new(&directory).join(format!("{world_size}.json"));
            std::fs::write(path, serde_json::to_string(&found).unwrap()).unwrap();
        }
    });
    if is_launched() {
        return;
    }
    let [one, others @ ..] = WORLD_SIZES.map(|world_size| -> Vec<CriticalSharpness> {
        let path = directory.path().join(format!("{world_size}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    });
    for other in others {
        for (a, b) in one.iter().zip(&other) {
            assert_eq!((a.passes, a.coming), (b.passes, false));
            let off = a.multiple.unwrap() / b.multiple.unwrap() - 1.0;
            assert!(off.abs() < 1e-6, "{a:?}\n{b:?}");
        }
    }
}

/// A forward pass that fails, panics or finds no number at θ, on the last rank, at each pass in turn.
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
                let mut host = Faulty::new(&mut trainer, move |call, _| {
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
