//! The quadrature's distribution against known spectra: Wasserstein-1 distance, the area between the
//! two cumulative distributions.

use crate::dense::MatrixOperator;
use crate::models::Normal;
use hessian_probe::config::{Distribution, Reorthogonalize};
use hessian_probe::sharded::random::RandomProbe;
use hessian_probe::spectrum::{Axis, Cumulative, Density, quadrature};
use tch::Tensor;

/// ∫ |F − G| for two distributions given by points and masses.
fn wasserstein(a: &[(f64, f64)], b: &[(f64, f64)]) -> f64 {
    let mut steps: Vec<(f64, f64)> = a.iter().copied().chain(b.iter().map(|&(x, mass)| (x, -mass))).collect();
    steps.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut difference = 0.0;
    let mut area = 0.0;
    for pair in steps.windows(2) {
        difference += pair[0].1;
        area += f64::abs(difference) * (pair[1].0 - pair[0].0);
    }
    area
}

fn check(name: &str, spectrum: &[f64], steps: usize) {
    let n = spectrum.len();
    // A rotation, so that the eigenvectors are not the axes.
    let (q, _) = Tensor::linalg_qr(&Normal::new(11).tensor(&[n as i64, n as i64], 1.0), "reduced");
    let matrix = (&q * Tensor::from_slice(spectrum).unsqueeze(0)).matmul(&q.tr());
    let mut operator = MatrixOperator::new(&matrix);
    let probes = 5;
    let mut measure = Vec::new();
    let mut records = Vec::new();
    for index in 0..probes {
        let mut start = vec![0.0; n];
        RandomProbe::new(1, index, Distribution::Rademacher).fill(0, &mut start);
        let (run, _) = operator.lanczos(&Tensor::from_slice(&start), steps, Reorthogonalize::Full);
        let record = quadrature(index, &run).unwrap();
        measure.extend(record.nodes.iter().zip(&record.weights).map(|(&x, &w)| (x, w / probes as f64)));
        records.push(record);
    }
    let exact: Vec<(f64, f64)> = spectrum.iter().map(|&value| (value, 1.0 / n as f64)).collect();
    let range =
        spectrum.iter().fold(f64::MIN, |a, &b| a.max(b)) - spectrum.iter().fold(f64::MAX, |a, &b| a.min(b));
    let distance = wasserstein(&measure, &exact);
    assert!(distance < 0.02 * range, "{name}: {distance} on a range of {range}");
    // Smoothed for display, with the width of a node: no further away than that.
    let density = Density::new(&records, Axis::Linear, 4000).unwrap();
    let step = density.positions[1] - density.positions[0];
    let smooth: Vec<(f64, f64)> =
        density.values.iter().zip(&density.density).map(|(&x, share)| (x, step * share.mean)).collect();
    let smoothed = wasserstein(&smooth, &exact);
    assert!(smoothed < 0.02 * range, "{name}, smoothed: {smoothed} on a range of {range}");
    // The distribution function at its own places, against the exact one.
    let cumulative = Cumulative::new(&records);
    for (x, share) in cumulative.values.iter().zip(&cumulative.share) {
        let below = spectrum.iter().filter(|value| **value <= *x + 0.02 * range).count() as f64 / n as f64;
        let above = spectrum.iter().filter(|value| **value <= *x - 0.02 * range).count() as f64 / n as f64;
        assert!(share.mean <= below + 0.1 && share.mean >= above - 0.1, "{name}: {share:?} at {x}");
    }
    // The oracle can fail: a point mass in the middle is far off.
    let middle = [(spectrum.iter().sum::<f64>() / n as f64, 1.0)];
    assert!(wasserstein(&middle, &exact) > distance, "{name}");
}

#[test]
fn planted_clusters_and_outliers() {
    let n = 400;
    let spectrum: Vec<f64> = (0..n)
        .map(|i| match i {
            0..4 => 80.0 + 10.0 * i as f64,
            4..100 => 10.0 + 0.01 * i as f64,
            100..150 => -5.0 - 0.02 * i as f64,
            _ => 0.001 * i as f64,
        })
        .collect();
    check("clusters", &spectrum, 40);
}

#[test]
fn marchenko_pastur() {
    // Eigenvalues of XᵀX/p for n = 400, p = 800: the law's own sample.
    let x = Normal::new(21).tensor(&[800, 400], 1.0);
    let spectrum = crate::dense::eigenvalues(&(x.tr().matmul(&x) / 800.0));
    check("Marchenko-Pastur", &spectrum, 40);
}

#[test]
fn power_law() {
    let spectrum: Vec<f64> = (1..=400).map(|i| 100.0 * (i as f64).powf(-1.2)).collect();
    check("power law", &spectrum, 40);
}
