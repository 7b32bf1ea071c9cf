//! What the keys of a GGUF file say of the model's mathematics: computed as said, or refused.

#[path = "common/handmade_gguf.rs"]
mod handmade_gguf;

use handmade_gguf::{Handmade, string};
use hessian_probe_fsdp::{ModelSource, RopeScaling};

/// A value with its type's number.
#[derive(Clone)]
enum Value {
    U16(u16),
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'static str),
}

use Value::{Bool, F32, Text, U16, U32};

fn with(file: Handmade, key: &str, value: &Value) -> Handmade {
    let (kind, bytes) = match value {
        U16(value) => (2, value.to_le_bytes().to_vec()),
        U32(value) => (4, value.to_le_bytes().to_vec()),
        F32(value) => (6, value.to_le_bytes().to_vec()),
        Bool(value) => (7, vec![u8::from(*value)]),
        Text(value) => (8, string(value)),
    };
    file.pair(key, kind, &bytes)
}

/// The least that a model of one layer needs: 5 tokens, 4 values each, 2 heads of 2, 6 values inside.
fn model() -> Handmade {
    let mut file = with(Handmade::default(), "general.architecture", &Text("llama"));
    for (key, value) in [
        ("context_length", U32(16)),
        ("embedding_length", U32(4)),
        ("block_count", U32(1)),
        ("feed_forward_length", U32(6)),
        ("attention.head_count", U32(2)),
        ("attention.layer_norm_rms_epsilon", F32(1e-5)),
    ] {
        file = with(file, &format!("llama.{key}"), &value);
    }
    for (name, shape) in [
        ("token_embd", &[4, 5][..]),
        ("output_norm", &[4]),
        ("blk.0.attn_norm", &[4]),
        ("blk.0.attn_q", &[4, 4]),
        ("blk.0.attn_k", &[4, 4]),
        ("blk.0.attn_v", &[4, 4]),
        ("blk.0.attn_output", &[4, 4]),
        ("blk.0.ffn_norm", &[4]),
        ("blk.0.ffn_gate", &[4, 6]),
        ("blk.0.ffn_up", &[4, 6]),
        ("blk.0.ffn_down", &[6, 4]),
    ] {
        file = tensor(file, &format!("{name}.weight"), shape);
    }
    file
}

/// Of kind F32, behind the others.
fn tensor(mut file: Handmade, name: &str, shape: &[u64]) -> Handmade {
    let offset = file.data;
    file.data = (offset + 4 * shape.iter().product::<u64>() as usize).next_multiple_of(32);
    file.tensor(name, shape, 0, offset as u64)
}

/// The rotary scaling of the file as a model.
fn open(file: &Handmade) -> Result<RopeScaling, String> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file.bytes()).unwrap();
    let opened = ModelSource::open(path.path()).map_err(|error| error.to_string())?;
    Ok(opened.config().rope_scaling.clone())
}

#[test]
fn what_would_change_the_mathematics_is_an_error_that_names_the_key() {
    assert_eq!(open(&model()).unwrap(), RopeScaling::Default);
    // A value that changes the model, and one that does not, where the key has one.
    for (key, changes, neutral) in [
        ("llama.rope.scaling.type", Text("yarn"), Some(Text("none"))),
        ("llama.rope.scaling.attn_factor", F32(0.5), Some(F32(1.0))),
        ("llama.rope.dimension_count", U32(1), Some(U32(2))),
        ("llama.attention.sliding_window", U32(8), Some(U32(0))),
        ("llama.attention.max_alibi_bias", F32(8.0), Some(F32(0.0))),
        ("llama.attention.clamp_kqv", F32(6.0), Some(F32(0.0))),
        ("llama.attention.causal", Bool(false), Some(Bool(true))),
        ("llama.attention.value_length", U32(4), Some(U32(2))),
        ("llama.logit_scale", F32(0.25), Some(F32(1.0))),
        ("llama.expert_count", U32(8), Some(U32(0))),
        ("llama.expert_used_count", U32(2), Some(U32(0))),
        ("llama.use_parallel_residual", Bool(true), Some(Bool(false))),
        ("split.count", U16(2), Some(U16(1))),
        // What nobody here has heard of may be anything.
        ("llama.attention.temperature_length", U32(0), None),
    ] {
        let error = open(&with(model(), key, &changes)).expect_err(key);
        assert!(error.contains(&format!("`{key}` is ")), "{key}: {error}");
        if let Some(neutral) = neutral {
            let scaling = open(&with(model(), key, &neutral));
            assert_eq!(scaling, Ok(RopeScaling::Default), "{key}");
        }
        // A value of another type is no way around it.
        let error = open(&with(model(), key, &Text("8"))).expect_err(key);
        assert!(error.contains(&format!("`{key}` is ")), "{key}: {error}");
    }
}

#[test]
fn linear_scaling_is_read_as_llama_cpp_reads_it() {
    let scaling = |pairs: &[(&str, Value)]| {
        let keys = pairs.iter().map(|(key, value)| (format!("llama.rope.{key}"), value));
        open(&keys.fold(model(), |file, (key, value)| with(file, &key, value)))
    };
    let linear = |factor| Ok(RopeScaling::Linear { factor });
    let (kind, factor, old) = ("scaling.type", "scaling.factor", "scale_linear");
    assert_eq!(scaling(&[(kind, Text("linear")), (factor, F32(4.0))]), linear(4.0));
    assert_eq!(scaling(&[(kind, Text("linear")), (factor, F32(1.0))]), Ok(RopeScaling::Default));
    // Without a type it is this one; and a factor had another name once, which counts where the new one is not there.
    assert_eq!(scaling(&[(factor, F32(4.0))]), linear(4.0));
    assert_eq!(scaling(&[(old, F32(2.0))]), linear(2.0));
    assert_eq!(scaling(&[(kind, Text("linear")), (old, F32(2.0))]), linear(2.0));
    assert_eq!(scaling(&[(old, F32(2.0)), (factor, F32(4.0))]), linear(4.0));
    for none in [0.0, 1.0] {
        assert_eq!(scaling(&[(old, F32(none))]), Ok(RopeScaling::Default));
    }
    // Nothing is scaled by this one.
    assert_eq!(scaling(&[(kind, Text("none")), (factor, F32(4.0))]), Ok(RopeScaling::Default));

    let error = scaling(&[(kind, Text("linear"))]).unwrap_err();
    assert!(error.contains("`llama.rope.scaling.factor` is missing"), "{error}");
    let error = scaling(&[(factor, F32(-2.0))]).unwrap_err();
    assert!(error.contains("`rope_scaling.factor` is -2"), "{error}");
    // Divisors of each frequency and a factor for all: one of them at a time.
    let both = tensor(with(model(), "llama.rope.scaling.factor", &F32(4.0)), "rope_freqs.weight", &[1]);
    let error = open(&both).unwrap_err();
    assert!(
        error.contains("`llama.rope.scaling.factor` is 4") && error.contains("`rope_freqs.weight`"),
        "{error}"
    );
}
