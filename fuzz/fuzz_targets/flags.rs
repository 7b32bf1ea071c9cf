//! The command line of `hessian-probe spectrum`, an argument a line: the grammars of `--step-size`, `--reorthogonalize`
//! and the others.
#![no_main]

#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../cli/src/arguments.rs"]
mod arguments;
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../cli/src/calibrate"]
mod calibrate {
    mod arguments;
    pub mod precision;

    pub use arguments::CalibrateArguments;
}
#[path = "../../cli/src/choice.rs"]
mod choice;
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../cli/src/options.rs"]
mod options;
#[path = "../../cli/src/place.rs"]
mod place;
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../cli/src/plan"]
mod plan {
    mod arguments;

    pub use arguments::PlanArguments;
}

use arguments::{Arguments, Command};
use clap::Parser;
use hessian_probe::ProbeConfig;
use libfuzzer_sys::fuzz_target;

const NEEDED: [&str; 8] = ["hessian-probe", "spectrum", "--model", "m", "--data", "d", "--out", "o"];

fuzz_target!(|text: &str| {
    let parsed = match Arguments::try_parse_from(NEEDED.into_iter().chain(text.lines())) {
        Ok(parsed) => parsed,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Command::Spectrum(arguments) = parsed.command else { return };
    let config = match options::probe(&arguments, 6) {
        Ok(config) => config,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    if config.validate().is_ok() {
        assert_eq!(
            ProbeConfig::from_toml_str(&config.to_toml()).expect("what was accepted, written"),
            config
        );
    }
});
