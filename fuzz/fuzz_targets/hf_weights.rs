//! `model.safetensors` beside a `config.json` that is as it should be.
#![no_main]

use hessian_probe_fuzz::{models, scratch};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = scratch::directory().join("model");
    scratch::write(&directory.join("config.json"), models::config_json(&models::config()));
    directory
});

fuzz_target!(|bytes: &[u8]| {
    scratch::write(&DIRECTORY.join("model.safetensors"), bytes);
    if let Err(error) = models::open(&DIRECTORY) {
        scratch::assert_names(&error, &DIRECTORY);
    }
});
