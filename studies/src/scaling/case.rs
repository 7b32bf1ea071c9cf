//! What is measured in one process a rank: a model, and the probes that are taken of it.

use crate::lent::Lent;
use crate::{Result, worker};
use hessian_probe::config::{Difference, Reorthogonalize};
use hessian_probe::{HessianProbe, ProbeConfig};
use hessian_probe_fsdp::{Attention, LlamaConfig, PassConfig};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;

/// How long ranks wait for each other.
const TIMEOUT: Duration = Duration::from_secs(1800);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// Where the time goes.
    Time { rounds: usize },
    /// Peaks of resident memory, with and without a probe.
    Memory,
}

/// A Llama with a vocabulary of bytes and tied embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub name: String,
    hidden: usize,
    inner: usize,
    layers: usize,
    /// Sequences and tokens of a probe batch: short ones where a gradient takes long.
    pub sequences: usize,
    pub tokens: usize,
    /// Lanczos steps of the longer probes; the largest models take few.
    steps: usize,
}

/// Name, width, inner width, layers, sequences, tokens of each, steps.
const SIZES: [(&str, usize, usize, usize, usize, usize, usize); 7] = [
    ("0.2M", 64, 172, 4, 4, 64, 20),
    ("1M", 128, 344, 5, 4, 64, 20),
    ("4M", 256, 688, 5, 4, 32, 16),
    ("10M", 320, 864, 8, 4, 16, 12),
    ("40M", 512, 1376, 12, 2, 8, 6),
    ("130M", 768, 2112, 18, 2, 8, 4),
    ("0.5B", 1280, 3456, 26, 2, 8, 4),
];

/// The size at which only what fits this class of machine is measured: two ranks, four steps, no basis to speak of.
pub const LARGEST: &str = "0.5B";

impl Size {
    /// All that are known.
    pub fn names() -> Vec<&'static str> {
        SIZES.iter().map(|size| size.0).collect()
    }

    pub fn named(name: &str) -> Result<Self> {
        let found = SIZES.iter().find(|size| size.0 == name);
        let &(name, hidden, inner, layers, sequences, tokens, steps) =
            found.ok_or_else(|| format!("no size `{name}`; there are: {}", Self::names().join(", ")))?;
        Ok(Self { name: name.into(), hidden, inner, layers, sequences, tokens, steps })
    }

    pub fn model(&self) -> LlamaConfig {
        let heads = (self.hidden / 64).max(2);
        LlamaConfig {
            tie_word_embeddings: true,
            attention: Attention::Sdpa,
            ..LlamaConfig::new(256, self.hidden, self.inner, self.layers, heads)
        }
    }

    /// Width and depth, as a table shows them.
    pub fn shape(&self) -> String {
        format!("{} × {}", self.hidden, self.layers)
    }

    /// Whether a gradient takes so long, on a rank of its own or on cores that four share, that fewer probes are taken.
    fn is_slow(&self, world_size: usize) -> bool {
        self.hidden >= SLOW_FROM || world_size > 2
    }
}

/// The width from which on fewer probes are taken.
const SLOW_FROM: usize = 320;

/// One way to probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// m.
    pub steps: usize,
    /// r.
    pub vectors: usize,
    pub reorthogonalize: Reorthogonalize,
    pub difference: Difference,
    /// Whether it is taken with measuring the noise, too.
    pub calibrates: bool,
    pub held_out: bool,
}

impl Probe {
    fn calibrating(self) -> Self {
        Self { calibrates: true, ..self }
    }

    fn held_out(self) -> Self {
        Self { held_out: true, ..self }
    }

    pub fn config(&self) -> ProbeConfig {
        let mut config = ProbeConfig::default();
        (config.slq.steps, config.slq.probes) = (self.steps, self.vectors);
        config.slq.reorthogonalize = self.reorthogonalize;
        config.hvp.difference = self.difference;
        // All but the first find the noise measured.
        config.hvp.recalibrate_every = u64::MAX;
        (config.log.tensorboard, config.log.jsonl) = (false, false);
        config
    }

    pub fn new_probe(&self) -> Result<HessianProbe> {
        Ok(HessianProbe::new(self.config())?)
    }

    pub fn name(&self) -> String {
        let formula = format!("{:?}", self.difference).to_lowercase();
        format!("m={} r={} {} {formula}", self.steps, self.vectors, self.reorthogonalize)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub task: Task,
    pub size: Size,
    pub world_size: usize,
    /// Of each rank.
    pub threads: usize,
}

impl Case {
    /// The probes that are taken, whether each is taken with measuring the noise, too, and whether it is held out of the fit.
    pub fn probes(&self) -> Vec<Probe> {
        let most = self.size.steps;
        let few = most.div_ceil(3).max(2);
        let probe = |steps, vectors, reorthogonalize, difference| Probe {
            steps,
            vectors,
            reorthogonalize,
            difference,
            calibrates: false,
            held_out: false,
        };
        use Difference::{Central, Forward};
        use Reorthogonalize::{Full, None, Window};
        if self.size.name == LARGEST {
            return vec![
                probe(4, 1, None, Forward).calibrating(),
                probe(2, 1, None, Central),
                probe(4, 1, None, Central).held_out(),
            ];
        }
        if self.size.is_slow(self.world_size) {
            return vec![
                probe(few, 1, None, Forward).calibrating(),
                probe(most, 1, Full, Central),
                probe(most, 1, None, Central).held_out(),
                probe(few, 2, Full, Forward).held_out(),
            ];
        }
        vec![
            probe(few, 1, Full, Central).calibrating(),
            probe(few, 2, None, Forward).calibrating(),
            probe(most, 1, None, Central),
            probe(most, 1, Window(4), Forward),
            probe(most, 1, Full, Forward),
            probe(most, 1, Full, Central).held_out(),
            probe(most * 3 / 5, 2, Full, Forward).held_out(),
            probe(most * 3 / 5, 1, None, Central).held_out().calibrating(),
        ]
    }

    /// The model on this rank, with a probe batch.
    pub fn host(&self) -> Result<Lent> {
        let group = worker::group(self.world_size, TIMEOUT)?;
        tch::set_num_threads(i32::try_from(self.threads)?);
        let batch = [self.size.sequences, self.size.tokens];
        Lent::new(self.size.model(), batch, PassConfig::default(), Rc::new(group))
    }
}
