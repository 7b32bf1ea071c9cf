//! The files with weights, mapped into memory.

use super::family::Family;
use crate::checkpoint::atomic::IoAt;
use crate::checkpoint::mapped::MappedFile;
use crate::checkpoint::source::{Sink, WeightFiles};
use crate::error::{Error, Result};
use crate::model::{LlamaConfig, ParameterSpec};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use tch::{Kind, TchError, Tensor};

/// The file with all weights, where there is one.
pub(super) const SINGLE: &str = "model.safetensors";
/// Says which file has which weight, where there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// How many bytes are turned into a tensor at a time.
const PIECE: usize = 1 << 22;

/// All weights of a model, not yet read.
pub(in crate::checkpoint) struct Weights {
    /// The file that says what weights there are: the one with all of them, or the index.
    listing: PathBuf,
    files: Vec<WeightFile>,
    /// The file of each weight.
    places: BTreeMap<String, usize>,
}

struct WeightFile {
    file: MappedFile,
    metadata: Metadata,
    /// The first byte of tensors' data.
    data: usize,
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// The weights in `directory`: like transformers, one file is preferred to an index.
    pub(in crate::checkpoint) fn open(directory: &Path, rank: usize) -> Result<Self> {
        let single = directory.join(SINGLE);
        if single.is_file() {
            let file = WeightFile::open(&single, rank)?;
            let places = file.metadata.offset_keys().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self { listing: single, files: vec![file], places });
        }
        let path = directory.join(INDEX);
        let refuse = |reason: String| Error::HuggingFace { path: path.clone(), reason };
        if !path.is_file() {
            return Err(Error::HuggingFace {
                path: directory.into(),
                reason: format!("has neither {SINGLE} nor {INDEX}"),
            });
        }
        let text = std::fs::read(&path).io_at(rank, "read", &path)?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        let mut files: Vec<WeightFile> = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (weight, name) in index.weight_map {
            let mut components = Path::new(&name).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(refuse(format!(
                    "`{weight}` is said to be in `{name}`, which is not a file name"
                )));
            }
            let number = match numbers.get(&name) {
                Some(&number) => number,
                None => {
                    files.push(WeightFile::open(&directory.join(&name), rank)?);
                    numbers.insert(name.clone(), files.len() - 1);
                    files.len() - 1
                }
            };
            if files.get(number).is_none_or(|file| file.metadata.info(&weight).is_none()) {
                return Err(refuse(format!("`{weight}` is said to be in `{name}`, but is not")));
            }
            places.insert(weight, number);
        }
        Ok(Self { listing: path, files, places })
    }

    fn file(&self, name: &str) -> Option<&WeightFile> {
        self.files.get(*self.places.get(name)?)
    }
}

impl WeightFiles for Weights {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn error(&self, reason: String) -> Error {
        Error::HuggingFace { path: self.listing.clone(), reason }
    }

    fn check(&self, parameter: &ParameterSpec) -> Result<()> {
        let name = &parameter.name;
        let found = self.file(name).and_then(|file| Some((file, file.metadata.info(name)?)));
        let Some((file, info)) = found else {
            let tied = if name == "lm_head.weight" {
                "; `tie_word_embeddings` in config.json says whether it is needed"
            } else {
                ""
            };
            let reason = format!("the weight `{name}` is missing{tied}");
            return Err(self.error(reason));
        };
        let refuse = |reason: String| Err(Error::HuggingFace { path: file.file.path().into(), reason });
        let shape: Vec<i64> =
            info.shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
        if shape != parameter.shape {
            let expected = &parameter.shape;
            return refuse(format!("`{name}` has shape {shape:?}, not {expected:?} as config.json says"));
        }
        if kind(info.dtype).is_none() {
            return refuse(format!(
                "`{name}` is of kind {:?}; F32, F16, BF16 and F64 can be read",
                info.dtype
            ));
        }
        Ok(())
    }

    fn check_unused(&self, parameters: &[&ParameterSpec], model: &LlamaConfig) -> Result<()> {
        let known: BTreeSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let unused = |name: &&String| {
            // Tables that old versions of transformers saved, and the copy of tied embeddings.
            let copy = name.ends_with("rotary_emb.inv_freq")
                || (*name == "lm_head.weight" && model.tie_word_embeddings);
            !known.contains(name.as_str()) && !copy
        };
        match self.places.keys().find(unused) {
            None => Ok(()),
            Some(name) => Err(self.error(format!(
                "the weight `{name}` is not one of a {} of these sizes",
                Family::of(model).architecture()
            ))),
        }
    }

    fn read(&self, name: &str, start: usize, len: usize, sink: &mut Sink<'_>) -> Result<(), TchError> {
        let shape = |reason: &str| TchError::Shape(format!("`{name}`: {reason}"));
        let file = self.file(name).ok_or_else(|| shape("is missing"))?;
        let info = file.metadata.info(name).ok_or_else(|| shape("is missing"))?;
        let (kind, size) = kind(info.dtype).ok_or_else(|| shape("is of a kind that cannot be read"))?;
        let first = file.data + info.data_offsets.0 + start * size;
        let bytes =
            file.file.get(first..first + len * size).ok_or_else(|| shape("lies outside of its file"))?;
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let count = (piece.len() / size) as i64;
            sink(index * (PIECE / size), &Tensor::f_from_data_size(piece, &[count], kind)?)?;
            let done = first + index * PIECE;
            file.file.release(done..done + piece.len());
        }
        Ok(())
    }
}

/// tch's name of a kind that can be read, and the size of an element.
fn kind(dtype: Dtype) -> Option<(Kind, usize)> {
    match dtype {
        Dtype::F64 => Some((Kind::Double, 8)),
        Dtype::F32 => Some((Kind::Float, 4)),
        Dtype::F16 => Some((Kind::Half, 2)),
        Dtype::BF16 => Some((Kind::BFloat16, 2)),
        _ => None,
    }
}

impl WeightFile {
    fn open(path: &Path, rank: usize) -> Result<Self> {
        let file = MappedFile::open(path, rank)?;
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(|error| Error::HuggingFace {
            path: path.into(),
            reason: format!("is not a whole safetensors file ({error}); fetch it again"),
        })?;
        Ok(Self { file, data: 8 + header, metadata })
    }
}
