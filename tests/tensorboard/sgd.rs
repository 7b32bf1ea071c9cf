//! A training by SGD with momentum, as TensorBoard shows it: margins against 2(1+μ)/η, which is known, and images of a real run.

use crate::expected::bits;
use crate::{assert_image, read_events, value};
use hessian_probe::{
    Callback, Gradient, HessianProbe, Host, HostError, Optimizer, OptimizerKind, ProbeConfig, ProcessGroup,
    Shard, SingleProcess,
};
use std::collections::BTreeMap;
use tch::Tensor;

const MOMENTUM: f64 = 0.5;
/// The curvatures of the loss, Σ λθ²/2.
const CURVATURES: [f64; 3] = [1.0, -2.0, 6.0];

/// It warms up.
fn learning_rate(step: u64) -> f64 {
    0.05 * (step + 1) as f64
}

struct Descent {
    theta: Tensor,
    step: u64,
}

impl Host for Descent {
    fn shards(&self) -> Vec<Shard> {
        Shard::whole([("theta".to_owned(), self.theta.shallow_clone())], false)
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let gradient = self.theta.f_mul(&Tensor::from_slice(&CURVATURES))?;
        let loss = gradient.f_dot(&self.theta)?.f_double_value(&[])? / 2.0;
        Ok(Gradient { loss, tensors: vec![gradient] })
    }

    fn group(&self) -> &dyn ProcessGroup {
        &SingleProcess
    }

    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        let kind = OptimizerKind::Sgd { momentum: MOMENTUM, dampening: 0.0, nesterov: false };
        let (learning_rate, steps) = (learning_rate(self.step), self.step);
        let (weight_decay, second_moments) = (Vec::new(), Vec::new());
        Ok(Some(Optimizer { kind, learning_rate, weight_decay, steps, second_moments }))
    }
}

#[test]
fn the_margin_of_sgd_is_read_at_each_probe_and_between_them() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "[schedule]\nevery = 3\n[slq]\nsteps = 3\nprobes = 2\n[hvp]\ndifference = \"central\"\n[track]\nevery = 1\nproducts = 3\n\
         [log]\ndir = {:?}",
        directory.path()
    );
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&config).unwrap()).unwrap();
    let mut host = Descent { theta: Tensor::from_slice(&[1.0, 0.5, -0.25]), step: 0 };
    probe.on_train_begin(&mut host).unwrap();
    for step in 0..7 {
        host.step = step;
        probe.on_step_end(step, &mut host).unwrap();
    }
    probe.on_train_end(&mut host).unwrap();
    drop(probe);

    let read = read_events(directory.path());
    let threshold = |step| 2.0 * (1.0 + MOMENTUM) / learning_rate(step);
    let margin = |step| 6.0 / threshold(step);
    let series = |tag: &str| -> BTreeMap<u64, f64> {
        let points = read["run"]["tensors"][tag].as_array().unwrap_or_else(|| panic!("no {tag}"));
        points.iter().map(|point| (point[0].as_u64().unwrap(), point[1].as_f64().unwrap())).collect()
    };
    for (tag, steps, exact) in [
        ("stability/margin", &[0, 3, 6][..], &margin as &dyn Fn(u64) -> f64),
        ("stability/threshold", &[0, 3, 6], &threshold),
        ("stability/learning_rate", &[0, 3, 6], &learning_rate),
        ("track/margin", &[1, 2, 4, 5], &margin),
    ] {
        let found = series(tag);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), steps, "{tag}");
        for (step, value) in found {
            assert!((value / exact(step) - 1.0).abs() < 1e-6, "{tag} of step {step}: {value}");
        }
    }
    assert!(series("stability/margin")[&6] < 1.0 && margin(10) > 1.0);
    assert_eq!(bits(series("stability/learning_rate")[&3]), bits(0.2));

    let events = read["files"][0]["events"].as_array().unwrap();
    let last = events.iter().rfind(|event| event["step"] == 6).unwrap()["values"].as_array().unwrap();
    for image in ["spectrum/density_plot", "spectrum/heat_map"] {
        assert_image(value(last, image));
    }
}
