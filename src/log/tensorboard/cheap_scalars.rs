//! The scalars of what is measured between probes without a product.

use super::scalars::{Scalar, push};
use crate::sharpness::CriticalSharpness;

/// The scalars of critical sharpness.
pub(super) fn sharpness(found: &CriticalSharpness) -> Vec<Scalar> {
    let rows: [(&str, &str, Option<f64>); 9] = [
        (
            "sharpness/critical",
            "2/(cη), c the multiple of the update at which the loss rises; 1/η.",
            found.sharpness,
        ),
        ("sharpness/multiple", "c: the loss rises above L(θ) at c times the update.", found.multiple),
        ("sharpness/error", "What c may be off by: its bracket, and the loss's rounding.", found.error),
        ("sharpness/step_ratio", "1/c: above 1, the step makes the loss larger.", found.step_ratio),
        ("sharpness/update_norm", "The norm of the update; parameter.", Some(found.update_norm)),
        ("sharpness/loss", "The probe loss, by a forward pass.", Some(found.loss)),
        ("sharpness/passes", "Forward passes.", Some(found.passes as f64)),
        ("sharpness/seconds", "The wall time of this number; s.", Some(found.seconds)),
        ("sharpness/share", "The wall time over that of training since the number before it.", found.share),
    ];
    let mut all = Vec::new();
    for (tag, meaning, value) in rows {
        if let Some(value) = value {
            push(&mut all, tag.into(), meaning.into(), value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;

    #[test]
    fn what_is_not_known_is_not_written_and_every_tag_is_in_the_documentation() {
        let whole = fixture::sharpness(3);
        let tags: Vec<String> = sharpness(&whole).into_iter().map(|scalar| scalar.tag).collect();
        assert_eq!(tags.len(), 9);
        for tag in &tags {
            assert!(include_str!("mod.rs").contains(&format!("`{tag}`")), "{tag}");
        }
        let open = CriticalSharpness {
            multiple: None,
            error: None,
            step_ratio: None,
            sharpness: None,
            share: None,
            ..whole
        };
        assert_eq!(sharpness(&open).len(), 4);
    }
}
