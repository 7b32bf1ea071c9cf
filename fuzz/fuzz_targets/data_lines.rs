//! The file with the data of `hessian-probe spectrum`: `input_ids`, `labels`.
#![no_main]

#[path = "../../cli/src/data/mod.rs"]
mod data;

use hessian_probe_fuzz::{models, scratch};
use libfuzzer_sys::fuzz_target;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch::directory().join("data.jsonl"));

fuzz_target!(|bytes: &[u8]| {
    let model = models::config();
    scratch::write(&FILE, bytes);
    let data = match data::read(&FILE, &model) {
        Ok(data) => data,
        Err(error) => return scratch::assert_names(&error, &FILE),
    };
    assert!(data.targets() > 0 && data.ignored.len() <= bytes.len());
    let mut text = String::new();
    for sequence in &data.sequences {
        let (inputs, labels) = (&sequence.inputs, &sequence.labels);
        assert!(!inputs.is_empty() && inputs.len() == labels.len());
        assert!(inputs.len() <= model.max_position_embeddings);
        assert!(inputs.iter().all(|&token| (0..5).contains(&token)));
        assert!(labels.iter().all(|&label| (0..5).contains(&label) || label == -100));
        // The last token is nobody's input, the first nobody's target.
        let ids: Vec<i64> = inputs.iter().copied().chain([0]).collect();
        let shifted: Vec<i64> = std::iter::once(-100).chain(labels.iter().copied()).collect();
        writeln!(text, "{{\"input_ids\": {ids:?}, \"labels\": {shifted:?}}}").expect("memory");
    }
    scratch::write(&FILE, text);
    assert_eq!(data::read(&FILE, &model).expect("what was written, read").sequences, data.sequences);
});
