//! Whether a probe that is due keeps to its limits.

use super::{AGREEING, HessianProbe};
use crate::budget::{BudgetConfig, Bytes, Overhead};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sharded::Layout;
use crate::sharded::ranks::Ranks;
use crate::slq;
use crate::tracking;

impl HessianProbe {
    /// Whether a probe keeps to its limits, by the rank on which it costs most.
    pub(super) fn keep_to_budget(&self, step: u64, host: &dyn Host) -> Result<()> {
        let bytes = |layout: &Layout| slq::bytes(host, layout, &self.config, self.blocks_due());
        self.within("a probe", step, host, &self.overhead, &bytes)
    }

    /// The same for tracking: limits hold for each kind of measurement on its own.
    pub(super) fn tracking_keeps_to_budget(&self, step: u64, host: &dyn Host) -> Result<()> {
        let bytes = |layout: &Layout| tracking::bytes(host, layout, &self.config);
        self.within("tracking", step, host, &self.track_overhead, &bytes)
    }

    pub(super) fn within(
        &self,
        what: &str,
        step: u64,
        host: &dyn Host,
        overhead: &Overhead,
        bytes: &dyn Fn(&Layout) -> u64,
    ) -> Result<()> {
        let budget = &self.config.budget;
        let Some(layout) = self.layout.as_ref().filter(|_| *budget != BudgetConfig::default()) else {
            return Ok(());
        };
        // Sizes are asked of the host, at each step that is due.
        let memory = budget.max_memory.map_or(0, |_| bytes(layout));
        let expected = [overhead.expected(), memory as f64];
        let most = Ranks::new(host).max(host, AGREEING, &expected)?;
        let over = |reason| Err(Error::AtStep { step, source: Box::new(Error::OverBudget(reason)) });
        if let Some(limit) = budget.max_overhead.filter(|limit| most[0] > *limit) {
            return over(format!(
                "{what} like the last one is {:.1} % of the training time since it, more than budget.max_overhead = {:.1} %",
                100.0 * most[0],
                100.0 * limit
            ));
        }
        if let Some(limit) = budget.max_memory.filter(|limit| most[1] > limit.0 as f64) {
            return over(format!(
                "{what} takes {} on a rank, more than budget.max_memory = {limit}; fewer slq.steps or another slq.reorthogonalize take less",
                Bytes(most[1] as u64)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::Callback;
    use crate::config::ProbeConfig;
    use crate::group::{HostError, ProcessGroup, SingleProcess};
    use crate::host::{Gradient, Shard, Update};
    use std::cell::Cell;
    use tch::Tensor;

    /// L = ‖θ‖²/2, and how often it was asked for live gradients, which only sizes and loans need.
    struct Valley(Tensor, Cell<u32>);

    impl Host for Valley {
        fn shards(&self) -> Vec<Shard> {
            Shard::whole([("x".to_owned(), self.0.shallow_clone())], false)
        }

        fn gradient(&mut self) -> Result<Gradient, HostError> {
            let loss = 0.5 * self.0.f_dot(&self.0)?.f_double_value(&[])?;
            Ok(Gradient { loss, tensors: vec![self.0.copy()] })
        }

        fn group(&self) -> &dyn ProcessGroup {
            &SingleProcess
        }

        fn update(&mut self) -> Result<Option<Update>, HostError> {
            Ok(Some(Update { tensors: vec![&self.0 * -0.1], coming: false }))
        }

        fn live_gradients(&self) -> Vec<Tensor> {
            self.1.set(self.1.get() + 1);
            Vec::new()
        }
    }

    /// The times that a host is asked at a step whose measurement is over its budget.
    fn asked(budget: &str) -> u32 {
        let toml = format!(
            "[schedule]\nevery = 100\n[sharpness]\nevery = 1\n[budget]\nmax_overhead = 1e-12\n{budget}\n\
             [log]\njsonl = false\ntensorboard = false\n[slq]\nsteps = 1"
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        let mut host = Valley(Tensor::from_slice(&[1.0, 2.0]), Cell::new(0));
        probe.on_step_end(1, &mut host).unwrap();
        assert_eq!(probe.latest_sharpness().map(|found| found.step), Some(1));
        host.1.set(0);
        probe.on_step_end(2, &mut host).unwrap();
        assert_eq!(probe.latest_sharpness().map(|found| found.step), Some(1), "over budget");
        host.1.get()
    }

    #[test]
    fn sizes_are_asked_of_the_host_only_where_they_are_limited() {
        assert_eq!((asked(""), asked("max_memory = \"1GB\"")), (0, 1));
    }
}
