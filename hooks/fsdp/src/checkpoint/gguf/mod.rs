//! GGUF files: metadata, tokenizer and (mostly quantized) weights of a model in one file.
//!
//! ```no_run
//! use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
//! use std::path::Path;
//!
//! let file = GgufFile::open(Path::new("SmolLM2-135M-Instruct.Q4_1.gguf"))?;
//! println!("{}: {} tensors", file.string("general.name")?, file.tensors().count());
//! # Ok::<(), hessian_probe_fsdp::Error>(())
//! ```
//!
//! # The format
//! Version 2 or 3, little-endian
//! ([specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)):
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 pairs
//! pairs:    string key  u32 type  value             string: u64 bytes, UTF-8; array: u32 type  u64 count  values
//! tensors:  string name  u32 dimensions  u64 size of each, fastest first  u32 type  u64 offset
//! padding to a multiple of `general.alignment` (32)
//! data:     each tensor at its offset
//! ```
//!
//! A reader must trust none of these numbers: every length is compared with what the file has left before anything
//! is read or allocated, and an array stays in the file until somebody asks for it. What does not fit is
//! [`Error::Gguf`](crate::Error::Gguf) with the file, the key or tensor, and the reason.
//!
//! # What is read as a model
//! The architectures `llama`, `qwen2` and `qwen3` in tensors of types F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K,
//! which are dequantized to f32 ([`TensorType`] has the formulas). As with Hugging Face's form, a key of the
//! architecture that is not known here is an error, and so is a tensor.
//!
//! - Embeddings are tied where there is no `output.weight`.
//! - `rope_freqs.weight` divides the frequencies of the rotary embeddings; it is how a file spells Llama 3's scaling.
//! - In `llama` files, rows of the query and key projections are permuted: rotary embeddings there pair *neighbouring*
//!   elements of a head, here element `j` with `j + h/2`. Row `2j + i` of a head goes to row `j + i·h/2`.

mod config;
mod cursor;
mod dequantize;
mod file;
mod metadata;
mod names;
mod parse;
mod tensor_type;
mod weights;

pub use file::GgufFile;
pub use parse::TensorInfo;
pub use tensor_type::TensorType;
pub(super) use weights::GgufWeights;
