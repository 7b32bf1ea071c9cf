//! Hugging Face's `config.json`.
#![no_main]

use hessian_probe_fsdp::checkpoint::huggingface::{read_config, write_config};
use hessian_probe_fsdp::{Dtype, Llama};
use hessian_probe_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;
use tch::{Device, Kind};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch::directory().join("config.json"));

fuzz_target!(|bytes: &[u8]| {
    scratch::write(&FILE, bytes);
    match read_config(&FILE) {
        Ok(config) => {
            scratch::write(&FILE, write_config(&config, Dtype::Bf16).to_string());
            assert_eq!(read_config(&FILE).expect("what was written, read"), config);
            if config.num_hidden_layers <= 64 {
                let _ = Llama::new(config, Kind::Float, Device::Cpu).map(|model| model.parameter_count());
            }
        }
        Err(error) => scratch::assert_names(&error, &FILE),
    }
});
