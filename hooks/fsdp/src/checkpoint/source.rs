//! Models that were made elsewhere: one entry for every form of them.

use super::agree;
use super::gguf::GgufWeights;
use super::huggingface::{Weights, read_config};
use crate::config::TrainerConfig;
use crate::data::SequenceSource;
use crate::error::{At, Error, Result};
use crate::model::{Llama, LlamaConfig, ParameterSpec};
use crate::sharding::ShardedParameters;
use crate::trainer::Trainer;
use hessian_probe_c10d::ProcessGroup;
use std::path::Path;
use tch::{Device, Kind, TchError, Tensor, no_grad_guard};

/// What takes the pieces of a weight: the index of the first element of the piece among those that were asked for,
/// and the piece, flat and of any kind.
pub(super) type Sink<'a> = dyn FnMut(usize, &Tensor) -> Result<(), TchError> + 'a;

/// The weights of a model on disk, under Hugging Face's names.
pub(super) trait WeightFiles {
    /// The number of weights.
    fn count(&self) -> usize;

    /// An error of the files as a whole.
    fn error(&self, reason: String) -> Error;

    /// Whether there is such a weight, of that shape and of a kind that can be read.
    fn check(&self, parameter: &ParameterSpec) -> Result<()>;

    /// Whether all weights are ones of `parameters`, or without a meaning for the model.
    fn check_unused(&self, parameters: &[&ParameterSpec], model: &LlamaConfig) -> Result<()>;

    /// Elements `start..start + len` of the flattened weight, in pieces, in order.
    fn read(&self, name: &str, start: usize, len: usize, sink: &mut Sink<'_>) -> Result<(), TchError>;
}

/// A model on disk whose configuration was read and whose weights were not.
///
/// ```no_run
/// # fn run(group: hessian_probe_c10d::ProcessGroup, corpus: hessian_probe_fsdp::Corpus)
/// # -> hessian_probe_fsdp::Result<()> {
/// use hessian_probe_fsdp::{ModelSource, Trainer, TrainerConfig};
/// use std::path::Path;
///
/// let path = Path::new("SmolLM2-135M-Instruct.Q4_1.gguf");
/// println!("{} layers", ModelSource::open(path)?.config().num_hidden_layers);
/// // On all ranks, each of which reads its own slices:
/// let trainer = Trainer::from_model(path, group, corpus, |model| TrainerConfig::new(model, 2, 256))?;
/// # Ok(())
/// # }
/// ```
pub struct ModelSource {
    config: LlamaConfig,
    parameter_count: u64,
    weights: Box<dyn WeightFiles>,
}

impl ModelSource {
    /// Opens a directory in [Hugging Face's form](super::huggingface) or a [GGUF file](super::gguf); a file is taken
    /// for GGUF, whatever its name.
    ///
    /// ```
    /// use hessian_probe_fsdp::ModelSource;
    /// # use hessian_probe_c10d::ProcessGroup;
    /// # use hessian_probe_fsdp::{Corpus, LlamaConfig, Trainer, TrainerConfig};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("model");
    /// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
    /// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
    /// # config.threads = Some(1);
    /// # Trainer::new(config, ProcessGroup::single(), corpus.clone())?.export_hugging_face(&path)?;
    /// // A directory with `config.json` and `model.safetensors`.
    /// assert_eq!(ModelSource::open(&path)?.config().num_hidden_layers, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io); [`HuggingFaceKey`](crate::Error::HuggingFaceKey) and
    /// [`HuggingFace`](crate::Error::HuggingFace) for a directory, [`Gguf`](crate::Error::Gguf) for a file: where it
    /// is not whole, or the model is one that cannot be represented.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, 0)
    }

    fn open_on(path: &Path, rank: usize) -> Result<Self> {
        if path.is_dir() { Self::open_hugging_face(path, rank) } else { Self::open_gguf(path, rank) }
    }

    fn open_hugging_face(directory: &Path, rank: usize) -> Result<Self> {
        let config = read_config(&directory.join("config.json"))?;
        Self::checked(config, Weights::open(directory, rank)?)
    }

    fn open_gguf(path: &Path, rank: usize) -> Result<Self> {
        let weights = GgufWeights::open(path, rank)?;
        Self::checked(weights.config().clone(), weights)
    }

    /// Sizes are the file's claims: nothing of such a size is made before the weights are seen to have it.
    fn checked(config: LlamaConfig, weights: impl WeightFiles + 'static) -> Result<Self> {
        let (layers, count) = (config.num_hidden_layers, weights.count());
        if layers > count {
            return Err(
                weights.error(format!("has {count} weights, too few for the {layers} layers that it claims"))
            );
        }
        let model = Llama::new(config, Kind::Float, Device::Cpu)?;
        let parameters: Vec<_> = model.blocks().iter().flat_map(|block| &block.parameters).collect();
        check(&weights, &parameters, model.config())?;
        Ok(Self {
            config: model.config().clone(),
            parameter_count: model.parameter_count(),
            weights: Box::new(weights),
        })
    }

    /// [`open`](Self::open) on all ranks: an error on one is an error on all. Collective.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_together(path: &Path, group: &ProcessGroup) -> Result<Self> {
        agree(group, "opening a model", Self::open_on(path, group.rank()))
    }

    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// n, over all ranks.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.parameter_count
    }

    /// Whether the weights are those of `model`.
    pub(crate) fn check_model(&self, model: &Llama) -> Result<()> {
        let parameters: Vec<_> = model.blocks().iter().flat_map(|block| &block.parameters).collect();
        check(&*self.weights, &parameters, model.config())
    }

    /// Reads a rank's slices.
    pub(crate) fn read_into(&self, parameters: &ShardedParameters, rank: usize) -> Result<()> {
        let _no_grad = no_grad_guard();
        for (layout, shard) in parameters.layouts().iter().zip(parameters.flat_shards()) {
            for parameter in &layout.parameters {
                let slice = layout.slice(rank, parameter);
                let mut copy = |done: usize, piece: &Tensor| {
                    let start = (slice.shard_start + done) as i64;
                    // Converts.
                    shard.f_narrow(0, start, piece.numel() as i64)?.f_copy_(piece)
                };
                self.weights
                    .read(&parameter.spec.name, slice.parameter_start, slice.len, &mut copy)
                    .at(rank, || format!("reading `{}`", parameter.spec.name))?;
            }
        }
        Ok(())
    }
}

/// Whether the weights are `parameters`, no more and no less.
fn check(weights: &dyn WeightFiles, parameters: &[&ParameterSpec], model: &LlamaConfig) -> Result<()> {
    parameters.iter().try_for_each(|parameter| weights.check(parameter))?;
    weights.check_unused(parameters, model)
}

impl std::fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelSource").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Trainer {
    /// A new run that starts from the model at `path`, a directory in Hugging Face's form or a GGUF file.
    /// `configure` gets the model's configuration (and may change what is not in the weights, as dropout) and
    /// returns the run's. Collective.
    ///
    /// Weights are converted to [`TrainerConfig::dtype`]. A rank reads its own slices through a memory map, and
    /// holds its shards and a piece of one weight.
    ///
    /// # Errors
    /// On all ranks if on one: as [`ModelSource::open`], also for weights that are missing, of another shape, or not
    /// the model's; and as [`Trainer::new`].
    pub fn from_model(
        path: &Path,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
        configure: impl FnOnce(LlamaConfig) -> TrainerConfig,
    ) -> Result<Self> {
        let opened = ModelSource::open_on(path, group.rank());
        Self::from_opened(opened, group, source, configure)
    }

    /// [`from_model`](Self::from_model) for a directory in Hugging Face's form only.
    ///
    /// # Errors
    /// On all ranks if on one: [`HuggingFaceKey`](crate::Error::HuggingFaceKey) for a key of `config.json`,
    /// [`HuggingFace`](crate::Error::HuggingFace) for files that are not whole or weights that are missing, of
    /// another shape, or not the model's, [`Io`](crate::Error::Io); and as [`Trainer::new`].
    pub fn from_hugging_face(
        directory: &Path,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
        configure: impl FnOnce(LlamaConfig) -> TrainerConfig,
    ) -> Result<Self> {
        let opened = ModelSource::open_hugging_face(directory, group.rank());
        Self::from_opened(opened, group, source, configure)
    }

    fn from_opened(
        opened: Result<ModelSource>,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
        configure: impl FnOnce(LlamaConfig) -> TrainerConfig,
    ) -> Result<Self> {
        let opened = agree(&group, "opening a model", opened)?;
        let trainer = Self::without_parameters(configure(opened.config().clone()), group, source)?;
        // `configure` may have made it another model.
        let read = opened.check_model(trainer.engine().model());
        let read =
            read.and_then(|()| opened.read_into(trainer.engine().parameters(), trainer.group().rank()));
        agree(trainer.group(), "reading a model", read)?;
        Ok(trainer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    /// A weight's name, and the first and the number of the elements that were read of it.
    type Read = (String, usize, usize);

    /// Weights that are nowhere: element i of each is i, in pieces of a few; and what was read of them.
    struct Recorded(Rc<RefCell<Vec<Read>>>);

    impl WeightFiles for Recorded {
        fn count(&self) -> usize {
            usize::MAX
        }

        fn error(&self, reason: String) -> Error {
            Error::Data(reason)
        }

        fn check(&self, _: &ParameterSpec) -> Result<()> {
            Ok(())
        }

        fn check_unused(&self, _: &[&ParameterSpec], _: &LlamaConfig) -> Result<()> {
            Ok(())
        }

        fn read(&self, name: &str, start: usize, len: usize, sink: &mut Sink<'_>) -> Result<(), TchError> {
            self.0.borrow_mut().push((name.to_owned(), start, len));
            let values: Vec<f32> = (start..start + len).map(|index| index as f32).collect();
            for (number, piece) in values.chunks(7).enumerate() {
                sink(7 * number, &Tensor::f_from_slice(piece)?)?;
            }
            Ok(())
        }
    }

    #[test]
    fn every_element_is_read_by_one_rank_and_once() {
        // Sizes that no number of ranks here divides, but 1.
        for tied in [false, true] {
            let config = LlamaConfig {
                num_key_value_heads: Some(1),
                tie_word_embeddings: tied,
                qk_norm: true,
                ..LlamaConfig::new(37, 10, 27, 2, 5)
            };
            let model = Llama::new(config.clone(), Kind::Float, Device::Cpu).unwrap();
            for ranks in 1..=4 {
                let mut reads = BTreeMap::<String, Vec<usize>>::new();
                for rank in 0..ranks {
                    let record = Rc::new(RefCell::new(Vec::new()));
                    let source = ModelSource::checked(config.clone(), Recorded(Rc::clone(&record))).unwrap();
                    assert!(record.borrow().is_empty(), "opening a model reads no weight");
                    let parameters = ShardedParameters::zeros(&model, rank, ranks).unwrap();
                    source.read_into(&parameters, rank).unwrap();

                    let (mut own, mut read) = (0, 0);
                    for (name, start, len) in record.take() {
                        read += len;
                        let counts = reads.entry(name.clone()).or_default();
                        counts.resize(counts.len().max(start + len), 0);
                        counts[start..start + len].iter_mut().for_each(|count| *count += 1);
                    }
                    for (layout, shard) in parameters.layouts().iter().zip(parameters.flat_shards()) {
                        let values = Vec::<f32>::try_from(shard).unwrap();
                        let mut expected = vec![0.0; values.len()];
                        for parameter in &layout.parameters {
                            let slice = layout.slice(rank, parameter);
                            own += slice.len;
                            for index in 0..slice.len {
                                expected[slice.shard_start + index] = (slice.parameter_start + index) as f32;
                            }
                        }
                        assert_eq!(values, expected, "{} of rank {rank} of {ranks}", layout.name);
                    }
                    assert_eq!(read, own, "rank {rank} of {ranks} reads what it keeps");
                }
                for parameter in model.blocks().iter().flat_map(|block| &block.parameters) {
                    let counts = reads.remove(&parameter.name).unwrap_or_default();
                    assert_eq!(counts, vec![1; parameter.numel()], "{} on {ranks} ranks", parameter.name);
                }
                assert!(reads.is_empty(), "{:?}", reads.keys());
            }
        }
    }
}
