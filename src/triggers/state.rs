//! What is kept from step to step, and what follows from a step's numbers.

use super::config::TriggersConfig;
use super::record::{Cause, Recent};
use super::spike::Middle;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What triggers find again after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerState {
    /// The last training losses, oldest first.
    losses: VecDeque<f64>,
    /// The last steps, oldest first.
    recent: VecDeque<Recent>,
    /// The step of the last trigger.
    fired: Option<u64>,
    /// The step at which a checkpoint was asked for last.
    asked: Option<u64>,
}

/// The numbers of one step, the same on all ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Signals {
    /// The training loss; whatever it is.
    pub(crate) loss: Option<f64>,
    pub(crate) lambda_max: Option<f64>,
    pub(crate) margin: Option<f64>,
    /// η/η_c, or the bound of it that is known.
    pub(crate) step_ratio: Option<f64>,
    /// Whether the user's file was there.
    pub(crate) file: bool,
}

impl TriggerState {
    /// Whether there is nothing to keep; for serde.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes in the numbers of a step, and says why a probe should start, if it should.
    pub(crate) fn step(&mut self, step: u64, config: &TriggersConfig, signals: Signals) -> Vec<Cause> {
        let judged = Some(&self.losses).filter(|losses| 2 * losses.len() >= config.window);
        let middle = judged.and_then(|losses| Middle::of(losses.iter().copied()));
        let finite = |value: &f64| value.is_finite();
        let loss = signals.loss.filter(finite);
        let score = middle.zip(loss).map(|(middle, loss)| middle.score(loss)).filter(finite);
        let Signals { lambda_max, margin, step_ratio, .. } = signals;
        push(&mut self.recent, config.recent, Recent { step, loss, score, lambda_max, margin, step_ratio });
        if let Some(loss) = loss {
            push(&mut self.losses, config.window, loss);
        }
        let mut causes = Vec::new();
        // Steps before it belong to a run that this one is not the continuation of.
        let rests =
            |since: Option<u64>| since.is_some_and(|since| step >= since && step - since < config.cooldown);
        if !rests(self.fired) {
            let spike = middle.zip(config.loss_spike).filter(|(_, limit)| {
                score.is_some_and(|score| score > *limit) || (signals.loss.is_some() && loss.is_none())
            });
            let spike = spike.map(|(Middle { median, deviation }, _)| Cause::LossSpike {
                loss,
                score,
                median,
                deviation,
            });
            let above = |value: Option<f64>, limit: Option<f64>| value.zip(limit).filter(|(v, l)| v > l);
            let margin = above(margin, config.margin).map(|(value, limit)| Cause::Margin { value, limit });
            let ratio =
                above(step_ratio, config.step_ratio).map(|(value, limit)| Cause::StepRatio { value, limit });
            causes.extend([spike, margin, ratio].into_iter().flatten());
        }
        if signals.file {
            causes.extend(config.file.clone().map(|path| Cause::File { path }));
        }
        if !causes.is_empty() {
            self.fired = Some(step);
        }
        causes
    }

    /// Whether a margin above its limit should have a checkpoint saved now.
    pub(crate) fn asks_for_checkpoint(&mut self, step: u64, config: &TriggersConfig, margin: f64) -> bool {
        let above = config.checkpoint_margin.is_some_and(|limit| margin > limit);
        let rests = self.asked.is_some_and(|since| step >= since && step - since < config.cooldown);
        if above && !rests {
            self.asked = Some(step);
        }
        above && !rests
    }

    /// The last steps, oldest first.
    pub(crate) fn recent(&self) -> Vec<Recent> {
        self.recent.iter().copied().collect()
    }
}

/// Drops the oldest where there are more than `most`.
fn push<T>(queue: &mut VecDeque<T>, most: usize, value: T) {
    queue.push_back(value);
    while queue.len() > most {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> TriggersConfig {
        toml::from_str(toml).unwrap()
    }

    fn loss(loss: f64) -> Signals {
        Signals { loss: Some(loss), ..Signals::default() }
    }

    /// A falling loss with some noise.
    fn usual(step: u64) -> f64 {
        3.0 - 0.002 * step as f64 + 0.05 * (step as f64 * 2.4).sin()
    }

    /// The steps at which it fires.
    fn fired(state: &mut TriggerState, config: &TriggersConfig, losses: impl Fn(u64) -> f64) -> Vec<u64> {
        (0..300).filter(|&step| !state.step(step, config, loss(losses(step))).is_empty()).collect()
    }

    #[test]
    fn only_a_spike_is_one_and_only_once_before_it_has_cooled_down() {
        let config = config("loss_spike = 6.0\nwindow = 32\ncooldown = 40");
        assert!(fired(&mut TriggerState::default(), &config, usual).is_empty());
        let spikes =
            |step: u64| usual(step) + if (150..155).contains(&step) || step == 200 { 1.0 } else { 0.0 };
        assert_eq!(fired(&mut TriggerState::default(), &config, spikes), [150, 200]);
        let lasting = |step: u64| usual(step) + if step >= 150 { 1.0 } else { 0.0 };
        // What lasts becomes usual.
        assert_eq!(fired(&mut TriggerState::default(), &config, lasting), [150]);
        let down = |step: u64| usual(step) - if step == 150 { 1.0 } else { 0.0 };
        assert!(fired(&mut TriggerState::default(), &config, down).is_empty(), "a fall is none");
        let none = |step: u64| if step == 150 { f64::NAN } else { usual(step) };
        assert_eq!(fired(&mut TriggerState::default(), &config, none), [150]);
        let early = |step: u64| if step == 15 { 100.0 } else { usual(step) };
        assert!(fired(&mut TriggerState::default(), &config, early).is_empty(), "too few losses to judge by");
    }

    #[test]
    fn it_goes_on_from_what_was_saved_as_if_nothing_had_been() {
        let config = config("loss_spike = 6.0\nwindow = 16\ncooldown = 20\nrecent = 5");
        let spikes = |step: u64| usual(step) + if [100, 115, 121].contains(&step) { 1.0 } else { 0.0 };
        let mut whole = TriggerState::default();
        assert_eq!(fired(&mut whole, &config, spikes), [100, 121]);
        for cut in [99, 101, 116, 121, 122] {
            let mut state = TriggerState::default();
            let mut found = Vec::new();
            for step in 0..300 {
                if step == cut {
                    let saved = serde_json::to_string(&state).unwrap();
                    state = serde_json::from_str(&saved).unwrap();
                }
                if !state.step(step, &config, loss(spikes(step))).is_empty() {
                    found.push(step);
                }
            }
            assert_eq!((found, &state), (vec![100, 121], &whole), "cut at {cut}");
        }
        let steps: Vec<u64> = whole.recent().iter().map(|recent| recent.step).collect();
        assert_eq!(steps, [295, 296, 297, 298, 299]);
    }

    #[test]
    fn margins_rest_after_a_trigger_and_a_file_does_not() {
        let config =
            config("margin = 0.9\nstep_ratio = 1.0\nfile = \"now\"\ncooldown = 10\ncheckpoint_margin = 0.8");
        let signals = |margin, step_ratio, file| Signals {
            margin: Some(margin),
            step_ratio: Some(step_ratio),
            file,
            ..Signals::default()
        };
        let mut state = TriggerState::default();
        assert!(state.step(0, &config, signals(0.9, 1.0, false)).is_empty(), "at the limit is not above it");
        let causes = state.step(1, &config, signals(0.95, 1.5, false));
        let expected =
            [Cause::Margin { value: 0.95, limit: 0.9 }, Cause::StepRatio { value: 1.5, limit: 1.0 }];
        assert_eq!(causes, expected);
        assert!(state.step(2, &config, signals(2.0, 2.0, false)).is_empty());
        assert_eq!(state.step(5, &config, signals(2.0, 2.0, true)), [Cause::File { path: "now".into() }]);
        assert!(state.step(14, &config, signals(2.0, 0.1, false)).is_empty(), "a file's probe is one, too");
        assert_eq!(state.step(15, &config, signals(2.0, 0.1, false)).len(), 1);
        let asks: Vec<u64> =
            (20..45).filter(|&step| state.asks_for_checkpoint(step, &config, 0.85)).collect();
        assert_eq!(asks, [20, 30, 40]);
        assert!(!state.asks_for_checkpoint(60, &config, 0.8));
    }
}
