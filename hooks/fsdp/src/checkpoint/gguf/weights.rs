//! The weights of a model in a GGUF file.

use super::config::{Architecture, read_config};
use super::file::GgufFile;
use super::names::{RowOrder, gguf_name};
use super::parse::TensorInfo;
use crate::checkpoint::source::{Sink, WeightFiles};
use crate::error::{Error, Result};
use crate::model::{LlamaConfig, ParameterSpec};
use std::collections::BTreeSet;
use std::path::Path;
use tch::{TchError, Tensor};

/// How many elements are dequantized at a time.
const PIECE: usize = 1 << 20;

/// Divisors of the rotary embeddings' frequencies; part of the configuration here.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// An open file with the configuration of its model.
#[derive(Debug)]
pub(in crate::checkpoint) struct GgufWeights {
    file: GgufFile,
    architecture: Architecture,
    config: LlamaConfig,
}

impl GgufWeights {
    pub(in crate::checkpoint) fn open(path: &Path, rank: usize) -> Result<Self> {
        let file = GgufFile::open_on(path, rank)?;
        let (architecture, config) = read_config(&file)?;
        Ok(Self { file, architecture, config })
    }

    pub(in crate::checkpoint) fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn tensor(&self, name: &str) -> Result<(String, &TensorInfo)> {
        let missing = |name: &str| self.file.error(format!("the tensor `{name}` is missing"));
        let own = gguf_name(name).ok_or_else(|| missing(name))?;
        let info = self.file.tensor(&own).ok_or_else(|| missing(&own))?;
        Ok((own, info))
    }

    fn row_order(&self, name: &str) -> RowOrder {
        let turned = [".q_proj.", ".k_proj."].iter().any(|part| name.contains(part));
        match self.architecture {
            Architecture::Llama if turned => RowOrder::Neighbours { head_size: self.config.head_size() },
            _ => RowOrder::Plain,
        }
    }

    fn read_slice(&self, name: &str, start: usize, len: usize, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let (_, info) = self.tensor(name)?;
        let order = self.row_order(name);
        let row_len = match order {
            RowOrder::Plain => info.numel(),
            RowOrder::Neighbours { .. } => info.numel() / info.shape.first().copied().unwrap_or(1).max(1),
        };
        let (mut elements, mut sent, mut done) = (Vec::new(), 0, 0);
        while done < len {
            let (row, within) = ((start + done) / row_len, (start + done) % row_len);
            let count = (len - done).min(row_len - within).min(PIECE - elements.len());
            let place = order.place(row) * row_len + within;
            self.file.dequantize(info, place..place + count, &mut elements)?;
            done += count;
            if elements.len() == PIECE || done == len {
                sink(sent, &Tensor::f_from_slice(&elements)?)?;
                sent = done;
                elements.clear();
            }
        }
        Ok(())
    }
}

impl WeightFiles for GgufWeights {
    fn count(&self) -> usize {
        self.file.tensors().count()
    }

    fn error(&self, reason: String) -> Error {
        self.file.error(reason)
    }

    fn check(&self, parameter: &ParameterSpec) -> Result<()> {
        let (name, info) = self.tensor(&parameter.name)?;
        let expected: Vec<_> =
            parameter.shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        if info.shape != expected {
            return Err(self.file.error(format!(
                "`{name}` has shape {:?} (slowest first), not {expected:?} as the metadata says",
                info.shape
            )));
        }
        Ok(())
    }

    fn check_unused(&self, parameters: &[&ParameterSpec], _: &LlamaConfig) -> Result<()> {
        let known: BTreeSet<_> =
            parameters.iter().filter_map(|parameter| gguf_name(&parameter.name)).collect();
        match self.file.tensors().find(|(name, _)| *name != ROPE_FACTORS && !known.contains(*name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(self.file.error(format!("the tensor `{name}` is not one of a model of these sizes")))
            }
        }
    }

    fn read(&self, name: &str, start: usize, len: usize, sink: &mut Sink<'_>) -> Result<(), TchError> {
        self.read_slice(name, start, len, sink).map_err(|error| match error {
            ReadError::Torch(error) => error,
            ReadError::File(error) => TchError::FileFormat(error.to_string()),
        })
    }
}

enum ReadError {
    Torch(TchError),
    File(Error),
}

impl From<TchError> for ReadError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}
