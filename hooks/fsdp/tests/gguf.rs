//! Files that are damaged, or that claim what cannot be.

#[path = "common/handmade_gguf.rs"]
mod handmade_gguf;

use handmade_gguf::{Handmade, string};
use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use hessian_probe_fsdp::{Error, ModelSource};
use proptest::prelude::*;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// Opens the bytes as a model and reads every tensor: what a rank would do, or an error that names the file.
fn read_all(bytes: &[u8]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let read = || {
        ModelSource::open(file.path())?;
        let opened = GgufFile::open(file.path())?;
        let mut elements = Vec::new();
        for (_, info) in opened.tensors() {
            elements.clear();
            opened.dequantize(info, 0..info.numel(), &mut elements)?;
            assert_eq!(elements.len(), info.numel());
        }
        Ok::<_, Error>(())
    };
    read().map_err(|error| {
        let message = error.to_string();
        assert!(matches!(error, Error::Gguf { .. }), "{error:?}");
        assert!(message.contains(file.path().to_str().unwrap()), "{message}");
        message
    })
}

/// Where the data begins: behind the last byte that any claim is made in.
fn header_length(bytes: &[u8]) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let opened = GgufFile::open(file.path()).unwrap();
    opened.tensors().map(|(_, info)| info.bytes.start).min().unwrap()
}

#[test]
fn a_file_is_read_whole_or_not_at_all() {
    for name in ["llama-mixed.gguf", "qwen3.gguf"] {
        let bytes = fixture(name);
        read_all(&bytes).unwrap();
        let header = header_length(&bytes);
        // 5 has no divisor in common with the sizes of numbers: cuts fall everywhere into them.
        for length in (0..header).step_by(5).chain((header..bytes.len()).step_by(4999)) {
            read_all(&bytes[..length]).expect_err("a file that was cut off was read");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_are_an_error_or_another_model(flips in prop::collection::vec((0.0..1.0, 0_u8..8), 1..6)) {
        let mut bytes = fixture("llama-mixed.gguf");
        let header = header_length(&bytes);
        for (place, bit) in flips {
            let place = (place * header as f64) as usize;
            bytes[place] ^= 1 << bit;
        }
        let _ = read_all(&bytes);
    }

    #[test]
    fn numbers_written_over_the_header_are_an_error_or_another_model(
        place in 0.0..1.0,
        number in prop_oneof![Just(u64::MAX), Just(1 << 63), Just(1 << 40), Just(1 << 32), any::<u64>()],
    ) {
        let mut bytes = fixture("llama-mixed.gguf");
        let place = (place * (header_length(&bytes) - 8) as f64) as usize;
        bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
        let _ = read_all(&bytes);
    }

    #[test]
    fn bytes_without_meaning_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let with_magic = [&b"GGUF\x03\0\0\0"[..], &bytes].concat();
        prop_assert!(read_all(&bytes).is_err() && read_all(&with_magic).is_err());
    }
}

#[test]
fn an_error_names_the_tensor_or_key_and_the_reason() {
    let new = Handmade::default;
    let huge = u64::MAX.to_le_bytes();
    let array = |kind: u32, count: [u8; 8]| [&kind.to_le_bytes()[..], &count].concat();
    let cases = [
        (new().pair("k", 8, &huge), "`k`: 18446744073709551615 bytes are said to follow"),
        (new().pair("k", 9, &array(8, huge)), "`k`: "),
        (new().pair("k", 9, &array(10, huge)), "`k`: has 18446744073709551615 elements"),
        (new().pair("k", 9, &array(9, 1_u64.to_le_bytes())), "`k`: is an array of arrays"),
        (new().pair("k", 77, &[]), "`k`: is of type 77"),
        (new().pair("k", 0, &[1]).pair("k", 0, &[1]), "`k` is there twice"),
        (new().pair("general.alignment", 4, &[3, 0, 0, 0]), "`general.alignment`"),
        (new().tensor("w", &[32], 0, 0), "`w` takes 128 bytes from byte 0 of the data on"),
        (new().tensor("w", &[33], 8, 0), "`w` has shape [33]; a row of type Q8_0 has a multiple of 32"),
        (
            new().tensor("w", &[u64::MAX, 3], 0, 0),
            "`w` has shape [3, 18446744073709551615], which is too large",
        ),
        (new().tensor("w", &[1 << 62], 0, 0), "`w` has shape [4611686018427387904], which is too large"),
        (new().tensor("w", &[32], 0, !31), "`w` takes 128 bytes"),
        (new().tensor("w", &[32], 0, 8), "not aligned to 32"),
        (new().tensor("w", &[32], 10, 0), "`w` is of type 10 (Q2_K); F32, F16, Q4_0"),
        (new().tensor("w", &[32], 4711, 0), "`w` is of type 4711 (unknown)"),
        (new().tensor("w", &[], 0, 0), "`w` has 0 dimensions"),
        (new().tensor("w", &[1; 5], 0, 0), "`w` has 5 dimensions"),
        (Handmade { data: 128, ..new() }.tensor("w", &[32], 0, 0), "`general.architecture` is missing"),
        (new().pair("general.architecture", 8, &string("gemma")), "\"gemma\"; \"llama\""),
        (
            new().pair("general.architecture", 4, &[1, 0, 0, 0]),
            "`general.architecture` is 1, must be a string",
        ),
        (
            new().pair("general.architecture", 8, &string("llama")).pair("llama.new", 7, &[1]),
            "`llama.new` is true, and this key is not known",
        ),
        (
            new().pair("general.architecture", 8, &string("llama")).pair(
                "llama.expert_count",
                4,
                &[8, 0, 0, 0],
            ),
            "`llama.expert_count` is 8; this model computes only 0",
        ),
    ];
    for (handmade, expected) in cases {
        let message = read_all(&handmade.bytes()).expect_err("it should be refused");
        assert!(message.contains(expected), "{message}\ninstead of {expected}");
    }
}

/// The fixture with what stands behind `key` replaced.
fn edited(key: &str, change: impl FnOnce(&mut [u8])) -> String {
    let mut bytes = fixture("llama-mixed.gguf");
    let key = string(key);
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len();
    change(&mut bytes[at..]);
    read_all(&bytes).expect_err("it should be refused")
}

#[test]
fn sizes_that_the_tensors_do_not_have_are_refused_before_anything_of_that_size_is_made() {
    let set = |value: u32| move |bytes: &mut [u8]| bytes[4..8].copy_from_slice(&value.to_le_bytes());
    let layers = edited("llama.block_count", set(u32::MAX));
    assert!(layers.contains("too few for the 4294967295 layers"), "{layers}");
    let hidden = edited("llama.embedding_length", set(1 << 20));
    assert!(hidden.contains("`token_embd.weight` has shape"), "{hidden}");
    let inner = edited("llama.feed_forward_length", set(1 << 20));
    assert!(inner.contains("`blk.0.ffn_gate.weight` has shape"), "{inner}");
    let heads = edited("llama.attention.head_count", set(7));
    assert!(heads.contains("num_key_value_heads") || heads.contains("head"), "{heads}");
    let missing = edited("blk.1.attn_v.weight", |bytes| bytes[0] = 0);
    assert!(missing.contains("`blk.1.attn_v.weight` has 0 dimensions"), "{missing}");
    let mut renamed = fixture("llama-mixed.gguf");
    let name = b"blk.1.attn_v.weight";
    let at = renamed.windows(name.len()).position(|window| window == name).unwrap();
    renamed[at + 4] = b'7';
    let renamed = read_all(&renamed).unwrap_err();
    assert!(renamed.contains("`blk.1.attn_v.weight` is missing"), "{renamed}");
}
