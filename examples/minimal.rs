//! The smallest host: a perceptron on handwritten digits, in one process.

use hessian_probe::{Callback, Gradient, HessianProbe, Host, HostError, ProbeConfig};
use hessian_probe::{ProcessGroup, Shard, SingleProcess};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

struct Digits {
    parameters: Vec<(String, Tensor)>,
    net: nn::Sequential,
    images: Tensor,
    labels: Tensor,
}

impl Digits {
    fn forward(&self) -> Tensor {
        self.net.forward(&self.images).cross_entropy_for_logits(&self.labels)
    }
}

impl Host for Digits {
    fn shards(&self) -> Vec<Shard> {
        Shard::whole(self.parameters.iter().map(|(name, p)| (name.clone(), p.shallow_clone())), false)
    }
    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let loss = self.forward();
        let inputs: Vec<&Tensor> = self.parameters.iter().map(|(_, tensor)| tensor).collect();
        let tensors = Tensor::f_run_backward(&[&loss], &inputs, false, false)?;
        Ok(Gradient { loss: loss.f_double_value(&[])?, tensors })
    }
    fn group(&self) -> &dyn ProcessGroup {
        &SingleProcess
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let data = smartcore::dataset::digits::load_dataset();
    let (n, pixels) = (data.num_samples as i64, data.num_features as i64);
    let images = Tensor::from_slice(&data.data).view([n, pixels]) / 16.0;
    let labels = Tensor::from_slice(&data.target).view([n]).to_kind(Kind::Int64);
    let vs = nn::VarStore::new(Device::Cpu);
    let hidden = nn::linear(vs.root() / "hidden", pixels, 32, Default::default());
    let output = nn::linear(vs.root() / "output", 32, 10, Default::default());
    let net = nn::seq().add(hidden).add_fn(|x| x.tanh()).add(output);
    let mut parameters: Vec<_> = vs.variables().into_iter().collect();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    let mut host = Digits { parameters, net, images, labels };
    let mut optimizer = nn::Sgd::default().build(&vs, 0.5)?;
    let config = "[schedule]\nevery = 50\n[slq]\nprobes = 4\n[log]\ndir = \"runs/minimal\"";
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(config)?)?;
    probe.on_train_begin(&mut host)?;
    for step in 0..=200 {
        optimizer.backward_step(&host.forward());
        probe.on_step_end(step, &mut host)?;
    }
    probe.on_train_end(&mut host)?;
    Ok(())
}
