//! The numbers are those of the dense Hessian, and parameters are what the store says.

mod common;

use common::{Perceptron, alone, bits, distance, flat, probe, stored};
use hessian_probe::{Host, Optimizer, OptimizerKind, Update};
use hessian_probe_var_store::VarStoreHost;
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};

#[test]
fn the_spectrum_is_that_of_the_dense_hessian() {
    let _turn = alone();
    let model = Perceptron::new(Kind::Double);
    let dense = model.dense_hessian();
    let eigenvalues = Vec::<f64>::try_from(dense.linalg_eigvalsh("L")).unwrap();
    let (low, high) = (eigenvalues[0], eigenvalues[eigenvalues.len() - 1]);
    assert!(low < -1e-3, "no negative curvature to find: {low}");
    for (difference, tolerance) in [("exact", 1e-9), ("central", 1e-6)] {
        let mut host = VarStoreHost::new(&model.vs, || model.loss()).unwrap().targets(32);
        let toml = format!("[slq]\nsteps = 30\nprobes = 3\n[hvp]\ndifference = \"{difference}\"");
        let mut probe = probe(&toml);
        let snapshot = probe.probe(0, &mut host).unwrap();
        assert_eq!((snapshot.parameters, snapshot.tokens), (30, Some(32)));
        let scale = high.abs().max(low.abs());
        for (found, expected) in [(snapshot.lambda_max.value, high), (snapshot.lambda_min.value, low)] {
            assert!((found - expected).abs() < tolerance * scale, "{difference}: {found}, not {expected}");
        }
        // ⟨v, Hv⟩ of a run's start is Σ weight · node; over a whole basis every node is an eigenvalue.
        for node in &snapshot.probes[0].nodes {
            let nearest = eigenvalues.iter().map(|value| (value - node).abs()).fold(f64::INFINITY, f64::min);
            assert!(nearest < tolerance * scale, "{difference}: {node} is no eigenvalue");
        }
        let trace = eigenvalues.iter().sum::<f64>();
        let found = snapshot.trace;
        let error = found.standard_error.unwrap();
        assert!(
            (found.mean - trace).abs() < 5.0 * error + 1e-9,
            "{difference}: {} ± {error}, not {trace}",
            found.mean
        );
    }
}

#[test]
fn gradients_are_those_of_backward_and_products_those_of_the_dense_hessian() {
    let _turn = alone();
    let dense = Perceptron::new(Kind::Double).dense_hessian();
    for (kind, tolerance) in [(Kind::Double, 1e-13), (Kind::Float, 1e-5), (Kind::BFloat16, 0.05)] {
        let model = Perceptron::new(kind);
        let mut host = VarStoreHost::new(&model.vs, || model.loss()).unwrap();
        let gradient = host.gradient().unwrap();
        assert!(model.parameters().iter().all(|parameter| !parameter.grad().defined()));
        model.loss().backward();
        for (ours, parameter) in gradient.tensors.iter().zip(model.parameters()) {
            assert_eq!(ours.kind(), kind);
            assert_eq!(bits(ours), bits(&parameter.grad()), "{kind:?}");
        }
        let v: Vec<Tensor> = model.parameters().iter().map(Tensor::randn_like).map(|v| v.detach()).collect();
        let product = flat(&host.exact_hvp(&v).unwrap());
        let expected = dense.mv(&flat(&v).to_kind(Kind::Double));
        let off = distance(&product, &expected);
        assert!(off < tolerance, "{kind:?}: {off}");
        let before = stored(&model.vs);
        let mut probe = probe("[slq]\nsteps = 6");
        let snapshot = probe.probe(0, &mut host).unwrap();
        assert!(snapshot.lambda_max.value > 0.0);
        assert_eq!(stored(&model.vs), before, "{kind:?}");
    }
}

#[test]
fn a_loss_that_is_linear_in_its_parameters_has_a_hessian_of_zeros() {
    let vs = VarStore::new(Device::Cpu);
    let w = vs.root().var("w", &[3], nn::Init::Const(1.0));
    let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]);
    let mut host = VarStoreHost::new(&vs, || w.dot(&x)).unwrap();
    assert_eq!(host.gradient().unwrap().tensors, [x.shallow_clone()]);
    assert_eq!(
        host.exact_hvp(&[x.shallow_clone()]).unwrap(),
        [Tensor::zeros([3], (Kind::Float, Device::Cpu))]
    );
}

#[test]
fn parameters_come_by_name_whatever_their_groups_with_the_layers_that_names_tell() {
    let listed = |order: &[usize]| {
        let vs = VarStore::new(Device::Cpu);
        for layer in order {
            let path = (vs.root() / "layers" / *layer).set_group(*layer);
            let _ = path.zeros("attn_weight", &[2, 2]);
            let _ = (path / "norm").ones("weight", &[2]);
        }
        let frozen = vs.root().ones("frozen", &[4]);
        let _ = frozen.set_requires_grad(false);
        let _ = vs.root().ones_no_train("counter", &[1]);
        let _ = vs.root().zeros("head", &[3]);
        let shards = VarStoreHost::new(&vs, || vs.root().zeros_no_train("loss", &[])).unwrap().shards();
        let mut end = 0;
        for shard in &shards {
            assert_eq!((shard.global_offset, shard.replicated), (end, false));
            end += shard.tensor.numel() as u64;
        }
        shards.into_iter().map(|shard| (shard.name, shard.block)).collect::<Vec<_>>()
    };
    let names = listed(&[0, 1]);
    assert_eq!(names, listed(&[1, 0]), "the order in which they were made");
    let expected = [
        ("head", "head"),
        ("layers.0.attn_weight", "layers.0"),
        ("layers.0.norm.weight", "layers.0"),
        ("layers.1.attn_weight", "layers.1"),
        ("layers.1.norm.weight", "layers.1"),
    ];
    assert!(names.iter().map(|(name, block)| (name.as_str(), block.as_str())).eq(expected), "{names:?}");
}

/// By the dense Hessian: margin and curvature along the update of what a loop says of its optimizer, SGD and one of its own.
#[test]
fn what_a_loop_says_of_its_optimizer_gives_the_margin_and_the_update() {
    let _turn = alone();
    let model = Perceptron::new(Kind::Double);
    let dense = model.dense_hessian();
    let largest = |matrix: &Tensor| matrix.linalg_eigvalsh("L").max().double_value(&[]);
    let mut host = VarStoreHost::new(&model.vs, || model.loss()).unwrap();
    assert!(host.optimizer().unwrap().is_none() && host.update().unwrap().is_none());
    let eta = 0.1;
    let gradient = host.gradient().unwrap().tensors;
    let mut lend = |kind, steps, second_moments| {
        host.set_optimizer(Optimizer {
            kind,
            learning_rate: eta,
            weight_decay: Vec::new(),
            steps,
            second_moments,
        });
        host.set_update(Update { tensors: gradient.iter().map(|g| g * -eta).collect(), coming: true });
        let operator = if kind.adaptive().is_some() { "preconditioned" } else { "hessian" };
        let toml = format!(
            "[slq]\nsteps = 30\noperator = \"{operator}\"\n[hvp]\ndifference = \"central\"\n[directions]\nupdate = true"
        );
        probe(&toml).probe(0, &mut host).cloned()
    };
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-6, "{a} for {b}");

    let sgd = OptimizerKind::Sgd { momentum: 0.5, dampening: 0.0, nesterov: false };
    let found = lend(sgd, 0, Vec::new()).unwrap();
    close(found.margin().unwrap(), largest(&dense) * eta / 3.0);
    let along = found.directions.unwrap().update.unwrap();
    let u = flat(&gradient) * -eta;
    close(along.along.curvature, (u.dot(&dense.mv(&u)) / u.dot(&u)).double_value(&[]));
    assert!(along.coming);

    let adam = OptimizerKind::Adam { betas: (0.9, 0.99), eps: 1e-3 };
    let moments = |count: usize| gradient[..count].iter().map(|g| g.square() + 1e-3).collect::<Vec<_>>();
    let found = lend(adam, 1_000_000, moments(4)).unwrap();
    let root = (flat(&moments(4)).sqrt() + 1e-3).sqrt();
    close(found.margin().unwrap(), largest(&(&dense / root.unsqueeze(0) / root.unsqueeze(1))) * eta / 38.0);
    assert!(lend(adam, 1_000_000, moments(3)).unwrap_err().to_string().contains("3 shards, of 4"));
}
