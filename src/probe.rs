//! The callback that a loop registers.

use crate::callback::{Callback, Control};
use crate::config::{LogConfig, OnError, ProbeConfig};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::log::{LogWriter, Record, Session, Skipped};
use crate::operator::Calibration;
use crate::sharded::Layout;
use crate::sharded::ranks::Ranks;
use crate::slq;
use crate::spectrum::{Estimate, Snapshot};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

const BEGINNING: &str = "the start of training";
const AGREEING: &str = "agreeing on a probe";
/// How long the end of training waits for the disk.
const FLUSH: Duration = Duration::from_secs(30);

/// Watches the Hessian spectrum of a training: at scheduled steps it borrows the loop's parameters and
/// gradients, runs stochastic Lanczos quadrature, puts everything back bit for bit and logs a
/// [`Snapshot`]. See the [crate's page](crate) for a loop with all calls.
#[derive(Debug)]
pub struct HessianProbe {
    config: ProbeConfig,
    layout: Option<Layout>,
    writer: Option<LogWriter>,
    calibration: Calibration,
    session_open: bool,
    previous_tokens: u64,
    last_step: Option<u64>,
    last_probed: Option<u64>,
    latest: Option<Snapshot>,
}

/// What survives a restart.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    last_probed: Option<u64>,
    calibration: Calibration,
}

const STATE_VERSION: u32 = 1;

impl HessianProbe {
    /// A probe with a configuration made in code.
    ///
    /// # Errors
    /// As [`ProbeConfig::validate`].
    pub fn new(config: ProbeConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            layout: None,
            writer: None,
            calibration: Calibration::default(),
            session_open: false,
            previous_tokens: 0,
            last_step: None,
            last_probed: None,
            latest: None,
        })
    }

    /// A probe with the configuration of a TOML file.
    ///
    /// # Errors
    /// As [`ProbeConfig::from_toml`].
    pub fn from_toml(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(ProbeConfig::from_toml(path)?)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ProbeConfig {
        &self.config
    }

    /// The last snapshot taken, on every rank.
    #[must_use]
    pub fn latest(&self) -> Option<&Snapshot> {
        self.latest.as_ref()
    }

    /// Probes now, whatever the schedule says, and logs the snapshot. Collective.
    ///
    /// # Errors
    /// When the probe fails on any rank; parameters are restored.
    pub fn probe(&mut self, step: u64, host: &mut dyn Host) -> Result<&Snapshot> {
        self.make_ready(host)?;
        self.open_session(step, host);
        let snapshot = self.measure(step, host)?;
        self.record(Record::Snapshot(Box::new(snapshot.clone())));
        ::log::info!(target: "hessian_probe", "{}", summary(&snapshot));
        self.last_probed = Some(step);
        Ok(self.latest.insert(snapshot))
    }

    /// Everything that can be found wrong before training is, on the first call.
    fn make_ready(&mut self, host: &mut dyn Host) -> Result<()> {
        if self.layout.is_some() {
            return Ok(());
        }
        let mut ranks = Ranks::new(host);
        // Where results go is nobody's business but rank 0's.
        let shared = ProbeConfig { log: LogConfig::default(), ..self.config.clone() };
        let fingerprint = fingerprint(&shared.to_toml());
        if ranks.differs(host, BEGINNING, fingerprint)? {
            return Err(Error::config(
                "*",
                "ranks have different configurations; give all of them the same file",
            ));
        }
        let fits = self.config.schedule.validate_for(&host.progress());
        ranks.agree(host, BEGINNING, fits)?;
        let layout = Layout::new(host, self.config.slq.dtype)?;
        if self.config.slq.steps as u64 > layout.parameters() {
            let reason = format!(
                "{} steps are more than the {} parameters",
                self.config.slq.steps,
                layout.parameters()
            );
            return Err(Error::config("slq.steps", reason));
        }
        let writer = if ranks.rank() == 0 { LogWriter::open(&self.config.log).map(Some) } else { Ok(None) };
        self.writer = ranks.agree(host, BEGINNING, writer)?;
        self.previous_tokens = host.progress().tokens.unwrap_or(0);
        self.layout = Some(layout);
        Ok(())
    }

    /// Tells the logs where this process takes over: what an interrupted one wrote from there on is void.
    fn open_session(&mut self, step: u64, host: &dyn Host) {
        if !self.session_open {
            self.session_open = true;
            self.record(Record::Session(Session {
                start_step: step,
                world_size: host.group().world_size(),
                parameters: self.layout.as_ref().map_or(0, Layout::parameters),
                config: self.config.to_toml(),
            }));
        }
    }

    fn measure(&mut self, step: u64, host: &mut dyn Host) -> Result<Snapshot> {
        let mut attempt = || {
            let mut ranks = Ranks::new(host);
            if ranks.differs(host, AGREEING, step as f64)? {
                return Err(Error::config(
                    "schedule",
                    "ranks probe at different steps; do all of them call every method?",
                ));
            }
            let layout = self.layout.as_ref().filter(|layout| layout.matches(&host.shards()));
            let layout = ranks.agree(host, AGREEING, layout.ok_or_else(|| changed(ranks.rank())))?;
            slq::snapshot(host, layout, &self.config, &mut self.calibration, step)
        };
        attempt().map_err(|source| Error::AtStep { step, source: Box::new(source) })
    }

    /// A probe that is due: its failure is what the configuration makes of it.
    fn scheduled(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let Err(error) = self.probe(step, host).map(drop) else { return Ok(Control::Continue) };
        self.record(Record::Skipped(Skipped { step, reason: error.to_string() }));
        if self.config.on_error == OnError::Stop || error.is_communication() {
            return Err(error);
        }
        ::log::warn!(target: "hessian_probe", "skipped: {error}");
        Ok(Control::Continue)
    }

    fn record(&self, record: Record) {
        if let Some(writer) = &self.writer {
            writer.log(record);
        }
    }

    fn flush(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.flush(FLUSH))
    }
}

impl Callback for HessianProbe {
    /// Checks configuration, shards and log directory, on all ranks together.
    fn on_train_begin(&mut self, host: &mut dyn Host) -> Result<Control> {
        self.make_ready(host)?;
        Ok(Control::Continue)
    }

    /// Probes if the schedule says so. Otherwise nothing is communicated or computed.
    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        self.make_ready(host)?;
        self.open_session(step, host);
        self.last_step = Some(step);
        let progress = host.progress();
        let due = self.config.schedule.is_due(step, &progress, self.previous_tokens);
        self.previous_tokens = progress.tokens.unwrap_or(0);
        if due { self.scheduled(step, host) } else { Ok(Control::Continue) }
    }

    /// Writes what the logs still hold. Communicates nothing.
    fn on_exception(&mut self, error: &(dyn std::error::Error + 'static)) {
        ::log::debug!(target: "hessian_probe", "training ends with an error ({error}); writing the logs");
        if let Err(error) = self.flush() {
            ::log::error!(target: "hessian_probe", "{error}");
        }
    }

    /// Probes once more with `schedule.at_end`, unless the last step has just been probed; then waits
    /// for the logs.
    fn on_train_end(&mut self, host: &mut dyn Host) -> Result<Control> {
        let mut control = Control::Continue;
        if let Some(step) = self.last_step
            && self.config.schedule.at_end
            && self.last_probed != Some(step)
        {
            control = self.scheduled(step, host)?;
        }
        match self.flush() {
            Err(error) if self.config.on_error == OnError::Stop => Err(error),
            Err(error) => {
                ::log::error!(target: "hessian_probe", "{error}");
                Ok(control)
            }
            Ok(()) => Ok(control),
        }
    }

    fn state_dict(&self) -> serde_json::Value {
        let state = State {
            version: STATE_VERSION,
            last_probed: self.last_probed,
            calibration: self.calibration.clone(),
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn load_state_dict(&mut self, state: &serde_json::Value) -> Result<()> {
        let state = State::deserialize(state).map_err(|error| Error::State(error.to_string()))?;
        if state.version != STATE_VERSION {
            let reason =
                format!("version {} is not {STATE_VERSION}, the one this crate writes", state.version);
            return Err(Error::State(reason));
        }
        self.last_probed = state.last_probed;
        self.calibration = state.calibration;
        Ok(())
    }
}

fn changed(rank: usize) -> Error {
    let reason = "the host's shards are not those of the start of training".into();
    Error::Layout { rank, parameter: "*".into(), reason }
}

/// FNV-1a, cut to what an f64 carries exactly.
fn fingerprint(text: &str) -> f64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 12) as f64
}

/// The line that a probe leaves in the program's log.
fn summary(snapshot: &Snapshot) -> String {
    let pm = |estimate: &Estimate| match estimate.standard_error {
        Some(error) => format!("{:.4e} ± {error:.1e}", estimate.mean),
        None => format!("{:.4e}", estimate.mean),
    };
    format!(
        "step {}: loss {:.4}, λ_max {:.4e} ± {:.1e}, λ_min {:.4e} ± {:.1e}, trace {}, {} gradients in {:.2} s",
        snapshot.step,
        snapshot.loss,
        snapshot.lambda_max.value,
        snapshot.lambda_max.residual,
        snapshot.lambda_min.value,
        snapshot.lambda_min.residual,
        pm(&snapshot.trace),
        snapshot.cost.gradients,
        snapshot.cost.seconds,
    )
}
