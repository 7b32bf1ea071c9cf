//! Copies of converged Ritz values in a run that lost its orthogonality.
//!
//! Without reorthogonalisation a Ritz value that has converged comes again as a copy (a *ghost*): the quadrature
//! stays right, as copies share the weight of their eigenvalue, but counting nodes counts too many. Before it
//! has become a copy, a new Ritz value passes through places where no eigenvalue is. The test of Cullum and
//! Willoughby (J. Comput. Phys. 44 (1981) 329–358) tells them apart: a *multiple* eigenvalue of T is good, one of
//! its copies is kept; a *simple* one that is also an eigenvalue of T without its first row and column is
//! spurious, since its eigenvector then has no part in the start vector.

use crate::krylov::LanczosRun;
use crate::krylov::tridiagonal::{NoConvergence, eigen};
use crate::spectrum::snapshot::{Ghosts, ProbeRecord};

/// How close, relative to ‖T‖, an eigenvalue of T must be to one of its trailing part to be taken for the same.
/// An eigenvalue of weight τ is about τ·‖T‖ away from it: at the rounding of T's own eigenvalues, so that no
/// outlier is lost whose weight is that of one entry in 10¹².
const SAME: f64 = 1e-12;
/// How close copies are to each other, relative to ‖T‖: rounding lets them lie further apart than `SAME`, and each
/// must have found its group before the test for what is spurious.
const EQUAL: f64 = 100.0 * SAME;
/// How close copies of a converged value may be, in roundoffs of the vectors, relative to ‖T‖.
const COPIES: f64 = 16.0;

/// Merges copies and spurious values of a run into the nodes that they belong to: weights add up, so that every
/// integral is what it was to the accuracy of the nodes.
///
/// # Errors
/// When T has entries that are not finite.
pub fn merge(record: ProbeRecord, run: &LanczosRun, roundoff: f64) -> Result<ProbeRecord, NoConvergence> {
    let m = record.nodes.len();
    let norm = record.nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
    if m < 2 || norm == 0.0 {
        return Ok(record);
    }
    let trailing = eigen(&run.alpha[1..], &run.beta[1..], &[])?.values;
    let tolerance = |k: usize| COPIES * roundoff * norm + record.hvp_errors[k];
    let converged = |k: usize| record.residuals[k] <= tolerance(k);
    // An eigenvalue lies within the tolerance of each converged value: of the same one, where these intervals overlap.
    let same = |a: usize, b: usize| {
        let gap = record.nodes[b] - record.nodes[a];
        gap <= EQUAL * norm || (converged(a) && converged(b) && gap <= tolerance(a) + tolerance(b))
    };
    // Which of a group stands for it: the heaviest, which the others are copies of, among those that have converged.
    let of_group = |group: &[usize]| {
        let heavier = |&a: &usize, &b: &usize| {
            let weights = record.weights[a].total_cmp(&record.weights[b]);
            converged(a).cmp(&converged(b)).then(weights)
        };
        group.iter().copied().max_by(heavier).unwrap_or(group[0])
    };
    // Groups of nodes that cannot be told apart.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for k in 0..m {
        let last = groups.len().checked_sub(1);
        let last_converged = groups.iter().rposition(|group| converged(of_group(group)));
        match last.into_iter().chain(last_converged).find(|&g| same(of_group(&groups[g]), k)) {
            Some(g) => {
                // What lies between two copies is on its way to become one.
                let between: Vec<usize> = groups.drain(g + 1..).flatten().collect();
                groups[g].extend(between);
                groups[g].push(k);
            }
            None => groups.push(vec![k]),
        }
    }
    let is_spurious = |group: &[usize]| {
        let node = record.nodes[group[0]];
        let near = trailing.partition_point(|value| *value < node - SAME * norm);
        group.len() == 1 && trailing.get(near).is_some_and(|value| *value <= node + SAME * norm)
    };
    let spurious: Vec<bool> = groups.iter().map(|group| is_spurious(group)).collect();
    let kept: Vec<usize> = (0..groups.len()).filter(|&g| !spurious[g]).collect();
    if kept.is_empty() {
        return Ok(record);
    }
    let mut merged = ProbeRecord { nodes: Vec::new(), weights: Vec::new(), ..record.clone() };
    (merged.residuals, merged.hvp_errors) = (Vec::new(), Vec::new());
    for &g in &kept {
        let group = &groups[g];
        let best = group.iter().copied().max_by(|&a, &b| record.weights[a].total_cmp(&record.weights[b]));
        let best = best.unwrap_or(group[0]);
        merged.nodes.push(record.nodes[best]);
        merged.weights.push(group.iter().map(|&k| record.weights[k]).sum());
        merged.residuals.push(group.iter().fold(f64::INFINITY, |least, &k| least.min(record.residuals[k])));
        merged.hvp_errors.push(record.hvp_errors[best]);
    }
    // What a spurious value weighs, which is next to nothing, goes to its neighbour: weights still sum to 1.
    for (group, _) in groups.iter().zip(&spurious).filter(|(_, spurious)| **spurious) {
        let node = record.nodes[group[0]];
        let near = (0..merged.nodes.len())
            .min_by(|&a, &b| (merged.nodes[a] - node).abs().total_cmp(&(merged.nodes[b] - node).abs()));
        if let Some(weight) = near.and_then(|near| merged.weights.get_mut(near)) {
            *weight += record.weights[group[0]];
        }
    }
    let spurious = spurious.iter().filter(|spurious| **spurious).count();
    merged.ghosts = Some(Ghosts { copies: m - spurious - merged.nodes.len(), spurious });
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrum::quadrature;

    fn run(alpha: &[f64], beta: &[f64]) -> LanczosRun {
        let errors = vec![0.0; alpha.len()];
        LanczosRun { alpha: alpha.to_vec(), beta: beta.to_vec(), errors, ..LanczosRun::default() }
    }

    #[test]
    fn a_copy_is_merged_with_its_weight() {
        // Two parts that hardly couple, both with an eigenvalue of 3.
        let run = run(&[3.0, 1.0, 3.0], &[1e-4, 1e-4, 0.0]);
        let record = quadrature(0, &run).unwrap();
        let merged = merge(record.clone(), &run, 1e-9).unwrap();
        assert_eq!(merged.nodes.len(), 2);
        assert_eq!(merged.ghosts, Some(Ghosts { copies: 1, spurious: 0 }));
        assert!((merged.weights.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!((merged.weights[1] - 1.0).abs() < 1e-8);
    }

    #[test]
    fn a_value_that_the_start_vector_knows_nothing_of_is_spurious_and_a_small_outlier_is_not() {
        // A trailing block that is cut off.
        let cut = run(&[1.0, 2.0, 50.0], &[1.0, 0.0, 0.0]);
        let merged = merge(quadrature(0, &cut).unwrap(), &cut, 1e-16).unwrap();
        assert_eq!(merged.ghosts, Some(Ghosts { copies: 0, spurious: 1 }));
        assert!(merged.nodes.iter().all(|node| *node < 10.0), "{merged:?}");
        // An outlier of weight 1e−8, as in a model of 10⁸ parameters.
        let small = run(&[0.0, 100.0, 0.0], &[1e-2, 1e-3, 0.0]);
        let record = quadrature(0, &small).unwrap();
        let merged = merge(record.clone(), &small, 6e-8).unwrap();
        assert!(merged.nodes.iter().any(|node| *node > 99.0), "{merged:?}");
    }
}
