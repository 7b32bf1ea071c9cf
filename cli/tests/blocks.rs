//! The comparison with diagonal blocks, against the dense Hessian of a model that shares nothing with the program.

mod common;

use common::closure_host::ClosureHost;
use common::dense::eigenvalues;
use common::llama::{Example, Shape};
use common::{Case, assert_close, text, tokens};
use hessian_probe::blocks::{BlockDiagonal, BlockRecord};
use hessian_probe::spectrum::Estimate;
use std::sync::OnceLock;
use tch::{Kind, Tensor};

/// 500 parameters in two layers.
fn shape() -> Shape {
    Shape { vocabulary: 13, hidden: 4, inner: 10, layers: 2, heads: 1, key_value_heads: 1, ..Shape::small(5) }
}

fn examples() -> [Example; 2] {
    [Example::new(&tokens(1, 9, 13), None), Example::new(&tokens(2, 6, 13), None)]
}

fn case() -> Case {
    Case::new(&shape(), &examples().map(|example| example.line()))
}

/// Dense H and the gradient, by double backward.
struct Oracle {
    h: Tensor,
    gradient: Tensor,
    /// For each parameter tensor its name and how many entries it has, in the order of H.
    tensors: Vec<(String, i64)>,
}

impl Oracle {
    fn new() -> Self {
        static ENTRIES: OnceLock<Vec<f64>> = OnceLock::new();
        let host = ClosureHost::new(shape().model(&examples()), Kind::Double);
        let entries = ENTRIES.get_or_init(|| Vec::try_from(host.dense_hessian().reshape([-1])).unwrap());
        let n = (entries.len() as f64).sqrt() as i64;
        let gradients: Vec<Tensor> = host.graph(false).1.iter().map(|g| g.reshape([-1])).collect();
        let tensors = shape().weights().iter().map(|(name, w)| (name.clone(), w.numel() as i64)).collect();
        Self { h: Tensor::from_slice(entries).view([n, n]), gradient: Tensor::cat(&gradients, 0), tensors }
    }

    /// The indices of a block.
    fn indices(&self, block_of: &dyn Fn(&str) -> String, block: &str) -> Tensor {
        let mut indices = Vec::new();
        let mut start = 0;
        for (name, len) in &self.tensors {
            if block_of(name) == block {
                indices.extend(start..start + len);
            }
            start += len;
        }
        Tensor::from_slice(&indices)
    }

    /// H with zeros off the blocks.
    fn block_diagonal(&self, block_of: &dyn Fn(&str) -> String) -> Tensor {
        let mut labels: Vec<i64> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for (name, len) in &self.tensors {
            let block = block_of(name);
            let number = names.iter().position(|known| *known == block).unwrap_or_else(|| {
                names.push(block);
                names.len() - 1
            });
            labels.extend(std::iter::repeat_n(number as i64, *len as usize));
        }
        let labels = Tensor::from_slice(&labels);
        &self.h * labels.unsqueeze(0).eq_tensor(&labels.unsqueeze(1))
    }
}

fn layer(name: &str) -> String {
    match name.strip_prefix("model.layers.") {
        Some(rest) => format!("layers.{}", rest.split('.').next().unwrap()),
        None if name.contains("embed") => "embed".into(),
        None => "head".into(),
    }
}

fn kind(name: &str) -> String {
    let part = ["norm", "self_attn", "mlp"].into_iter().find(|part| name.contains(part));
    match part {
        Some("norm") => "norms",
        Some("self_attn") => "attention",
        Some(_) => "mlp",
        None => "embedding",
    }
    .into()
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.norm().double_value(&[])
}

/// Within five standard errors: there are a hundred estimates below.
#[track_caller]
fn within_errors(found: Estimate, expected: f64, what: &str) {
    assert_close(found.mean, expected, 5.0 * found.standard_error.unwrap(), what);
}

const EXACT: [&str; 12] = [
    "--dtype",
    "f64",
    "--difference",
    "central",
    "--steps",
    "10",
    "--block-method",
    "exact",
    "--block-vectors",
    "8",
    "--block-steps",
    "12",
];

/// What is the same by every way of computing it.
fn numbers(found: &BlockDiagonal) -> Vec<f64> {
    let along = found.gradient.unwrap();
    let whole =
        [found.relative_error, found.cosine, found.off_diagonal_share, along.relative_error, along.cosine];
    let of_block = |block: &BlockRecord| {
        let (trace, norm, share) = (block.trace, block.frobenius_norm.unwrap(), block.share.unwrap());
        let (max, min) = (block.lambda_max.unwrap(), block.lambda_min.unwrap());
        [trace.mean, trace.standard_error.unwrap(), norm.mean, share.mean, max.value, min.value]
    };
    whole.into_iter().map(|value| value.unwrap().mean).chain(found.blocks.iter().flat_map(of_block)).collect()
}

#[test]
fn blocks_by_layer_tensor_and_kind_are_those_of_the_dense_hessian_on_1_2_and_4_ranks() {
    let oracle = Oracle::new();
    let size = norm(&oracle.h);
    let case = case();
    type Naming = fn(&str) -> String;
    for (by, block_of) in [("layer", layer as Naming), ("tensor", str::to_owned), ("kind", kind)] {
        let report = |ranks| case.report(&[&EXACT[..], &["--blocks", by, "--ranks", ranks]].concat());
        let found = report("1").block_diagonal.unwrap();
        let mut names: Vec<&str> = found.blocks.iter().map(|block| block.name.as_str()).collect();
        let mut expected: Vec<String> = oracle.tensors.iter().map(|(name, _)| block_of(name)).collect();
        names.sort_unstable();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(names, expected, "{by}");

        let bd = oracle.block_diagonal(&block_of);
        let off = norm(&(&oracle.h - &bd)) / size;
        within_errors(found.relative_error.unwrap(), off, "relative error");
        within_errors(found.cosine.unwrap(), norm(&bd) / size, "cosine");
        within_errors(found.off_diagonal_share.unwrap(), off * off, "off-diagonal share");
        assert!(
            found.relative_error.unwrap().standard_error.unwrap() < 0.3 * off,
            "an error that says something"
        );
        let (whole, part) = (oracle.h.mv(&oracle.gradient), bd.mv(&oracle.gradient));
        let along = found.gradient.unwrap();
        let error = norm(&(&whole - &part)) / norm(&whole);
        assert_close(along.relative_error.unwrap().mean, error, 1e-6, "along the gradient");
        let cosine = whole.dot(&part).double_value(&[]) / (norm(&whole) * norm(&part));
        assert_close(along.cosine.unwrap().mean, cosine, 1e-6, "cosine there");
        for block in &found.blocks {
            let what = |quantity: &str| format!("{quantity} of {} by {by}", block.name);
            let indices = oracle.indices(&block_of, &block.name);
            let dense = oracle.h.index_select(0, &indices).index_select(1, &indices);
            assert_eq!(block.parameters, dense.size()[0] as u64);
            within_errors(block.trace, dense.trace().double_value(&[]), &what("trace"));
            within_errors(block.frobenius_norm.unwrap(), norm(&dense), &what("norm"));
            let values = eigenvalues(&dense);
            let (max, min) = (block.lambda_max.unwrap(), block.lambda_min.unwrap());
            for (found, exact) in [(max, values[values.len() - 1]), (min, values[0])] {
                // Nothing of the norm of the whole gets into a block.
                assert_close(found.value, exact, found.residual + 1e-8 * size, &what("an extreme"));
                assert!(found.residual < 0.1 * size, "{}: {found:?}", what("residual"));
            }
        }

        for ranks in ["2", "4"] {
            let other = report(ranks).block_diagonal.unwrap();
            assert_eq!((other.hvps, other.blocks.len()), (found.hvps, found.blocks.len()));
            for (a, b) in numbers(&found).into_iter().zip(numbers(&other)) {
                assert_close(b, a, 1e-6 * a.abs().max(1e-3 * size), &format!("by {by} on {ranks} ranks"));
            }
        }
    }
}

#[test]
fn draws_of_signs_agree_with_the_dense_hessian_and_blocks_can_be_named_by_patterns() {
    let oracle = Oracle::new();
    let case = case();
    let flags = [
        "--dtype",
        "f64",
        "--steps",
        "5",
        "--block-method",
        "stochastic",
        "--block-vectors",
        "16",
        "--block-draws",
        "6",
        "--block-steps",
        "0",
        "--block-pattern",
        "queries and keys=*.q_proj.*,*.k_proj.*",
        "--block-pattern",
        "rest of layers=model.layers.*",
    ];
    let found = case.report(&flags).block_diagonal.unwrap();
    let block_of = |name: &str| {
        let layers = name.starts_with("model.layers.");
        let heads = name.contains("q_proj") || name.contains("k_proj");
        if heads {
            "queries and keys"
        } else if layers {
            "rest of layers"
        } else {
            "other"
        }
        .to_owned()
    };
    let names: Vec<&str> = found.blocks.iter().map(|block| block.name.as_str()).collect();
    assert_eq!(names, ["other", "queries and keys", "rest of layers"]);
    assert_eq!((found.method.as_str(), found.vectors, found.draws), ("stochastic", 16, 6));
    assert!(found.blocks.iter().all(|block| block.spectrum.is_none()));
    let bd = oracle.block_diagonal(&block_of);
    let off = norm(&(&oracle.h - &bd)) / norm(&oracle.h);
    within_errors(found.relative_error.unwrap(), off, "relative error");
    assert!(found.draw_spread.unwrap() > 0.0);
}

#[test]
fn what_blocks_take_is_told_first_and_the_limit_is_kept() {
    let case = case();
    let flags = ["--dtype", "f64", "--steps", "6", "--blocks", "tensor"];
    let run = |more: &[&str]| {
        let output = case.command(&[&flags[..], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let note = text(&output.stderr).lines().find(|line| line.contains("to be spent")).unwrap().to_owned();
        let report = common::read_report(&case.path("report.json"));
        (note, text(&output.stdout), report.block_diagonal.unwrap())
    };
    let (note, _, whole) = run(&["--block-steps", "4"]);
    assert!(note.contains(&format!("{} Hessian-vector products for 21 blocks", whole.hvps)), "{note}");
    let (note, table, limited) = run(&["--max-hvps", "60"]);
    assert!(
        limited.hvps + limited.products.redone <= 60 && whole.hvps > 60,
        "{} {}",
        limited.hvps,
        whole.hvps
    );
    assert!(note.contains("left out for blocks.max_hvps"), "{note}");
    assert!(!limited.left_out.is_empty());
    for line in ["compared", "relative error", "cosine", "off-diagonal", "along gradient", "left out"] {
        assert!(table.lines().any(|shown| shown.starts_with(line)), "{line}: {table}");
    }
    // 21 tensors are more than a terminal should show.
    assert!(table.contains("and 9 more of smaller norm"), "{table}");
    let shown = common::program().arg("show").arg(case.path("report.json")).output().unwrap();
    let shown = text(&shown.stdout);
    let blocks = |table: &str| {
        let lines = table.lines().skip_while(|line| !line.starts_with("compared"));
        lines.take_while(|line| !line.starts_with("cost")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(blocks(&shown), blocks(&table), "show says the same");
}

#[test]
fn flags_for_blocks_that_cannot_be_honoured_are_named() {
    let case = case();
    for (flags, parts) in [
        (&["--max-hvps", "100"][..], &["--max-hvps", "there are no blocks"][..]),
        (&["--block-vectors", "3"], &["--block-vectors", "there are no blocks"]),
        (&["--blocks", "layer", "--max-hvps", "2"], &["blocks.max_hvps", "2 is less"]),
        (&["--blocks", "layer", "--block-draws", "1"], &["blocks.draws", "at least 2"]),
        (&["--blocks", "layer", "--block-pattern", "a=*"], &["blocks.patterns", "only one of the two"]),
        (&["--block-pattern", "a=*.no_such.*"], &["`*.no_such.*`", "matches no parameter"]),
        (&["--deflate", "2", "--reorthogonalize", "none"], &["slq.deflate", "needs all Lanczos vectors"]),
    ] {
        let message = case.error(flags);
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    }
}
