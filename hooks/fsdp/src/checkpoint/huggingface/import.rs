//! A trainer with the weights of a model in Hugging Face's form.

use super::pretrained::Pretrained;
use super::weights::kind;
use crate::checkpoint::agree;
use crate::config::TrainerConfig;
use crate::data::SequenceSource;
use crate::error::{At, Error, Result};
use crate::model::LlamaConfig;
use crate::sharding::{BlockLayout, ShardedParameters};
use crate::trainer::Trainer;
use hessian_probe_c10d::ProcessGroup;
use std::path::Path;
use tch::no_grad_guard;

impl Trainer {
    /// A new run that starts from the model in `directory`. `configure` gets the model's configuration (and
    /// may change what is not in the weights, as dropout) and returns the run's. Collective.
    ///
    /// Weights are converted to [`TrainerConfig::dtype`]. A rank reads its own slices through a memory map.
    ///
    /// # Errors
    /// On all ranks if on one: [`HuggingFaceKey`](Error::HuggingFaceKey) for a key of `config.json`,
    /// [`HuggingFace`](Error::HuggingFace) for files that are not whole or weights that are missing, of
    /// another shape, or not the model's, [`Io`](Error::Io); and as [`Trainer::new`].
    pub fn from_hugging_face(
        directory: &Path,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
        configure: impl FnOnce(LlamaConfig) -> TrainerConfig,
    ) -> Result<Self> {
        let pretrained = Pretrained::open(directory, &group)?;
        let trainer = Self::without_parameters(configure(pretrained.config.clone()), group, source)?;
        pretrained.read_into(trainer.engine().parameters(), trainer.group())?;
        Ok(trainer)
    }
}

impl Pretrained {
    /// Reads this rank's slices. Collective.
    pub(crate) fn read_into(&self, parameters: &ShardedParameters, group: &ProcessGroup) -> Result<()> {
        let read = self.check_weights(parameters.layouts()).and_then(|()| self.read_weights(parameters));
        agree(group, "reading a model", read)
    }

    /// Whether the weights are those of the model, no more and no less.
    pub(crate) fn check_weights(&self, layouts: &[BlockLayout]) -> Result<()> {
        let Self { directory, config, weights } = self;
        let parameters = || layouts.iter().flat_map(|layout| &layout.parameters);
        for parameter in parameters() {
            let name = &parameter.spec.name;
            let Some((path, dtype, shape)) = weights.info(name) else {
                let tied = if name == "lm_head.weight" {
                    "; `tie_word_embeddings` in config.json says whether it is needed"
                } else {
                    ""
                };
                let reason = format!("the weight `{name}` is missing{tied}");
                return Err(Error::HuggingFace { path: directory.into(), reason });
            };
            let refuse = |reason: String| Err(Error::HuggingFace { path: path.into(), reason });
            if shape != parameter.spec.shape {
                let expected = &parameter.spec.shape;
                return refuse(format!("`{name}` has shape {shape:?}, not {expected:?} as config.json says"));
            }
            if kind(dtype).is_none() {
                return refuse(format!("`{name}` is of kind {dtype:?}; F32, F16, BF16 and F64 can be read"));
            }
        }
        let unused = |name: &&str| {
            let known = parameters().any(|parameter| parameter.spec.name == *name);
            // Tables that old versions of transformers saved, and the copy of tied embeddings.
            let copy = name.ends_with("rotary_emb.inv_freq")
                || (*name == "lm_head.weight" && config.tie_word_embeddings);
            !known && !copy
        };
        match weights.names().find(unused) {
            None => Ok(()),
            Some(name) => Err(Error::HuggingFace {
                path: directory.into(),
                reason: format!("the weight `{name}` is not one of a LlamaForCausalLM of these sizes"),
            }),
        }
    }

    fn read_weights(&self, parameters: &ShardedParameters) -> Result<()> {
        let rank = parameters.rank();
        let (layouts, shards) = (parameters.layouts(), parameters.flat_shards());
        let _no_grad = no_grad_guard();
        for (layout, shard) in layouts.iter().zip(shards) {
            for parameter in &layout.parameters {
                let slice = layout.slice(rank, parameter);
                self.weights
                    .read(&parameter.spec.name, slice.parameter_start, slice.len, |done, piece| {
                        let start = (slice.shard_start + done) as i64;
                        // Converts.
                        shard.f_narrow(0, start, piece.numel() as i64)?.f_copy_(piece)
                    })
                    .at(rank, || format!("reading `{}`", parameter.spec.name))?;
            }
        }
        Ok(())
    }
}
