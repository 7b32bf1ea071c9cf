//! The files with weights, mapped into memory.

use crate::error::{Error, Result};
use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use tch::{Kind, Tensor};

/// The file with all weights, where there is one.
pub(super) const SINGLE: &str = "model.safetensors";
/// Says which file has which weight, where there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// How many bytes are turned into a tensor at a time.
const PIECE: usize = 1 << 22;

/// All weights of a model, not yet read.
pub(super) struct Weights {
    files: Vec<MappedFile>,
    /// The file of each weight.
    places: BTreeMap<String, usize>,
}

struct MappedFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    /// The first byte of tensors' data.
    data: usize,
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn io(rank: usize, action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { rank, action, path: path.into(), source }
}

impl Weights {
    /// The weights in `directory`: like transformers, one file is preferred to an index.
    pub(super) fn open(directory: &Path, rank: usize) -> Result<Self> {
        if directory.join(SINGLE).is_file() {
            let file = MappedFile::open(&directory.join(SINGLE), rank)?;
            let places = file.metadata.offset_keys().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self { files: vec![file], places });
        }
        let path = directory.join(INDEX);
        let refuse = |reason: String| Error::HuggingFace { path: path.clone(), reason };
        if !path.is_file() {
            return Err(Error::HuggingFace {
                path: directory.into(),
                reason: format!("has neither {SINGLE} nor {INDEX}"),
            });
        }
        let text = std::fs::read(&path).map_err(io(rank, "read", &path))?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        let mut files: Vec<MappedFile> = Vec::new();
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
                    files.push(MappedFile::open(&directory.join(&name), rank)?);
                    numbers.insert(name.clone(), files.len() - 1);
                    files.len() - 1
                }
            };
            if files.get(number).is_none_or(|file| file.metadata.info(&weight).is_none()) {
                return Err(refuse(format!("`{weight}` is said to be in `{name}`, but is not")));
            }
            places.insert(weight, number);
        }
        Ok(Self { files, places })
    }

    /// The names of all weights.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The file that has `name`, the weight's kind and its shape.
    pub(super) fn info(&self, name: &str) -> Option<(&Path, Dtype, Vec<i64>)> {
        let file = self.file(name)?;
        let info = file.metadata.info(name)?;
        let shape = info.shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
        Some((&file.path, info.dtype, shape))
    }

    /// Elements `start..start + len` of the flattened weight, in pieces, in its own kind.
    pub(super) fn read(
        &self,
        name: &str,
        start: usize,
        len: usize,
        mut sink: impl FnMut(usize, &Tensor) -> Result<(), tch::TchError>,
    ) -> Result<(), tch::TchError> {
        let shape = |reason: &str| tch::TchError::Shape(format!("`{name}`: {reason}"));
        let file = self.file(name).ok_or_else(|| shape("is missing"))?;
        let info = file.metadata.info(name).ok_or_else(|| shape("is missing"))?;
        let (kind, size) = kind(info.dtype).ok_or_else(|| shape("is of a kind that cannot be read"))?;
        let first = file.data + info.data_offsets.0;
        let bytes = file
            .map
            .get(first + start * size..first + (start + len) * size)
            .ok_or_else(|| shape("lies outside of its file"))?;
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let count = (piece.len() / size) as i64;
            sink(index * (PIECE / size), &Tensor::f_from_data_size(piece, &[count], kind)?)?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> Option<&MappedFile> {
        self.files.get(*self.places.get(name)?)
    }
}

/// tch's name of a kind that can be read, and the size of an element.
pub(super) fn kind(dtype: Dtype) -> Option<(Kind, usize)> {
    match dtype {
        Dtype::F64 => Some((Kind::Double, 8)),
        Dtype::F32 => Some((Kind::Float, 4)),
        Dtype::F16 => Some((Kind::Half, 2)),
        Dtype::BF16 => Some((Kind::BFloat16, 2)),
        _ => None,
    }
}

impl MappedFile {
    fn open(path: &Path, rank: usize) -> Result<Self> {
        let file = File::open(path).map_err(io(rank, "open", path))?;
        // SAFETY: the map is only read. A file that others cut off meanwhile would end the process with
        // SIGBUS, and one that they overwrite give other weights, as the module's page says.
        let map = unsafe { Mmap::map(&file) }.map_err(io(rank, "map", path))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| Error::HuggingFace {
            path: path.into(),
            reason: format!("is not a whole safetensors file ({error}); fetch it again"),
        })?;
        Ok(Self { path: path.into(), data: 8 + header, map, metadata })
    }
}
