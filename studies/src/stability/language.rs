//! A small Llama on a short text, all of it in every step, by the sharded trainer and its AdamW without decay, which is Adam.

use crate::Result;
use crate::texts::TEXTS;
use hessian_probe::HessianProbe;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{
    AdamWConfig, LlamaConfig, Sequence, SequenceId, SequenceSource, Trainer, TrainerConfig,
};

/// The text in so many windows of so many bytes.
const WINDOWS: usize = 24;
const LENGTH: usize = 64;

const SEED: u64 = 0;

/// A run at a constant learning rate.
#[derive(Debug)]
pub struct Training {
    pub learning_rate: f64,
    pub steps: u64,
}

impl Training {
    /// Trains under the eyes of `probe`.
    ///
    /// # Errors
    /// The trainer's and the probe's.
    pub fn train(&self, probe: &mut HessianProbe) -> Result<()> {
        let mut trainer = Trainer::new(self.config(), ProcessGroup::single(), Text::new())?;
        // The same windows as in training.
        trainer.probe_on_validation(WINDOWS)?;
        trainer.run(self.steps, &mut [probe], |_| ())?;
        Ok(())
    }

    fn config(&self) -> TrainerConfig {
        let model = LlamaConfig {
            tie_word_embeddings: true,
            max_position_embeddings: LENGTH,
            ..LlamaConfig::new(256, 32, 64, 2, 4)
        };
        let mut config = TrainerConfig::new(model, WINDOWS, LENGTH);
        config.optimizer = AdamWConfig {
            lr: self.learning_rate,
            betas: (0.9, 0.99),
            weight_decay: 0.0,
            ..AdamWConfig::default()
        };
        config.seed = SEED;
        // Sums depend on it, and with them the run, once it is on the edge.
        config.threads = Some(1);
        config
    }
}

/// Bytes, of which every step and every probe gets the same windows.
struct Text(Vec<u8>);

impl Text {
    fn new() -> Self {
        Self(TEXTS.iter().flat_map(|text| text.content.bytes()).collect())
    }

    fn window(&self, index: u64, length: usize) -> hessian_probe_fsdp::Result<Sequence> {
        let tokens = |start: usize| {
            self.0.get(start..start + length).map(|bytes| bytes.iter().map(|&byte| byte.into()).collect())
        };
        let start = index as usize * length;
        let both = tokens(start).zip(tokens(start + 1));
        let (inputs, labels) =
            both.ok_or_else(|| hessian_probe_fsdp::Error::Data(format!("the text has no window {index}")))?;
        Ok(Sequence { inputs, labels })
    }
}

impl SequenceSource for Text {
    fn training(&self, id: SequenceId, length: usize) -> hessian_probe_fsdp::Result<Sequence> {
        self.window(id.index, length)
    }

    fn validation(&self, index: u64, length: usize) -> hessian_probe_fsdp::Result<Sequence> {
        self.window(index, length)
    }

    fn vocab_size(&self) -> usize {
        256
    }
}
