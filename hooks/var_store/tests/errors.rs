//! What goes wrong says what, where and what to do; parameters are as they were.

mod common;

use common::{Perceptron, alone, probe, stored};
use hessian_probe::Host;
use hessian_probe_var_store::{Error, VarStoreHost};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Probes with `loss` in place of the model's own from the fifth call on, or from the first.
fn failing(step: u64, late: bool, loss: impl Fn(&Perceptron) -> Result<Tensor, String>) -> String {
    let model = Perceptron::new(Kind::Float);
    let before = stored(&model.vs);
    let mut calls = 0;
    let mut host = VarStoreHost::new(&model.vs, || {
        calls += 1;
        if late && calls < 5 { Ok(model.loss()) } else { loss(&model) }
    })
    .unwrap();
    let error = probe("[slq]\nsteps = 4").probe(step, &mut host).unwrap_err();
    assert_eq!(stored(&model.vs), before, "{error}");
    assert!(if late { calls >= 5 } else { calls == 1 }, "{calls} calls: {error}");
    error.to_string()
}

#[test]
fn a_loss_that_cannot_be_used_is_refused_in_words() {
    let _turn = alone();
    for late in [false, true] {
        for (expected, error) in [
            ("it must be one floating-point number", failing(7, late, |m| Ok(m.net_output()))),
            ("shape [32, 2] and kind Float", failing(7, late, |m| Ok(m.net_output()))),
            ("kind Int64", failing(7, late, |_| Ok(Tensor::from(3_i64)))),
            ("depends on no parameter", failing(7, late, |m| Ok(m.loss().detach()))),
            (
                "depends on no parameter",
                failing(7, late, |_| Ok(Tensor::from(1.0_f32).set_requires_grad(true) * 2.0)),
            ),
            ("the closure's loss is NaN", failing(7, late, |m| Ok(m.loss() * f64::NAN))),
            ("the closure's loss is inf", failing(7, late, |m| Ok(m.loss() * f64::INFINITY))),
            ("failed: the probe batch is gone", failing(7, late, |_| Err("the probe batch is gone".into()))),
        ] {
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("probe at step 7: rank 0: the host failed in"), "{error}");
        }
    }
}

#[test]
fn a_store_without_a_trainable_parameter_is_refused() {
    let empty = VarStore::new(Device::Cpu);
    let error = VarStoreHost::new(&empty, || Tensor::from(0.0)).unwrap_err();
    assert!(matches!(error, Error::NothingTrainable { variables: 0 }), "{error}");
    let _turn = alone();
    let mut model = Perceptron::new(Kind::Float);
    model.vs.freeze();
    let error = VarStoreHost::new(&model.vs, || model.loss()).unwrap_err();
    assert!(error.to_string().contains("none of the store's 4 variables requires a gradient"), "{error}");
}

#[test]
fn freezing_after_the_host_was_made_is_found() {
    let _turn = alone();
    let model = Perceptron::new(Kind::Float);
    let mut host = VarStoreHost::new(&model.vs, || model.loss()).unwrap();
    let _ = model.parameters()[1].set_requires_grad(false);
    let error = host.gradient().unwrap_err().to_string();
    assert!(error.contains("`layers.0.dense.weight` does not require a gradient any more"), "{error}");
}

#[test]
fn products_with_what_does_not_fit_are_refused() {
    let _turn = alone();
    let model = Perceptron::new(Kind::Float);
    let mut host = VarStoreHost::new(&model.vs, || model.loss()).unwrap();
    for v in [vec![], (0..4).map(|_| Tensor::zeros([2], (Kind::Float, Device::Cpu))).collect()] {
        let error = host.exact_hvp(&v).unwrap_err().to_string();
        assert!(error.contains("tensors given for 4 parameters"), "{error}");
    }
}

impl Perceptron {
    fn net_output(&self) -> Tensor {
        tch::nn::Module::forward(&self.net, &self.x)
    }
}
