//! A convolutional network on handwritten digits with a probe: in one process, or data-parallel.
//!
//! ```text
//! cargo run -p hessian-probe-var-store --example digits
//! cargo run -p hessian-probe-var-store --example digits -- --ranks 2
//! ```

use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use hessian_probe_c10d::{Launcher, ProcessGroup, RankLogger, ReduceOp, is_launched};
use hessian_probe_var_store::VarStoreHost;
use std::error::Error;
use std::time::Duration;
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const CONFIG: &str = "[schedule]\nevery = 25\n[slq]\nsteps = 12\nprobes = 2\n[log]\ndir = \"runs/digits\"";
const PROBE_IMAGES: i64 = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--ranks").skip(1);
    let ranks = arguments.next().map_or(Ok(1), |ranks| ranks.parse())?;
    if ranks > 1 && !is_launched() {
        return Ok(Launcher::new(ranks).run()?.into_result()?);
    }
    train(&ProcessGroup::from_env(Duration::from_secs(60))?)
}

/// One rank.
fn train(group: &ProcessGroup) -> Result<(), Box<dyn Error>> {
    let logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).build();
    let level = logger.filter();
    RankLogger::from_env(logger).install(level)?;
    let (rank, ranks) = (group.rank() as i64, group.world_size() as i64);
    let data = smartcore::dataset::digits::load_dataset();
    let (n, side) = (data.num_samples as i64, 8);
    let images = Tensor::from_slice(&data.data).view([n, 1, side, side]) / 16.0;
    let labels = Tensor::from_slice(&data.target).view([n]).to_kind(Kind::Int64);

    // The same parameters on all ranks.
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::seq_t()
        .add(nn::conv2d(vs.root() / "layers" / 0, 1, 8, 3, Default::default()))
        .add(nn::batch_norm2d(vs.root() / "norm", 8, Default::default()))
        // Smooth: differences of gradients see the kinks of a ReLU, which have no second derivative.
        .add_fn(|x| x.gelu("none").flat_view())
        .add_fn_t(|x, train| x.dropout(0.2, train))
        .add(nn::linear(vs.root() / "layers" / 1, 8 * 6 * 6, 10, Default::default()));
    let loss = |start: i64, count: i64| {
        let (images, labels) = (images.narrow(0, start, count), labels.narrow(0, start, count));
        net.forward_t(&images, true).cross_entropy_for_logits(&labels)
    };
    let mut optimizer = nn::Adam::default().build(&vs, 3e-3)?;

    // What the probe needs: the store, and this rank's part of the probe batch.
    let part = PROBE_IMAGES / ranks;
    let mut host =
        VarStoreHost::new(&vs, || loss(part * rank, part))?.over(group).targets((part * ranks) as u64);
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(CONFIG)?)?;

    probe.on_train_begin(&mut host)?;
    let batch = 64 / ranks;
    for step in 0..=100 {
        optimizer.zero_grad();
        // The same images on any number of ranks.
        loss(step * 64 % (n - 64) + rank * batch, batch).backward();
        // Data-parallel training: the mean gradient.
        for parameter in vs.trainable_variables() {
            group.all_reduce(&parameter.grad(), ReduceOp::Avg)?;
        }
        optimizer.step();
        probe.on_step_end(step as u64, &mut host)?;
    }
    probe.on_train_end(&mut host)?;
    Ok(())
}
