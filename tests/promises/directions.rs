//! A user's direction and the coming update on 1, 2 and 4 ranks: the same curvature.

use crate::common::{config, on_ranks_with, text};
use hessian_probe::directions::{Along, AlongUpdate};
use hessian_probe::{Callback, Control, HessianProbe, Host, ProbeConfig, Result};
use hessian_probe_c10d::is_launched;
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::Path;
use tch::Tensor;

const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";
const WORLD_SIZES: [usize; 3] = [1, 2, 4];

/// Measures both before each step of the optimizer.
struct Measuring {
    probe: HessianProbe,
    found: Vec<(Along, AlongUpdate)>,
}

/// A direction that depends on global indices only: a rank has its part.
fn direction(host: &dyn Host) -> Vec<Tensor> {
    let part = |start: u64, len: usize| {
        let values: Vec<f64> = (0..len as u64).map(|i| (0.37 * (start + i) as f64).sin()).collect();
        Tensor::from_slice(&values)
    };
    host.shards().iter().map(|shard| part(shard.global_offset, shard.tensor.numel())).collect()
}

impl Callback for Measuring {
    fn on_before_optimizer_step(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let direction = direction(host);
        let along = self.probe.along(step, host, &direction)?.expect("it is not 0");
        let update = self.probe.along_update(step, host)?.expect("the trainer lends it");
        assert!(update.coming);
        self.found.push((along, update));
        Ok(Control::Continue)
    }
}

#[test]
fn curvature_along_a_direction_and_the_coming_update_is_the_same_on_1_2_and_4_ranks() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [(DIRECTORY, directory.path().as_os_str())];
    on_ranks_with(&WORLD_SIZES, &variables, |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(8).unwrap();
        let toml = "[hvp]\ndifference = \"central\"\n[log]\ntensorboard = false\njsonl = false";
        let probe = HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap();
        let mut measuring = Measuring { probe, found: Vec::new() };
        trainer.run(3, &mut [&mut measuring as &mut dyn Callback], |_| ()).unwrap();
        if rank == 0 {
            let directory = std::env::var_os(DIRECTORY).unwrap();
            let path = Path::new(&directory).join(format!("{world_size}.json"));
            std::fs::write(path, serde_json::to_string(&measuring.found).unwrap()).unwrap();
        }
    });
    if is_launched() {
        return;
    }
    let [one, others @ ..] = WORLD_SIZES.map(|world_size| -> Vec<(Along, AlongUpdate)> {
        let path = directory.path().join(format!("{world_size}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    });
    let numbers = |(along, update): &(Along, AlongUpdate)| {
        let of = |it: &Along| [it.norm, it.slope, it.curvature, it.product_norm];
        let changes = [update.predicted_change, update.measured_change];
        [&of(along)[..], &of(&update.along), &changes].concat()
    };
    assert_eq!(one.len(), 3);
    for (other, world_size) in others.iter().zip(&WORLD_SIZES[1..]) {
        assert_eq!(other.len(), one.len());
        for (step, (a, b)) in one.iter().zip(other).enumerate() {
            for (index, (a, b)) in numbers(a).into_iter().zip(numbers(b)).enumerate() {
                let close = (a / b - 1.0).abs() < 1e-5;
                assert!(close, "number {index} of step {step}: {a} on one rank, {b} on {world_size}");
            }
        }
    }
}
