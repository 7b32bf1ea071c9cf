//! GGUF: metadata of every type, tensors of every type, and the model that they make.
#![no_main]

use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use hessian_probe_fuzz::{models, scratch};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch::directory().join("model.gguf"));

fuzz_target!(|bytes: &[u8]| {
    scratch::write(&FILE, bytes);
    match GgufFile::open(&FILE) {
        Ok(file) => look(&file, bytes.len()),
        Err(error) => scratch::assert_names(&error, &FILE),
    }
    if let Err(error) = models::open(&FILE) {
        scratch::assert_names(&error, &FILE);
    }
});

/// Reads all that can be asked for.
fn look(file: &GgufFile, bytes: usize) {
    for key in file.keys() {
        let text = file.string(key).map(drop);
        let texts = file.strings(key).map(|texts| assert!(texts.len() <= bytes));
        let integers = file.integers(key).map(|numbers| assert!(numbers.len() <= bytes));
        let integer = file.integer(key).map(drop);
        let number = file.number(key).map(drop);
        let truth = file.boolean(key).map(drop);
        let results = [text, texts, integers, integer, number, truth];
        assert!(
            results.iter().filter(|result| result.is_ok()).count() <= 2,
            "a whole number is a number, too"
        );
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            scratch::assert_names(error, &FILE);
        }
    }
    for (name, info) in file.tensors() {
        assert!(info.bytes.end <= bytes, "`{name}`");
        let numel = info.numel();
        let mut all = Vec::new();
        file.dequantize(info, 0..numel, &mut all).expect("elements that are there");
        assert_eq!(all.len(), numel);
        // A part is that part of the whole.
        let (start, end) = (numel / 3, numel - numel / 5);
        let mut part = Vec::new();
        file.dequantize(info, start..end, &mut part).expect("elements that are there");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&part), bits(&all[start..end]), "`{name}`");
        file.dequantize(info, 0..numel + 1, &mut part).expect_err("one more");
    }
}
