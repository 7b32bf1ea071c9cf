//! A preconditioned spectrum that is left out is said once, and again when that has changed.

mod common;

use common::{Perceptron, alone, probe};
use hessian_probe::{Callback, Host, Optimizer, OptimizerKind};
use hessian_probe_var_store::VarStoreHost;
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::Mutex;
use tch::{Kind, Tensor};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what is logged of spectra that are left out.
struct Kept;

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        if line.contains("no preconditioned spectrum") {
            LINES.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

#[test]
fn that_there_are_no_second_moments_is_said_once_until_there_are() {
    let _turn = alone();
    log::set_logger(&Kept).unwrap();
    log::set_max_level(LevelFilter::Info);
    let model = Perceptron::new(Kind::Double);
    let mut host = VarStoreHost::new(&model.vs, || Ok::<_, String>(model.loss())).unwrap();
    let moments: Vec<Tensor> = host.gradient().unwrap().tensors.iter().map(|g| g.square()).collect();
    let mut probe =
        probe("on_error = \"stop\"\n[schedule]\nevery = 1\n[slq]\nsteps = 3\noperator = \"both\"");
    // A new optimizer half-way: it has no moments again.
    for (step, steps) in [0, 0, 0, 1, 2, 0, 0].into_iter().enumerate() {
        host.set_optimizer(Optimizer {
            kind: OptimizerKind::AdamW { betas: (0.9, 0.999), eps: 1e-8 },
            learning_rate: 1e-3,
            weight_decay: Vec::new(),
            steps,
            second_moments: if steps > 0 {
                moments.iter().map(Tensor::shallow_clone).collect()
            } else {
                Vec::new()
            },
        });
        probe.on_step_end(step as u64, &mut host).unwrap();
        let seen = probe.latest().unwrap();
        assert_eq!((seen.step, seen.preconditioned.is_some()), (step as u64, steps > 0));
    }
    let lines = LINES.lock().unwrap();
    let [first, again] = &lines[..] else { panic!("{lines:?}") };
    assert!(first.starts_with("step 0: ") && again.starts_with("step 5: "), "{lines:?}");
}
