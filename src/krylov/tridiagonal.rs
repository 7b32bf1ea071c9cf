//! Eigenvalues of a symmetric tridiagonal matrix, and chosen rows of its eigenvector matrix.
//!
//! The implicit QL iteration with Wilkinson's shift (EISPACK's `imtql2`; Dubrulle, Martin &
//! Wilkinson, Numer. Math. 12 (1968)), which rotates only the rows asked for: O(m²) for two rows,
//! where all of them cost O(m³). QL starts from the lower end, which suits the matrices of a
//! Lanczos run on a language model: they grow downwards from the small entries of a random start.

/// The iteration for one eigenvalue did not converge: the matrix has entries that are not finite, or
/// is of a size at which f64 overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the eigenvalues of a tridiagonal matrix of order {order} did not converge at position {position}")]
pub struct NoConvergence {
    /// The order of the matrix.
    pub order: usize,
    /// The eigenvalue that did not converge.
    pub position: usize,
}

/// Eigenvalues θ_k, ascending, and rows of the matrix S whose columns are the unit eigenvectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// θ_k, ascending.
    pub values: Vec<f64>,
    /// `rows[r][k]` is the component of eigenvector k in the r-th of the rows asked for.
    pub rows: Vec<Vec<f64>>,
}

/// Iterations for one eigenvalue; two or three are usual.
const MAX_ITERATIONS: usize = 60;

/// Decomposes the matrix with diagonal `alpha` (m entries) and off-diagonal `beta` (the first m − 1
/// entries are used), keeping the given rows of the eigenvector matrix.
///
/// Eigenvalues are accurate to a few units of roundoff times the norm of the matrix.
///
/// # Errors
/// [`NoConvergence`] for entries that are not finite.
///
/// # Panics
/// When `beta` has fewer than m − 1 entries or a row is not below m.
///
/// ```
/// let eigen = hessian_probe::krylov::tridiagonal::eigen(&[2.0, 2.0], &[1.0], &[0])?;
/// assert!((eigen.values[0] - 1.0).abs() < 1e-15 && (eigen.values[1] - 3.0).abs() < 1e-15);
/// assert!((eigen.rows[0][0].powi(2) - 0.5).abs() < 1e-15);
/// # Ok::<(), hessian_probe::krylov::NoConvergence>(())
/// ```
pub fn eigen(alpha: &[f64], beta: &[f64], rows: &[usize]) -> Result<Eigen, NoConvergence> {
    let m = alpha.len();
    let mut d = alpha.to_vec();
    let mut e = beta[..m.saturating_sub(1)].to_vec();
    e.push(0.0);
    let mut z: Vec<Vec<f64>> = rows
        .iter()
        .map(|&row| {
            let mut unit = vec![0.0; m];
            unit[row] = 1.0;
            unit
        })
        .collect();
    if d.iter().chain(&e).any(|entry| !entry.is_finite()) {
        return Err(NoConvergence { order: m, position: 0 });
    }
    for position in 0..m {
        converge(&mut d, &mut e, &mut z, position)?;
    }
    let mut order: Vec<usize> = (0..m).collect();
    order.sort_by(|&a, &b| d[a].total_cmp(&d[b]));
    Ok(Eigen {
        values: order.iter().map(|&k| d[k]).collect(),
        rows: z.iter().map(|row| order.iter().map(|&k| row[k]).collect()).collect(),
    })
}

/// Rotates until the off-diagonal entry at `position` is negligible.
fn converge(d: &mut [f64], e: &mut [f64], z: &mut [Vec<f64>], position: usize) -> Result<(), NoConvergence> {
    let m = d.len();
    for _ in 0..MAX_ITERATIONS {
        let negligible = |k: usize| {
            let neighbours = d[k].abs() + d[k + 1].abs();
            e[k].abs() <= f64::EPSILON * neighbours || e[k].abs() < f64::MIN_POSITIVE
        };
        let end = (position..m - 1).find(|&k| negligible(k)).unwrap_or(m - 1);
        if end == position {
            return Ok(());
        }
        sweep(d, e, z, position, end);
    }
    Err(NoConvergence { order: m, position })
}

/// One implicit QL sweep over the unreduced block `first..=last`.
fn sweep(d: &mut [f64], e: &mut [f64], z: &mut [Vec<f64>], first: usize, last: usize) {
    let ratio = (d[first + 1] - d[first]) / (2.0 * e[first]);
    let shift = d[first] - e[first] / (ratio + 1.0_f64.hypot(ratio).copysign(ratio));
    let mut bulge = d[last] - shift;
    let [mut sine, mut cosine, mut carried] = [1.0, 1.0, 0.0];
    for i in (first..last).rev() {
        let f = sine * e[i];
        let b = cosine * e[i];
        let radius = f.hypot(bulge);
        e[i + 1] = radius;
        if radius == 0.0 {
            // The block splits here; what has been carried so far belongs to the next entry.
            d[i + 1] -= carried;
            e[last] = 0.0;
            return;
        }
        sine = f / radius;
        cosine = bulge / radius;
        let g = d[i + 1] - carried;
        let r = (d[i] - g) * sine + 2.0 * cosine * b;
        carried = sine * r;
        d[i + 1] = g + carried;
        bulge = cosine * r - b;
        for row in z.iter_mut() {
            let upper = row[i + 1];
            row[i + 1] = sine * row[i] + cosine * upper;
            row[i] = cosine * row[i] - sine * upper;
        }
    }
    d[first] -= carried;
    e[first] = bulge;
    e[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DMatrix;
    use proptest::prelude::*;

    fn dense(alpha: &[f64], beta: &[f64]) -> DMatrix<f64> {
        DMatrix::from_fn(alpha.len(), alpha.len(), |i, j| match i.abs_diff(j) {
            0 => alpha[i],
            1 => beta[i.min(j)],
            _ => 0.0,
        })
    }

    /// Against nalgebra's dense solver, and the decomposition's own residuals.
    fn check(alpha: &[f64], beta: &[f64]) {
        let m = alpha.len();
        let rows: Vec<usize> = (0..m).collect();
        let eigen = eigen(alpha, beta, &rows).unwrap();
        let matrix = dense(alpha, beta);
        let norm = matrix.norm().max(f64::MIN_POSITIVE);
        let mut expected: Vec<f64> = matrix.clone().symmetric_eigen().eigenvalues.iter().copied().collect();
        expected.sort_by(f64::total_cmp);
        for (value, expected) in eigen.values.iter().zip(&expected) {
            assert!((value - expected).abs() <= 1e-13 * norm, "{value} for {expected}");
        }
        let s = DMatrix::from_fn(m, m, |i, k| eigen.rows[i][k]);
        let theta = DMatrix::from_fn(m, m, |i, j| if i == j { eigen.values[i] } else { 0.0 });
        assert!((&matrix * &s - &s * theta).norm() <= 1e-12 * norm);
        assert!((s.transpose() * &s - DMatrix::identity(m, m)).norm() <= 1e-12);
        let two = super::eigen(alpha, beta, &[0, m - 1]).unwrap();
        assert_eq!(two.values, eigen.values);
        assert_eq!(two.rows[0], eigen.rows[0]);
        assert_eq!(two.rows[1], eigen.rows[m - 1]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_dense_solver(
            entries in prop::collection::vec((-1e3_f64..1e3, -1e3_f64..1e3), 1..40),
        ) {
            let (alpha, beta): (Vec<f64>, Vec<f64>) = entries.into_iter().unzip();
            check(&alpha, &beta);
        }

        #[test]
        fn agrees_with_a_dense_solver_on_graded_and_split_matrices(
            entries in prop::collection::vec((-1.0_f64..1.0, -1.0_f64..1.0, -12_i32..3, prop::bool::weighted(0.2)), 2..30),
        ) {
            let alpha: Vec<f64> = entries.iter().map(|(a, _, exponent, _)| a * 10_f64.powi(*exponent)).collect();
            let beta: Vec<f64> = entries.iter().map(|(_, b, exponent, split)| if *split { 0.0 } else { b * 10_f64.powi(*exponent) }).collect();
            check(&alpha, &beta);
        }
    }

    #[test]
    fn closed_forms() {
        check(&[0.0; 7], &[0.0; 6]);
        check(&[5.0], &[]);
        check(&[1.0; 9], &[0.0; 8]);
        // Toeplitz: 2 cos(kπ/(m + 1)).
        let m = 50;
        let eigen = eigen(&vec![0.0; m], &vec![1.0; m - 1], &[0]).unwrap();
        for (k, value) in eigen.values.iter().rev().enumerate() {
            let exact = 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (m + 1) as f64).cos();
            assert!((value - exact).abs() < 1e-14);
        }
    }

    #[test]
    fn entries_that_are_not_finite_are_an_error() {
        assert!(eigen(&[1.0, f64::NAN], &[1.0], &[]).is_err());
        assert!(eigen(&[1.0, 2.0], &[f64::INFINITY], &[]).is_err());
    }
}
