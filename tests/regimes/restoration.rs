//! Whatever happens, the host is as before.

use crate::closure_host::ClosureHost;
use crate::models::mlp;
use crate::{reference, watched};
use hessian_probe::regimes::{Method, Reference, RegimesConfig, Watch, measure, sweep};
use hessian_probe::{Error, Host, HostError, Interrupter};
use tch::{Kind, Tensor};

fn bits(host: &ClosureHost) -> Tensor {
    host.flat().view_dtype(Kind::Int)
}

fn config() -> RegimesConfig {
    RegimesConfig { steps: 3, points_per_decade: 1, ..RegimesConfig::default() }
}

#[test]
fn a_gradient_that_fails_or_panics_anywhere_leaves_parameters_bit_for_bit() {
    let config = config();
    let against = reference(mlp(1), Kind::Float, Method::Exact, &config).unwrap();
    let mut host = ClosureHost::new(mlp(1), Kind::Float);
    let before = bits(&host);
    watched(|watch| measure(&mut host, "f32", &against, &config, watch)).0.unwrap();
    assert!(bits(&host) == before, "after a study");
    let all = host.calls;
    assert!(all > 40);
    for failing in (1..=all).step_by(3) {
        for panics in [false, true] {
            let mut host = ClosureHost::new(mlp(1), Kind::Float);
            host.hook = Some(Box::new(move |call, _| {
                if call < failing {
                    return Ok(());
                }
                assert!(!panics, "on purpose");
                Err("on purpose".into())
            }));
            let error = watched(|watch| measure(&mut host, "f32", &against, &config, watch)).0.unwrap_err();
            assert!(error.to_string().contains("on purpose"), "{error}");
            assert!(bits(&host) == before, "after call {failing}, panics {panics}");
        }
    }
}

#[test]
fn a_reference_leaves_parameters_bit_for_bit_also_when_it_fails() {
    let config = config();
    for method in [Method::Exact, Method::Central4, Method::Richardson] {
        let mut host = ClosureHost::new(mlp(1), Kind::Float);
        let before = bits(&host);
        watched(|watch| Reference::measure(&mut host, method, &config, watch)).0.unwrap();
        assert!(bits(&host) == before);
        let all = host.calls;
        for failing in (1..=all).step_by(5) {
            let mut host = ClosureHost::new(mlp(1), Kind::Float);
            host.hook = Some(Box::new(
                move |call, _| if call == failing { Err("on purpose".into()) } else { Ok(()) },
            ));
            let error = watched(|watch| Reference::measure(&mut host, method, &config, watch)).0.unwrap_err();
            assert!(error.to_string().contains("on purpose"), "{error}");
            assert!(bits(&host) == before, "{method:?}, call {failing}");
        }
    }
}

#[test]
fn an_interruption_ends_it_at_the_next_product() {
    let config = config();
    let against = reference(mlp(1), Kind::Float, Method::Exact, &config).unwrap();
    let mut host = ClosureHost::new(mlp(1), Kind::Float);
    let before = bits(&host);
    let interrupter = Interrupter::default();
    let from = interrupter.clone();
    host.hook = Some(Box::new(move |call, _| {
        if call == 40 {
            from.interrupt();
        }
        Ok(())
    }));
    let mut told = 0;
    let mut watch = Watch { interrupter: &interrupter, gradients: &mut |gradients| told = gradients };
    let error = sweep(&mut host, "f32", &against, &config, &mut watch).unwrap_err();
    assert!(error.is_interruption(), "{error}");
    assert!(host.calls <= 43, "{}", host.calls);
    assert!(told > 0 && told <= 40, "{told}");
    assert!(bits(&host) == before);
}

/// A host with a gradient and nothing else.
struct Plain(ClosureHost);

impl Host for Plain {
    fn shards(&self) -> Vec<hessian_probe::Shard> {
        self.0.shards()
    }

    fn gradient(&mut self) -> Result<hessian_probe::Gradient, HostError> {
        self.0.gradient()
    }

    fn group(&self) -> &dyn hessian_probe::ProcessGroup {
        self.0.group()
    }
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_reason() {
    let config = config();
    let mut plain = Plain(ClosureHost::new(mlp(1), Kind::Double));
    let error = watched(|watch| Reference::measure(&mut plain, Method::Exact, &config, watch)).0.unwrap_err();
    assert!(matches!(error, Error::Config { .. }) && error.to_string().contains("central4"), "{error}");
    let against =
        watched(|watch| Reference::measure(&mut plain, Method::Central4, &config, watch)).0.unwrap();
    let mut other = ClosureHost::new(crate::models::transformer(1), Kind::Float);
    let error = watched(|watch| sweep(&mut other, "f32", &against, &config, watch)).0.unwrap_err();
    assert!(error.to_string().contains("same model") && error.to_string().contains("149"), "{error}");
}
