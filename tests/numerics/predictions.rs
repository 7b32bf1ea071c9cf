//! The predicted error of every product of a Lanczos run against its true one.

use crate::closure_host::ClosureHost;
use crate::models::{Model, Normal, mlp, transformer};
use hessian_probe::config::{Difference, HvpConfig, Reorthogonalize};
use hessian_probe::krylov::{Basis, Lanczos, Operator, Product, Wrapper};
use hessian_probe::operator::{Calibration, FiniteDifference, Start};
use hessian_probe::sharded::Layout;
use tch::{Device, Kind, Tensor};

/// An operator that compares each product with double backward.
struct Checked<'a, 'h> {
    inner: FiniteDifference<'a, 'h>,
    exact: &'a ClosureHost,
    /// The true and the predicted relative error of each product.
    errors: Vec<(f64, f64)>,
}

impl<'a, 'h> Wrapper for Checked<'a, 'h> {
    type Inner = FiniteDifference<'a, 'h>;

    fn inner(&self) -> &Self::Inner {
        &self.inner
    }

    fn inner_mut(&mut self) -> &mut Self::Inner {
        &mut self.inner
    }

    fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected: Option<f64>,
        target: &mut Tensor,
    ) -> hessian_probe::Result<Product> {
        let product = self.inner.apply(index, q, expected, target)?;
        let exact = self.exact.exact_product(&q.to_kind(Kind::Double));
        let off = (target.to_kind(Kind::Double) * product.scale - &exact).norm() / exact.norm();
        self.errors.push((off.double_value(&[]), product.error / product.norm));
        Ok(product)
    }
}

/// The true and the predicted errors of three runs of 15 steps, the later ones with what the first learned.
fn errors(model: fn(u64) -> Model, seed: u64, kind: Kind, difference: Difference) -> Vec<(f64, f64)> {
    let config = HvpConfig { difference, ..HvpConfig::default() };
    let mut host = ClosureHost::new(model(seed), kind);
    let exact = ClosureHost::at_the_same_parameters(model(seed), &host);
    let layout = Layout::new(&host, None).unwrap();
    let n = layout.parameters() as i64;
    let (mut calibration, never) = (Calibration::default(), hessian_probe::Interrupter::default());
    let mut basis = Basis::new(&layout, Reorthogonalize::Full, 15).unwrap();
    let mut w = Tensor::zeros([n], (kind, Device::Cpu));
    let start = |run: u64| {
        let v = Normal::new(seed + 31 * run).tensor(&[n], 1.0);
        (&v / v.norm()).to_kind(kind)
    };
    let inner = FiniteDifference::new(
        &mut host,
        &layout,
        &config,
        &mut calibration,
        &never,
        Start { vector: &start(0), spare: None },
        &mut w,
    )
    .unwrap();
    let mut operator = Checked { inner, exact: &exact, errors: Vec::new() };
    for run in 0..3 {
        basis.clear();
        basis.next_row().unwrap().copy_(&start(run));
        basis.commit().unwrap();
        let lanczos = Lanczos { steps: 15, reorthogonalize: Reorthogonalize::Full };
        lanczos.run(&mut operator, &mut basis, &mut w).unwrap();
    }
    operator.errors
}

#[test]
fn predicted_errors_are_within_a_factor_of_5_of_the_true_ones() {
    for (model, name) in [(mlp as fn(u64) -> Model, "perceptron"), (transformer, "transformer")] {
        for kind in [Kind::Float, Kind::Double] {
            for difference in [Difference::Central, Difference::Auto] {
                let errors: Vec<(f64, f64)> =
                    (0..5).flat_map(|seed| errors(model, seed, kind, difference)).collect();
                let mut ratios: Vec<f64> =
                    errors.iter().map(|(error, predicted)| error / predicted).collect();
                ratios.sort_by(f64::total_cmp);
                let within = ratios.iter().filter(|ratio| (0.2..5.0).contains(*ratio)).count();
                let share = within as f64 / ratios.len() as f64;
                eprintln!(
                    "{name} {kind:?} {difference:?}: true/predicted {:.2} to {:.2}, median {:.2}; worst error {:.1e}",
                    ratios[0],
                    ratios[ratios.len() - 1],
                    ratios[ratios.len() / 2],
                    errors.iter().fold(0.0_f64, |worst, (error, _)| worst.max(*error)),
                );
                assert!(share >= 0.9, "{name}, {kind:?}, {difference:?}: {share}");
            }
        }
    }
}
