//! The charts of TensorBoard's *Custom Scalars* tab, as its `layout.proto` numbers the fields.
//!
//! ```text
//! Layout                 1 version: int32   2 category: repeated Category
//! Category               1 title: string   2 chart: repeated Chart
//! Chart                  1 title: string   one of: 2 multiline, 3 margin: message
//! MultilineChartContent  1 tag: repeated string (regular expressions)
//! MarginChartContent     1 series: repeated Series
//! Series                 1 value: string   2 lower: string   3 upper: string (tags)
//! ```

use super::proto::Message;
use super::{block_scalars, scalars, stability};

/// The tag under which the plugin looks for its layout.
pub(super) const TAG: &str = "custom_scalars__config__";

enum Chart {
    /// Statistics, each as a line within its band.
    Margin(&'static [&'static str]),
    /// The same of the comparison with the diagonal blocks.
    BlockMargin(&'static [&'static str]),
    /// The same of the preconditioned operator.
    PreconditionedMargin(&'static [&'static str]),
    /// Tags of all blocks, one line each, by a regular expression.
    Matching(&'static str),
    /// Tags, each as a line.
    Lines(&'static [&'static str]),
}

type Category = (&'static str, &'static [(&'static str, Chart)]);

const CATEGORIES: [Category; 3] = [
    (
        "Curvature",
        &[
            ("largest eigenvalue ± residual", Chart::Margin(&["lambda_max"])),
            ("smallest eigenvalue ± residual", Chart::Margin(&["lambda_min"])),
            ("trace ± standard error", Chart::Margin(&["trace"])),
            ("Frobenius norm ± standard error", Chart::Margin(&["frobenius_norm"])),
            ("mean eigenvalue ± standard error", Chart::Margin(&["mean_eigenvalue"])),
            (
                "share of negative eigenvalues: all, and those beyond the noise",
                Chart::Margin(&["negative_share", "negative_share_resolved"]),
            ),
            ("effective rank ± standard error", Chart::Margin(&["effective_rank"])),
            ("stable rank ± standard error", Chart::Margin(&["stable_rank"])),
            ("spectral entropy ± standard error", Chart::Margin(&["spectral_entropy"])),
        ],
    ),
    (
        "Trust",
        &[
            ("share of eigenvalues that the noise hides", Chart::Margin(&["unresolved_mass"])),
            (
                "extreme eigenvalues beside the noise",
                Chart::Lines(&["curvature/lambda_max", "curvature/lambda_min", "curvature/unresolved_floor"]),
            ),
            (
                "relative error of Hessian-vector products",
                Chart::Lines(&["probe/hvp_relative_error_median", "probe/hvp_relative_error_worst"]),
            ),
            ("parity ratio", Chart::Lines(&["probe/parity_ratio_median", "probe/parity_ratio_worst"])),
            ("finite-difference step", Chart::Lines(&["probe/step_min", "probe/step_max"])),
            ("noise of a gradient", Chart::Lines(&["probe/gradient_noise"])),
        ],
    ),
    (
        "Cost",
        &[
            (
                "seconds",
                Chart::Lines(&["probe/seconds", "probe/gradient_seconds", "probe/communication_seconds"]),
            ),
            (
                "where the seconds go",
                Chart::Lines(&[
                    "probe_seconds/gradients",
                    "probe_seconds/calibration",
                    "probe_seconds/all_reduces",
                    "probe_seconds/saving",
                    "probe_seconds/drawing",
                    "probe_seconds/products",
                    "probe_seconds/lanczos",
                    "probe_seconds/checks",
                    "probe_seconds/blocks",
                    "probe_seconds/other",
                ]),
            ),
            ("gradients", Chart::Lines(&["probe/gradients", "probe/calibration_gradients"])),
        ],
    ),
];

/// Where blocks are measured.
const BLOCKS: Category = (
    "Blocks",
    &[
        ("relative error of the block-diagonal part", Chart::BlockMargin(&["relative_error"])),
        ("its cosine with the whole", Chart::BlockMargin(&["cosine"])),
        ("share off the diagonal", Chart::BlockMargin(&["off_diagonal_share"])),
        ("relative error along the gradient", Chart::BlockMargin(&["gradient/relative_error"])),
        ("cosine along the gradient", Chart::BlockMargin(&["gradient/cosine"])),
        ("share of each block", Chart::Matching("^blocks/.+/share$")),
        ("trace of each block", Chart::Matching("^blocks/.+/trace$")),
        ("largest eigenvalue of each block", Chart::Matching("^blocks/.+/lambda_max$")),
        ("smallest eigenvalue of each block", Chart::Matching("^blocks/.+/lambda_min$")),
    ],
);

/// Where the preconditioned operator is.
const STABILITY: Category = (
    "Stability",
    &[
        ("margin: above 1 is unstable", Chart::Lines(&["stability/margin"])),
        ("largest preconditioned eigenvalue ± residual", Chart::PreconditionedMargin(&["lambda_max"])),
        ("smallest preconditioned eigenvalue ± residual", Chart::PreconditionedMargin(&["lambda_min"])),
        ("threshold", Chart::Lines(&["stability/threshold"])),
        ("learning rate", Chart::Lines(&["stability/learning_rate"])),
    ],
);

/// The layout as a message.
pub(super) fn layout(with_blocks: bool, with_optimizer: bool) -> Message {
    let more = with_optimizer.then_some(&STABILITY).into_iter().chain(with_blocks.then_some(&BLOCKS));
    CATEGORIES.iter().chain(more).fold(Message::new(), |layout, (title, charts)| {
        // TensorBoard draws a category's charts from the last to the first.
        let category =
            charts.iter().rev().fold(Message::new().bytes(1, title), |category, (title, chart)| {
                let head = Message::new().bytes(1, title);
                category.message(
                    2,
                    &match chart {
                        Chart::Lines(tags) => head.message(2, &lines(tags)),
                        Chart::Matching(tags) => head.message(2, &Message::new().bytes(1, tags)),
                        Chart::Margin(names) => head.message(3, &margin(names, curvature)),
                        Chart::PreconditionedMargin(names) => head.message(3, &margin(names, preconditioned)),
                        Chart::BlockMargin(names) => head.message(3, &margin(names, block_scalars::band)),
                    },
                )
            });
        layout.message(2, &category)
    })
}

fn curvature(name: &str) -> [String; 3] {
    scalars::band(scalars::CURVATURE, name)
}

fn preconditioned(name: &str) -> [String; 3] {
    scalars::band(stability::PRECONDITIONED, name)
}

fn lines(tags: &[&str]) -> Message {
    // Regular expressions: unanchored, `probe/gradients` would draw `probe/gradients_…` as well.
    tags.iter().fold(Message::new(), |chart, tag| chart.bytes(1, format!("^{tag}$")))
}

fn margin(names: &[&str], band: fn(&str) -> [String; 3]) -> Message {
    names.iter().fold(Message::new(), |chart, name| {
        let [value, lower, upper] = band(name);
        chart.message(1, &Message::new().bytes(1, value).bytes(2, lower).bytes(3, upper))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;
    use crate::spectrum::Snapshot;

    #[test]
    fn charts_draw_only_tags_that_are_written() {
        let snapshot = Snapshot {
            block_diagonal: fixture::snapshot_with_blocks(0).block_diagonal,
            ..fixture::snapshot_with_optimizer(0)
        };
        let written: Vec<String> = scalars::scalars(&snapshot).into_iter().map(|scalar| scalar.tag).collect();
        for chart in CATEGORIES.iter().chain([&BLOCKS, &STABILITY]).flat_map(|(_, charts)| *charts) {
            let tags: Vec<String> = match chart.1 {
                Chart::Lines(tags) => tags.iter().map(ToString::to_string).collect(),
                Chart::Margin(names) => names.iter().flat_map(|name| curvature(name)).collect(),
                Chart::PreconditionedMargin(names) => {
                    names.iter().flat_map(|name| preconditioned(name)).collect()
                }
                Chart::BlockMargin(names) => {
                    names.iter().flat_map(|name| block_scalars::band(name)).collect()
                }
                Chart::Matching(pattern) => {
                    let (head, tail) = pattern.trim_matches(['^', '$']).split_once(".+").unwrap();
                    let found = |tag: &&String| tag.starts_with(head) && tag.ends_with(tail);
                    written.iter().filter(found).cloned().collect()
                }
            };
            assert!(!tags.is_empty(), "{}", chart.0);
            for tag in tags {
                assert!(written.contains(&tag), "{tag}");
                let plain = |c: char| c.is_ascii_alphanumeric() || "_/".contains(c);
                assert!(matches!(chart.1, Chart::Matching(_)) || tag.chars().all(plain), "{tag}");
            }
        }
    }

    #[test]
    fn a_margin_chart_has_its_known_bytes() {
        let expected =
            b"\x0a\x3f\x0a\x0bcurvature/a\x12\x16curvature_band/a/lower\x1a\x16curvature_band/a/upper";
        let mut expected = expected.to_vec();
        expected[1] = (expected.len() - 2) as u8;
        assert_eq!(margin(&["a"], curvature).into_bytes(), expected);
        assert_eq!(lines(&["b/c"]).into_bytes(), b"\x0a\x05^b/c$");
    }
}
