//! Means over probe vectors, with standard errors.

use crate::spectrum::snapshot::Estimate;

/// The mean of one value for each probe vector; its standard error is s/√P with s² the unbiased sample
/// variance. One probe vector has no standard error.
pub(crate) fn mean(values: &[f64]) -> Estimate {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_error = (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
    Estimate { mean, standard_error }
}

/// A function of the means of several values for each probe vector. Its standard error is that of the
/// jackknife (Tukey 1958): √((P−1)/P · Σ (f_i − f̄)²), f_i the function with probe i left out. `None`
/// where the function has no finite value.
pub(crate) fn of_means<const K: usize>(values: &[[f64; K]], f: impl Fn([f64; K]) -> f64) -> Option<Estimate> {
    let count = values.len() as f64;
    let totals: [f64; K] = std::array::from_fn(|k| values.iter().map(|value| value[k]).sum());
    let mean = f(totals.map(|total| total / count));
    if !mean.is_finite() {
        return None;
    }
    let standard_error = (values.len() > 1).then(|| {
        let without: Vec<f64> = values
            .iter()
            .map(|left_out| f(std::array::from_fn(|k| (totals[k] - left_out[k]) / (count - 1.0))))
            .collect();
        let centre = without.iter().sum::<f64>() / count;
        ((count - 1.0) / count * without.iter().map(|value| (value - centre).powi(2)).sum::<f64>()).sqrt()
    });
    Some(Estimate { mean, standard_error: standard_error.filter(|error| error.is_finite()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_plain_mean_the_jackknife_is_the_usual_standard_error() {
        let values = [1.0, 4.0, 2.5, -3.0, 0.25];
        let direct = mean(&values);
        let jackknife = of_means(&values.map(|value| [value]), |[mean]| mean).unwrap();
        assert!((direct.mean - 0.95).abs() < 1e-15);
        // By hand: Σ(x − 0.95)² = 27.8.
        assert!((direct.standard_error.unwrap() - (27.8_f64 / 4.0 / 5.0).sqrt()).abs() < 1e-14);
        assert!((direct.standard_error.unwrap() - jackknife.standard_error.unwrap()).abs() < 1e-14);
    }

    #[test]
    fn one_probe_has_no_standard_error_and_an_undefined_value_is_none() {
        assert_eq!(mean(&[3.0]), Estimate { mean: 3.0, standard_error: None });
        assert_eq!(of_means(&[[0.0]], |[x]| 1.0 / x), None);
    }
}
