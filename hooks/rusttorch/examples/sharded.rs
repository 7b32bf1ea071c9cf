//! A classifier of handwritten digits, sharded over processes by `rusttorch`'s `ShardedTrainer`, with a probe.
//!
//! ```text
//! cargo run -p hessian-probe-rusttorch --example sharded -- --ranks 2
//! ```

use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use hessian_probe_c10d::{Launcher, RankLogger, is_launched};
use hessian_probe_rusttorch::{ShardedTrainerHost, SharedGroup};
use rusttorch::distributed::{GroupOptions, ProcessGroup, ShardedTrainer};
use rusttorch::{Device, Kind, Tensor, optim::Adam};
use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};

const CONFIG: &str = "[schedule]\nevery = 10\n[slq]\nsteps = 8\n[log]\ndir = \"runs/rusttorch\"";
const ADDRESS: &str = "RUSTTORCH_ADDRESS";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip_while(|argument| argument != "--ranks").skip(1);
    let ranks: usize = arguments.next().map_or(Ok(1), |ranks| ranks.parse())?;
    if ranks > 1 && !is_launched() {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        return Ok(Launcher::new(ranks).env(ADDRESS, address.to_string()).run()?.into_result()?);
    }
    let rank: usize = env::var("RANK").map_or(Ok(0), |rank| rank.parse())?;
    let address: SocketAddr = env::var(ADDRESS).as_deref().unwrap_or("127.0.0.1:0").parse()?;
    let options = GroupOptions::new("digits");
    let group = if rank == 0 {
        ProcessGroup::accept(TcpListener::bind(address)?, ranks, options)?
    } else {
        ProcessGroup::connect(address, rank, ranks, options)?
    };
    train(&SharedGroup::new(group), rank as i64, ranks as i64)
}

/// One rank.
fn train(group: &SharedGroup, rank: i64, ranks: i64) -> Result<(), Box<dyn Error>> {
    let logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).build();
    let level = logger.filter();
    RankLogger::from_env(logger).install(level)?;
    let data = smartcore::dataset::digits::load_dataset();
    let n = data.num_samples as i64;
    let images = Tensor::f_from_slice(&data.data)?.f_view([n, 64])? / 16.0;
    let labels = Tensor::f_from_slice(&data.target)?.f_view([n])?.f_to_kind(Kind::Int64)?;

    tch::manual_seed(0);
    let initial = |size: &[i64]| -> rusttorch::Result<Tensor> {
        Ok(Tensor::f_randn(size, (Kind::Float, Device::Cpu))? * 0.1)
    };
    let parameters = vec![
        ("layers.0.weight".to_owned(), initial(&[32, 64])?),
        ("layers.0.bias".to_owned(), initial(&[32])?),
        ("layers.1.weight".to_owned(), initial(&[10, 32])?),
        ("layers.1.bias".to_owned(), initial(&[10])?),
    ];
    let mut trainer = ShardedTrainer::new(&mut group.borrow_mut(), parameters, |store| {
        Adam::builder().learning_rate(3e-3).build(store)
    })?;
    let loss = |p: &BTreeMap<String, Tensor>, start: i64, count: i64| -> rusttorch::Result<Tensor> {
        let (images, labels) = (images.f_narrow(0, start, count)?, labels.f_narrow(0, start, count)?);
        // Smooth: differences of gradients see the kinks of a ReLU, which have no second derivative.
        let hidden = images.f_linear(&p["layers.0.weight"], Some(&p["layers.0.bias"]))?.f_gelu("none")?;
        let logits = hidden.f_linear(&p["layers.1.weight"], Some(&p["layers.1.bias"]))?;
        let weight = None::<Tensor>;
        Ok(logits.f_cross_entropy_loss(&labels, weight, tch::Reduction::Mean, -100, 0.0)?)
    };

    // What the probe needs: the trainer, the group, and this rank's part of the probe batch.
    let part = 512 / ranks;
    let mut host = ShardedTrainerHost::new(&mut trainer, group, |p| loss(p, part * rank, part))?
        .targets((part * ranks) as u64);
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(CONFIG)?)?;

    probe.on_train_begin(&mut host)?;
    let batch = 64 / ranks;
    for step in 0..=40 {
        // The same images on any number of ranks.
        let start = step * 64 % (n - 64) + rank * batch;
        host.trainer().train_step(&mut group.borrow_mut(), |p| loss(p, start, batch))?;
        probe.on_step_end(step as u64, &mut host)?;
    }
    probe.on_train_end(&mut host)?;
    Ok(())
}
