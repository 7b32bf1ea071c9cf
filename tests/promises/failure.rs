//! A host that fails, in whatever way and on whatever rank: parameters are restored bit for bit, all
//! ranks hear of it, and training goes on or stops as configured.

use crate::common::{config, generator_lock, on_ranks, text};
use crate::faulty::{Faulty, products, state};
use hessian_probe::{Callback, Error, Gradient, HessianProbe, HostError, ProbeConfig};
use hessian_probe_fsdp::{Dtype, Trainer};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Error,
    Panic,
    PanicInNoGrad,
    NanGradient,
    InfiniteGradient,
    NanLoss,
    WrongShape,
}

const FAULTS: [Fault; 7] = [
    Fault::Error,
    Fault::Panic,
    Fault::PanicInNoGrad,
    Fault::NanGradient,
    Fault::InfiniteGradient,
    Fault::NanLoss,
    Fault::WrongShape,
];

/// What `fault` does to gradient number `at`.
fn hook(fault: Option<Fault>, at: u64) -> impl FnMut(u64, &mut Gradient) -> Result<(), HostError> {
    move |call, gradient| {
        let Some(fault) = fault.filter(|_| call == at) else { return Ok(()) };
        let poison = |gradient: &Gradient, value: f64| {
            let last = gradient.tensors.iter().rev().find(|g| g.numel() > 0).unwrap();
            let _ = last.view([-1]).get(0).fill_(value);
        };
        match fault {
            Fault::Error => return Err("out of memory, say".into()),
            Fault::Panic => panic!("the loop's own panic"),
            Fault::PanicInNoGrad => tch::no_grad(|| panic!("a panic that leaves autograd off")),
            Fault::NanGradient => poison(gradient, f64::NAN),
            Fault::InfiniteGradient => poison(gradient, f64::NEG_INFINITY),
            Fault::NanLoss => gradient.loss = f64::NAN,
            Fault::WrongShape => drop(gradient.tensors.pop()),
        }
        Ok(())
    }
}

fn probe(on_error: &str) -> HessianProbe {
    let toml = format!(
        "on_error = \"{on_error}\"\n[schedule]\nevery = 1\n[slq]\nsteps = 3\n[log]\njsonl = false\ntensorboard = false"
    );
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

#[test]
fn a_failing_gradient_on_any_rank_restores_parameters_on_all_and_is_told_to_all() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let (rank, last) = (group.rank(), group.world_size() - 1);
        let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        trainer.step().unwrap();
        let before = state(&trainer);
        let products = products(&mut trainer, probe("stop"));
        assert!(before == state(&trainer) && products.clone().count() >= 4, "{products:?}");
        for fault in FAULTS {
            // At θ itself, once more there, along the first vector, for the asymmetry, while the noise is measured,
            // in products.
            for at in [1, 2, 4, 5, 9].into_iter().chain(products.clone()) {
                let mine = (rank == last).then_some(fault);
                let mut host = Faulty::new(&mut trainer, hook(mine, at));
                let error = probe("stop").on_step_end(0, &mut host).unwrap_err();
                assert!(host.finish() >= at, "{fault:?}: the fault came about");
                assert!(before == state(&trainer), "{fault:?} at gradient {at}: everything is restored");
                let Error::AtStep { step: 0, source } = &error else { panic!("{error}") };
                let told = match (&**source, fault) {
                    (Error::Peer { failed, .. }, _) if rank != last => *failed == last,
                    (Error::NonFinite { .. }, Fault::NanGradient | Fault::InfiniteGradient) => true,
                    (Error::Host { .. }, Fault::Error) => error.to_string().contains("out of memory, say"),
                    (Error::HostPanicked { message, .. }, Fault::Panic) => message == "the loop's own panic",
                    (Error::HostPanicked { .. }, Fault::PanicInNoGrad) => true,
                    (Error::NonFinite { what, .. }, Fault::NanLoss) => *what == "the loss",
                    (Error::Layout { .. }, Fault::WrongShape) => true,
                    _ => false,
                };
                assert!(told, "{fault:?} at gradient {at} on rank {rank}: {error}");
                assert!(!error.is_communication());
            }
        }
        // Autograd is as it was, and training goes on.
        trainer.step().unwrap();
    });
}

#[test]
fn with_on_error_skip_training_goes_on_and_the_next_probe_comes_about() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let rank = group.rank();
        let mut trainer = Trainer::new(config(true, 0.0, Dtype::F32), group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        let mut probe = probe("skip");
        for step in 0..4 {
            trainer.step().unwrap();
            let before = state(&trainer);
            let fault = (rank == 0 && step % 2 == 0).then_some(Fault::NanGradient);
            let mut host = Faulty::new(&mut trainer, hook(fault, 2));
            probe.on_step_end(step, &mut host).unwrap();
            host.finish();
            assert!(before == state(&trainer));
            let latest = probe.latest().map(|snapshot| snapshot.step);
            assert_eq!(latest, if step == 0 { None } else { Some(step - u64::from(step == 2)) });
        }
    });
}
