use super::*;
use crate::log::{JsonlSink, fixture};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn later_files_sort_after_earlier_ones_whatever_the_clock_says() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = (unix_time() as u64) + 1_000_000;
    std::fs::write(dir.path().join(format!("{PREFIX}{ahead}.host.1.0")), b"").unwrap();
    let mut created = Vec::new();
    for _ in 0..5 {
        let sink = TensorBoardSink::create(dir.path(), None).unwrap();
        created.push(sink.path().file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(names(dir.path())[1..], created);
}

#[test]
fn a_record_that_could_not_be_written_leaves_its_descriptions_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = TensorBoardSink::create(dir.path(), None).unwrap();
    let full = AppendFile::open("/dev/full".into()).unwrap();
    let good = std::mem::replace(&mut sink.file, full);
    sink.write(&fixture::snapshot_record(0)).unwrap_err();
    assert!(sink.state.described.is_empty() && sink.state.axis.is_none());
    sink.file = good;
    sink.write(&fixture::snapshot_record(1)).unwrap();
    assert!(sink.state.described.contains("spectrum/density") && sink.state.axis.is_some());
}

/// A sink with images, in whose history there are two spectra.
fn drawing(dir: &Path) -> TensorBoardSink {
    let mut sink = TensorBoardSink::create(dir, None).unwrap().with_plots();
    for record in [fixture::session(0), fixture::snapshot_record(0), fixture::snapshot_record(10)] {
        sink.write(&record).unwrap();
    }
    sink
}

fn steps(sink: &TensorBoardSink) -> Vec<u64> {
    sink.history.as_ref().unwrap().steps()
}

/// How often a text is in the file.
fn count(sink: &TensorBoardSink, text: &str) -> usize {
    let bytes = std::fs::read(sink.path()).unwrap();
    bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

#[test]
fn a_file_that_was_deleted_is_made_again_and_the_heat_map_keeps_its_steps() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = drawing(dir.path());
    sink.write(&fixture::snapshot_record(20)).unwrap();
    std::fs::remove_file(sink.path()).unwrap();
    sink.write(&fixture::snapshot_record(30)).unwrap();
    assert_eq!(steps(&sink), [0, 10, 20, 30]);
    assert!(sink.path().exists() && count(&sink, "probe/config") == 1, "the session is in the new file");
    assert_eq!((count(&sink, "spectrum/density_plot"), count(&sink, "spectrum/heat_map")), (1, 1));
}

#[test]
fn an_image_that_fails_costs_neither_numbers_nor_later_images() {
    let faults: [fn() -> io::Error; 2] = [|| io::Error::other("no pixels"), || panic!("no pixels")];
    for fault in faults {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = drawing(dir.path());
        let before =
            ["curvature/trace", "spectrum/density", "spectrum/heat_map"].map(|tag| count(&sink, tag));
        sink.history.as_mut().unwrap().fault = Some(fault);
        let written = catch_unwind(AssertUnwindSafe(|| sink.write(&fixture::snapshot_record(20))));
        assert!(written.is_err() || written.is_ok_and(|written| written.is_err()), "it is told");
        let after = ["curvature/trace", "spectrum/density", "spectrum/heat_map"].map(|tag| count(&sink, tag));
        assert_eq!((after[0], after[1], after[2]), (before[0] + 1, before[1] + 1, before[2]));
        sink.history.as_mut().unwrap().fault = None;
        sink.write(&fixture::snapshot_record(30)).unwrap();
        assert_eq!(count(&sink, "spectrum/heat_map"), before[2] + 1);
        assert_eq!(steps(&sink), [0, 10, 20, 30]);
    }
}

#[test]
fn a_last_heat_map_that_fails_leaves_the_file_synced() {
    let faults: [fn() -> io::Error; 2] = [|| io::Error::other("no pixels"), || panic!("no pixels")];
    for fault in faults {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = drawing(dir.path());
        let history = sink.history.as_mut().unwrap();
        history.redraw();
        history.fault = Some(fault);
        let finished = catch_unwind(AssertUnwindSafe(|| sink.finish()));
        assert!(finished.is_err() || finished.is_ok_and(|finished| finished.is_err()), "it is told");
        assert_eq!(sink.file.synced, 1);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut sink = drawing(dir.path());
    sink.history.as_mut().unwrap().redraw();
    let before = count(&sink, "spectrum/heat_map");
    sink.finish().unwrap();
    assert_eq!((count(&sink, "spectrum/heat_map"), sink.file.synced), (before + 1, 2));
}

#[test]
fn a_heat_map_that_did_not_get_into_the_file_is_in_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = drawing(dir.path());
    // Beyond the first 32 steps one in two has a heat map.
    for step in 20..53 {
        sink.write(&fixture::snapshot_record(step)).unwrap();
    }
    let good = std::mem::replace(&mut sink.file, AppendFile::open("/dev/full".into()).unwrap());
    sink.write(&fixture::snapshot_record(61)).unwrap_err();
    sink.file = good;
    let before = count(&sink, "spectrum/heat_map");
    sink.write(&fixture::snapshot_record(62)).unwrap();
    assert_eq!(count(&sink, "spectrum/heat_map"), before + 1);
}

#[test]
fn a_session_that_resumes_finds_axis_and_spectra_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = JsonlSink::open(dir.path()).unwrap();
    let mut small = fixture::snapshot(10);
    small.lambda_max.value = 1e-3;
    small.lambda_min.value = 0.0;
    let records = [
        fixture::session(0),
        fixture::skipped(5, "no time"),
        Record::Snapshot(Box::new(small)),
        fixture::snapshot_record(20),
        fixture::snapshot_record(30),
        fixture::session(25),
        fixture::snapshot_record(27),
        fixture::session(30),
    ];
    records.iter().for_each(|record| log.write(record).unwrap());
    let mut sink = TensorBoardSink::create(dir.path(), None).unwrap().with_plots();
    sink.write(&fixture::session(30)).unwrap();
    assert_eq!((steps(&sink), sink.state.axis), (vec![10, 20, 27], SymlogAxis::of_log(dir.path())));
    assert_eq!(sink.state.axis.map(SymlogAxis::threshold), Some(1e-9));
    // Without images the first snapshot is enough; without a session, what was just logged is not taken twice.
    let mut sink = TensorBoardSink::create(dir.path(), None).unwrap();
    sink.write(&fixture::session(30)).unwrap();
    assert_eq!(sink.state.axis.map(SymlogAxis::threshold), Some(1e-9));
    let mut sink = TensorBoardSink::create(dir.path(), None).unwrap().with_plots();
    sink.write(&fixture::snapshot_record(40)).unwrap();
    assert_eq!((steps(&sink), sink.state.axis.map(SymlogAxis::threshold)), (vec![40], Some(1e-9)));
}

#[test]
fn records_without_a_new_tag_share_what_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = drawing(dir.path());
    let described = Arc::clone(&sink.state.described);
    sink.write(&fixture::snapshot_record(20)).unwrap();
    assert!(Arc::ptr_eq(&described, &sink.state.described));
    sink.write(&fixture::skipped(30, "no time")).unwrap();
    assert!(!Arc::ptr_eq(&described, &sink.state.described));
    assert!(!described.contains("probe/skipped") && sink.state.described.contains("probe/skipped"));
}
