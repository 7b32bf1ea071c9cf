//! What a checkpoint keeps of a probe.

use super::HessianProbe;
use crate::checkpoint::Sidecar;
use crate::config::{LogConfig, ProbeConfig};
use crate::hash::fnv1a;

impl HessianProbe {
    /// A hash of everything in the configuration but where the results go, which is rank 0's business.
    pub(super) fn fingerprint(&self) -> u64 {
        let shared = ProbeConfig { log: LogConfig::default(), ..self.config.clone() };
        fnv1a(shared.to_toml().bytes())
    }

    /// What a checkpoint written after `step` keeps of this probe.
    pub(super) fn sidecar(&self, step: u64) -> Sidecar {
        Sidecar {
            step,
            probes_taken: self.probes_taken,
            last_probed: self.last_probed,
            tokens: self.previous_tokens,
            calibration: self.calibration.clone(),
            configuration: self.fingerprint(),
            latest: self.latest.clone().map(Box::new),
        }
    }

    pub(super) fn resume_from(&mut self, sidecar: Sidecar) {
        if sidecar.configuration != self.fingerprint() {
            ::log::info!(target: "hessian_probe", "the configuration is not that of the checkpoint; going on with the new one");
        }
        self.last_step = Some(sidecar.step);
        self.probes_taken = sidecar.probes_taken;
        self.last_probed = sidecar.last_probed;
        self.previous_tokens = sidecar.tokens;
        self.calibration = sidecar.calibration;
        self.latest = sidecar.latest.map(|latest| *latest);
    }
}
