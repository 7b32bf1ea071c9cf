//! What a rank needs to load a model: what it keeps, and a piece of a weight.

mod common;

use common::on_ranks_with;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{
    Corpus, Evaluation, EvaluationConfig, Llama, LlamaConfig, ModelSource, Trainer, TrainerConfig,
};
use serde_json::{Map, json};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

const DIRECTORY: &str = "LOADING_MEMORY_TEST_DIRECTORY";

/// What the transport's buffers and libtorch's own pages may take: half of a weight.
const OTHER: u64 = 8 << 20;

/// 25 million parameters, 100 MB in f32.
fn model() -> LlamaConfig {
    LlamaConfig { num_key_value_heads: Some(8), ..LlamaConfig::new(8192, 512, 2048, 4, 8) }
}

/// Names and shapes of all weights.
fn weights() -> Vec<(String, Vec<i64>)> {
    let model = Llama::new(model(), Kind::Float, Device::Cpu).unwrap();
    let parameters = model.blocks().iter().flat_map(|block| block.parameters.clone());
    parameters.map(|parameter| (parameter.name, parameter.shape)).collect()
}

/// A file of zeros, which takes no place on the disk, with `header` before them.
fn sparse(path: &Path, header: &[u8], data: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(header).unwrap();
    file.set_len((header.len() + data) as u64).unwrap();
}

fn hugging_face(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let config = hessian_probe_fsdp::checkpoint::huggingface::write_config(&model(), Default::default());
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    safetensors(&directory.join("model.safetensors"), "F32", 4, weights());
}

/// The same model in bf16, in three files with an index.
fn hugging_face_in_parts(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let config = hessian_probe_fsdp::checkpoint::huggingface::write_config(&model(), Default::default());
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let mut map = Map::new();
    for part in 0..3 {
        let file = format!("model-0000{}-of-00003.safetensors", part + 1);
        let own = weights().into_iter().enumerate().filter(|(index, _)| index % 3 == part);
        let own: Vec<_> = own.map(|(_, weight)| weight).collect();
        map.extend(own.iter().map(|(name, _)| (name.clone(), json!(file))));
        safetensors(&directory.join(file), "BF16", 2, own);
    }
    let index = json!({"metadata": {}, "weight_map": map});
    std::fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

fn safetensors(path: &Path, kind: &str, size: usize, weights: Vec<(String, Vec<i64>)>) {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in weights {
        let start = end;
        end += size * shape.iter().product::<i64>() as usize;
        header.insert(name, json!({"dtype": kind, "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    sparse(path, &bytes, end);
}

fn gguf(path: &Path) {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let config = model();
    let mut pairs =
        vec![[string("general.architecture"), 8_u32.to_le_bytes().to_vec(), string("llama")].concat()];
    for (key, value) in [
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.layer_norm_rms_epsilon", 1),
    ] {
        let kind = 4_u32.to_le_bytes().to_vec();
        pairs.push([string(&format!("llama.{key}")), kind, (value as u32).to_le_bytes().to_vec()].concat());
    }
    let (mut tensors, mut end) = (Vec::new(), 0);
    for (name, shape) in weights() {
        let mut name = name.replace("model.layers.", "blk.");
        for (theirs, own) in [
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ] {
            name = name.replace(theirs, own);
        }
        let sizes: Vec<u8> = shape.iter().rev().flat_map(|size| size.to_le_bytes()).collect();
        let (dimensions, kind) = ((shape.len() as u32).to_le_bytes(), 0_u32.to_le_bytes());
        tensors.push([&string(&name)[..], &dimensions, &sizes, &kind, &(end as u64).to_le_bytes()].concat());
        end += 4 * shape.iter().product::<i64>() as usize;
    }
    let counts = [tensors.len() as u64, pairs.len() as u64].map(u64::to_le_bytes).concat();
    let mut header = [&b"GGUF\x03\0\0\0"[..], &counts, &pairs.concat(), &tensors.concat()].concat();
    header.resize(header.len().next_multiple_of(32), 0);
    sparse(path, &header, end);
}

/// Bytes of /proc/self/status.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What loads a model in f32: a training keeps parameters, gradients and AdamW's two moments; `hessian-probe spectrum`,
/// which loads by [`Evaluation::new`], the first two.
#[derive(Clone, Copy, PartialEq)]
enum Loader {
    Trainer,
    Evaluation,
}

/// How far the peak is above what there was before, and how much is kept, of rank's shard of each vector; both in bytes.
fn load(loader: Loader, path: &Path, group: ProcessGroup) -> (u64, u64, ProcessGroup) {
    let before = status("VmRSS");
    // Forgets the peak until now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let took = || status("VmHWM").saturating_sub(before);
    let shard = |parameters: u64, group: &ProcessGroup| 4 * parameters.div_ceil(group.world_size() as u64);
    match loader {
        Loader::Trainer => {
            let corpus = Corpus::from_bytes(vec![0; 100], 0.5).unwrap();
            let trainer =
                Trainer::from_model(path, group, corpus, |model| TrainerConfig::new(model, 2, 16)).unwrap();
            let (took, parameters) = (took(), trainer.parameter_count());
            let group = trainer.into_group();
            (took, 4 * shard(parameters, &group), group)
        }
        Loader::Evaluation => {
            let source = ModelSource::open_together(path, &group).unwrap();
            let evaluation = Evaluation::new(&source, &group, EvaluationConfig::default()).unwrap();
            let kept = 2 * shard(evaluation.parameter_count(), &group);
            (took(), kept, group)
        }
    }
}

#[test]
fn a_rank_holds_what_it_keeps_and_at_most_one_weight_while_it_loads() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        let root: PathBuf = std::env::var_os(DIRECTORY).expect("set by the parent").into();
        let ranks = group.world_size();
        let names = ["hf", "gguf", "parts"].map(|name| root.join(format!("{ranks}-{name}")));
        let [one_file, gguf_file, parts] = &names;
        if group.rank() == 0 {
            hugging_face(one_file);
            gguf(gguf_file);
            hugging_face_in_parts(parts);
        }
        group.barrier().unwrap();
        // glibc keeps blocks below a threshold that grows with what is freed, and gives fixed ones back.
        // SAFETY: sets a parameter of the allocator.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 17) };
        // Once without measuring: libtorch's own pages count from when they are first used.
        group = load(Loader::Trainer, one_file, group).2;
        for (loader, path) in [
            (Loader::Evaluation, parts),
            (Loader::Evaluation, one_file),
            (Loader::Evaluation, gguf_file),
            (Loader::Trainer, one_file),
            (Loader::Trainer, gguf_file),
        ] {
            let (took, kept, back) = load(loader, path, group);
            group = back;
            let largest = 4 * 8192 * 512;
            println!("{}: {took} bytes, of which {kept} are kept", path.display());
            assert!(took >= kept - largest, "{took} of {kept}: the measurement is wrong");
            // Mapped pages count, too: a rank that kept those of its slices would have a fourth more than a training keeps,
            // and a half more than an evaluation, or a fourth of bf16.
            assert!(
                took < kept + largest + OTHER,
                "{}: {took} bytes where {kept} are kept and a weight has {largest}",
                path.display()
            );
            let mapped = if loader == Loader::Evaluation && path != parts { kept / 2 } else { kept / 4 };
            // Half of the bf16 weights are no more than what is allowed; all are.
            let tells = mapped > largest + OTHER || (ranks == 2 && path == parts);
            assert!(tells, "the model is too small to tell: {mapped} bytes are mapped");
        }
    });
}
