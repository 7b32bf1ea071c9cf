//! What `LogWriter` writes is what TensorBoard reads: every record, every value.
//!
//! The reader is the real `tensorboard` package, run by `tests/python/read_events.py`.

mod support;

#[path = "tensorboard/sgd.rs"]
mod sgd;

use hessian_probe::Snapshot;
use hessian_probe::config::{LogConfig, ProbeConfig};
use hessian_probe::log::tensorboard::SymlogAxis;
use hessian_probe::log::{JSONL_FILE, LogWriter, Record, Session, Skipped, drop_orphans, read_jsonl};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::tracking::Tracked;
use hessian_probe::triggers::{Cause, Recent, Triggered};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const PARAMETERS: u64 = 124_000_000;

fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("HESSIAN_PROBE_PYTHON") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(
        path.exists(),
        "this test needs a Python with the `tensorboard` package: run `cargo xtask test`, which makes \
         one in `.venv`, or let HESSIAN_PROBE_PYTHON name one"
    );
    path
}

/// What TensorBoard finds in a directory.
fn read_events(dir: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_events.py");
    let output = Command::new(python()).arg(script).arg(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "read_events.py failed:\n{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn write(dir: &Path, records: &[Record]) {
    let config = LogConfig { dir: dir.to_owned(), ..LogConfig::default() };
    let writer = LogWriter::open(&config).unwrap();
    for record in records {
        assert!(writer.log(record.clone()));
    }
    writer.flush(std::time::Duration::from_secs(60)).unwrap();
}

fn session(start_step: u64) -> Record {
    let config = ProbeConfig::default().to_toml();
    Record::Session(Session { start_step, world_size: 2, parameters: PARAMETERS, config })
}

fn snapshot(step: u64) -> Record {
    Record::Snapshot(Box::new(support::snapshot(step, PARAMETERS, 3)))
}

fn with_blocks(step: u64) -> Record {
    let mut snapshot = support::with_optimizer(support::snapshot(step, PARAMETERS, 3));
    snapshot.block_diagonal = Some(support::block_diagonal());
    Record::Snapshot(Box::new(snapshot))
}

fn skipped(step: u64) -> Record {
    Record::Skipped(Skipped { step, reason: format!("the loss at step {step} is `NaN`") })
}

fn snapshots(records: &[Record]) -> impl Iterator<Item = &Snapshot> {
    records.iter().filter_map(|record| match record {
        Record::Snapshot(snapshot) => Some(&**snapshot),
        _ => None,
    })
}

/// Every scalar that a snapshot should give, spelled out once more.
fn expected_scalars(s: &Snapshot) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let mut put = |tag: &str, value: f64| assert!(all.insert(tag.to_owned(), value).is_none(), "{tag}");
    for (name, e) in [("lambda_max", s.lambda_max), ("lambda_min", s.lambda_min)] {
        put(&format!("curvature/{name}"), e.value);
        put(&format!("curvature_error/{name}"), e.residual);
        put(&format!("curvature_error/{name}/lanczos"), e.lanczos_residual);
        put(&format!("curvature_error/{name}/hvp"), e.hvp_error);
        put(&format!("curvature_band/{name}/lower"), e.value - e.residual);
        put(&format!("curvature_band/{name}/upper"), e.value + e.residual);
    }
    for (name, e) in [
        ("trace", Some(s.trace)),
        ("mean_eigenvalue", Some(s.mean_eigenvalue)),
        ("frobenius_norm", Some(s.frobenius_norm)),
        ("negative_share", Some(s.negative_share)),
        ("negative_share_resolved", Some(s.negative_share_resolved)),
        ("effective_rank", s.effective_rank),
        ("stable_rank", s.stable_rank),
        ("spectral_entropy", s.spectral_entropy),
        ("unresolved_mass", Some(s.unresolved.mass)),
    ] {
        let Some(e) = e else { continue };
        put(&format!("curvature/{name}"), e.mean);
        if let Some(error) = e.standard_error {
            put(&format!("curvature_error/{name}"), error);
        }
        put(&format!("curvature_band/{name}/lower"), e.mean - e.standard_error.unwrap_or(0.0));
        put(&format!("curvature_band/{name}/upper"), e.mean + e.standard_error.unwrap_or(0.0));
    }
    put("curvature/loss", s.loss);
    put("curvature/gradient_norm", s.gradient_norm);
    put("curvature/parameter_norm", s.parameter_norm);
    put("curvature/unresolved_floor", s.unresolved.floor);
    put("probe/hvp_relative_error_worst", s.hvp.predicted_error_worst);
    put("probe/hvp_relative_error_median", s.hvp.predicted_error_median);
    put("probe/parity_ratio_worst", s.hvp.parity_worst);
    put("probe/parity_ratio_median", s.hvp.parity_median);
    put("probe/rounding_worst", s.hvp.rounding_worst);
    put("probe/step_min", s.hvp.step_min);
    put("probe/step_max", s.hvp.step_max);
    put("probe/forward_products", s.hvp.forward as f64);
    put("probe/central_products", s.hvp.central as f64);
    put("probe/fourth_order_products", s.hvp.central4 as f64);
    put("probe/exact_products", s.hvp.exact as f64);
    if let Some(asymmetry) = s.hvp.asymmetry {
        put("probe/asymmetry", asymmetry);
    }
    if let Some(defect) = s.probes.iter().filter_map(|p| p.orthogonality_defect).reduce(f64::max) {
        put("probe/orthogonality_defect", defect);
    }
    put("probe/warnings", s.warnings.len() as f64);
    put("probe/redone", s.hvp.redone as f64);
    put("probe/gradient_noise", s.hvp.gradient_noise);
    if let Some(repeats) = s.hvp.gradient_repeats {
        put("probe/gradient_repeats", f64::from(u8::from(repeats)));
    }
    put("probe/exhausted", s.probes.iter().filter(|p| p.breakdown.is_some()).count() as f64);
    if let Some(tokens) = s.tokens {
        put("probe/tokens", tokens as f64);
    }
    put("probe/seconds", s.cost.seconds);
    put("probe/gradient_seconds", s.cost.gradient_seconds);
    put("probe/communication_seconds", s.cost.communication_seconds);
    for (name, seconds) in s.cost.parts.named() {
        put(&format!("probe_seconds/{name}"), seconds);
    }
    put("probe/gradients", s.cost.gradients as f64);
    put("probe/calibration_gradients", s.cost.calibration_gradients as f64);
    put("probe/all_reduces", s.cost.all_reduces as f64);
    put("probe/reduced_values", s.cost.reduced_values as f64);
    put("probe/basis_bytes", s.cost.basis_bytes as f64);
    put("probe/vector_bytes", s.cost.vector_bytes as f64);
    put("probe/peak_memory_bytes", s.cost.peak_memory_bytes.unwrap() as f64);
    if let Some(seen) = &s.preconditioned {
        for (name, e) in [("lambda_max", seen.lambda_max), ("lambda_min", seen.lambda_min)] {
            put(&format!("preconditioned/{name}"), e.value);
            put(&format!("preconditioned_error/{name}"), e.residual);
            put(&format!("preconditioned_band/{name}/lower"), e.value - e.residual);
            put(&format!("preconditioned_band/{name}/upper"), e.value + e.residual);
        }
        put("preconditioned/moved", seen.moved as f64);
        put("stability/margin", seen.stability.margin.unwrap());
        put("stability/threshold", seen.stability.threshold.unwrap());
        put("stability/learning_rate", seen.stability.learning_rate);
    }
    if let Some(directions) = &s.directions {
        let (gradient, update) = (directions.gradient.unwrap(), directions.update.unwrap());
        put("directions/gradient/curvature", gradient.curvature);
        put("directions/gradient/error", gradient.error);
        put("directions/update/curvature", update.along.curvature);
        put("directions/update/error", update.along.error);
        put("directions/update/norm", update.along.norm);
        put("directions/update/predicted_change", update.predicted_change);
        put("directions/update/measured_change", update.measured_change);
    }
    if let Some(blocks) = &s.block_diagonal {
        let gradient = blocks.gradient.unwrap();
        for (name, e) in [
            ("relative_error", blocks.relative_error),
            ("cosine", blocks.cosine),
            ("off_diagonal_share", blocks.off_diagonal_share),
            ("gradient/relative_error", gradient.relative_error),
            ("gradient/cosine", gradient.cosine),
        ] {
            let Some(e) = e else { continue };
            put(&format!("blocks/{name}"), e.mean);
            if let Some(error) = e.standard_error {
                put(&format!("blocks_error/{name}"), error);
            }
            put(&format!("blocks_band/{name}/lower"), e.mean - e.standard_error.unwrap_or(0.0));
            put(&format!("blocks_band/{name}/upper"), e.mean + e.standard_error.unwrap_or(0.0));
        }
        put("blocks/predicted_error", blocks.predicted_error);
        put("blocks/hvps", blocks.hvps as f64);
        if let Some(spread) = blocks.draw_spread {
            put("blocks/draw_spread", spread);
        }
        for block in &blocks.blocks {
            for (what, e) in [
                ("trace", Some(block.trace)),
                ("frobenius_norm", block.frobenius_norm),
                ("share", block.share),
                ("trace_share", block.trace_share),
            ] {
                let Some(e) = e else { continue };
                put(&format!("blocks/{}/{what}", block.name), e.mean);
                if let Some(error) = e.standard_error {
                    put(&format!("blocks_error/{}/{what}", block.name), error);
                }
            }
            for (what, e) in [("lambda_max", block.lambda_max), ("lambda_min", block.lambda_min)] {
                let Some(e) = e else { continue };
                put(&format!("blocks/{}/{what}", block.name), e.value);
                put(&format!("blocks_error/{}/{what}", block.name), e.residual);
            }
        }
    }
    all.retain(|_, value| (*value as f32).is_finite());
    all
}

/// The bits of a scalar as TensorBoard shows it: 32 bits.
fn bits(value: f64) -> u64 {
    f64::from(value as f32).to_bits()
}

fn assert_scalars(values: &[Value], snapshot: &Snapshot) {
    let read: BTreeMap<String, u64> = values
        .iter()
        .filter(|value| value["plugin"] == "scalars")
        .map(|value| (value["tag"].as_str().unwrap().to_owned(), bits(value["value"].as_f64().unwrap())))
        .collect();
    let expected: BTreeMap<String, u64> =
        expected_scalars(snapshot).into_iter().map(|(tag, value)| (tag, bits(value))).collect();
    assert_eq!(read, expected, "step {}", snapshot.step);
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn value<'a>(values: &'a [Value], tag: &str) -> &'a Value {
    values.iter().find(|value| value["tag"] == tag).unwrap_or_else(|| panic!("no {tag}"))
}

/// It is what it says, and more than paper.
fn assert_image(value: &Value) {
    assert_eq!((&value["plugin"], value["data_class"].as_u64()), (&"images".into(), Some(3)));
    let image = &value["value"];
    assert_eq!(image["said"], image["size"]);
    let wide = image["size"][0].as_u64().is_some_and(|width| width > 500);
    assert!(wide && image["colors"].as_u64().is_some_and(|colors| colors >= 4), "{image}");
}

#[test]
fn tensorboard_reads_every_record_and_every_value() {
    let dir = tempfile::tempdir().unwrap();
    let mut odd = support::snapshot(30, PARAMETERS, 1);
    odd.stable_rank = None;
    odd.tokens = None;
    odd.hvp.parity_worst = 1e300;
    odd.hvp.gradient_repeats = Some(false);
    let mut blocks = support::block_diagonal();
    blocks.cosine = None;
    blocks.draw_spread = None;
    blocks.blocks[0].share = None;
    blocks.blocks[1].trace.standard_error = None;
    blocks.blocks[1].lambda_max = None;
    odd.block_diagonal = Some(blocks);
    let tracked = Record::Tracked(Tracked {
        step: 35,
        unix_time: 1_750_000_035.5,
        loss: 2.5,
        gradient_norm: 1.25,
        lambda_max: snapshots(&[snapshot(10)]).next().unwrap().lambda_max,
        overlap: None,
        gradient_overlap: Some(0.125),
        stability: None,
        operator: hessian_probe::config::SpectrumOf::Hessian,
        gradients: 5,
        seconds: 0.5,
    });
    let sharpness = Record::Sharpness(CriticalSharpness {
        step: 36,
        unix_time: 1_750_000_036.5,
        coming: true,
        loss: 2.375,
        update_norm: 0.0625,
        multiple: Some(3.1),
        error: None,
        lower: Some(3.0),
        upper: Some(3.2),
        step_ratio: Some(1.0 / 3.1),
        learning_rate: Some(1e-3),
        sharpness: Some(2.0 / 3.1e-3),
        realised: 1.0,
        passes: 6,
        seconds: 0.25,
        share: Some(0.04),
    });
    let triggered = Record::Triggered(Triggered {
        step: 38,
        unix_time: 1_750_000_038.5,
        causes: vec![
            Cause::LossSpike { loss: Some(4.5), score: Some(9.5), median: 2.5, deviation: 0.2 },
            Cause::File { path: "probe-now".into() },
        ],
        recent: vec![Recent { step: 38, loss: Some(4.5), ..Recent::default() }],
    });
    let records = [
        session(0),
        with_blocks(0),
        snapshot(10),
        skipped(20),
        Record::Snapshot(Box::new(odd)),
        tracked,
        sharpness,
        triggered,
        skipped(40),
    ];
    write(dir.path(), &records);

    let read = read_events(dir.path());
    let [file] = &read["files"].as_array().unwrap()[..] else { panic!("{:?}", read["files"]) };
    let events = file["events"].as_array().unwrap();
    // The file's version, two for the session, one for each record after it.
    assert_eq!((file["records"].as_u64(), file["torn"].as_bool()), (Some(11), Some(false)));
    assert_eq!(events.len(), 11);
    assert_eq!(events[0]["file_version"], "brain.Event:2");
    assert_eq!((&events[1]["status"], events[1]["step"].as_u64()), (&"START".into(), Some(0)));
    for (event, record) in events[3..].iter().zip(&records[1..]) {
        let values = event["values"].as_array().unwrap();
        match record {
            Record::Snapshot(snapshot) => {
                assert_eq!(event["step"], snapshot.step);
                assert_eq!(event["wall_time"], snapshot.unix_time);
                assert_scalars(values, snapshot);
                let images = 1 + usize::from(snapshot.step > 0);
                let more = "two histograms, the density, and from the second probe on a heat map";
                assert_eq!(values.len(), expected_scalars(snapshot).len() + 2 + images, "{more}");
                assert_image(value(values, "spectrum/density_plot"));
                if snapshot.step > 0 {
                    assert_image(value(values, "spectrum/heat_map"));
                }
            }
            Record::Tracked(tracked) => {
                assert_eq!(
                    (&event["step"], &event["wall_time"]),
                    (&tracked.step.into(), &tracked.unix_time.into())
                );
                let read = |tag: &str| value(values, tag)["value"].as_f64().map(bits);
                assert_eq!(read("track/lambda_max"), Some(bits(tracked.lambda_max.value)));
                assert_eq!(read("track/lambda_max_residual"), Some(bits(tracked.lambda_max.residual)));
                assert_eq!(read("track/gradient_overlap"), Some(bits(0.125)));
                assert_eq!((read("track/loss"), read("track/seconds")), (Some(bits(2.5)), Some(bits(0.5))));
                assert_eq!(values.len(), 5, "an overlap that is not known is not written");
            }
            Record::Sharpness(found) => {
                assert_eq!(
                    (&event["step"], &event["wall_time"]),
                    (&found.step.into(), &found.unix_time.into())
                );
                let read = |tag: &str| value(values, tag)["value"].as_f64();
                for (tag, expected) in [
                    ("sharpness/critical", found.sharpness),
                    ("sharpness/multiple", found.multiple),
                    ("sharpness/step_ratio", found.step_ratio),
                    ("sharpness/update_norm", Some(found.update_norm)),
                    ("sharpness/loss", Some(found.loss)),
                    ("sharpness/passes", Some(6.0)),
                    ("sharpness/seconds", Some(found.seconds)),
                    ("sharpness/share", found.share),
                ] {
                    assert_eq!(read(tag).map(bits), expected.map(bits), "{tag}");
                }
                assert_eq!(values.len(), 8, "an error that is not known is not written");
            }
            Record::Triggered(triggered) => {
                assert_eq!(event["step"], triggered.step);
                let text = value(values, "probe/triggered")["value"].as_str().unwrap();
                assert!(text.contains("9.5 robust") && text.contains("probe-now"), "{text}");
                assert_eq!(values.len(), 1);
            }
            Record::Skipped(skipped) => {
                assert_eq!(event["step"], skipped.step);
                let text = value(values, "probe/skipped")["value"].as_str().unwrap();
                assert!(text.contains(&skipped.reason), "{text}");
                assert_eq!(values.len(), 1);
            }
            _ => unreachable!(),
        }
    }
    // Every tag tells what it means, where TensorBoard looks for it: at its first value.
    for value in events[3]["values"].as_array().unwrap() {
        assert!(!value["description"].as_str().unwrap().is_empty(), "{value}");
        assert!(value["data_class"].as_u64().unwrap() > 0, "{value}");
    }
}

#[test]
fn images_are_drawn_only_where_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { dir: dir.path().to_owned(), plots: false, ..LogConfig::default() };
    let writer = LogWriter::open(&config).unwrap();
    [session(0), snapshot(0), snapshot(10)].into_iter().for_each(|record| assert!(writer.log(record)));
    drop(writer);
    let read = read_events(dir.path());
    let tags: Vec<&String> = read["run"]["tensors"].as_object().unwrap().keys().collect();
    assert!(tags.iter().any(|tag| *tag == "spectrum/density"), "{tags:?}");
    assert!(!tags.iter().any(|tag| tag.contains("plot") || tag.contains("heat_map")), "{tags:?}");
}

#[test]
fn tensorboard_reads_every_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let records = [session(0), snapshot(0), snapshot(10), snapshot(20)];
    write(dir.path(), &records);
    let read = read_events(dir.path());
    let axis = SymlogAxis::of_snapshot(snapshots(&records).next().unwrap()).unwrap();
    let events = read["files"][0]["events"].as_array().unwrap();
    for (i, snapshot) in snapshots(&records).enumerate() {
        let raw = &read["histograms"]["spectrum/density"][i];
        assert_eq!(raw["step"], snapshot.step);
        assert_eq!(raw["wall_time"], snapshot.unix_time);
        let (limits, counts) = (floats(&raw["bucket_limit"]), floats(&raw["bucket"]));

        // A second computation, by sampling each kernel instead of integrating it.
        let first_edge = raw["min"].as_f64().unwrap();
        let mut sampled = vec![0.0; counts.len()];
        for probe in &snapshot.probes {
            for ((node, error), weight) in probe.nodes.iter().zip(&probe.hvp_errors).zip(&probe.weights) {
                let low = axis.position(node - error) - 0.25;
                let high = axis.position(node + error) + 0.25;
                let samples = 20_000;
                for k in 0..samples {
                    let u = -1.0 + (2.0 * f64::from(k) + 1.0) / f64::from(samples);
                    let x = low + (high - low) * (u + 1.0) / 2.0;
                    let bucket = (((x - first_edge) * 10.0).floor() as usize).min(counts.len() - 1);
                    let mass = 1.5 * (1.0 - u * u) / f64::from(samples);
                    sampled[bucket] += snapshot.parameters as f64 / 3.0 * weight * mass;
                }
            }
        }
        for ((limit, count), sampled) in limits.iter().zip(&counts).zip(&sampled) {
            assert!(
                (count - sampled).abs() < 1e-3 * PARAMETERS as f64 / 100.0 + 1e-3 * count,
                "step {} below {limit}: {count} {sampled}",
                snapshot.step
            );
            assert_eq!(*limit, (limit * 10.0).round() / 10.0, "edges are tenths at every step");
        }
        let total: f64 = counts.iter().sum();
        assert!((total / PARAMETERS as f64 - 1.0).abs() < 1e-12, "{total}");
        assert_eq!(raw["num"], total);

        // What the dashboards show: (left, right, count), in 32 bits.
        let values = events[3 + i]["values"].as_array().unwrap();
        let shown = value(values, "spectrum/density");
        assert_eq!(shown["plugin"], "histograms");
        let shown: Vec<Vec<f64>> = shown["value"].as_array().unwrap().iter().map(floats).collect();
        let mut left = first_edge;
        assert_eq!(shown.len(), counts.len());
        for ((row, limit), count) in shown.iter().zip(&limits).zip(&counts) {
            let row: Vec<u64> = row.iter().copied().map(bits).collect();
            assert_eq!(row, [bits(left), bits(*limit), bits(*count)]);
            left = *limit;
        }

        let tall = &read["histograms"]["spectrum/log_density"][i];
        assert_eq!(floats(&tall["bucket_limit"]), limits);
        for (height, count) in floats(&tall["bucket"]).iter().zip(&counts) {
            assert!((height - (1.0 + count / 0.01).log10()).abs() < 1e-12 * height.max(1.0));
        }
    }
    let description =
        value(events[3]["values"].as_array().unwrap(), "spectrum/density")["description"].as_str().unwrap();
    assert!(description.contains(&format!("{:e}", axis.threshold())), "{description}");
}

#[test]
fn tensorboard_draws_the_layout_and_shows_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[session(0), snapshot(0)]);
    let read = read_events(dir.path());
    let values = read["files"][0]["events"][2]["values"].as_array().unwrap();
    assert_eq!(value(values, "custom_scalars__config__")["plugin"], "custom_scalars");
    let config = value(values, "probe/config");
    assert_eq!(config["plugin"], "text");
    let text = config["value"].as_str().unwrap();
    let toml = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(ProbeConfig::from_toml_str(toml).unwrap(), ProbeConfig::default());
    assert!(text.contains("124000000 parameters on 2 ranks"), "{text}");

    let layout = value(values, "custom_scalars__config__")["value"].as_array().unwrap();
    let titles: Vec<&str> = layout.iter().map(|category| category["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Curvature", "Trust", "Cost"]);
    // The one that TensorBoard draws first: it goes through a category from the end.
    let first = layout[0]["charts"].as_array().unwrap().last().unwrap();
    assert_eq!(first["title"], "largest eigenvalue ± residual");
    assert_eq!(
        first["margin"][0],
        serde_json::json!([
            "curvature/lambda_max",
            "curvature_band/lambda_max/lower",
            "curvature_band/lambda_max/upper"
        ])
    );
    let charts: usize = layout.iter().map(|category| category["charts"].as_array().unwrap().len()).sum();
    assert_eq!(charts, 18);
    // Asked for each tag of the layout, the plugin finds it and, where a chart draws what matches, no other.
    let drawn = read["run"]["drawn"].as_object().unwrap();
    assert!(drawn.len() > 40, "{}", drawn.len());
    for (tag, found) in drawn {
        match tag.strip_prefix('^').and_then(|tag| tag.strip_suffix('$')) {
            Some(tag) => assert_eq!(*found, serde_json::json!([tag])),
            None => assert!(found.as_array().unwrap().contains(&tag.as_str().into()), "{tag}: {found}"),
        }
    }
}

#[test]
fn tensorboard_draws_the_charts_of_blocks_and_of_the_optimizer_where_they_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        ProbeConfig::from_toml_str("[blocks]\nby = \"layer\"\n[slq]\noperator = \"both\"").unwrap().to_toml();
    let session = Record::Session(Session { start_step: 0, world_size: 2, parameters: PARAMETERS, config });
    write(dir.path(), &[session, with_blocks(0)]);
    let read = read_events(dir.path());
    let values = read["files"][0]["events"][2]["values"].as_array().unwrap();
    let layout = value(values, "custom_scalars__config__")["value"].as_array().unwrap();
    let titles: Vec<&str> = layout.iter().map(|category| category["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Curvature", "Trust", "Cost", "Stability", "Blocks"]);
    assert_eq!(layout[3]["charts"].as_array().unwrap().len(), 5);
    assert_eq!(layout[4]["charts"].as_array().unwrap().len(), 9);
    // Of a quantity of all blocks a chart draws those of each, and nothing else.
    let drawn = read["run"]["drawn"].as_object().unwrap();
    for what in ["share", "trace", "lambda_max", "lambda_min"] {
        let mut found: Vec<&str> = drawn[&format!("^blocks/.+/{what}$")]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag.as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, [format!("blocks/layers.0/{what}"), format!("blocks/other things/{what}")]);
    }
    for name in ["relative_error", "cosine", "off_diagonal_share", "gradient/relative_error"] {
        for tag in [format!("blocks/{name}"), format!("blocks_band/{name}/upper")] {
            assert!(drawn[&tag].as_array().unwrap().contains(&tag.as_str().into()), "{tag}");
        }
    }
}

#[test]
fn a_resumed_run_shows_each_step_once_even_after_a_crash_amid_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let interrupted = [session(0), snapshot(0), snapshot(10), skipped(20), snapshot(30), snapshot(40)];
    write(dir.path(), &interrupted);
    // The process died while it wrote the next record to either file.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let mut file = std::fs::OpenOptions::new().append(true).open(entry.unwrap().path()).unwrap();
        file.write_all(b"{\"record\":\"snap").unwrap();
    }
    let mut wider = support::snapshot(20, PARAMETERS, 3);
    wider.lambda_max.value *= 1000.0;
    wider.loss = 123.0;
    let resumed = [session(20), Record::Snapshot(Box::new(wider)), snapshot(30)];
    write(dir.path(), &resumed);

    let read = read_events(dir.path());
    let files = read["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(files.iter().map(|file| &file["torn"]).collect::<Vec<_>>(), [true, false]);
    assert_eq!(files[0]["records"].as_u64(), Some(8));
    assert_eq!(files[1]["records"].as_u64(), Some(5));

    let tensors = &read["run"]["tensors"];
    let series = |tag: &str| -> Vec<(u64, Value)> {
        tensors[tag]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| (point[0].as_u64().unwrap(), point[1].clone()))
            .collect()
    };
    let losses: Vec<(u64, u64)> =
        series("curvature/loss").iter().map(|(step, loss)| (*step, bits(loss.as_f64().unwrap()))).collect();
    let expected: Vec<(u64, u64)> = [&interrupted[1..3], &resumed[1..]]
        .concat()
        .iter()
        .flat_map(|record| {
            snapshots(std::slice::from_ref(record)).map(|s| (s.step, bits(s.loss))).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(losses, expected, "steps from 20 on are the resumed run's");
    let steps = |tag| series(tag).iter().map(|point| point.0).collect::<Vec<_>>();
    assert_eq!(steps("spectrum/density"), [0, 10, 20, 30]);
    assert_eq!(steps("spectrum/density_plot"), [0, 10, 20, 30]);
    assert_eq!(
        steps("spectrum/heat_map"),
        [10, 20, 30],
        "two steps make a map, those of sessions before included"
    );
    assert_eq!(steps("probe/config"), [0, 20]);
    assert_eq!(steps("probe/skipped"), [0; 0], "the probe that failed at step 20 was done again");

    // JSON lines tell the same story.
    let records: Vec<Record> = read_jsonl(dir.path().join(JSONL_FILE)).unwrap().map(Result::unwrap).collect();
    assert_eq!(records, [&interrupted[..], &resumed[..]].concat());
    let kept: Vec<u64> = snapshots(&drop_orphans(records)).map(|snapshot| snapshot.step).collect();
    assert_eq!(kept, [0, 10, 20, 30]);

    // Both sessions drew their histograms on the axis of the first snapshot.
    let axis = SymlogAxis::of_snapshot(snapshots(&interrupted).next().unwrap()).unwrap();
    let description =
        |event: &Value| value(event["values"].as_array().unwrap(), "spectrum/density")["description"].clone();
    let (first, second) = (description(&files[0]["events"][3]), description(&files[1]["events"][3]));
    assert_eq!(first, second);
    assert!(first.as_str().unwrap().contains(&format!("{:e}", axis.threshold())));
}
