//! The callback that a loop registers: what it keeps, and how it takes a probe.

mod budget;
mod callback;
mod measure;
mod optimizer;
mod sharpness;
mod state;
mod triggers;

use crate::blocks::Partition;
use crate::budget::Overhead;
use crate::callback::Control;
use crate::config::{Difference, OnError, ProbeConfig};
use crate::error::{Error, Result};
use crate::hash::as_f64;
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::log::{LogWriter, Record, Session, Skipped};
use crate::operator::Learned;
use crate::progress::{Observer, ProbeProgress};
use crate::schedule::ScheduleConfig;
use crate::sharded::Layout;
use crate::sharded::ranks::Ranks;
use crate::spectrum::{Estimate, Snapshot};
use crate::tracking::Tracked;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const BEGINNING: &str = "the start of training";
const AGREEING: &str = "agreeing on a probe";
/// How long the end of training waits for the disk.
const FLUSH: Duration = Duration::from_secs(30);

/// Watches the Hessian spectrum of a training: at scheduled steps it borrows the loop's parameters and
/// gradients, runs stochastic Lanczos quadrature, puts everything back bit for bit and logs a
/// [`Snapshot`]. See the [crate's page](crate) for a loop with all calls.
///
/// ```
/// use hessian_probe::{Callback, HessianProbe, ProbeConfig};
/// # use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
/// # /// L = x²/2 + 2y².
/// # struct Valley(tch::Tensor);
/// # impl Host for Valley {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         Shard::whole([("xy".to_owned(), self.0.shallow_clone())], false)
/// #     }
/// #     fn gradient(&mut self) -> Result<Gradient, HostError> {
/// #         let gradient = self.0.f_mul(&tch::Tensor::from_slice(&[1.0, 4.0]))?;
/// #         let loss = gradient.f_dot(&self.0)?.f_double_value(&[])? / 2.0;
/// #         Ok(Gradient { loss, tensors: vec![gradient] })
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// let config = "[schedule]\nevery = 5\n[slq]\nsteps = 2\n[log]\ntensorboard = false\njsonl = false";
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(config)?)?;
/// let mut host = Valley(tch::Tensor::from_slice(&[3.0, 1.0]));
/// probe.on_step_end(4, &mut host)?;
/// assert!(probe.latest().is_none());
/// probe.on_step_end(5, &mut host)?;
/// assert_eq!(probe.latest().map(|snapshot| snapshot.step), Some(5));
///
/// // At any time, whatever the schedule says:
/// let snapshot = probe.probe(7, &mut host)?;
/// assert!((snapshot.lambda_max.value - 4.0).abs() < 1e-6);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Debug)]
pub struct HessianProbe {
    config: ProbeConfig,
    layout: Option<Arc<Layout>>,
    partition: Option<Partition>,
    writer: Option<LogWriter>,
    interrupter: Interrupter,
    observer: Observer,
    overhead: Overhead,
    track_overhead: Overhead,
    watched: sharpness::Watched,
    armed: triggers::Armed,
    latest_tracked: Option<Tracked>,
    learned: Learned,
    session_open: bool,
    previous_tokens: u64,
    last_step: Option<u64>,
    last_probed: Option<u64>,
    probes_taken: u64,
    latest: Option<Snapshot>,
}

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
            partition: None,
            writer: None,
            interrupter: Interrupter::default(),
            observer: Observer::default(),
            overhead: Overhead::default(),
            track_overhead: Overhead::default(),
            watched: sharpness::Watched::default(),
            armed: triggers::Armed::default(),
            latest_tracked: None,
            learned: Learned::default(),
            session_open: false,
            previous_tokens: 0,
            last_step: None,
            last_probed: None,
            probes_taken: 0,
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

    /// The largest eigenvalue as it was tracked last by this process, on every rank.
    #[must_use]
    pub fn latest_tracked(&self) -> Option<&Tracked> {
        self.latest_tracked.as_ref()
    }

    /// A handle that ends a running probe from a signal handler or another thread.
    #[must_use]
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// Has `tell` called after each Lanczos step, on this rank: for a progress bar, say. It takes the place of
    /// the one set before, and must not communicate.
    pub fn on_progress(&mut self, tell: impl FnMut(&ProbeProgress) + Send + 'static) {
        self.observer = Observer::new(tell);
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
        // All ranks have the same numbers: one of them says so.
        let first = host.group().rank() == 0;
        let level = if first { ::log::Level::Info } else { ::log::Level::Debug };
        ::log::log!(level, "{}", summary(&snapshot));
        if first {
            for warning in &snapshot.warnings {
                ::log::warn!("step {step}: {warning}");
            }
        }
        self.last_probed = Some(step);
        self.probes_taken += 1;
        self.overhead.record(snapshot.cost.seconds);
        Ok(self.latest.insert(snapshot))
    }

    /// Everything that can be found wrong before training is, on the first call.
    fn make_ready(&mut self, host: &mut dyn Host) -> Result<()> {
        if self.layout.is_some() {
            return Ok(());
        }
        let mut ranks = Ranks::new(host);
        if ranks.differs(host, BEGINNING, as_f64(self.fingerprint()))? {
            return Err(Error::config(
                "*",
                "ranks have different configurations; give all of them the same file",
            ));
        }
        let fits = self.config.schedule.validate_for(&host.progress());
        ranks.agree(host, BEGINNING, fits)?;
        let tracks = ScheduleConfig::regular(self.config.track.every).validate_in("track", &host.progress());
        ranks.agree(host, BEGINNING, tracks)?;
        let watches = ScheduleConfig::regular(self.config.sharpness.every);
        ranks.agree(host, BEGINNING, watches.validate_in("sharpness", &host.progress()))?;
        let difference = self.config.hvp.difference;
        let offered = if difference == Difference::Exact && !host.offers_exact_hvp() {
            Err(Error::config(
                "hvp.difference",
                "\"exact\" needs a host that offers exact products, and this one does not; \"auto\" always works",
            ))
        } else {
            Ok(())
        };
        ranks.agree(host, BEGINNING, offered)?;
        if !self.config.slq.operator.is_hessian() {
            ranks.agree(host, BEGINNING, optimizer::check(host))?;
        }
        if self.config.triggers.margin.is_some() || self.config.triggers.limits_margin() {
            ranks.agree(host, BEGINNING, optimizer::check_limits(&self.config, host))?;
        }
        let layout = Layout::new(host, self.config.slq.dtype)?;
        if self.config.slq.steps as u64 > layout.parameters() {
            let reason = format!(
                "{} steps are more than the {} parameters",
                self.config.slq.steps,
                layout.parameters()
            );
            return Err(Error::config("slq.steps", reason));
        }
        if self.config.blocks.is_on() {
            self.partition = Some(Partition::new(host, &layout, &self.config.blocks)?);
        }
        let writer = if ranks.rank() == 0 { LogWriter::open(&self.config.log).map(Some) } else { Ok(None) };
        self.writer = ranks.agree(host, BEGINNING, writer)?;
        if let Some(file) = &self.config.triggers.file {
            let watch = if ranks.rank() == 0 { triggers::watch(file).map(Some) } else { Ok(None) };
            self.armed.file = ranks.agree(host, BEGINNING, watch)?;
        }
        self.previous_tokens = host.progress().tokens.unwrap_or(0);
        self.layout = Some(Arc::new(layout));
        Ok(())
    }

    /// Tells the logs where this process takes over: what an interrupted one wrote from there on is void.
    fn open_session(&mut self, step: u64, host: &dyn Host) {
        if !self.session_open {
            self.session_open = true;
            self.record(Record::Session(Session {
                start_step: step,
                world_size: host.group().world_size(),
                parameters: self.layout.as_deref().map_or(0, Layout::parameters),
                config: self.config.to_toml(),
            }));
        }
    }

    /// The blocks that the next probe measures.
    fn blocks_due(&self) -> Option<&Partition> {
        self.partition.as_ref().filter(|_| self.probes_taken.is_multiple_of(self.config.blocks.every))
    }

    /// A probe that is due: its failure is what the configuration makes of it.
    fn scheduled(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let taken = self.keep_to_budget(step, host).and_then(|()| self.probe(step, host).map(drop));
        self.settle(step, taken)
    }

    /// What the configuration makes of a measurement that may have failed.
    fn settle(&mut self, step: u64, taken: Result<()>) -> Result<Control> {
        let Err(error) = taken else { return Ok(Control::Continue) };
        self.record(Record::Skipped(Skipped { step, reason: error.to_string() }));
        if error.is_interruption() {
            ::log::info!("{error}");
            return Ok(Control::RequestStop);
        }
        if error.is_communication() || (self.config.on_error == OnError::Stop && !error.is_expected()) {
            return Err(error);
        }
        ::log::warn!("skipped: {error}");
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

/// The line that a probe leaves in the program's log.
fn summary(snapshot: &Snapshot) -> String {
    let pm = |estimate: &Estimate| match estimate.standard_error {
        Some(error) => format!("{:.4e} ± {error:.1e}", estimate.mean),
        None => format!("{:.4e}", estimate.mean),
    };
    let margin = snapshot.margin().map_or_else(String::new, |margin| format!(", margin {margin:.3}"));
    format!(
        "step {}: loss {:.4}, λ_max {:.4e} ± {:.1e}, λ_min {:.4e} ± {:.1e}, trace {}{margin}, {} gradients in {:.2} s",
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
