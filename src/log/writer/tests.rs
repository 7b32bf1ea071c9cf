use super::*;
use crate::log::{JSONL_FILE, fixture, read_jsonl};

const SOON: Duration = Duration::from_secs(20);

/// Keeps what it is given; each record first goes through `before`.
struct Probe<F> {
    before: F,
    written: Arc<Mutex<Vec<Record>>>,
    finished: Arc<Mutex<u32>>,
}

impl<F: FnMut(&Record) -> io::Result<()> + Send> Sink for Probe<F> {
    fn path(&self) -> &Path {
        Path::new("probe-sink")
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        (self.before)(record)?;
        self.written.lock().push(record.clone());
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        *self.finished.lock() += 1;
        Ok(())
    }
}

type Written = Arc<Mutex<Vec<Record>>>;

fn probe(
    before: impl FnMut(&Record) -> io::Result<()> + Send + 'static,
) -> (Box<dyn Sink>, Written, Arc<Mutex<u32>>) {
    let (written, finished) = (Written::default(), Arc::default());
    (
        Box::new(Probe { before, written: Arc::clone(&written), finished: Arc::clone(&finished) }),
        written,
        finished,
    )
}

fn number(n: u64) -> Record {
    fixture::skipped(n, "test")
}

/// A sink that holds every record until its gate is dropped.
fn stalled() -> (Box<dyn Sink>, Written, Sender<()>) {
    let (gate, closed) = bounded::<()>(0);
    let (sink, written, _) = probe(move |_| {
        let _ = closed.recv();
        Ok(())
    });
    (sink, written, gate)
}

#[test]
fn a_full_queue_never_blocks_and_drops_are_counted() {
    let (sink, written, gate) = stalled();
    let writer = LogWriter::with_sinks("dir", vec![sink], 4).unwrap();
    let start = Instant::now();
    let accepted = (0..100_u64).filter(|&n| writer.log(number(n))).count() as u64;
    assert!(start.elapsed() < SOON, "100 calls took {:?}", start.elapsed());
    // Four in the queue and one, if the thread was quick enough, in the stalled sink.
    assert!((4..=5).contains(&accepted), "{accepted}");
    assert_eq!(writer.dropped(), 100 - accepted);

    drop(gate);
    writer.flush(SOON).unwrap();
    assert_eq!(written.lock().len() as u64, accepted);
    assert!(writer.log(number(100)), "a queue that has room again accepts again");
}

#[test]
fn flush_times_out_with_an_error_and_loses_nothing() {
    let (sink, written, gate) = stalled();
    let writer = LogWriter::with_sinks("some-dir", vec![sink], 4).unwrap();
    assert!(writer.log(number(0)));
    let Err(Error::Log { path, source }) = writer.flush(Duration::from_millis(20)) else {
        panic!("flush returned although a record waits");
    };
    assert_eq!((path.to_str().unwrap(), source.kind()), ("some-dir", io::ErrorKind::TimedOut));
    drop(gate);
    writer.flush(Duration::MAX).unwrap();
    assert_eq!(written.lock().len(), 1);
}

#[test]
fn flush_of_an_idle_writer_returns_at_once() {
    let (sink, _, _) = probe(|_| Ok(()));
    LogWriter::with_sinks("dir", vec![sink], 1).unwrap().flush(Duration::ZERO).unwrap();
}

#[test]
fn accepted_records_are_written_in_order_on_drop() {
    let (sink, written, finished) = probe(|_| {
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    });
    let writer = LogWriter::with_sinks("dir", vec![sink], 64).unwrap();
    let records: Vec<Record> = (0..50).map(number).collect();
    for record in &records {
        assert!(writer.log(record.clone()));
    }
    drop(writer);
    assert_eq!(*written.lock(), records);
    assert_eq!(*finished.lock(), 1);
}

#[test]
fn accepted_records_are_written_when_a_panic_unwinds() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { dir: dir.path().to_owned(), ..LogConfig::default() };
    let unwound = catch_unwind(|| {
        let writer = LogWriter::open(&config).unwrap();
        for n in 0..40 {
            assert!(writer.log(number(n)));
        }
        panic!("the training loop gives up");
    });
    assert!(unwound.is_err());
    let read: Vec<Record> = read_jsonl(dir.path().join(JSONL_FILE)).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, (0..40).map(number).collect::<Vec<_>>());
}

#[test]
fn a_failing_sink_is_reported_and_later_records_are_tried() {
    let (failing, some, _) = probe(|record| match record {
        Record::Skipped(skipped) if skipped.step < 2 => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let (healthy, all, _) = probe(|_| Ok(()));
    let writer = LogWriter::with_sinks("dir", vec![failing, healthy], 8).unwrap();
    for n in 0..4 {
        assert!(writer.log(number(n)));
    }
    let error = writer.flush(SOON).unwrap_err();
    assert!(matches!(&error, Error::Log { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    assert!(error.to_string().contains("probe-sink"), "{error}");
    assert!(writer.take_error().is_none(), "an error is handed out once");
    assert_eq!(writer.failures(), 2);
    assert_eq!(*some.lock(), [number(2), number(3)]);
    assert_eq!(all.lock().len(), 4, "one sink's failure is none of the other's");
}

#[test]
fn a_panicking_sink_is_an_error_like_any_other() {
    let (sink, written, finished) = probe(|record| {
        assert_ne!(*record, number(0), "zero is not for me");
        Ok(())
    });
    let writer = LogWriter::with_sinks("dir", vec![sink], 8).unwrap();
    assert!(writer.log(number(0)));
    assert!(writer.log(number(1)));
    let error = writer.flush(SOON).unwrap_err().to_string();
    assert!(error.contains("panicked") && error.contains("zero is not for me"), "{error}");
    drop(writer);
    assert_eq!(*written.lock(), [number(1)]);
    assert_eq!(*finished.lock(), 1);
}

#[test]
fn a_full_disk_is_reported_by_path_and_does_not_stop_the_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let jsonl = dir.path().join(JSONL_FILE);
    std::os::unix::fs::symlink("/dev/full", &jsonl).unwrap();
    let config = LogConfig { dir: dir.path().to_owned(), ..LogConfig::default() };
    let writer = LogWriter::open(&config).unwrap();
    assert!(writer.log(fixture::session(0)));
    assert!(writer.log(fixture::snapshot_record(0)));
    let error = writer.flush(SOON).unwrap_err();
    assert!(error.to_string().contains(JSONL_FILE), "{error}");
    assert!(matches!(error, Error::Log { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    assert_eq!(writer.failures(), 2, "each record was tried");
    drop(writer);
    let events = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("tfevents"))
        .unwrap();
    assert!(events.metadata().unwrap().len() > 1000);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_naming_it() {
    // Below a regular file not even root can make one.
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = file.path().join("runs");
    let error = LogWriter::open(&LogConfig { dir: dir.clone(), ..LogConfig::default() }).unwrap_err();
    assert!(matches!(&error, Error::Log { path, .. } if *path == dir), "{error:?}");
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_naming_it() {
    let dir = tempfile::tempdir().unwrap();
    let jsonl = dir.path().join(JSONL_FILE);
    std::fs::create_dir(&jsonl).unwrap();
    let config = LogConfig { dir: dir.path().to_owned(), ..LogConfig::default() };
    let error = LogWriter::open(&config).unwrap_err();
    assert!(matches!(&error, Error::Log { path, .. } if *path == jsonl), "{error:?}");
}

#[test]
fn nothing_is_made_where_nothing_is_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { dir: dir.path().join("none"), tensorboard: false, jsonl: false, plots: true, queue: 1 };
    let writer = LogWriter::open(&config).unwrap();
    assert!(writer.log(number(0)));
    writer.flush(SOON).unwrap();
    assert!(!config.dir.exists());
}
