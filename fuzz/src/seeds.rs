//! Small valid files for every target to start from.

use crate::gguf::{self, Value};
use crate::host::{Valley, probe};
use crate::{envelope, models, scratch};
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::log::{JSONL_FILE, JsonlSink, Record, Session, Sink, Skipped};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::triggers::{Cause, Recent, Triggered};
use hessian_probe::{Callback, ProbeConfig};
use hessian_probe_fsdp::{AttentionBias, LlamaConfig, RopeScaling, TrainerConfig};
use std::fs;
use std::path::Path;

/// The configuration of the probe whose saved state is fuzzed.
pub const PROBE: &str =
    "[slq]\nsteps = 4\nprobes = 2\nreorthogonalize = \"partial\"\n[track]\nevery = 1\n[resume]\nevery = 1\n";

/// The file with the vector that tracking starts from.
pub const TOP: &str = "hessian_probe/top.rank-0-of-1.safetensors";

/// Where a probe of step 0 that is under way is saved, below the directory given to [`probe`].
pub const KRYLOV: &str = "log/krylov/step-0";

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// For each target its seeds, with a name.
#[must_use]
pub fn all() -> Vec<(&'static str, Files)> {
    let directory = scratch::directory().join("seeds");
    scratch::clear(&directory);
    let log = log(&directory.join("log"));
    vec![
        ("probe_config", probe_configs()),
        ("trainer_config", trainer_configs()),
        ("sidecar", sidecars(&directory.join("sidecar"))),
        ("top_vector", top_vectors(&directory.join("top"))),
        ("krylov_state", krylov_states(&directory.join("krylov"))),
        ("log_lines", log.clone()),
        ("events", log),
        ("manifest", manifests(&directory.join("checkpoint"))),
        ("hf_config", hf_configs()),
        ("hf_weights", named([models::safetensors(&models::config(), |_| true)])),
        ("hf_index", named([index()])),
        ("gguf", ggufs()),
        ("data_lines", named([
            b"{\"input_ids\": [1, 2, 3]}\n".to_vec(),
            b"\xef\xbb\xbf{\"labels\": [-100, 4, 0], \"input_ids\": [1, 4, 0], \"text\": [{}]}\n\n{\"input_ids\": [1]}".to_vec(),
            b"{\"input_ids\": [1, 2], \"attention_mask\": [1, 1], \"position_ids\": [0, 1], \"labels\": null}".to_vec(),
        ])),
        ("flags", named([
            b"--step-size\nabsolute=1e-3\n--reorthogonalize\n8".to_vec(),
            b"--step-size=relative=1e-6\n--reorthogonalize=none\n--difference=central4".to_vec(),
            b"--steps\n3\n--probes\n1\n--seed\n7\n--dtype\nbf16\n--blocks\nlayer\n--logdir\nx\n--threads\n2\n-v".to_vec(),
        ])),
    ]
}

fn named(files: impl IntoIterator<Item = Vec<u8>>) -> Files {
    files.into_iter().enumerate().map(|(index, file)| (format!("seed-{index}"), file)).collect()
}

fn probe_configs() -> Files {
    let all = "on_error = \"stop\"\n[schedule]\nevery = \"0.1dur\"\nstart = 3\nat = [3, \"1e6tok\", \"5ba\"]\nat_end = true\n\
        [slq]\nsteps = 20\nreorthogonalize = { window = 4 }\ndtype = \"f64\"\nbasis = { dtype = \"bf16\", device = \"cpu\" }\n\
        [hvp]\ndifference = \"central4\"\nstep_size = { relative = 1e-6 }\nprecision = \"full\"\n\
        [blocks]\nby = \"layer\"\nvectors = 4\nspectrum_steps = 2\nmax_hvps = 9\nevery = 2\n\
        [track]\nevery = 10\nproducts = 4\n[budget]\nmax_memory = \"2GB\"\nmax_overhead = 0.1\n[resume]\nevery = 3\n[log]\ndir = \"x\"\n";
    named([
        all.into(),
        PROBE.into(),
        b"[slq]\ndeflate = 4\n".to_vec(),
        ProbeConfig::default().to_toml().into_bytes(),
    ])
}

fn trainer_configs() -> Files {
    let mut config = TrainerConfig::new(models::config(), 2, 4);
    let plain = toml::to_string(&config).expect("TOML");
    config.model.rope_scaling = RopeScaling::Linear { factor: 2.0 };
    config.threads = Some(1);
    let more = toml::to_string(&config).expect("TOML") + "[checkpoint]\ndir = \"x\"\nevery = 3\nkeep = 2\n";
    named([plain.into_bytes(), more.into_bytes()])
}

fn sidecars(directory: &Path) -> Files {
    let (mut host, mut probe) = (Valley::default(), probe(directory, PROBE));
    probe.on_load_checkpoint(directory, &mut host).expect("a fresh start");
    probe.on_save_checkpoint(0, directory, &mut host).expect("a checkpoint");
    let fresh = fs::read(Sidecar::path(directory)).expect("a state");
    save_top(directory);
    let whole = fs::read(Sidecar::path(directory)).expect("a state");
    named([envelope::body(&fresh).to_vec(), envelope::body(&whole).to_vec(), whole])
}

/// Saves a probe that has probed and tracked into a checkpoint.
pub fn save_top(checkpoint: &Path) {
    let mut host = Valley::default();
    let mut probe = probe(checkpoint, PROBE);
    probe.probe(0, &mut host).expect("a snapshot");
    probe.track(1, &mut host).expect("an eigenvalue");
    probe.on_save_checkpoint(1, checkpoint, &mut host).expect("a checkpoint");
}

fn top_vectors(directory: &Path) -> Files {
    save_top(directory);
    named([fs::read(directory.join(TOP)).expect("a vector")])
}

/// Leaves a probe of step 0 under way, which ended at gradient number `at`.
pub fn interrupt(directory: &Path, at: u64) {
    let mut host = Valley::that_ends_at(at);
    probe(directory, PROBE).probe(0, &mut host).expect_err("its process ends");
}

/// The gradient at which every seed ends but for the latest; the calibration takes about a dozen.
pub const ENDS_AT: u64 = 18;

fn krylov_states(directory: &Path) -> Files {
    let mut found = Vec::new();
    for at in 10..40 {
        scratch::clear(directory);
        let mut host = Valley::that_ends_at(at);
        if probe(directory, PROBE).probe(0, &mut host).is_ok() {
            break;
        }
        if let Ok(file) = fs::read(directory.join(KRYLOV).join("state")) {
            found.push(envelope::body(&file).to_vec());
        }
    }
    found.dedup();
    assert!(found.len() > 2, "a probe is saved several times");
    named(found)
}

/// Lines of every kind, and a report.
fn log(directory: &Path) -> Files {
    scratch::clear(directory);
    let mut host = Valley::default();
    let blocks = format!("{PROBE}[blocks]\nby = \"tensor\"\nvectors = 2\nspectrum_steps = 2\n");
    let mut probe = probe(directory, &blocks.replace("[resume]\nevery = 1\n", ""));
    let snapshot = probe.probe(0, &mut host).expect("a snapshot").clone();
    let tracked = probe.track(1, &mut host).expect("an eigenvalue").clone();
    let session = Session { start_step: 0, world_size: 1, parameters: 6, config: probe.config().to_toml() };
    let skipped = Skipped { step: 2, reason: "a gradient was NaN".into() };
    let report = serde_json::to_vec(&snapshot).expect("JSON");
    let mut sink = JsonlSink::open(directory).expect("a log");
    let again = Session { start_step: 1, ..session.clone() };
    for record in [
        Record::Session(session),
        Record::Snapshot(Box::new(snapshot)),
        Record::Skipped(skipped),
        Record::Session(again),
        Record::Tracked(tracked),
        Record::Sharpness(critical_sharpness()),
        Record::Triggered(triggered()),
    ] {
        sink.write(&record).expect("a line");
    }
    let whole = fs::read(directory.join(JSONL_FILE)).expect("a log");
    let mut files: Vec<_> = whole.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    files.extend([whole, report]);
    named(files)
}

fn manifests(directory: &Path) -> Files {
    let path = save_checkpoint(directory);
    let file = fs::read(path.join("manifest.json")).expect("a manifest");
    let pretty = envelope::manifest_body(&file).to_vec();
    let value: serde_json::Value = serde_json::from_slice(&pretty).expect("JSON");
    // Shorter, so that a change is more likely to hit something.
    named([pretty, value.to_string().into_bytes(), file])
}

/// A checkpoint after one step, with what a probe adds.
pub fn save_checkpoint(directory: &Path) -> std::path::PathBuf {
    let mut trainer = models::trainer();
    trainer.step().expect("a step");
    trainer.save(directory, &mut []).expect("a checkpoint")
}

fn variations() -> Vec<LlamaConfig> {
    let config = models::config();
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 4,
    };
    vec![
        config.clone(),
        LlamaConfig { rope_scaling: llama3, head_dim: Some(6), ..config.clone() },
        LlamaConfig { rope_scaling: RopeScaling::Linear { factor: 2.0 }, mlp_bias: true, ..config.clone() },
        LlamaConfig { rope_scaling: RopeScaling::Factors { factors: vec![1.5] }, ..config.clone() },
        LlamaConfig { attention_bias: AttentionBias::Inputs, tie_word_embeddings: false, ..config.clone() },
        LlamaConfig { qk_norm: true, ..config },
    ]
}

fn hf_configs() -> Files {
    named(variations().iter().map(models::config_json))
}

/// The two files of [`index`].
pub const PARTS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn index() -> Vec<u8> {
    let places: serde_json::Map<_, _> = models::weights(&models::config())
        .into_iter()
        .enumerate()
        .map(|(index, (name, _))| (name, PARTS[index % 2].into()))
        .collect();
    serde_json::json!({"metadata": {"total_size": 1}, "weight_map": places}).to_string().into_bytes()
}

fn ggufs() -> Files {
    let qwen =
        LlamaConfig { tie_word_embeddings: false, attention_bias: AttentionBias::Inputs, ..models::config() };
    let wide = LlamaConfig { num_attention_heads: 1, ..LlamaConfig::new(2, 32, 32, 1, 1) };
    let factors: gguf::Tensor = ("rope_freqs.weight".into(), vec![1], 0, 1.0_f32.to_le_bytes().into());
    let tokenizer = [
        ("tokenizer.ggml.tokens", Value::Strings(&["a", "b", "λ"])),
        ("tokenizer.ggml.token_type", Value::I32s(&[1, 1, 3])),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ];
    named([
        model("llama", &models::config(), [(0, 4, 1); 1], &[factors], &tokenizer),
        model("qwen2", &qwen, [(1, 2, 1), (30, 2, 1)], &[], &[]),
        // Q8_0, Q4_0, Q4_1.
        model("llama", &wide, [(8, 34, 32), (2, 18, 32), (3, 20, 32)], &[], &[]),
        gguf::write(
            &tokenizer,
            &[("q4_k".into(), vec![256], 12, vec![1; 144]), ("q6_k".into(), vec![2, 256], 14, vec![1; 420])],
        ),
    ])
}

/// A model whose tensors are in turn of the types `(number, bytes of a block, elements of a block)`; vectors are F32.
fn model<const N: usize>(
    architecture: &'static str,
    config: &LlamaConfig,
    types: [(u32, usize, usize); N],
    more: &[gguf::Tensor],
    metadata: &[(&'static str, Value)],
) -> Vec<u8> {
    let number = |value: usize| Value::U32(u32::try_from(value).expect("a small number"));
    let own = [
        ("embedding_length", number(config.hidden_size)),
        ("feed_forward_length", number(config.intermediate_size)),
        ("block_count", number(config.num_hidden_layers)),
        ("context_length", number(config.max_position_embeddings)),
        ("attention.head_count", number(config.num_attention_heads)),
        ("attention.head_count_kv", number(config.key_value_heads())),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("rope.freq_base", Value::F32(1e4)),
    ];
    let own: Vec<_> =
        own.into_iter().map(|(name, value)| (format!("{architecture}.{name}"), value)).collect();
    let mut pairs = vec![("general.architecture", Value::String(architecture))];
    pairs.extend(own.iter().map(|(name, value)| (name.as_str(), value.clone())));
    pairs.extend_from_slice(metadata);
    let mut tensors: Vec<gguf::Tensor> = models::weights(config)
        .into_iter()
        .enumerate()
        .map(|(index, (name, shape))| {
            let (kind, bytes, block) = if shape.len() == 1 { (0, 4, 1) } else { types[index % N] };
            let blocks = shape.iter().product::<usize>() / block;
            (gguf_name(&name), shape, kind, vec![0x3c; blocks * bytes])
        })
        .collect();
    tensors.extend_from_slice(more);
    gguf::write(&pairs, &tensors)
}

/// The name in a GGUF file.
fn gguf_name(name: &str) -> String {
    [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ]
    .into_iter()
    .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// As after a step of which the bracket is known.
fn critical_sharpness() -> CriticalSharpness {
    CriticalSharpness {
        step: 2,
        unix_time: 1.7e9,
        coming: true,
        loss: 2.5,
        update_norm: 0.125,
        multiple: Some(2.5),
        error: Some(0.02),
        lower: Some(2.48),
        upper: None,
        step_ratio: Some(0.4),
        learning_rate: Some(1e-2),
        sharpness: Some(80.0),
        realised: 1.0,
        passes: 6,
        seconds: 0.25,
        share: None,
    }
}

/// By a loss that was no number, and by a user.
fn triggered() -> Triggered {
    let spike = Cause::LossSpike { loss: None, score: None, median: 2.5, deviation: 0.25 };
    let causes = vec![spike, Cause::Margin { value: 1.5, limit: 0.9 }, Cause::File { path: "now".into() }];
    let recent = vec![Recent { step: 3, loss: Some(2.5), ..Recent::default() }];
    Triggered { step: 4, unix_time: 1.7e9, causes, recent }
}
