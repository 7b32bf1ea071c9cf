//! Models that a study measures, with their texts.

use crate::output::Output;
use crate::programs::Programs;
use crate::texts::lines;
use crate::{Options, Result, sources};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Trains and does not look.
const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/regimes/probe.toml");

/// A model and a text in files.
pub struct Saved {
    /// For file names.
    pub name: &'static str,
    pub model: PathBuf,
    pub data: PathBuf,
}

/// The demo's model as it is after its training, and `sequences` sequences of `tokens` tokens that it was not trained on.
///
/// # Errors
/// Where the demo fails, or its text is not there.
pub fn demo(
    options: &Options,
    programs: &Programs,
    output: &Output,
    sequences: usize,
    tokens: usize,
) -> Result<Saved> {
    let (text, model, logs) = (output.path("text"), output.path("demo"), output.path("training"));
    sources::copy(&text)?;
    let trained = model.join("config.json").is_file();
    let mut arguments: Vec<OsString> = Vec::new();
    for (flag, path) in [("--text", text.as_path()), ("--export", &model), ("--probe", Path::new(PROBE))] {
        arguments.extend([flag.into(), path.as_os_str().to_owned()]);
    }
    if !(options.reuse && trained) && model.exists() {
        fs::remove_dir_all(&model)?;
    }
    programs.demo(&logs, &arguments)?;
    let data = output.path(format!("demo-{sequences}x{tokens}.jsonl"));
    let bytes = sources::tail(&text, sequences * tokens)?;
    let numbers: Vec<u32> = bytes.into_iter().map(u32::from).collect();
    fs::write(&data, lines(&numbers, tokens))?;
    fs::remove_dir_all(&text)?;
    Ok(Saved { name: "demo", model, data })
}
