//! What a rank needs to load a model: what it keeps, and a piece of a weight.

mod common;

use common::on_ranks_with;
use hessian_probe_fsdp::{Corpus, Llama, LlamaConfig, Trainer, TrainerConfig};
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
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in weights() {
        let start = end;
        end += 4 * shape.iter().product::<i64>() as usize;
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    sparse(&directory.join("model.safetensors"), &bytes, end);
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

#[test]
fn a_rank_holds_what_it_keeps_and_at_most_one_weight_while_it_loads() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        let root: PathBuf = std::env::var_os(DIRECTORY).expect("set by the parent").into();
        let ranks = group.world_size();
        let paths = [root.join(format!("{ranks}-hf")), root.join(format!("{ranks}.gguf"))];
        if group.rank() == 0 {
            hugging_face(&paths[0]);
            gguf(&paths[1]);
        }
        group.barrier().unwrap();
        let mut warm = false;
        // glibc keeps blocks below a threshold that grows with what is freed, and gives fixed ones back.
        // SAFETY: sets a parameter of the allocator.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 17) };
        // Once without measuring: libtorch's own pages count from when they are first used.
        for path in [&paths[0], &paths[0], &paths[1]] {
            let corpus = Corpus::from_bytes(vec![0; 100], 0.5).unwrap();
            let before = status("VmRSS");
            // Forgets the peak until now.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let trainer =
                Trainer::from_model(path, group, corpus, |model| TrainerConfig::new(model, 2, 16)).unwrap();
            let took = status("VmHWM").saturating_sub(before);

            let parameters = 4 * trainer.parameter_count();
            // Parameters, gradients and AdamW's two moments.
            let kept = 4 * parameters.div_ceil(ranks as u64);
            let largest = 4 * 8192 * 512;
            println!("{}: {took} bytes, of which {kept} are kept", path.display());
            assert!(took >= kept - largest, "{took} of {kept}: the measurement is wrong");
            if !std::mem::replace(&mut warm, true) {
                group = trainer.into_group();
                continue;
            }
            // Mapped pages count, too: with those of its slices a rank would have a fourth more than it keeps.
            assert!(
                took < kept + largest + OTHER,
                "{took} bytes where {kept} are kept and a weight has {largest}"
            );
            assert!(kept / 4 > 2 * largest, "the model is too small to tell");
            group = trainer.into_group();
        }
    });
}
