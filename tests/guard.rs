//! Vector work and the call of a step on which nothing is due, against stored ratios: what makes them slower shows here
//! before anybody measures a whole probe.
//!
//! Times are in units of something plain that is measured beside them, a copy of a vector or the sum of two numbers, and
//! medians over rounds; how much larger than stored they may be is in the file, too. The test prints what it finds.

use hessian_probe::config::Reorthogonalize;
use hessian_probe::cost::{Course, Facts, Work};
use hessian_probe::sharded::Layout;
use hessian_probe::{
    Callback, Gradient, HessianProbe, Host, HostError, ProbeConfig, ProcessGroup, Shard, SingleProcess,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const ROUNDS: usize = 5;
/// Entries of a vector: more than caches hold, for a copy within them is no measure of anything.
const ENTRIES: i64 = 4 << 20;

#[derive(Deserialize)]
struct Stored {
    /// A ratio may be so many times the stored one.
    tolerance: f64,
    ratios: BTreeMap<String, f64>,
}

/// ½ Σ dᵢ θᵢ²: a gradient that costs next to nothing.
struct Diagonal {
    theta: Tensor,
    scales: Tensor,
}

impl Diagonal {
    fn new(entries: i64) -> Self {
        let scales = Tensor::arange(entries, (Kind::Float, Device::Cpu)) / entries as f64 + 0.5;
        Self { theta: Tensor::ones([entries], (Kind::Float, Device::Cpu)), scales }
    }
}

impl Host for Diagonal {
    fn shards(&self) -> Vec<Shard> {
        Shard::whole([("theta".to_owned(), self.theta.shallow_clone())], false)
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        Ok(Gradient { loss: 1.0, tensors: vec![self.theta.f_mul(&self.scales)?] })
    }

    fn group(&self) -> &dyn ProcessGroup {
        &SingleProcess
    }
}

fn config(difference: &str, reorthogonalize: &str) -> ProbeConfig {
    let toml = format!(
        "[schedule]\nevery = 1000000000\n\
         [slq]\nsteps = 8\nprobes = 1\nreorthogonalize = \"{reorthogonalize}\"\n\
         [hvp]\ndifference = \"{difference}\"\nstep_size = {{ absolute = 1.0 }}\n\
         [log]\ntensorboard = false\njsonl = false"
    );
    ProbeConfig::from_toml_str(&toml).unwrap()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Vector work over a plain copy of as many bytes as the law has for it.
fn vectors(found: &mut BTreeMap<String, Vec<f64>>) {
    let mut host = Diagonal::new(ENTRIES);
    let (from, mut to) = (host.theta.copy(), host.theta.copy());
    for _ in 0..ROUNDS {
        for (difference, reorthogonalize) in [("forward", "none"), ("central", "none"), ("central", "full")] {
            let config = config(difference, reorthogonalize);
            let facts = Facts::of(&host, &Layout::new(&host, None).unwrap(), &config);
            let copies = (0..7).map(|_| seconds(|| to.copy_(&from))).collect();
            let byte = median(copies) / (8 * ENTRIES) as f64;
            let snapshot = HessianProbe::new(config.clone()).unwrap().probe(0, &mut host).unwrap().clone();
            let course = Course::of(&snapshot, &config).unwrap();
            let work = Work::new(&facts, &config, &course).unwrap();
            let parts = snapshot.cost.parts;
            let mut add = |name: String, seconds: f64, bytes: u64| {
                found.entry(name).or_default().push(seconds / (byte * bytes as f64));
            };
            if config.slq.reorthogonalize == Reorthogonalize::None {
                add(format!("{difference} products"), parts.products, work.products.bytes);
            }
            if difference == "central" {
                add(format!("Lanczos steps, {reorthogonalize}"), parts.lanczos, work.lanczos.bytes);
            }
        }
    }
}

/// A step on which nothing is due, over a sum of two numbers by libtorch.
fn step(found: &mut BTreeMap<String, Vec<f64>>) {
    const CALLS: u64 = 2000;
    let mut host = Diagonal::new(8);
    let mut probe = HessianProbe::new(config("forward", "none")).unwrap();
    probe.on_train_begin(&mut host).unwrap();
    let (one, two) = (Tensor::from(1.0_f32), Tensor::from(2.0_f32));
    for round in 0..ROUNDS as u64 {
        let sums = seconds(|| (0..CALLS).for_each(|_| drop(black_box(one.f_add(&two).unwrap()))));
        let first = 1 + round * CALLS;
        let calls = seconds(|| {
            for step in first..first + CALLS {
                black_box(probe.on_step_end(step, &mut host).unwrap());
            }
        });
        found.entry("on_step_end".to_owned()).or_default().push(calls / sums);
    }
    assert!(probe.latest().is_none(), "none was due");
}

#[test]
fn vector_work_and_steps_are_no_slower_than_they_were() {
    tch::set_num_threads(1);
    let stored: Stored = toml::from_str(include_str!("guard.toml")).unwrap();
    let mut found = BTreeMap::new();
    vectors(&mut found);
    step(&mut found);
    let found: BTreeMap<String, f64> =
        found.into_iter().map(|(name, ratios)| (name, median(ratios))).collect();
    for (name, ratio) in &found {
        println!("{name:?} = {ratio:.3}");
    }
    assert!(found.keys().eq(stored.ratios.keys()), "{:?}", stored.ratios.keys());
    let slower = |(name, ratio): (&String, &f64)| {
        let most = stored.tolerance * stored.ratios[name];
        (ratio.is_nan() || *ratio > most).then(|| format!("{name}: {ratio:.2}, at most {most:.2}"))
    };
    let slower: Vec<String> = found.iter().filter_map(slower).collect();
    assert!(slower.is_empty(), "{slower:#?}");
}
