//! The smallest loop: a loss whose gradient costs nothing.

use hessian_probe::{
    Gradient, HessianProbe, Host, HostError, ProbeConfig, ProcessGroup, Progress, Shard, SingleProcess,
};
use std::path::Path;
use tch::{Kind, Tensor};

/// A loop whose loss is Σ cₖ (xₖ²/2 + xₖ⁴/12), c = 1 … 6.
#[derive(Debug)]
pub struct Valley {
    parameters: Tensor,
    scale: Tensor,
    /// The number of the gradient that fails, as a process that dies there would.
    ends_at: Option<u64>,
    calls: u64,
}

impl Default for Valley {
    fn default() -> Self {
        tch::set_num_threads(1);
        let parameters = Tensor::from_slice(&[0.5, -0.25, 1.0, 0.125, -2.0, 0.75]);
        Self {
            parameters,
            scale: Tensor::arange_start(1, 7, (Kind::Double, tch::Device::Cpu)),
            ends_at: None,
            calls: 0,
        }
    }
}

impl Valley {
    /// One whose process dies at gradient number `at`.
    #[must_use]
    pub fn that_ends_at(at: u64) -> Self {
        Self { ends_at: Some(at), ..Self::default() }
    }

    /// The bits of the parameters, which no probe may change.
    #[must_use]
    pub fn bits(&self) -> Vec<u64> {
        let values: Vec<f64> = Vec::try_from(&self.parameters).expect("six numbers");
        values.into_iter().map(f64::to_bits).collect()
    }
}

impl Host for Valley {
    fn shards(&self) -> Vec<Shard> {
        Shard::whole([("x".to_owned(), self.parameters.shallow_clone())], false)
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        self.calls += 1;
        if self.ends_at == Some(self.calls) {
            return Err("the end".into());
        }
        let x = &self.parameters;
        let gradient = (x + x * x * x / 3.0) * &self.scale;
        let loss = (((x * x / 2.0) + x * x * x * x / 12.0) * &self.scale).sum(Kind::Double).double_value(&[]);
        Ok(Gradient { loss, tensors: vec![gradient] })
    }

    fn progress(&self) -> Progress {
        Progress { total_steps: Some(100), tokens: Some(1000) }
    }

    fn group(&self) -> &dyn ProcessGroup {
        &SingleProcess
    }
}

/// A probe that logs nothing.
#[must_use]
pub fn probe(directory: &Path, toml: &str) -> HessianProbe {
    let log = directory.join("log");
    let toml = format!("{toml}\n[log]\ndir = {log:?}\ntensorboard = false\njsonl = false\n");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).expect("a configuration")).expect("a probe")
}
