//! Hosts that keep where the lent values come from: a probe takes no copy of θ₀, and finds the same.

use crate::closure_host::ClosureHost;
use crate::models::{mlp, transformer};
use hessian_probe::cost::{Facts, Memory};
use hessian_probe::sharded::Layout;
use hessian_probe::{
    Error, Gradient, HessianProbe, Host, HostError, Precision, ProbeConfig, ProcessGroup, Shard, Snapshot,
};
use tch::{Kind, Tensor};

/// Parameters that are roundings of masters.
struct Rounded {
    host: ClosureHost,
    masters: Vec<Tensor>,
}

impl Rounded {
    /// Masters of `kind` whose roundings the parameters are, though masters are other numbers.
    fn new(host: ClosureHost, kind: Kind) -> Self {
        let master = |parameter: &Tensor| parameter.detach().to_kind(kind) * (1.0 + 1e-9);
        let masters = host.parameters.iter().map(master).collect();
        Self { host, masters }
    }
}

impl Host for Rounded {
    fn shards(&self) -> Vec<Shard> {
        self.host.shards()
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        self.host.gradient()
    }

    fn group(&self) -> &dyn ProcessGroup {
        self.host.group()
    }

    fn sources(&self, _: Precision) -> Vec<Tensor> {
        self.masters.iter().map(Tensor::shallow_clone).collect()
    }
}

fn config(difference: &str) -> ProbeConfig {
    let toml = format!(
        "[slq]\nsteps = 4\nprobes = 2\n[hvp]\ndifference = \"{difference}\"\n[log]\ntensorboard = false\njsonl = false"
    );
    ProbeConfig::from_toml_str(&toml).unwrap()
}

fn probe(host: &mut dyn Host, config: &ProbeConfig) -> Result<Snapshot, Error> {
    Ok(HessianProbe::new(config.clone()).unwrap().probe(0, host)?.clone())
}

fn bits(tensors: &[Tensor]) -> Vec<Vec<f64>> {
    let values = |tensor: &Tensor| Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1]));
    tensors.iter().map(|tensor| values(tensor).unwrap()).collect()
}

#[test]
fn a_probe_finds_the_same_and_takes_a_vector_less() {
    for (model, seed) in [(mlp as fn(u64) -> _, 2), (transformer, 5)] {
        for difference in ["forward", "central", "central4"] {
            let config = config(difference);
            let mut plain = ClosureHost::new(model(seed), Kind::Float);
            let mut rounded = Rounded::new(ClosureHost::new(model(seed), Kind::Float), Kind::Double);
            let (before, masters) = (bits(&rounded.host.parameters), bits(&rounded.masters));
            let (copied, borrowed) =
                (probe(&mut plain, &config).unwrap(), probe(&mut rounded, &config).unwrap());
            assert_eq!(bits(&rounded.host.parameters), before, "{difference}");
            assert_eq!(bits(&rounded.masters), masters, "{difference}");
            // The same displacements and gradients; sums are taken by another loop, which rounds f64 elsewhere.
            for (a, b) in copied.probes.iter().zip(&borrowed.probes) {
                for (a, b) in a.alpha.iter().zip(&b.alpha) {
                    assert!((a - b).abs() <= 1e-3 * copied.lambda_max.value.abs(), "{difference}: {a} {b}");
                }
            }
            let off = (copied.lambda_max.value - borrowed.lambda_max.value).abs();
            assert!(off <= 1e-4 * copied.lambda_max.value.abs(), "{difference}: {off}");
            let facts = |host: &dyn Host| Facts::of(host, &Layout::new(host, None).unwrap(), &config);
            let theta = facts(&plain).parameters;
            assert_eq!(copied.cost.vector_bytes - borrowed.cost.vector_bytes, theta);
            let [with, without] =
                [facts(&plain), facts(&rounded)].map(|facts| Memory::new(&facts, &config, 0).unwrap());
            assert_eq!(with.total() - without.total(), theta);
            assert_eq!(without.vector_bytes(), borrowed.cost.vector_bytes);
        }
    }
}

#[test]
fn parameters_are_put_back_from_there_when_a_gradient_fails() {
    for failing in 1..12 {
        let mut rounded = Rounded::new(ClosureHost::new(mlp(3), Kind::BFloat16), Kind::Float);
        let before = bits(&rounded.host.parameters);
        rounded.host.hook =
            Some(Box::new(move |call, _| if call == failing { Err("no more".into()) } else { Ok(()) }));
        assert!(probe(&mut rounded, &config("central")).is_err(), "{failing}");
        assert_eq!(bits(&rounded.host.parameters), before, "{failing}");
    }
}

/// A master that is not what is lent would put back other parameters than there were.
#[test]
fn what_is_no_source_is_refused_before_anything_is_touched() {
    let refusal = |spoil: &dyn Fn(&mut Rounded)| {
        let mut rounded = Rounded::new(ClosureHost::new(mlp(4), Kind::Float), Kind::Double);
        spoil(&mut rounded);
        let before = bits(&rounded.host.parameters);
        let error = probe(&mut rounded, &config("central")).unwrap_err();
        assert_eq!(bits(&rounded.host.parameters), before);
        assert_eq!(rounded.host.calls, 0);
        assert!(format!("{error:?}").contains("Layout"), "{error:?}");
        error.to_string()
    };
    let name = |index: usize| ClosureHost::new(mlp(4), Kind::Float).shards()[index].name.clone();
    let few = refusal(&|host| drop(host.masters.pop()));
    assert!(few.contains("one tensor for every shard"), "{few}");
    let short = refusal(&|host| host.masters[1] = host.masters[1].reshape([-1]).narrow(0, 0, 1));
    assert!(short.contains("another size") && short.contains(&name(1)), "{short}");
    let off = refusal(&|host| host.masters[2] = &host.masters[2] + 1e-3);
    assert!(off.contains("bit for bit") && off.contains(&name(2)), "{off}");
    let own = refusal(&|host| {
        host.masters = host.host.parameters.iter().map(|parameter| parameter.detach()).collect();
    });
    assert!(own.contains("own memory") && own.contains(&name(0)), "{own}");
}
