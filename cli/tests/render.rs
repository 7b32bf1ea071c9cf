//! `hessian-probe render` on whatever a log may hold: a page, or one line that says why not.

mod common;
#[path = "../../tests/support/mod.rs"]
mod support;

use common::{program, text};
use hessian_probe::Snapshot;
use hessian_probe::log::{JSONL_FILE, Record, Session, Skipped};
use hessian_probe::spectrum::{Estimate, ProbeRecord};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

struct Log(TempDir);

impl Log {
    fn new(records: &[Record], more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lines = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n");
        fs::write(directory.path().join(JSONL_FILE), lines.collect::<String>() + more).unwrap();
        Self(directory)
    }

    fn of(snapshots: impl IntoIterator<Item = Snapshot>) -> Self {
        let records: Vec<Record> =
            snapshots.into_iter().map(|snapshot| Record::Snapshot(Box::new(snapshot))).collect();
        Self::new(&records, "")
    }

    fn run(&self, flags: &[&str]) -> Output {
        program().arg("render").arg(self.0.path()).args(flags).output().unwrap()
    }

    /// The page, and what was said.
    fn page(&self, flags: &[&str]) -> (String, String) {
        let output = self.run(flags);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(output.status.success(), "{said}");
        (fs::read_to_string(self.path("report/report.html")).unwrap(), said)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

/// What the page's script is given.
fn data(page: &str) -> Value {
    let start = "<script type=\"application/json\" id=\"data\">";
    let json = page.split(start).nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(json).unwrap()
}

fn snapshot(step: u64) -> Snapshot {
    support::snapshot(step, 1_000_000, 2)
}

/// Width, height and how many colours a PNG has, up to 5.
fn png(path: &Path) -> (u32, u32, usize) {
    let mut reader = png::Decoder::new(fs::File::open(path).unwrap()).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let mut colors: Vec<&[u8]> = Vec::new();
    for pixel in bytes.chunks(3) {
        if colors.len() < 5 && !colors.contains(&pixel) {
            colors.push(pixel);
        }
    }
    (info.width, info.height, colors.len())
}

#[test]
fn each_figure_is_a_file_and_the_page_loads_nothing() {
    let mut records = vec![Record::Session(Session {
        start_step: 0,
        world_size: 2,
        parameters: 1_000_000,
        config: "[slq]\nsteps = 20\n".into(),
    })];
    records.extend([0, 50, 100].map(|step| {
        let mut snapshot = support::with_optimizer(snapshot(step));
        snapshot.block_diagonal = Some(support::block_diagonal());
        Record::Snapshot(Box::new(snapshot))
    }));
    records.push(Record::Skipped(Skipped { step: 150, reason: "a <b>gradient</b> was NaN".into() }));
    let log = Log::new(&records, "");
    let (page, said) = log.page(&[]);
    assert!(said.contains("report.html") && said.contains("10 files"), "{said}");
    for name in ["heat_map", "density", "extremes", "trace", "stability"] {
        let (width, height, colors) = png(&log.path(&format!("report/figures/{name}.png")));
        assert!(width > 1000 && height > 600 && colors >= 5, "{name}: {width} × {height}, {colors}");
        let svg = fs::read_to_string(log.path(&format!("report/figures/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(!svg.contains("var(--") && svg.contains("<text"), "{name} stands alone");
        assert!(page.contains(&format!("id=\"figure-{name}\"")), "{name}");
    }
    // Of other addresses, only the name of a language is mentioned.
    let elsewhere = page.matches("http").count();
    let names = page.matches("http://www.w3.org/2000/svg").count() + page.matches("http-equiv").count();
    assert_eq!(elsewhere, names, "nothing is fetched");
    for part in
        ["layers.0", "other things", "a &lt;b&gt;gradient&lt;/b&gt; was NaN", "steps = 20", "a warning"]
    {
        assert!(page.contains(part), "{part}");
    }
    let data = data(&page);
    assert_eq!(data["steps"], serde_json::json!([0, 50, 100]));
    assert_eq!(data["columns"].as_array().unwrap().len(), 3);

    let chosen = log.page(&["--step", "50", "--no-figures"]).0;
    assert!(chosen.contains("data-index=\"1\" aria-labelledby=\"numbers\">"), "step 50 is seen first");
    let output = log.run(&["--step", "51"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no snapshot of step 51; there are those of 0, 50, 100"));
}

#[test]
fn a_report_becomes_a_page_where_one_says() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("r.json");
    fs::write(&report, serde_json::to_string(&snapshot(7)).unwrap()).unwrap();
    let out = directory.path().join("new/place");
    let output = program().arg("render").arg(&report).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        page.contains("Hessian spectrum: r.json") && !page.contains("figure-heat_map"),
        "one step is no map"
    );
    assert!(page.contains("figure-density") && page.contains("This file tells none"));
}

#[test]
fn markup_in_a_log_stays_text() {
    let hostile = "</script><img src=x onerror=alert(1)>\"'&{{data}}{{style}}<!--";
    let mut first = snapshot(1);
    let mut blocks = support::block_diagonal();
    blocks.blocks[0].name = hostile.into();
    blocks.left_out = vec![hostile.into()];
    first.block_diagonal = Some(blocks);
    first.warnings = vec![hostile.into()];
    let session = Session { start_step: 0, world_size: 1, parameters: 1, config: format!("# {hostile}") };
    let skipped = Skipped { step: 3, reason: hostile.into() };
    let records = [Record::Session(session), Record::Snapshot(Box::new(first)), Record::Skipped(skipped)];
    let (page, _) = Log::new(&records, "").page(&["--no-figures"]);
    assert!(!page.contains("<img") && !page.contains("<!--"));
    assert_eq!(page.matches("</script>").count(), 2, "the page's own");
    assert_eq!(page.matches("<style>").count(), 1);
    assert!(page.matches("&lt;/script&gt;&lt;img src=x").count() >= 5);
    data(&page);
}

#[test]
fn a_long_run_is_thinned_and_the_page_says_so() {
    let snapshots = (0..1000).map(|index| Record::Snapshot(Box::new(snapshot(10 * index))));
    let extreme = serde_json::to_string(&snapshot(0).lambda_max).unwrap();
    let tracked = |step: u64| {
        format!(
            "{{\"record\":\"tracked\",\"step\":{step},\"unix_time\":0.0,\"loss\":1.0,\"gradient_norm\":1.0,\
             \"lambda_max\":{extreme},\"gradients\":3,\"seconds\":0.1}}\n"
        )
    };
    let log = Log::new(&snapshots.collect::<Vec<_>>(), &(0..5000).map(tracked).collect::<String>());
    let (page, said) = log.page(&["--no-figures", "--step", "5010"]);
    let told = "of the 1000 snapshots are on this page, evenly chosen";
    assert!(page.contains(told) && said.contains(told), "{said}");
    let data = data(&page);
    let steps: Vec<u64> =
        data["steps"].as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).collect();
    assert!((150..170).contains(&steps.len()), "{}", steps.len());
    assert_eq!((steps[0], steps[steps.len() - 1]), (0, 9990));
    assert_eq!(steps[data["chosen"].as_u64().unwrap() as usize], 5010);
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    let curve = data["series"][0]["series"][0]["points"].as_array().unwrap();
    assert_eq!(curve.len(), 1000, "curves have more");
    assert!(page.contains(" of 5000 points are drawn"), "and say so where they do not have all");
}

#[test]
fn odd_spectra_are_drawn() {
    let zero = |step| {
        let mut zero = snapshot(step);
        let probe = ProbeRecord { nodes: vec![0.0], weights: vec![1.0], ..ProbeRecord::default() };
        zero.probes = vec![probe];
        zero.lambda_max.value = 0.0;
        zero.lambda_min.value = 0.0;
        zero.trace = Estimate { mean: 0.0, standard_error: None };
        (zero.effective_rank, zero.stable_rank, zero.spectral_entropy) = (None, None, None);
        zero.unresolved.floor = 0.0;
        zero
    };
    let mut empty = snapshot(2);
    empty.probes.clear();
    let mut huge = snapshot(3);
    huge.lambda_max.value = 1e300;
    huge.lambda_min.value = -1e-300;
    huge.lambda_min.residual = f64::MAX;
    huge.trace = Estimate { mean: -1e308, standard_error: Some(1e308) };
    huge.parameters = u64::MAX;
    huge.probes[0].nodes[0] = -1e300;
    huge.probes[0].weights[1] = 1e300;
    huge.probes[1].weights.clear();
    let one = support::snapshot(4, 1000, 1);
    for snapshots in [
        vec![zero(0)],
        vec![zero(0), zero(1)],
        vec![empty.clone()],
        vec![zero(0), empty, huge.clone(), one.clone()],
        vec![huge],
        vec![one],
        vec![snapshot(u64::MAX)],
        vec![snapshot(5), snapshot(5)],
    ] {
        let log = Log::of(snapshots.clone());
        // Files are drawn by the same code, slowly: once is enough.
        let (page, _) = log.page(if snapshots.len() > 2 { &[] } else { &["--no-figures"] });
        let data = data(&page);
        assert_eq!(data["columns"].as_array().unwrap().len(), snapshots.len());
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{snapshots:?}");
    }
}

#[test]
fn damaged_logs_give_what_they_hold_or_a_reason() {
    let good = serde_json::to_string(&Record::Snapshot(Box::new(snapshot(1)))).unwrap();
    let nan = good.replacen("\"loss\":", "\"loss\":null,\"was\":", 1);
    let cut = &good[..good.len() / 2];
    let log = Log::new(&[], &format!("{good}\n{nan}\nnot <b>json</b>\n{good}\n{cut}"));
    let (page, said) = log.page(&["--no-figures"]);
    assert!(page.contains("2 line(s) of the log could not be read, the first: line 2:"), "{said}");
    assert!(said.contains("note: line 3:"), "{said}");
    for (content, reason) in [
        ("", "holds no snapshot"),
        (cut, "neither a report"),
        (&format!("{nan}\n")[..], "null"),
        ("{}", "neither a report"),
        ("\u{feff}[]", "neither a report"),
        ("{\"record\":\"skipped\",\"step\":2,\"reason\":\"no gradient\"}\n", "no gradient"),
    ] {
        let log = Log::new(&[], content);
        let output = log.run(&[]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{content:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(reason), "{content:?}: {message}");
        assert!(!log.path("report").exists());
    }
    let blocked = Log::of([snapshot(1)]);
    fs::write(blocked.path("report"), "a file").unwrap();
    assert_eq!(blocked.run(&[]).status.code(), Some(1));
}
