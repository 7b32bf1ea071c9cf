//! Models that others made: losses and gradients are those of `transformers`, which `fixtures/make.py` wrote down.

mod common;

use common::{assert_close, bits, generator_lock, on_ranks, on_ranks_with, text, values};
use hessian_probe::{Host, ReduceOp};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::checkpoint::gguf::TensorType;
use hessian_probe_fsdp::{Batch, Dtype, ModelSource, ProbeBatch, Trainer, TrainerConfig};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::Tensor;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Models, each with what is expected of it.
fn models() -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for entry in fixtures().read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), read(&path.join("expected.json"))));
        } else if path.extension().is_some_and(|extension| extension == "gguf") {
            found.push((path.clone(), read(&path.with_extension("expected.json"))));
        }
    }
    found.sort_by(|first, second| first.0.cmp(&second.0));
    assert_eq!(found.len(), 13);
    found
}

fn open(path: &Path, group: ProcessGroup) -> Trainer {
    let configure = |model| TrainerConfig { threads: Some(1), ..TrainerConfig::new(model, 2, 16) };
    Trainer::from_model(path, group, Tokens, configure).unwrap()
}

/// No data: the models' vocabularies are smaller than that of bytes.
struct Tokens;

impl hessian_probe_fsdp::SequenceSource for Tokens {
    fn training(
        &self,
        _: hessian_probe_fsdp::SequenceId,
        _: usize,
    ) -> hessian_probe_fsdp::Result<hessian_probe_fsdp::Sequence> {
        Err(hessian_probe_fsdp::Error::Data("there is none".into()))
    }

    fn validation(&self, _: u64, _: usize) -> hessian_probe_fsdp::Result<hessian_probe_fsdp::Sequence> {
        Err(hessian_probe_fsdp::Error::Data("there is none".into()))
    }

    fn vocab_size(&self) -> usize {
        1
    }
}

/// This rank's rows of the expected tokens, as the probe batch.
fn set_tokens(trainer: &mut Trainer, expected: &Value) {
    let rows: Vec<Vec<i64>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    let (rank, ranks) = (Host::group(trainer).rank(), Host::group(trainer).world_size());
    let own: Vec<_> = rows.iter().skip(rank).step_by(ranks).collect();
    let shape = [own.len() as i64, rows[0].len() as i64];
    let tokens = Tensor::from_slice(&own.into_iter().flatten().copied().collect::<Vec<_>>()).view(shape);
    let batch = Batch::from_unshifted(&tokens, &tokens, rank).unwrap();
    trainer
        .set_probe_batch(ProbeBatch { inputs: batch.inputs, labels: batch.labels, dropout: false })
        .unwrap();
}

/// Of each weight, the gradient's squared norm and its product with the vector of `make.py`, over all ranks.
fn checksums(trainer: &mut Trainer) -> (f64, Vec<(String, [f64; 2])>) {
    let gradient = trainer.gradient().unwrap();
    let layouts = trainer.engine().parameters().layouts();
    let rank = trainer.group().rank();
    let places = layouts.iter().flat_map(|layout| layout.parameters.iter().map(move |own| (layout, own)));
    let (mut names, mut sums) = (Vec::new(), Vec::new());
    for ((layout, parameter), tensor) in places.zip(&gradient.tensors) {
        let name = &parameter.spec.name;
        let seed: f64 = name.bytes().enumerate().map(|(i, byte)| (i + 1) as f64 * f64::from(byte)).sum();
        let start = layout.slice(rank, parameter).parameter_start;
        let own = values(tensor);
        sums.push(own.iter().map(|x| x * x).sum());
        let weighed = |(i, x): (usize, &f64)| x * (0.7 * (start + i) as f64 + seed).cos();
        sums.push(own.iter().enumerate().map(weighed).sum());
        names.push(name.clone());
    }
    Host::group(trainer).all_reduce(&mut sums, ReduceOp::Sum).unwrap();
    (gradient.loss, names.into_iter().zip(sums.chunks(2).map(|pair| [pair[0].sqrt(), pair[1]])).collect())
}

fn assert_expected(trainer: &mut Trainer, expected: &Value, what: &str) {
    set_tokens(trainer, expected);
    let (loss, found) = checksums(trainer);
    assert_close(loss, expected["loss"].as_f64().unwrap(), 1e-6, what);
    let gradients = expected["gradients"].as_object().unwrap();
    assert_eq!(found.len(), gradients.len(), "{what}");
    for (name, [norm, weighed]) in found {
        let expected = &gradients[&name];
        let whole = expected["norm"].as_f64().unwrap();
        // A key's bias moves no attention: its gradient is zero but for rounding.
        let scale = whole.max(1e-3);
        for (found, expected) in [(norm, whole), (weighed, expected["weighed"].as_f64().unwrap())] {
            let error = (found - expected).abs();
            assert!(error < 1e-5 * scale, "{what}: {name}: {found} instead of {expected}, of {whole}");
        }
    }
}

#[test]
fn losses_and_gradients_of_every_variation_are_those_of_transformers() {
    on_ranks(&[1, 2], |mut group| {
        for (path, expected) in models() {
            let what = path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut trainer = open(&path, group);
            assert_expected(&mut trainer, &expected, &what);
            group = trainer.into_group();
        }
    });
}

#[test]
fn every_variation_is_exported_so_that_it_is_the_same_model_again() {
    const DIRECTORY: &str = "MODELS_TEST_DIRECTORY";
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[2], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        let root: PathBuf = std::env::var_os(DIRECTORY).expect("set by the parent").into();
        for (path, expected) in models() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let exported = root.join(name.replace('.', "-"));
            let trainer = open(&path, group);
            trainer.export_hugging_face(&exported).unwrap();
            let (config, shards) = (trainer.config().model.clone(), trainer.named_shards().unwrap());
            let before: Vec<_> = shards.iter().map(|shard| bits(&shard.tensor)).collect();

            let mut again = open(&exported, trainer.into_group());
            let after: Vec<_> =
                again.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect();
            assert!(before == after, "{name}");
            let mut found = again.config().model.clone();
            // GGUF files do not have it.
            found.initializer_range = config.initializer_range;
            assert_eq!(
                (found.key_value_heads(), found.head_size()),
                (config.key_value_heads(), config.head_size())
            );
            found.num_key_value_heads = config.num_key_value_heads;
            assert_eq!(found, config, "{name}");
            assert_expected(&mut again, &expected, name);
            group = again.into_group();
        }
    });
}

#[test]
fn a_directory_is_not_needed_for_its_configuration() {
    let _lock = generator_lock();
    let config = |name: &str| ModelSource::open(&fixtures().join(name)).unwrap().config().clone();
    let gguf = config("llama-mixed.gguf");
    assert_eq!((gguf.vocab_size, gguf.hidden_size, gguf.num_hidden_layers), (64, 32, 2));
    assert_eq!((gguf.rms_norm_eps, gguf.rope_theta, gguf.tie_word_embeddings), (1e-6, 100.0, true));
    assert_eq!(config("llama-biases.gguf").head_size(), 10);
    assert_eq!(config("qwen3-bias").head_size(), 6);
    // A model of one form is not taken for one of the other.
    let wrong =
        Trainer::from_hugging_face(&fixtures().join("qwen2.gguf"), ProcessGroup::single(), text(), |model| {
            TrainerConfig { dtype: Dtype::F64, ..TrainerConfig::new(model, 1, 1) }
        });
    assert!(wrong.unwrap_err().to_string().contains("config.json"));
    let error = ModelSource::open(&fixtures().join("blocks.json")).unwrap_err().to_string();
    assert!(error.contains("blocks.json") && error.contains("does not begin with `GGUF`"), "{error}");
}

#[test]
fn blocks_of_every_type_are_dequantized_bit_for_bit_as_by_the_gguf_package() {
    let blocks = read(&fixtures().join("blocks.json"));
    let types = [
        TensorType::F32,
        TensorType::F16,
        TensorType::Bf16,
        TensorType::Q8_0,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q4K,
        TensorType::Q6K,
    ];
    assert_eq!(blocks.as_object().unwrap().len(), types.len());
    for kind in types {
        let block = &blocks[kind.name()];
        let hex = block["bytes"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        let expected: Vec<u32> = serde_json::from_value(block["elements"].clone()).unwrap();
        assert_eq!(bytes.len() / kind.block_bytes() * kind.block_elements(), expected.len());
        let mut elements = Vec::new();
        kind.dequantize(&bytes, &mut elements);
        let found: Vec<u32> = elements.into_iter().map(f32::to_bits).collect();
        assert!(found == expected, "{}", kind.name());
    }
}
