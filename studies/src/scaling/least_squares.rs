//! Linear least squares with coefficients that are not negative.

use nalgebra::{DMatrix, DVector};

/// One equation: Σ coefficients · features = value, wanted to a relative error.
#[derive(Clone, Debug)]
pub struct Row {
    pub features: Vec<f64>,
    pub value: f64,
}

/// The coefficients that minimise Σ (prediction / value − 1)²; one that would be negative is 0, and so is one whose feature
/// is always 0. `None` where there is nothing to fit.
pub fn fit(rows: &[Row]) -> Option<Vec<f64>> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.value > 0.0).collect();
    let width = rows.first()?.features.len();
    let mut used: Vec<usize> =
        (0..width).filter(|&k| rows.iter().any(|row| row.features[k] != 0.0)).collect();
    loop {
        let mut coefficients = vec![0.0; width];
        if used.is_empty() {
            return Some(coefficients);
        }
        // Columns of equal size: features are bytes, pieces and counts.
        let relative = |row: &Row, k: usize| row.features[k] / row.value;
        let scales: Vec<f64> = used
            .iter()
            .map(|&k| rows.iter().map(|row| relative(row, k).powi(2)).sum::<f64>().sqrt())
            .collect();
        let matrix = DMatrix::from_fn(rows.len(), used.len(), |i, k| relative(rows[i], used[k]) / scales[k]);
        let ones = DVector::from_element(rows.len(), 1.0);
        // What the data do not tell apart is shared among its features.
        let solution = matrix.svd(true, true).solve(&ones, 1e-9).ok()?;
        let lowest = (0..used.len()).min_by(|&a, &b| solution[a].total_cmp(&solution[b]))?;
        if solution[lowest] < 0.0 {
            used.remove(lowest);
            continue;
        }
        for (k, &feature) in used.iter().enumerate() {
            coefficients[feature] = solution[k] / scales[k];
        }
        return Some(coefficients);
    }
}

/// Of logarithms: 1 − Σ (ln value − ln prediction)² / Σ (ln value − mean)².
pub fn r_squared(pairs: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> =
        pairs.iter().filter(|(y, p)| *y > 0.0 && *p > 0.0).map(|(y, p)| (y.ln(), p.ln())).collect();
    let mean = logs.iter().map(|(y, _)| y).sum::<f64>() / logs.len() as f64;
    let left: f64 = logs.iter().map(|(y, p)| (y - p).powi(2)).sum();
    1.0 - left / logs.iter().map(|(y, _)| (y - mean).powi(2)).sum::<f64>()
}

/// ln value = c + Σ exponents · ln features, by least squares. `None` where fewer values than unknowns, or a feature does
/// not vary.
pub fn power_law(rows: &[Row]) -> Option<(Vec<f64>, f64)> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.value > 0.0).collect();
    let width = rows.first()?.features.len();
    if rows.len() < width + 2 {
        return None;
    }
    let log = |i: usize, k: usize| if k == 0 { 1.0 } else { rows[i].features[k - 1].ln() };
    let matrix = DMatrix::from_fn(rows.len(), width + 1, log);
    let values = DVector::from_fn(rows.len(), |i, _| rows[i].value.ln());
    let svd = matrix.clone().svd(true, true);
    if svd.singular_values.min() < 1e-9 * svd.singular_values.max() {
        return None;
    }
    let solution = svd.solve(&values, 1e-12).ok()?;
    let found = &matrix * &solution;
    let pairs: Vec<(f64, f64)> = values.iter().zip(found.iter()).map(|(y, p)| (y.exp(), p.exp())).collect();
    Some((solution.iter().skip(1).copied().collect(), r_squared(&pairs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[([f64; 3], f64)]) -> Vec<Row> {
        values.iter().map(|(features, value)| Row { features: features.to_vec(), value: *value }).collect()
    }

    #[test]
    fn a_sum_is_found_over_many_orders_of_magnitude_and_what_would_be_negative_is_left_out() {
        let coefficients = [3e-10, 0.0, 2e-5];
        let features =
            [[1e6, 3.0, 1.0], [2e9, 1.0, 40.0], [5e7, 7.0, 900.0], [1e3, 2.0, 5.0], [4e8, 9.0, 3.0]];
        let dot = |x: &[f64; 3]| x.iter().zip(coefficients).map(|(x, c)| x * c).sum::<f64>();
        let found = fit(&rows(&features.map(|x| (x, dot(&x))))).unwrap();
        for (found, expected) in found.iter().zip(coefficients) {
            assert!((found - expected).abs() <= 1e-9 * expected + 1e-15, "{found} {expected}");
        }
        // y = x₀ − x₁ cannot be: the best with y = c·x₀ is left.
        let found = fit(&rows(&[([1.0, 0.1, 0.0], 0.9), ([2.0, 0.6, 0.0], 1.4)])).unwrap();
        let (a, b) = (1.0 / 0.9, 2.0 / 1.4);
        assert!(
            (found[0] - (a + b) / (a * a + b * b)).abs() < 1e-12 && found[1..] == [0.0, 0.0],
            "{found:?}"
        );
        assert!(fit(&[]).is_none());
    }

    #[test]
    fn exponents_are_those_of_the_products_that_they_were_made_from() {
        let data = [[1.0, 2.0, 1.0], [3.0, 2.0, 5.0], [7.0, 0.1, 2.0], [0.2, 9.0, 3.0], [50.0, 4.0, 0.3]];
        let value = |x: &[f64; 3]| 0.7 * x[0].powf(1.5) * x[1].powf(-0.5) * x[2].powi(2);
        let (exponents, r_squared) = power_law(&rows(&data.map(|x| (x, value(&x))))).unwrap();
        for (found, expected) in exponents.iter().zip([1.5, -0.5, 2.0]) {
            assert!((found - expected).abs() < 1e-10, "{exponents:?}");
        }
        assert!((r_squared - 1.0).abs() < 1e-12);
        let constant = data.map(|[a, b, _]| ([a, b, 2.0], a));
        assert!(power_law(&rows(&constant)).is_none(), "a feature that does not vary");
        assert!(power_law(&rows(&constant[..3])).is_none(), "too few");
    }

    #[test]
    fn r_squared_is_the_share_of_the_variance_of_logarithms() {
        let e = std::f64::consts::E;
        // ln y = 0, 1, 2 and predictions 0, 1, 1: 1 of 2 is left.
        let pairs = [(1.0, 1.0), (e, e), (e * e, e)];
        assert!((r_squared(&pairs) - 0.5).abs() < 1e-12);
    }
}
