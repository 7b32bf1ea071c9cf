//! A rank that cannot put back what the host lent: all ranks hear of it, whatever was measured, and none waits for it.

use crate::common::{config, generator_lock, on_ranks, text};
use crate::faulty::state;
use hessian_probe::blocks::block_diagonal;
use hessian_probe::regimes::{Method, Reference, RegimesConfig, Watch};
use hessian_probe::{
    Callback, Control, Error, Gradient, HessianProbe, Host, HostError, Interrupter, Optimizer, Precision,
    ProbeConfig, ProcessGroup, RandomState, Shard, Update,
};
use hessian_probe_fsdp::{Dtype, Trainer};
use tch::{Kind, Tensor};

/// What says that it failed when it is put back. It is as it should be all the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Nothing,
    /// At this call; the last one of a measurement is that of the restoration.
    RandomState(u64),
    Precision,
}

struct Stubborn<'t> {
    trainer: &'t mut Trainer,
    broken: Broken,
    /// How often the random state was set.
    calls: u64,
}

impl Host for Stubborn<'_> {
    fn shards(&self) -> Vec<Shard> {
        self.trainer.shards()
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        self.trainer.gradient()
    }

    fn loss(&mut self) -> Result<f64, HostError> {
        self.trainer.loss()
    }

    fn group(&self) -> &dyn ProcessGroup {
        Host::group(self.trainer)
    }

    fn compute_kind(&self) -> Option<Kind> {
        self.trainer.compute_kind()
    }

    fn set_precision(&mut self, precision: Precision) -> Result<(), HostError> {
        self.trainer.set_precision(precision)?;
        match (self.broken, precision) {
            (Broken::Precision, Precision::Loop) => Err("no memory for it, say".into()),
            _ => Ok(()),
        }
    }

    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        self.trainer.optimizer()
    }

    fn update(&mut self) -> Result<Option<Update>, HostError> {
        self.trainer.update()
    }

    fn live_gradients(&self) -> Vec<Tensor> {
        self.trainer.live_gradients()
    }

    fn random_state(&mut self) -> Result<Option<RandomState>, HostError> {
        self.trainer.random_state()
    }

    fn set_random_state(&mut self, state: &RandomState) -> Result<(), HostError> {
        self.trainer.set_random_state(state)?;
        self.calls += 1;
        match self.broken {
            Broken::RandomState(at) if at == self.calls => Err("no memory for it, say".into()),
            _ => Ok(()),
        }
    }
}

const MEASURED: &str = "on_error = \"skip\"\n[slq]\nsteps = 3\noperator = \"both\"\n[hvp]\nprecision = \"full\"\n\
     [track]\nevery = 1\n[log]\njsonl = false\ntensorboard = false";

fn probe(more: &str) -> HessianProbe {
    HessianProbe::new(ProbeConfig::from_toml_str(&format!("{MEASURED}\n{more}")).unwrap()).unwrap()
}

fn ready(group: hessian_probe_c10d::ProcessGroup) -> Trainer {
    let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
    trainer.probe_on_validation(4).unwrap();
    trainer.step().unwrap();
    trainer
}

type Measure = fn(&mut dyn Host) -> Result<(), Error>;

fn along(host: &mut dyn Host) -> Result<(), Error> {
    let direction: Vec<Tensor> = host.shards().into_iter().map(|shard| shard.tensor).collect();
    probe("").along(1, host, &direction).map(drop)
}

fn blocks(host: &mut dyn Host) -> Result<(), Error> {
    let config = ProbeConfig::from_toml_str(&format!("{MEASURED}\n[blocks]\nby = \"layer\""))?;
    block_diagonal(host, &config).map(drop)
}

fn reference(host: &mut dyn Host) -> Result<(), Error> {
    let config = RegimesConfig { steps: 3, ..RegimesConfig::default() };
    let mut watch = Watch { interrupter: &Interrupter::default(), gradients: &mut |_| {} };
    Reference::measure(host, Method::Central4, &config, &mut watch).map(drop)
}

#[test]
fn a_restoration_that_fails_on_one_rank_is_an_error_that_names_it_on_all() {
    let _lock = generator_lock();
    on_ranks(&[1, 2, 3], |group| {
        let (rank, last) = (group.rank(), group.world_size() - 1);
        let mut trainer = ready(group);
        let before = state(&trainer);
        let measurements: [(&str, Measure); 7] = [
            ("a probe", |host| probe("").probe(1, host).map(drop)),
            ("tracking", |host| probe("").track(1, host).map(drop)),
            ("a direction", along),
            ("the update", |host| probe("").along_update(1, host).map(drop)),
            ("critical sharpness", |host| probe("").critical_sharpness(1, host).map(drop)),
            ("blocks", blocks),
            ("a reference", reference),
        ];
        for (what, measure) in measurements {
            let mut run = |broken| {
                let mut host = Stubborn { trainer: &mut trainer, broken, calls: 0 };
                let outcome = measure(&mut host);
                (outcome, host.calls)
            };
            let (outcome, calls) = run(Broken::Nothing);
            outcome.unwrap();
            // References are in the host's own precision.
            let faults = [Broken::RandomState(calls), Broken::Precision];
            for broken in &faults[..if what == "a reference" { 1 } else { 2 }] {
                let mine = if rank == last { *broken } else { Broken::Nothing };
                let error = run(mine).0.expect_err(&format!("{what}, {broken:?} on rank {last}"));
                let source = if let Error::AtStep { step: 1, source } = &error { source } else { &error };
                let told = match source {
                    Error::Host { rank: failed, .. } => rank == last && *failed == last,
                    Error::Peer { rank: own, failed, .. } => *own == rank && rank != last && *failed == last,
                    _ => false,
                };
                assert!(told && !error.is_communication(), "{what}, {broken:?}, rank {rank}: {error}");
                assert!(error.to_string().contains(&format!("rank {last}")), "{error}");
            }
        }
        assert!(before == state(&trainer));
        trainer.step().unwrap();
    });
}

/// All of them must come to the same conclusion of a margin, which takes an all_reduce where there is one.
#[test]
fn limits_of_a_margin_are_asked_by_all_ranks_or_none_where_one_could_not_restore() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let (rank, last) = (group.rank(), group.world_size() - 1);
        let mut trainer = ready(group);
        let limits = "[schedule]\nevery = 100\n[triggers]\nstop_margin = 1e-12";
        let mut count = Stubborn { trainer: &mut trainer, broken: Broken::Nothing, calls: 0 };
        let asked = probe(limits).on_step_end(1, &mut count).unwrap();
        assert_eq!(asked, Control::RequestStop, "the margin is above its limit");
        let calls = count.calls;
        let mut probe = probe(limits);
        for broken in [Broken::RandomState(calls), Broken::Precision] {
            let broken = if rank == last { broken } else { Broken::Nothing };
            let mut host = Stubborn { trainer: &mut trainer, broken, calls: 0 };
            assert_eq!(probe.on_step_end(1, &mut host).unwrap(), Control::Continue, "skipped on all");
            assert!(probe.latest_tracked().is_none());
        }
        let mut host = Stubborn { trainer: &mut trainer, broken: Broken::Nothing, calls: 0 };
        assert_eq!(probe.on_step_end(2, &mut host).unwrap(), Control::RequestStop);
    });
}
