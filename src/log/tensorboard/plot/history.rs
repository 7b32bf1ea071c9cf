//! What the images of a log are drawn from: the spectra so far.

use super::canvas::Png;
use super::{density, heat_map};
use crate::log::{JSONL_FILE, Record, drop_orphans, read_jsonl};
use crate::spectrum::{DensityOverSteps, Snapshot, SpectrumAt};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Places of a density: one a pixel.
const POINTS: usize = 480;
/// More spectra than the heat map has pixels for are thinned to half.
const MOST: usize = 512;
/// Up to so many spectra each makes a new heat map; then it takes a twentieth more.
const EACH: u64 = 32;

/// The spectra of a run so far, thinned to what a heat map can show.
#[derive(Clone, Debug)]
pub(in crate::log::tensorboard) struct History {
    /// All at a multiple of `stride` in the order of their coming, and the latest.
    spectra: VecDeque<Arc<SpectrumAt>>,
    stride: u64,
    /// Whether each is that of P^{-1/2} H P^{-1/2}; another operator begins another history.
    preconditioned: bool,
    /// The last of them is there only until the next comes.
    passing: bool,
    /// How many came.
    count: u64,
    /// How many had come when the heat map was drawn.
    drawn: u64,
    unix_time: f64,
    /// The earlier part of the log has been read.
    read: bool,
}

impl Default for History {
    fn default() -> Self {
        Self {
            spectra: VecDeque::new(),
            stride: 1,
            passing: false,
            preconditioned: false,
            count: 0,
            drawn: 0,
            unix_time: 0.0,
            read: false,
        }
    }
}

impl History {
    /// Forgets what a session does again, after reading what a log has of sessions before.
    pub(in crate::log::tensorboard) fn begin(&mut self, dir: &Path, start_step: u64) {
        if !std::mem::replace(&mut self.read, true) {
            self.read_log(dir);
        }
        let before = self.spectra.len();
        self.spectra.retain(|spectrum| spectrum.step < start_step);
        self.passing &= self.spectra.len() == before;
        self.drawn = self.count;
    }

    /// Lines that cannot be read are left to those who read the log for its own sake.
    fn read_log(&mut self, dir: &Path) {
        let path = dir.join(JSONL_FILE);
        // A device or a pipe may have no end.
        if !path.is_file() {
            return;
        }
        let Ok(lines) = read_jsonl(path) else { return };
        let kept = |record: &Record| matches!(record, Record::Session(_) | Record::Snapshot(_));
        let records: Vec<Record> = lines.filter_map(Result::ok).filter(kept).collect();
        for record in drop_orphans(records) {
            if let Record::Snapshot(snapshot) = record {
                self.push(&snapshot);
            }
        }
    }

    /// Takes the next snapshot.
    pub(in crate::log::tensorboard) fn push(&mut self, snapshot: &Snapshot) {
        let preconditioned = !snapshot.operator.includes_hessian();
        if preconditioned != self.preconditioned {
            *self = Self { read: self.read, preconditioned, ..Self::default() };
        }
        if self.passing {
            self.spectra.pop_back();
        }
        self.spectra.push_back(Arc::new(SpectrumAt::of(snapshot)));
        self.count += 1;
        self.unix_time = snapshot.unix_time;
        if self.spectra.len() > MOST {
            let latest = self.spectra.pop_back();
            let mut even = false;
            self.spectra.retain(|_| {
                even = !even;
                even
            });
            self.stride *= 2;
            self.spectra.extend(latest);
        }
        self.passing = !(self.count - 1).is_multiple_of(self.stride);
    }

    /// The density of the latest snapshot.
    pub(in crate::log::tensorboard) fn density(&self) -> io::Result<Option<Png>> {
        let latest = self.spectra.back().map(Arc::as_ref);
        let found = DensityOverSteps::new(latest, POINTS);
        found.as_ref().and_then(density::draw).map(|canvas| canvas.png()).transpose()
    }

    /// The heat map, where enough is new since the last one. All steps of a run would make a log as long as its square.
    pub(in crate::log::tensorboard) fn heat_map(&mut self) -> io::Result<Option<Png>> {
        let due = self.count <= EACH || self.count >= self.drawn + self.drawn.div_ceil(20);
        if due { self.draw() } else { Ok(None) }
    }

    /// The heat map of all, where it has not been drawn, with step and time of its last column.
    pub(in crate::log::tensorboard) fn last_heat_map(&mut self) -> io::Result<Option<(u64, f64, Png)>> {
        if self.drawn == self.count {
            return Ok(None);
        }
        let (step, unix_time) = (self.spectra.back().map_or(0, |spectrum| spectrum.step), self.unix_time);
        Ok(self.draw()?.map(|png| (step, unix_time, png)))
    }

    pub(in crate::log::tensorboard) fn is_preconditioned(&self) -> bool {
        self.preconditioned
    }

    fn draw(&mut self) -> io::Result<Option<Png>> {
        // One column is no map.
        if self.spectra.len() < 2 {
            return Ok(None);
        }
        self.drawn = self.count;
        let found = DensityOverSteps::new(self.spectra.iter().map(Arc::as_ref), POINTS);
        found.as_ref().and_then(heat_map::draw).map(|canvas| canvas.png()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{JsonlSink, Sink, fixture};

    fn steps(history: &History) -> Vec<u64> {
        history.spectra.iter().map(|spectrum| spectrum.step).collect()
    }

    #[test]
    fn a_long_run_is_thinned_evenly_and_keeps_its_first_and_latest_step() {
        let mut history = History::default();
        let mut maps = 0;
        for step in 0..3000 {
            history.push(&fixture::snapshot(step));
            let kept = steps(&history);
            assert_eq!((kept[0], kept[kept.len() - 1]), (0, step));
            assert!(kept.len() <= MOST);
            maps += u64::from(step % 100 == 0 && history.heat_map().unwrap().is_some());
        }
        let kept = steps(&history);
        assert!(kept.len() > MOST / 2 - 2, "{}", kept.len());
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[..gaps.len() - 1].iter().all(|gap| *gap == 8), "{gaps:?}");
        assert!(maps > 3);
        assert!(history.last_heat_map().unwrap().is_some_and(|(step, ..)| step == 2999));
        assert!(history.last_heat_map().unwrap().is_none(), "it is drawn");
    }

    #[test]
    fn heat_maps_become_rarer_with_the_length_of_a_run() {
        let mut history = History::default();
        let mut drawn = Vec::new();
        for step in 0..400 {
            history.push(&fixture::snapshot(step));
            // What is drawn is tested elsewhere.
            if history.count <= EACH || history.count >= history.drawn + history.drawn.div_ceil(20) {
                history.drawn = history.count;
                drawn.push(step);
            }
        }
        assert!(drawn.len() < 100, "{}", drawn.len());
    }

    #[test]
    fn a_resumed_run_goes_on_with_what_still_counts_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = JsonlSink::open(dir.path()).unwrap();
        for record in [fixture::session(0), fixture::snapshot_record(0), fixture::snapshot_record(10)] {
            log.write(&record).unwrap();
        }
        log.write(&fixture::snapshot_record(20)).unwrap();
        let mut history = History::default();
        history.begin(dir.path(), 20);
        assert_eq!(steps(&history), [0, 10]);
        history.push(&fixture::snapshot(20));
        history.begin(dir.path(), 15);
        assert_eq!(steps(&history), [0, 10], "it is read once");
        let mut other = fixture::snapshot(30);
        other.operator = crate::config::SpectrumOf::Preconditioned;
        history.push(&other);
        assert_eq!(steps(&history), [30], "another operator is another map");
        let mut history = History::default();
        history.begin(Path::new("/nowhere"), 0);
        assert!(steps(&history).is_empty());
    }
}
