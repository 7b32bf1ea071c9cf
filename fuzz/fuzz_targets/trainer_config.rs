//! `TrainerConfig`, from TOML; with everything that is derived from a model's sizes before memory is taken.
#![no_main]

use hessian_probe_fsdp::{Llama, TrainerConfig};
use libfuzzer_sys::fuzz_target;
use tch::{Device, Kind};

fuzz_target!(|text: &str| {
    let Ok(config) = toml::from_str::<TrainerConfig>(text) else { return };
    let validated = config.validate(2);
    if validated.is_ok() {
        let text = toml::to_string(&config).expect("what was accepted, written");
        assert_eq!(toml::from_str::<TrainerConfig>(&text).expect("what was written, read"), config, "{text}");
        // A model has as much to describe as it has layers, and that is what its user asks for.
        if config.model.num_hidden_layers <= 64 {
            let _ = Llama::new(config.model, Kind::Float, Device::Cpu).map(|model| model.parameter_count());
        }
    }
});
