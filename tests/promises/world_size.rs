//! The same model on 1, 2 and 4 ranks: the same T up to rounding.

use crate::common::{config, found_on, text};
use hessian_probe::blocks::BlockDiagonal;
use hessian_probe::spectrum::{Estimate, Snapshot};
use hessian_probe::{Gradient, HessianProbe, Host, HostError, ProbeConfig, Shard};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, Trainer};
use tch::{Device, Kind, Tensor};

const WORLD_SIZES: [usize; 3] = [1, 2, 4];

/// One rank's part: probes of every kind.
fn measure(group: ProcessGroup, tied: bool, dtype: Dtype) -> Vec<Snapshot> {
    // The blocks' sizes are not divisible by 4: there is padding.
    let mut trainer = Trainer::new(config(tied, 0.0, dtype), group, text()).unwrap();
    trainer.probe_on_validation(8).unwrap();
    let snapshots = ["auto", "central", "forward"].map(|kind| {
        let toml = format!(
            "[slq]\nsteps = 12\nprobes = 2\nseed = 3\n[hvp]\ndifference = \"{kind}\"\n\
             [log]\ntensorboard = false\njsonl = false"
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        probe.probe(0, &mut trainer).unwrap().clone()
    });
    snapshots.into()
}

fn close(a: f64, b: f64, tolerance: f64, what: &str) {
    assert!(
        (a - b).abs() <= tolerance,
        "{what}: {a} and {b} differ by {:e}, more than {tolerance:e}",
        (a - b).abs()
    );
}

#[test]
fn t_is_the_same_on_1_2_and_4_ranks_in_f64() {
    let found = found_on(WORLD_SIZES, |group| measure(group, false, Dtype::F64));
    let Some([one, others @ ..]) = found else { return };
    for others in others {
        for (one, other) in one.iter().zip(&others) {
            assert_eq!((one.parameters, one.hvp.gradient_repeats), (other.parameters, Some(true)));
            for (a, b) in one.probes.iter().zip(&other.probes) {
                let norm = a.nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
                for j in 0..10 {
                    close(
                        a.alpha[j],
                        b.alpha[j],
                        1e-6 * norm,
                        &format!("α_{j} on {} ranks", other.world_size),
                    );
                    close(a.beta[j], b.beta[j], 1e-6 * norm, &format!("β_{j} on {} ranks", other.world_size));
                }
            }
            close(one.loss, other.loss, 1e-12 * one.loss, "loss");
        }
    }
}

/// Blocks of which a rank owns little or nothing, by either method and with spectra.
#[test]
fn block_diagonal_fidelity_is_the_same_on_1_2_and_4_ranks() {
    const BLOCKS: [&str; 2] =
        ["by = \"layer\"\nspectrum_steps = 2", "by = \"tensor\"\ndraws = 2\nspectrum_steps = 0"];
    let found = found_on(WORLD_SIZES, |group| -> [BlockDiagonal; 2] {
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(8).unwrap();
        BLOCKS.map(|blocks| {
            let toml = format!("[hvp]\ndifference = \"central\"\n[blocks]\n{blocks}\nvectors = 2");
            let config = ProbeConfig::from_toml_str(&toml).unwrap();
            hessian_probe::blocks::block_diagonal(&mut trainer, &config).unwrap()
        })
    });
    let Some([one, two, four]) = found else { return };
    assert_eq!((one[0].method.as_str(), one[1].method.as_str()), ("exact", "stochastic"));
    for (one, other) in one.iter().zip(&two).chain(one.iter().zip(&four)) {
        let estimate = |a: Option<Estimate>, b: Option<Estimate>, scale: f64, what: &str| {
            // With so few draws an estimate may have no square root; then it has none on any number of ranks.
            assert_eq!(a.is_some(), b.is_some(), "{what}");
            let (Some(a), Some(b)) = (a, b) else { return };
            close(a.mean, b.mean, 1e-6 * scale, what);
            close(a.standard_error.unwrap_or(0.0), b.standard_error.unwrap_or(0.0), 1e-5 * scale, what);
        };
        for (a, b) in one.comparisons.iter().zip(&other.comparisons) {
            let scale = a.product_squared;
            close(scale, b.product_squared, 1e-6 * scale, "‖Hv‖²");
            close(a.inner_product, b.inner_product, 1e-6 * scale, "⟨Hv, H_bd v⟩");
            close(a.block_squared, b.block_squared, 1e-6 * scale, "‖H_bd v‖²");
        }
        assert!(one.relative_error.is_some() || one.method == "stochastic");
        estimate(one.relative_error, other.relative_error, 1.0, "relative error");
        estimate(one.cosine, other.cosine, 1.0, "cosine");
        estimate(one.off_diagonal_share, other.off_diagonal_share, 1.0, "off-diagonal share");
        let (along, there) = (one.gradient.unwrap(), other.gradient.unwrap());
        estimate(along.relative_error, there.relative_error, 1.0, "relative error along the gradient");
        assert_eq!((one.hvps, one.blocks.len()), (other.hvps, other.blocks.len()));
        let scale =
            one.blocks.iter().filter_map(|block| Some(block.frobenius_norm?.mean)).fold(0.0, f64::max);
        for (a, b) in one.blocks.iter().zip(&other.blocks) {
            assert_eq!((&a.name, a.parameters), (&b.name, b.parameters));
            estimate(Some(a.trace), Some(b.trace), 10.0 * scale, &a.name);
            estimate(a.share, b.share, 1.0, &a.name);
            let extremes = [(a.lambda_max, b.lambda_max), (a.lambda_min, b.lambda_min)];
            for (a_extreme, b_extreme) in extremes {
                assert_eq!(a_extreme.is_some(), one.method == "exact");
                if let (Some(found), Some(other)) = (a_extreme, b_extreme) {
                    close(found.value, other.value, 1e-6 * scale, &a.name);
                }
            }
        }
    }
}

/// A model of which every rank holds all, but counts nothing unless it is rank 0.
struct Replicated {
    parameters: [Tensor; 3],
    group: ProcessGroup,
}

impl Host for Replicated {
    fn shards(&self) -> Vec<Shard> {
        let names = ["layers.0.weight", "layers.1.weight", "head.weight"].map(ToOwned::to_owned);
        Shard::whole(names.into_iter().zip(self.parameters.iter().map(Tensor::shallow_clone)), true)
    }

    /// Of Σ_i sin(θ_i θ_{i+1}) over all entries, by hand.
    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let theta = Vec::<f64>::try_from(Tensor::f_cat(&self.parameters, 0)?)?;
        let mut gradient = vec![0.0; theta.len()];
        let mut loss = 0.0;
        for i in 1..theta.len() {
            let product = theta[i - 1] * theta[i];
            loss += product.sin();
            gradient[i - 1] += product.cos() * theta[i];
            gradient[i] += product.cos() * theta[i - 1];
        }
        let mut tensors = Vec::new();
        for parameter in &self.parameters {
            let rest = gradient.split_off(parameter.numel());
            tensors.push(Tensor::f_from_slice(&std::mem::replace(&mut gradient, rest))?);
        }
        Ok(Gradient { loss, tensors })
    }

    fn group(&self) -> &dyn hessian_probe::ProcessGroup {
        &self.group
    }
}

#[test]
fn blocks_of_parameters_that_every_rank_holds_are_counted_once() {
    let found = found_on([1, 2], |group| -> [BlockDiagonal; 2] {
        let parameters = [5, 4, 3].map(|len| Tensor::arange(len, (Kind::Double, Device::Cpu)) * 0.3 + 0.5);
        let mut host = Replicated { parameters, group };
        let toml = "[hvp]\ndifference = \"central\"\n[blocks]\nby = \"layer\"\nspectrum_steps = 2";
        ["exact", "stochastic"].map(|method| {
            let config = ProbeConfig::from_toml_str(&format!("{toml}\nmethod = \"{method}\"")).unwrap();
            hessian_probe::blocks::block_diagonal(&mut host, &config).unwrap()
        })
    });
    let Some([one, two]) = found else { return };
    let sizes: Vec<u64> = one[0].blocks.iter().map(|block| block.parameters).collect();
    assert_eq!(sizes, [5, 4, 3]);
    // Both do the same sums in the same order, but for those over ranks: zeros.
    assert_eq!(one, two);
}

#[test]
fn lambda_max_and_trace_are_the_same_on_1_2_and_4_ranks_in_f32() {
    let found = found_on(WORLD_SIZES, |group| measure(group, true, Dtype::F32));
    let Some([one, others @ ..]) = found else { return };
    for others in others {
        for (one, other) in one.iter().zip(&others) {
            let what = |name| format!("{name} on {} ranks", other.world_size);
            let scale = one.lambda_max.value.abs();
            close(one.lambda_max.value, other.lambda_max.value, 1e-4 * scale, &what("λ_max"));
            // Values of both signs, of which a twelfth is left: the errors of forward products, a few thousandths each in
            // f32, are compared with what cancels.
            let scale = if one.hvp.forward == 0 {
                one.trace.mean.abs()
            } else {
                let run = &one.probes[0];
                let absolute: f64 = run.nodes.iter().zip(&run.weights).map(|(x, w)| (x * w).abs()).sum();
                one.parameters as f64 * absolute
            };
            close(one.trace.mean, other.trace.mean, 1e-4 * scale, &what("trace"));
        }
    }
}
