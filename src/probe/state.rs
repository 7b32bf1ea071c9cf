//! What a checkpoint keeps of a probe.

use super::HessianProbe;
use crate::checkpoint::{Sidecar, top};
use crate::config::{LogConfig, ProbeConfig};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::host::Host;
use crate::sharded::ranks::Ranks;
use std::path::Path;

impl HessianProbe {
    /// A hash of everything in the configuration but where the results go, which is rank 0's business.
    pub(super) fn fingerprint(&self) -> u64 {
        let shared = ProbeConfig { log: LogConfig::default(), ..self.config.clone() };
        fnv1a(shared.to_toml().bytes())
    }

    /// What a checkpoint written after `step` keeps of this probe.
    pub(super) fn sidecar(&self, step: u64, world_size: usize) -> Sidecar {
        Sidecar {
            step,
            probes_taken: self.probes_taken,
            last_probed: self.last_probed,
            tokens: self.previous_tokens,
            calibration: self.learned.calibration.clone(),
            top_written_by: if self.learned.top.is_some() { world_size } else { 0 },
            triggers: self.armed.state.clone(),
            critical_multiple: self.watched.last,
            configuration: self.fingerprint(),
            latest: self.latest.clone().map(Box::new),
        }
    }

    /// Reads the vector that tracking starts from, of a checkpoint that `written_by` ranks wrote: none, if 0.
    pub(super) fn load_top(
        &mut self,
        written_by: usize,
        directory: &Path,
        host: &mut dyn Host,
    ) -> Result<()> {
        self.learned.top = None;
        if written_by == 0 || self.config.track.every.is_none() {
            return Ok(());
        }
        self.make_ready(host)?;
        let Some(layout) = &self.layout else { return Ok(()) };
        let mut ranks = Ranks::new(host);
        let rank = ranks.rank();
        let loaded = top::load(directory, layout, written_by);
        let loaded = loaded.map_err(|source| Error::Checkpoint { rank, source });
        self.learned.top = Some(ranks.agree(host, "loading the tracked vector", loaded)?);
        Ok(())
    }

    pub(super) fn resume_from(&mut self, sidecar: Sidecar) {
        if sidecar.configuration != self.fingerprint() {
            ::log::info!("the configuration is not that of the checkpoint; going on with the new one");
        }
        self.last_step = Some(sidecar.step);
        self.probes_taken = sidecar.probes_taken;
        self.last_probed = sidecar.last_probed;
        self.previous_tokens = sidecar.tokens;
        self.armed.state = sidecar.triggers;
        self.watched.last = sidecar.critical_multiple;
        self.learned.calibration = sidecar.calibration;
        self.latest = sidecar.latest.map(|latest| *latest);
    }
}
