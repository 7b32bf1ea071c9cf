//! The page of `hessian-probe render` as a reader sees it: in real headless Chromium, of a real training with a probe.
//!
//! The browser is driven by `tests/python/browse_report.py`. On a machine without Chromium and its driver the test is
//! skipped, and says so; with HESSIAN_PROBE_REQUIRE_BROWSER=1 (as in `.ci/run`) it then fails.

mod common;
#[path = "../../tests/support/python.rs"]
mod python;

use common::{program, text};
use hessian_probe::log::{JSONL_FILE, Record, read_jsonl};
use hessian_probe::{Callback, HessianProbe, ProbeConfig, Snapshot};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Corpus, LlamaConfig, Trainer, TrainerConfig};
use python::python;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A block's name, which is in the configuration, too.
const HOSTILE: &str = "</script><b>\"bold\"</b>&{{data}}";

/// A program by the variable that may name it, and its names in PATH.
type Program = (&'static str, &'static [&'static str]);

const CHROMIUM: Program =
    ("HESSIAN_PROBE_CHROMIUM", &["chromium", "chromium-browser", "google-chrome", "chrome"]);
const DRIVER: Program = ("HESSIAN_PROBE_CHROMEDRIVER", &["chromedriver"]);

fn find((variable, names): Program) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|file| file.is_file()))
}

/// Chromium and its driver; `None` where they may be missing, and are.
fn browser() -> Option<[PathBuf; 2]> {
    if let (Some(chromium), Some(driver)) = (find(CHROMIUM), find(DRIVER)) {
        return Some([chromium, driver]);
    }
    let missing = "no Chromium with chromedriver (on Debian: apt install chromium chromium-driver)";
    let required = std::env::var_os("HESSIAN_PROBE_REQUIRE_BROWSER").is_some_and(|value| !value.is_empty());
    assert!(!required, "{missing}, and HESSIAN_PROBE_REQUIRE_BROWSER is set");
    // Not by eprintln!, which the harness would keep to itself.
    let line = format!("\nSKIPPED: the page of `hessian-probe render` is not looked at: {missing}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}

/// Trains a little with everything that a page can show; returns the snapshots.
fn train(directory: &Path) -> Vec<Snapshot> {
    tch::set_num_threads(1);
    let lines: String =
        (0..400).map(|i| format!("{} plus {} is {}\n", i % 7, i % 5, i % 7 + i % 5)).collect();
    let corpus = Corpus::from_bytes(lines.into_bytes(), 0.2).unwrap();
    let model = LlamaConfig { max_position_embeddings: 32, ..LlamaConfig::new(257, 16, 32, 2, 4) };
    let mut config = TrainerConfig::new(model, 4, 24);
    config.optimizer.lr = 3e-3;
    config.threads = Some(1);
    let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus).unwrap();
    trainer.probe_on_validation(4).unwrap();
    let config = format!(
        "[schedule]\nevery = 4\n[slq]\nsteps = 8\nprobes = 3\noperator = \"both\"\n\
         [blocks]\nvectors = 2\nspectrum_steps = 3\npatterns = [{{ name = {HOSTILE:?}, patterns = [\"*.mlp.*\"] }}]\n\
         [track]\nevery = 1\nproducts = 2\n[sharpness]\nevery = 1\n[directions]\ngradient = true\nupdate = true\n\
         [log]\ndir = {:?}\n",
        directory
    );
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&config).unwrap()).unwrap();
    trainer.run(13, &mut [&mut probe as &mut dyn Callback], |_| ()).unwrap();
    drop(probe);
    let records = read_jsonl(directory.join(JSONL_FILE)).unwrap().map(Result::unwrap);
    let snapshots = records.filter_map(|record| match record {
        Record::Snapshot(snapshot) => Some(*snapshot),
        _ => None,
    });
    snapshots.collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The luminance of `rgb(r, g, b)`, about.
fn brightness(color: &Value) -> f64 {
    let numbers = color.as_str().unwrap().split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    let rgb: Vec<f64> = numbers.take(3).collect();
    0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
}

/// `name value ± error` in a tip, which has four digits of the value and three of the error.
fn assert_told(tip: &str, name: &str, value: f64, error: f64) {
    let line = tip.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let (told, told_error) = with_error(line.unwrap_or_else(|| panic!("no {name} in {tip}")));
    assert!((told - value).abs() <= 1e-3 * value.abs(), "{tip}: {value}");
    assert!((told_error - error).abs() <= 1e-2 * error, "{tip}: ± {error}");
}

fn with_error(text: &str) -> (f64, f64) {
    let (value, error) = text.split_once(" ± ").unwrap_or_else(|| panic!("no error in {text}"));
    (value.parse().unwrap(), error.parse().unwrap())
}

/// Numbers at an axis of a drawing, with the pixel at which each stands: to the left of the area, or below it.
fn numbers(drawing: &Value, left: bool) -> Vec<(f64, f64)> {
    let edge = |of: &Value, name: &str| of[name].as_f64().unwrap();
    let area = &drawing["area"];
    let texts = drawing["texts"].as_array().unwrap().iter();
    let beside = texts.filter(|text| {
        if left {
            edge(text, "right") <= edge(area, "left")
        } else {
            edge(text, "top") >= edge(area, "bottom") - 1.0
        }
    });
    let (start, end) = if left { ("top", "bottom") } else { ("left", "right") };
    let middle = |text: &Value| 0.5 * (edge(text, start) + edge(text, end));
    let number = |text: &Value| text["text"].as_str()?.replace('−', "-").parse().ok();
    beside.filter_map(|text| Some((number(text)?, middle(text)))).collect()
}

/// The pixel of a value, by the two outermost of the numbers of an axis and what it should be: `of` a value grows evenly
/// along it. All numbers are there where they should be.
fn ruler<F: Fn(f64) -> f64>(numbers: &[(f64, f64)], of: F) -> impl Fn(f64) -> f64 + use<F> {
    let ends = |pick: fn(f64, f64) -> f64| {
        numbers.iter().copied().reduce(|a, b| if pick(a.0, b.0) == a.0 { a } else { b })
    };
    let (low, high) = (ends(f64::min).unwrap(), ends(f64::max).unwrap());
    let pixel =
        move |value: f64| low.1 + (of(value) - of(low.0)) / (of(high.0) - of(low.0)) * (high.1 - low.1);
    for &(value, place) in numbers {
        assert!((pixel(value) - place).abs() <= 2.0, "{value} stands at {place}, not {}", pixel(value));
    }
    pixel
}

/// Both figures of the density have a symmetric-logarithmic axis of eigenvalues; zone and band are where the numbers say.
fn assert_density(seen: &Value, snapshots: &[Snapshot]) {
    let mut floors: Vec<f64> = snapshots.iter().map(|snapshot| snapshot.unresolved.floor).collect();
    floors.sort_by(f64::total_cmp);
    // asinh(λ/2t): t is the median of the floors.
    let threshold = floors[(floors.len() - 1) / 2];
    let place = |value: f64| (value / (2.0 * threshold)).asinh();
    let [map, density] =
        ["heat_map", "density"].map(|name| &seen["drawings"][format!("figure-{name}").as_str()]);
    for (drawing, left) in [(map, true), (density, false)] {
        let numbers = numbers(drawing, left);
        let values: Vec<f64> = numbers.iter().map(|(value, _)| *value).collect();
        assert!(values.contains(&0.0) && values.iter().any(|value| *value < 0.0), "{values:?}");
        let positive = || values.iter().copied().filter(|value| *value > 0.0);
        let (least, most) = (positive().fold(f64::MAX, f64::min), positive().fold(0.0, f64::max));
        assert!(least < most, "{values:?}");
        let pixel = ruler(&numbers, place);
        let share = (pixel(least) - pixel(0.0)) / (pixel(most) - pixel(0.0));
        assert!(share > 3.0 * least / most, "{least} is at {share} of {most}, as on a linear axis");
    }
    let across = ruler(&numbers(density, false), place);
    let [zone] = &density["zone"].as_array().unwrap()[..] else { panic!("one zone: {}", density["zone"]) };
    let floor = snapshots[3].unresolved.floor;
    for (edge, value) in [("left", -floor), ("right", floor)] {
        let found = zone[edge].as_f64().unwrap();
        assert!(
            (found - across(value)).abs() <= 2.0,
            "the zone's {edge} is at {found}, not {}",
            across(value)
        );
    }
    assert!(
        seen["in_zone"].as_str().unwrap().ends_with("\nunresolved: the noise hides it"),
        "{}",
        seen["in_zone"]
    );
    // At the cursor, which is at the peak.
    let tip = seen["cursor"]["figure-density"].as_str().unwrap();
    let per_decade = tip.lines().nth(1).and_then(|line| line.strip_suffix(" per decade"));
    let (mean, error) = with_error(per_decade.unwrap_or_else(|| panic!("{tip}")));
    assert!(error > 0.0, "{tip}");
    let up = ruler(&numbers(density, true), f64::log10);
    let band: Vec<f64> = density["band"].as_array().unwrap().iter().map(|y| y.as_f64().unwrap()).collect();
    for (found, value) in band.iter().zip([mean + error, mean - error]) {
        assert!((found - up(value)).abs() <= 2.0, "the band ends at {found}, not {}: {tip}", up(value));
    }
}

#[test]
fn a_page_of_a_real_run_works_in_a_real_browser() {
    let Some([chromium, driver]) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let snapshots = train(&log);
    assert_eq!(snapshots.iter().map(|snapshot| snapshot.step).collect::<Vec<_>>(), [0, 4, 8, 12]);

    let rendered = program().arg("render").arg(&log).output().unwrap();
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    let page = log.join("report/report.html");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/browse_report.py");
    let screenshots = match std::env::var_os("HESSIAN_PROBE_SCREENSHOTS") {
        Some(kept) => kept.into(),
        None => directory.path().join("screenshots"),
    };
    let mut command = Command::new(python());
    let output = command.arg(script).arg(&page).arg(&screenshots).arg(chromium).arg(driver).output().unwrap();
    assert!(output.status.success(), "browse_report.py failed:\n{}", text(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    // Nothing is wrong, and nothing is loaded.
    assert_eq!(seen["console"], Value::Array(Vec::new()));
    assert_eq!(seen["requests"], Value::Array(Vec::new()));
    assert_eq!(seen["title"], "Hessian spectrum: log");
    assert_eq!(seen["heading"], seen["title"]);
    let names =
        ["heat_map", "density", "extremes", "trace", "stability"].map(|name| format!("figure-{name}"));
    assert_eq!(strings(&seen["figures"]), names);

    // What the log has is told, hostile names as they are.
    let body = seen["body"].as_str().unwrap();
    for part in
        [HOSTILE, "spectrum_steps = 3", "Diagonal blocks", "preconditioned λ_max", "uᵀHu/‖u‖²", "peak memory"]
    {
        assert!(body.contains(part), "{part} is not in\n{body}");
    }

    // The last step comes first; keys choose others, and everything follows.
    let state = |state: &Value, snapshot: &Snapshot| {
        let step = snapshot.step.to_string();
        assert_eq!((&state["step"], &state["range"]), (&step.clone().into(), &format!("step {step}").into()));
        let section = strings(&state["section"]);
        assert_eq!(section.len(), 1, "one step's numbers are seen");
        assert!(
            section[0].contains(&format!("{:.6}", snapshot.loss)),
            "{} not in {}",
            snapshot.loss,
            section[0]
        );
        assert!(strings(&state["here"])[0].starts_with(&step));
        state["curve"].as_str().unwrap().to_owned()
    };
    state(&seen["first"], &snapshots[3]);
    assert!(seen["tabs"].as_u64().is_some() && seen["tabs_to_figure"].as_u64().is_some());
    assert_ne!(seen["outline"], "none");
    assert_ne!(seen["figure_outline"], "none");
    let keys = seen["keys"].as_array().unwrap();
    let curves: Vec<String> =
        keys.iter().zip([2, 1, 0, 1, 3]).map(|(found, index)| state(found, &snapshots[index])).collect();
    assert_eq!(curves[1], curves[3]);
    assert!(curves[0] != curves[1] && curves[1] != curves[2] && curves[2] != curves[4]);

    // Under the pointer, and at the cursor of a figure that has the focus.
    let hover = &seen["hover"];
    assert!(hover["figure-density"].as_str().unwrap().starts_with("λ = "), "{hover}");
    assert!(hover["figure-density"].as_str().unwrap().contains(" per decade"), "{hover}");
    assert!(hover["figure-heat_map"].as_str().unwrap().starts_with("step 8, λ = "), "{hover}");
    let extremes = hover["figure-extremes"].as_str().unwrap();
    assert!(extremes.starts_with("step ") && extremes.contains('±'), "{extremes}");
    assert!(hover["figure-trace"].as_str().unwrap().starts_with("step 8\ntrace "), "{hover}");
    assert!(hover["figure-stability"].as_str().unwrap().contains("step ratio"), "{hover}");
    assert_eq!(seen["tips_at_once"], 1);
    let last = &snapshots[3];
    let tip = |name: &str| seen["cursor"][name].as_str().unwrap();
    for (name, extreme) in [("λ_max", last.lambda_max), ("λ_min", last.lambda_min)] {
        assert_told(tip("figure-extremes"), name, extreme.value, extreme.residual);
    }
    assert_told(tip("figure-trace"), "trace", last.trace.mean, last.trace.standard_error.unwrap());
    assert_density(&seen, &snapshots);
    assert_eq!(seen["focused"], "figure-heat_map");
    let told = strings(&seen["told"]);
    assert!(told[0].starts_with("step 12, λ = ") && told[1].starts_with("step 8, λ = "), "{told:?}");
    assert!(told[2].starts_with("step 8, λ = ") && told[2] != told[1] && told[3].is_empty(), "{told:?}");
    state(&seen["after_figure_keys"], &snapshots[2]);
    assert!(seen["clicked"] == "4" || seen["clicked"] == "8", "{}", seen["clicked"]);

    // Light, dark, and as wide as a phone.
    let (light, dark, phone) = (&seen["light"], &seen["dark"], &seen["phone"]);
    assert!(brightness(&light["background"]) > 200.0 && brightness(&light["ink"]) < 80.0, "{light}");
    assert!(brightness(&dark["background"]) < 50.0 && brightness(&dark["ink"]) > 180.0, "{dark}");
    assert!(brightness(&dark["figure"]) < 60.0 && brightness(&dark["text"]) > 180.0, "figures, too: {dark}");
    for layout in [light, dark, phone] {
        assert_eq!(layout["scroll"], layout["client"], "nothing is wider than the page");
    }
    assert_eq!(phone["client"], 375);
    assert_eq!(strings(&seen["phone_drawings"]), vec!["drawing narrow"; names.len()]);
    let height = seen["phone_text"].as_f64().unwrap();
    assert!(height >= 10.0, "{height} pixels are not read");
    assert!(seen["phone_hover"].as_str().unwrap().starts_with("λ = "), "{}", seen["phone_hover"]);

    // Without a script: figures, the numbers of a step, the table of all.
    let plain = &seen["plain"];
    assert_eq!(plain[".wide svg"], names.len());
    assert_eq!((&plain["section.step:not([hidden])"], &plain[".chooser[hidden]"]), (&1.into(), &1.into()));
    assert_eq!(plain[".course tbody tr"], 4);
    for part in ["zone", "band"] {
        let drawn = &plain[format!("#figure-density .wide [fill='var(--{part})']").as_str()];
        assert!(drawn.as_u64().is_some_and(|drawn| drawn >= 1), "no {part}: {plain}");
    }
}

/// Otherwise it would install one beside the one that is there.
#[test]
fn ci_looks_for_a_browser_where_this_test_does() {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/run");
    let ci = std::fs::read_to_string(ci).unwrap();
    for (variable, names) in [CHROMIUM, DRIVER] {
        let looks = format!("[ -n \"${{{variable}:-}}\" ] || present {};", names.join(" "));
        assert!(ci.contains(&looks), ".ci/run has no `{looks}`");
    }
}
