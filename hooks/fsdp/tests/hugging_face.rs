//! Models in Hugging Face's form, written and read.

mod common;

use common::oracle::Plain;
use common::{bits, config, generator_lock, model, on_ranks_with, text};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, Error, LlamaConfig, Result, Trainer, TrainerConfig};
use safetensors::tensor::{Dtype as Kind, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

const DIRECTORY: &str = "HUGGING_FACE_TEST_DIRECTORY";

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("set by the parent").into()
}

fn import(directory: &Path, group: ProcessGroup, dtype: Dtype) -> Result<Trainer> {
    Trainer::from_hugging_face(directory, group, text(), |model| {
        let mut config = TrainerConfig::new(model, 12, 16);
        config.dtype = dtype;
        config.threads = Some(1);
        config
    })
}

fn all_parameters(trainer: &Trainer) -> BTreeMap<String, Vec<u64>> {
    let names: Vec<_> = trainer.named_shards().unwrap().into_iter().map(|shard| shard.name).collect();
    names.into_iter().map(|name| (name.clone(), bits(&trainer.full_parameter(&name).unwrap()))).collect()
}

fn tokens() -> Tensor {
    Tensor::from_slice(&(0..20).map(|i| i * i % 256).collect::<Vec<i64>>()).view([2, 10])
}

#[test]
fn what_is_exported_is_imported_with_the_same_bits_on_any_number_of_ranks() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2, 3], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        let world_size = group.world_size();
        for (tied, dtype) in [(false, Dtype::F32), (true, Dtype::F32), (true, Dtype::F64)] {
            let name = format!("{tied}-{dtype:?}");
            let mut trainer = Trainer::new(config(tied, 0.1, dtype), group, text()).unwrap();
            let one = directory().join(format!("{name}-{world_size}"));
            trainer.export_hugging_face(&one).unwrap();
            if world_size > 1 {
                // Initial values do not depend on the number of ranks.
                for file in ["config.json", "model.safetensors"] {
                    let of_one_rank =
                        std::fs::read(directory().join(format!("{name}-1")).join(file)).unwrap();
                    assert!(std::fs::read(one.join(file)).unwrap() == of_one_rank, "{file}");
                }
            }
            trainer.step().unwrap();
            let several = directory().join(format!("{name}-{world_size}-several"));
            trainer.export_hugging_face_in_files(&several, 8_000).unwrap();
            let files = several.read_dir().unwrap().count();
            assert!(files > 4, "config, index and files: {files}");
            let expected = all_parameters(&trainer);
            let logits = bits(&trainer.engine().logits(trainer.group(), &tokens()).unwrap());
            group = trainer.into_group();

            let imported = import(&several, group, dtype).unwrap();
            assert_eq!(imported.config().model, model(tied, 0.0));
            assert!(all_parameters(&imported) == expected);
            assert!(bits(&imported.engine().logits(imported.group(), &tokens()).unwrap()) == logits);
            assert_eq!(imported.steps_done(), 0);

            // Nothing is overwritten, and every rank hears of it.
            let error = imported.export_hugging_face(&several).unwrap_err();
            match imported.group().rank() {
                0 => assert!(error.to_string().contains("not an empty directory"), "{error}"),
                _ => assert!(matches!(error, Error::Peer { failed: 0, .. }), "{error}"),
            }
            imported.group().barrier().unwrap();
            assert!(
                directory()
                    .read_dir()
                    .unwrap()
                    .all(|entry| { !entry.unwrap().file_name().to_str().unwrap().starts_with('.') })
            );
            group = imported.into_group();
        }
    });
}

/// A model by hand: `config.json` and weights in one or two files, of `kind`.
struct Handmade {
    config: LlamaConfig,
    json: Value,
    kind: Kind,
    files: usize,
}

impl Handmade {
    fn new(tied: bool) -> Self {
        let config = LlamaConfig { rope_theta: 333.0, ..model(tied, 0.0) };
        let json = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size, "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads, "num_key_value_heads": config.num_key_value_heads,
            "rms_norm_eps": config.rms_norm_eps, "rope_theta": 333.0, "tie_word_embeddings": tied,
            "max_position_embeddings": config.max_position_embeddings, "torch_dtype": "bfloat16",
            "initializer_range": config.initializer_range,
            "use_cache": true, "eos_token_id": [1, 2], "transformers_version": "4.40.0",
        });
        Self { config, json, kind: Kind::F32, files: 1 }
    }

    /// Name, shape and values, which every kind of weights can hold: multiples of 1/64 below 2.
    fn weights(&self) -> Vec<(String, Vec<i64>, Vec<f64>)> {
        let plain = Plain::new(&TrainerConfig::new(self.config.clone(), 1, 1));
        let specs = plain.model.blocks().iter().flat_map(|block| block.parameters.clone());
        let values =
            |i: usize, count: usize| (0..count).map(move |j| ((i * 31 + j * 17) % 53) as f64 / 64.0 - 0.4375);
        specs
            .enumerate()
            .map(|(i, spec)| (spec.name.clone(), spec.shape.clone(), values(i, spec.numel()).collect()))
            .collect()
    }

    fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("config.json"), self.json.to_string()).unwrap();
        let (kind, size) = match self.kind {
            Kind::BF16 => (tch::Kind::BFloat16, 2),
            Kind::F16 => (tch::Kind::Half, 2),
            _ => (tch::Kind::Float, 4),
        };
        let bytes: Vec<_> = self
            .weights()
            .into_iter()
            .map(|(name, shape, values)| {
                let tensor = Tensor::from_slice(&values).to_kind(kind);
                let mut bytes = vec![0; values.len() * size];
                tensor.copy_data_u8(&mut bytes, values.len());
                (name, shape.iter().map(|&size| size as usize).collect::<Vec<_>>(), bytes)
            })
            .collect();
        let mut map = serde_json::Map::new();
        for file in 0..self.files {
            let name =
                if self.files == 1 { "model.safetensors".into() } else { format!("part-{file}.safetensors") };
            let views =
                bytes.iter().enumerate().filter(|(i, _)| i % self.files == file).map(|(_, weight)| {
                    let (weight_name, shape, bytes) = weight;
                    map.insert(weight_name.clone(), name.clone().into());
                    (weight_name, TensorView::new(self.kind, shape.clone(), bytes).unwrap())
                });
            safetensors::serialize_to_file(views, None, &directory.join(&name)).unwrap();
        }
        if self.files > 1 {
            let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
            std::fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
    }

    /// Logits by the plain model with the weights set by hand.
    fn logits(&self) -> Vec<u64> {
        let mut config = TrainerConfig::new(self.config.clone(), 1, 1);
        config.dtype = Dtype::F64;
        let mut plain = Plain::new(&config);
        let mut weights = self.weights().into_iter();
        for parameter in plain.parameters.iter_mut().flatten() {
            let (_, shape, values) = weights.next().unwrap();
            *parameter = Tensor::from_slice(&values).view(&shape[..]);
        }
        bits(&plain.logits(&tokens(), false))
    }
}

#[test]
fn handmade_models_of_every_spelling_give_the_logits_of_weights_set_by_hand() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let remove = |model: &mut Handmade| {
            model.json.as_object_mut().unwrap().remove("rope_theta");
        };
        let mut number = 0;
        for tied in [false, true] {
            for (kind, files, new_spelling) in
                [(Kind::F32, 1, false), (Kind::BF16, 2, true), (Kind::F16, 3, false), (Kind::BF16, 1, true)]
            {
                let mut handmade = Handmade { kind, files, ..Handmade::new(tied) };
                if new_spelling {
                    remove(&mut handmade);
                    handmade.json["rope_parameters"] = json!({"rope_theta": 333.0, "rope_type": "default"});
                }
                let directory = directory().join(format!("{world_size}-{number}"));
                number += 1;
                if rank == 0 {
                    handmade.write(&directory);
                }
                group.barrier().unwrap();
                let trainer = import(&directory, group, Dtype::F64).unwrap();
                assert_eq!(trainer.config().model, handmade.config);
                let logits = trainer.engine().logits(trainer.group(), &tokens()).unwrap();
                assert!(bits(&logits) == handmade.logits(), "tied {tied}, {kind:?}, {files} files");
                group = trainer.into_group();
            }
        }
    });
}

/// The error of importing a model after `change` in its directory.
fn error_after(handmade: &Handmade, change: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    handmade.write(directory.path());
    change(directory.path());
    import(directory.path(), ProcessGroup::single(), Dtype::F32).expect_err("it should fail").to_string()
}

fn edit(path: PathBuf, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn what_is_missing_cut_off_or_of_another_model_is_an_error_that_says_so() {
    let _lock = generator_lock();
    let (single, indexed) = (Handmade::new(false), Handmade { files: 2, ..Handmade::new(false) });
    let assert_says = |message: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };

    let weights = "model.safetensors";
    let cut = |at: fn(usize) -> usize| {
        move |directory: &Path| {
            let whole = std::fs::read(directory.join(weights)).unwrap();
            std::fs::write(directory.join(weights), &whole[..at(whole.len())]).unwrap();
        }
    };
    let places: [fn(usize) -> usize; 5] = [|_| 0, |_| 7, |_| 100, |length| length / 2, |length| length - 1];
    for place in places {
        assert_says(error_after(&single, cut(place)), &[weights, "not a whole safetensors file"]);
    }
    assert_says(
        error_after(&single, |directory| std::fs::remove_file(directory.join(weights)).unwrap()),
        &["neither model.safetensors nor model.safetensors.index.json"],
    );
    assert_says(
        error_after(&single, |directory| std::fs::remove_file(directory.join("config.json")).unwrap()),
        &["config.json", "cannot read"],
    );
    let config = |change: fn(&mut Value)| {
        error_after(&single, |directory| edit(directory.join("config.json"), change))
    };
    assert_says(config(|json| json["attention_dropout"] = json!(0.1)), &["config.json: `attention_dropout`"]);
    assert_says(
        config(|json| json["attention_bias"] = json!(true)),
        &["`model.layers.0.self_attn.q_proj.bias` is missing"],
    );
    assert_says(
        config(|json| json["num_hidden_layers"] = json!(1_u64 << 40)),
        &["too few for the 1099511627776 layers"],
    );
    assert_says(config(|json| json["intermediate_size"] = json!(28)), &["gate_proj", "[27, 10]", "[28, 10]"]);
    assert_says(config(|json| json["num_hidden_layers"] = json!(3)), &["`model.layers.2.", "is missing"]);
    assert_says(config(|json| json["num_hidden_layers"] = json!(1)), &["`model.layers.1.", "is not one of"]);
    let mut claims_untied = Handmade::new(true);
    claims_untied.json["tie_word_embeddings"] = json!(false);
    assert_says(error_after(&claims_untied, |_| {}), &["`lm_head.weight` is missing", "tie_word_embeddings"]);

    let in_file = |file: &str| {
        let change = |json: &mut Value| json["weight_map"]["model.embed_tokens.weight"] = json!(file);
        error_after(&indexed, |directory| edit(directory.join("model.safetensors.index.json"), change))
    };
    let embedding = "model.embed_tokens.weight";
    assert_says(in_file("../x"), &[embedding, "not a file name"]);
    assert_says(in_file("part-1.safetensors"), &[embedding, "`part-1.safetensors`, but is not"]);
    assert_says(in_file("other"), &["other", "cannot open"]);
    let no_index = error_after(&indexed, |directory| {
        std::fs::write(directory.join("model.safetensors.index.json"), "[]").unwrap();
    });
    assert_says(no_index, &["index.json"]);

    let integers = error_after(&single, |directory| {
        let name = "model.norm.weight";
        let bytes = std::fs::read(directory.join(weights)).unwrap();
        let old = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let views = old.tensors().into_iter().map(|(found, view)| {
            let kind = if found == name { Kind::I32 } else { view.dtype() };
            (found, TensorView::new(kind, view.shape().to_vec(), view.data()).unwrap())
        });
        let changed = safetensors::serialize(views, None).unwrap();
        std::fs::write(directory.join(weights), changed).unwrap();
    });
    assert_says(integers, &["`model.norm.weight` is of kind I32", "BF16"]);
}

#[test]
fn tied_models_may_carry_a_copy_and_old_ones_tables_of_frequencies() {
    let _lock = generator_lock();
    let directory = tempfile::tempdir().unwrap();
    let handmade = Handmade::new(true);
    handmade.write(directory.path());
    let path = directory.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let old = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut views = old.tensors();
    let zeros = vec![0; 4 * 257 * 10];
    views.push(("lm_head.weight".into(), TensorView::new(Kind::F32, vec![257, 10], &zeros).unwrap()));
    let table = "model.layers.0.self_attn.rotary_emb.inv_freq";
    views.push((table.into(), TensorView::new(Kind::F32, vec![1], &zeros[..4]).unwrap()));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let trainer = import(directory.path(), ProcessGroup::single(), Dtype::F64).unwrap();
    let logits = trainer.engine().logits(trainer.group(), &tokens()).unwrap();
    assert!(bits(&logits) == handmade.logits());
}
