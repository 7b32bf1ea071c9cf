//! Fewer of many, so that a page of a long run stays usable.

use super::figures::Point;

/// The indices of `most` ≥ 2 of `count`, evenly, the first and the last among them.
pub fn evenly(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|index| index * (count - 1) / (most - 1)).collect()
}

/// `most` ≥ 2 of many points: of each of equally long stretches the smallest and the largest, so that no spike is lost.
pub fn extremes(points: Vec<Point>, most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points;
    }
    let length = points.len().div_ceil((most / 2).max(1));
    let mut kept = Vec::with_capacity(most);
    for stretch in points.chunks(length) {
        let of = |order: fn(f64, f64) -> bool| {
            (0..stretch.len())
                .reduce(|best, next| if order(stretch[next].1, stretch[best].1) { next } else { best })
        };
        let mut ends = [of(|a, b| a < b), of(|a, b| a > b)].map(Option::unwrap_or_default);
        ends.sort_unstable();
        kept.push(stretch[ends[0]]);
        if ends[0] != ends[1] {
            kept.push(stretch[ends[1]]);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_among_the_few() {
        assert_eq!(evenly(3, 5), [0, 1, 2]);
        assert_eq!(evenly(10, 4), [0, 3, 6, 9]);
        assert_eq!(evenly(0, 4), Vec::<usize>::new());
        let many = evenly(100_003, 160);
        assert_eq!((many[0], many[159], many.len()), (0, 100_002, 160));
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_spike_is_kept_in_its_place() {
        let value = |step: u64| if step == 4321 { 1e6 } else { (step as f64).sin() };
        let points: Vec<Point> = (0..10_000).map(|step| Point(step, value(step), None)).collect();
        let kept = extremes(points.clone(), 100);
        assert!(kept.len() <= 100 && kept.contains(&Point(4321, 1e6, None)), "{}", kept.len());
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(extremes(points[..100].to_vec(), 100), points[..100]);
    }
}
