//! A training with probes is, bit for bit, the training without.

mod common;

use common::{alone, bits, probe, stored};
use hessian_probe::Callback;
use hessian_probe_c10d::generator;
use hessian_probe_var_store::VarStoreHost;
use tch::nn::{self, ModuleT, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

const STEPS: u64 = 12;

/// Batch norm and dropout as in training, a frozen layer, a parameter that the loss does not use, two groups.
struct Model {
    vs: VarStore,
    embed: nn::Linear,
    norm: nn::BatchNorm,
    output: nn::Linear,
}

impl Model {
    fn new(kind: Kind) -> Self {
        let mut vs = VarStore::new(Device::Cpu);
        let root = vs.root();
        let embed = nn::linear(&root / "embed", 6, 8, Default::default());
        let norm = nn::batch_norm1d(&root / "layers" / 0 / "norm", 8, Default::default());
        let output = nn::linear((&root / "layers" / 1 / "output").set_group(1), 8, 3, Default::default());
        let _unused = root.zeros("unused", &[5]);
        let _ = embed.ws.set_requires_grad(false);
        match kind {
            Kind::Double => vs.double(),
            Kind::BFloat16 => vs.bfloat16(),
            _ => {}
        }
        Self { vs, embed, norm, output }
    }

    fn loss(&self, x: &Tensor) -> Tensor {
        let hidden = x.apply(&self.embed).tanh();
        let hidden = self.norm.forward_t(&hidden, true).dropout(0.4, true);
        let logits = hidden.apply(&self.output);
        let target = x.narrow(1, 0, 3).argmax(1, false);
        (logits.logsumexp([1].as_slice(), false) - logits.gather(1, &target.unsqueeze(1), false).squeeze())
            .mean(logits.kind())
    }
}

/// Lion with gradients accumulated over two steps: gradients are live at every other probe. Its own state, no `Optimizer`.
#[derive(Default)]
struct Lion {
    momenta: Vec<Tensor>,
    steps: u64,
}

impl Lion {
    fn step(&mut self, vs: &VarStore, loss: &Tensor) {
        loss.backward();
        self.steps += 1;
        if self.steps % 2 == 1 {
            return;
        }
        let _no_grad = tch::no_grad_guard();
        let mut parameters = vs.trainable_variables();
        parameters.retain(|parameter| parameter.grad().defined());
        if self.momenta.is_empty() {
            self.momenta = parameters.iter().map(Tensor::zeros_like).collect();
        }
        for (parameter, momentum) in parameters.iter_mut().zip(&mut self.momenta) {
            let mut gradient = parameter.grad();
            let update = (&*momentum * 0.9 + &gradient * 0.1).sign();
            *momentum = &*momentum * 0.99 + &gradient * 0.01;
            *parameter -= update * 0.01;
            let _ = gradient.zero_();
        }
    }
}

/// Everything that a training leaves, in bits.
#[derive(PartialEq, Debug, Default)]
struct Trace {
    losses: Vec<Vec<u8>>,
    /// After every step.
    gradients: Vec<Vec<(String, Option<Vec<u8>>)>>,
    variables: Vec<(String, Vec<u8>)>,
    random: Vec<u8>,
}

fn gradients(vs: &VarStore) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all: Vec<_> = vs
        .variables()
        .iter()
        .map(|(name, tensor)| (name.clone(), Some(tensor.grad()).filter(Tensor::defined).map(|g| bits(&g))))
        .collect();
    all.sort();
    all
}

fn train(kind: Kind, optimizer: &str, difference: Option<&str>) -> Trace {
    tch::manual_seed(3);
    let model = Model::new(kind);
    let batch = || Tensor::randn([16, 6], (Kind::Float, Device::Cpu)).to_kind(kind);
    let held_out = batch();
    let mut host = VarStoreHost::new(&model.vs, || model.loss(&held_out)).unwrap();
    let mut torchs = match optimizer {
        "sgd" => Some(nn::sgd(0.9, 0.0, 1e-4, true).build(&model.vs, 0.05).unwrap()),
        "adam" => Some(nn::Adam::default().build(&model.vs, 0.01).unwrap()),
        _ => None,
    };
    if let Some(optimizer) = &mut torchs {
        optimizer.set_lr_group(1, 0.02);
    }
    let mut own = Lion::default();
    let mut probe = difference.map(|difference| {
        probe(&format!(
            "[schedule]\nevery = 1\n[slq]\nsteps = 4\nprobes = 2\n[hvp]\ndifference = \"{difference}\""
        ))
    });
    let mut trace = Trace::default();
    for step in 0..STEPS {
        let loss = model.loss(&batch());
        trace.losses.push(bits(&loss));
        match &mut torchs {
            Some(optimizer) => optimizer.backward_step(&loss),
            None => own.step(&model.vs, &loss),
        }
        if let Some(probe) = &mut probe {
            probe.on_step_end(step, &mut host).unwrap();
            assert_eq!(probe.latest().map(|snapshot| snapshot.step), Some(step), "no probe at step {step}");
        }
        trace.gradients.push(gradients(&model.vs));
    }
    if let Some(snapshot) = probe.as_ref().and_then(|probe| probe.latest()) {
        // The frozen weight is a constant, its bias is not.
        assert_eq!(snapshot.parameters, 8 + 2 * 8 + (8 * 3 + 3) + 5);
    }
    trace.variables = stored(&model.vs);
    trace.random = generator::state(Device::Cpu).unwrap();
    trace
}

#[test]
fn training_with_probes_is_bit_identical_whatever_the_optimizer() {
    let _turn = alone();
    for optimizer in ["sgd", "adam", "lion"] {
        let without = train(Kind::Float, optimizer, None);
        assert_ne!(without.losses[0], without.losses[1]);
        let undefined = without.gradients.last().unwrap().iter().filter(|(_, gradient)| gradient.is_none());
        let names: Vec<_> = undefined.map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["embed.weight", "layers.0.norm.running_mean", "layers.0.norm.running_var", "unused"],
            "{optimizer}"
        );
        for difference in ["auto", "exact"] {
            assert!(without == train(Kind::Float, optimizer, Some(difference)), "{optimizer}, {difference}");
        }
    }
}

#[test]
fn training_with_probes_is_bit_identical_in_every_precision() {
    let _turn = alone();
    for kind in [Kind::Double, Kind::BFloat16] {
        assert!(train(kind, "adam", None) == train(kind, "adam", Some("auto")), "{kind:?}");
    }
}

#[test]
fn an_evaluation_by_itself_leaves_buffers_generator_and_gradients_alone_and_repeats() {
    use hessian_probe::Host;
    let _turn = alone();
    tch::manual_seed(5);
    let model = Model::new(Kind::Float);
    let x = Tensor::randn([16, 6], (Kind::Float, Device::Cpu));
    model.loss(&x).backward();
    let state = || (stored(&model.vs), gradients(&model.vs), generator::state(Device::Cpu).unwrap());
    let before = state();
    let mut host = VarStoreHost::new(&model.vs, || model.loss(&x)).unwrap();
    let first = host.gradient().unwrap();
    assert!(state() == before);
    assert_eq!(host.loss().unwrap().to_bits(), first.loss.to_bits(), "other masks");
    let again = host.gradient().unwrap();
    assert!(first.tensors.iter().zip(&again.tensors).all(|(a, b)| bits(a) == bits(b)), "other masks");
    let v: Vec<Tensor> = first.tensors.iter().map(Tensor::ones_like).collect();
    host.exact_hvp(&v).unwrap();
    assert!(state() == before);
    // A forward pass of the loop does change them: there was something to restore.
    let _ = model.loss(&x);
    assert!(stored(&model.vs) != before.0 && generator::state(Device::Cpu).unwrap() != before.2);
}

#[test]
fn a_closure_that_panics_leaves_buffers_generator_and_gradient_mode_alone() {
    let _turn = alone();
    tch::manual_seed(6);
    let model = Model::new(Kind::Float);
    let x = Tensor::randn([16, 6], (Kind::Float, Device::Cpu));
    let before = (stored(&model.vs), generator::state(Device::Cpu).unwrap());
    let mut calls = 0;
    let mut host = VarStoreHost::new(&model.vs, || {
        calls += 1;
        let loss = model.loss(&x);
        if calls > 3 {
            tch::no_grad(|| panic!("no more of this"));
        }
        loss
    })
    .unwrap();
    let mut probe = probe("[slq]\nsteps = 4");
    let error = probe.probe(8, &mut host).unwrap_err().to_string();
    for part in ["probe at step 8", "rank 0: the host panicked", "no more of this"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(before == (stored(&model.vs), generator::state(Device::Cpu).unwrap()));
    assert!(model.loss(&x).requires_grad(), "gradients are off");
}
