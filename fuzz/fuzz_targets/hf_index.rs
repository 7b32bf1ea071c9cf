//! `model.safetensors.index.json` beside the files that it should name.
#![no_main]

use hessian_probe_fuzz::{models, scratch, seeds};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = scratch::directory().join("model");
    let config = models::config();
    scratch::write(&directory.join("config.json"), models::config_json(&config));
    for (part, name) in seeds::PARTS.iter().enumerate() {
        scratch::write(&directory.join(name), models::safetensors(&config, |index| index % 2 == part));
    }
    directory
});

fuzz_target!(|bytes: &[u8]| {
    scratch::write(&DIRECTORY.join("model.safetensors.index.json"), bytes);
    if let Err(error) = models::open(&DIRECTORY) {
        scratch::assert_names(&error, &DIRECTORY);
    }
});
