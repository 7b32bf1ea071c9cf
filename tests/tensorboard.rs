//! What `LogWriter` writes is what TensorBoard reads: every record, every value.
//!
//! The reader is the real `tensorboard` package, run by `tests/python/read_events.py`.

#[path = "tensorboard/charts.rs"]
mod charts;
#[path = "tensorboard/expected.rs"]
mod expected;
#[path = "support/python.rs"]
mod python;
#[path = "tensorboard/resumed.rs"]
mod resumed;
#[path = "tensorboard/sgd.rs"]
mod sgd;
mod support;

use expected::{assert_scalars, bits, expected_scalars};
use hessian_probe::Snapshot;
use hessian_probe::config::{LogConfig, ProbeConfig};
use hessian_probe::log::tensorboard::SymlogAxis;
use hessian_probe::log::{LogWriter, Record, Session, Skipped};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::tracking::Tracked;
use hessian_probe::triggers::{Cause, Recent, Triggered};
use python::python;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const PARAMETERS: u64 = 124_000_000;

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
                let spectra = snapshot.block_diagonal.iter().flat_map(|found| &found.blocks);
                let spectra = spectra.filter(|block| block.spectrum.is_some()).count();
                let more = "two histograms and one of each block, the density, and from the second probe on a heat map";
                assert_eq!(values.len(), expected_scalars(snapshot).len() + 2 + spectra + images, "{more}");
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
fn spectra_of_blocks_are_histograms_on_the_axis_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    // The block has the whole's only Lanczos run, and its share of the eigenvalues.
    let mut whole = support::snapshot(0, PARAMETERS, 1);
    let mut blocks = support::block_diagonal();
    blocks.blocks[0].spectrum = Some(whole.probes[0].clone());
    blocks.blocks[0].parameters = PARAMETERS / 4;
    whole.block_diagonal = Some(blocks);
    write(dir.path(), &[session(0), Record::Snapshot(Box::new(whole))]);
    let read = read_events(dir.path());
    let histogram = |tag: &str| {
        let raw = &read["histograms"][tag][0];
        (floats(&raw["bucket_limit"]), floats(&raw["bucket"]))
    };
    let (limits, counts) = histogram("spectrum/density");
    let (own_limits, heights) = histogram("blocks/layers.0/log_density");
    assert_eq!(own_limits, limits);
    for (height, count) in heights.iter().zip(&counts) {
        assert!((height - (1.0 + count / 4.0 / 0.01).log10()).abs() < 1e-9 * height.max(1.0));
    }
    assert!(heights.iter().any(|height| *height > 1.0));
    assert!(read["histograms"].get("blocks/other things/log_density").is_none(), "it has no spectrum");
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
