//! What the images of a log are drawn from: the spectra so far.

use super::canvas::{Canvas, Png};
use super::frame::Frame;
use super::{density, heat_map};
use crate::config::SpectrumOf;
use crate::log::Record;
use crate::spectrum::{DensityOverSteps, Snapshot, SpectrumAt};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Places of a density: one a pixel. A heat map has one for each of its rows.
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
    /// What happens in place of drawing: a test of what that costs.
    #[cfg(test)]
    pub(in crate::log::tensorboard) fault: Option<fn() -> io::Error>,
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
            #[cfg(test)]
            fault: None,
        }
    }
}

impl History {
    /// Takes the next record of a log that goes on.
    pub(in crate::log::tensorboard) fn take(&mut self, record: &Record) {
        match record {
            Record::Session(session) => self.begin(session.start_step),
            Record::Snapshot(snapshot) => self.push(snapshot),
            _ => {}
        }
    }

    /// Forgets what a session does again.
    pub(in crate::log::tensorboard) fn begin(&mut self, start_step: u64) {
        let before = self.spectra.len();
        self.spectra.retain(|spectrum| spectrum.step < start_step);
        self.passing &= self.spectra.len() == before;
        self.drawn = self.count;
    }

    /// Takes the next snapshot.
    pub(in crate::log::tensorboard) fn push(&mut self, snapshot: &Snapshot) {
        let preconditioned = !snapshot.operator.includes_hessian();
        if preconditioned != self.preconditioned {
            *self = Self { preconditioned, ..Self::default() };
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
        self.png(DensityOverSteps::new(latest, POINTS).as_ref().and_then(density::draw))
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

    /// The heat map did not get into the file: it is due with the next snapshot.
    pub(in crate::log::tensorboard) fn redraw(&mut self) {
        self.drawn = 0;
    }

    /// What the spectra are of.
    pub(in crate::log::tensorboard) fn operator(&self) -> SpectrumOf {
        if self.preconditioned { SpectrumOf::Preconditioned } else { SpectrumOf::Hessian }
    }

    /// Those that a heat map would show.
    #[cfg(test)]
    pub(in crate::log::tensorboard) fn steps(&self) -> Vec<u64> {
        self.spectra.iter().map(|spectrum| spectrum.step).collect()
    }

    fn draw(&mut self) -> io::Result<Option<Png>> {
        // One column is no map.
        if self.spectra.len() < 2 {
            return Ok(None);
        }
        let found = DensityOverSteps::new(self.spectra.iter().map(Arc::as_ref), Frame::HEIGHT);
        let png = self.png(found.as_ref().and_then(heat_map::draw))?;
        // Last: one that fails, or panics, is due again.
        self.drawn = self.count;
        Ok(png)
    }

    fn png(&self, drawn: Option<Canvas>) -> io::Result<Option<Png>> {
        #[cfg(test)]
        if let Some(fault) = self.fault {
            return Err(fault());
        }
        drawn.map(|canvas| canvas.png()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;

    #[test]
    fn a_long_run_is_thinned_evenly_and_keeps_its_first_and_latest_step() {
        let mut history = History::default();
        let mut maps = 0;
        for step in 0..3000 {
            history.push(&fixture::snapshot(step));
            let kept = history.steps();
            assert_eq!((kept[0], kept[kept.len() - 1]), (0, step));
            assert!(kept.len() <= MOST);
            maps += u64::from(step % 100 == 0 && history.heat_map().unwrap().is_some());
        }
        let kept = history.steps();
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
    fn a_run_that_goes_on_keeps_what_still_counts_of_the_log() {
        let mut history = History::default();
        let records = [
            fixture::session(0),
            fixture::snapshot_record(0),
            fixture::skipped(5, "no time"),
            fixture::snapshot_record(10),
            fixture::snapshot_record(20),
            fixture::session(20),
            fixture::snapshot_record(25),
        ];
        records.iter().for_each(|record| history.take(record));
        assert_eq!(history.steps(), [0, 10, 25]);
        history.begin(15);
        assert_eq!(history.steps(), [0, 10]);
        let mut other = fixture::snapshot(30);
        other.operator = SpectrumOf::Preconditioned;
        history.push(&other);
        assert_eq!(history.steps(), [30], "another operator is another map");
    }

    /// However long the log is: sessions that do much of it again leave no more than one alone.
    #[test]
    fn a_long_log_of_two_sessions_is_thinned_while_it_is_taken() {
        let mut history = History::default();
        for (start, end) in [(0, 1500), (1000, 2500)] {
            history.take(&fixture::session(start));
            for step in start..end {
                history.take(&fixture::snapshot_record(step));
                assert!(history.steps().len() <= MOST);
            }
        }
        let kept = history.steps();
        assert_eq!((kept[0], kept[kept.len() - 1]), (0, 2499));
        assert!(kept.len() > MOST / 2 - 2, "{}", kept.len());
        assert!(kept.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 16), "{kept:?}");
    }
}
