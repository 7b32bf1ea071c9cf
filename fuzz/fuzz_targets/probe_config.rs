//! `ProbeConfig`, from TOML.
#![no_main]

use hessian_probe::ProbeConfig;
use hessian_probe_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch::directory().join("probe.toml"));

fuzz_target!(|bytes: &[u8]| {
    scratch::write(&FILE, bytes);
    match ProbeConfig::from_toml(&*FILE) {
        Ok(config) => {
            let text = config.to_toml();
            assert_eq!(
                ProbeConfig::from_toml_str(&text).expect("what was accepted, written"),
                config,
                "{text}"
            );
        }
        Err(error) => scratch::assert_names(&error, &FILE),
    }
});
