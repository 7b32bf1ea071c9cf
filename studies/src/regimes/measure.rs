//! Runs the programs.

use super::record::{Deflated, InPrecision, Model, Study};
use crate::output::Output;
use crate::programs::{Programs, given};
use crate::texts::{TEXTS, lines};
use crate::{Options, Result, sources};
use hessian_probe::regimes::Regime;
use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Tokens of the sequence that SmolLM2 is probed on.
const TOKENS: usize = 128;
/// Sequences of the demo's length that its model is probed on.
const SEQUENCES: usize = 8;
/// Outliers deflated, and the Lanczos steps for each probe vector.
const DEFLATE: [usize; 3] = [0, 8, 32];
const DEFLATED_STEPS: &str = "40";
/// The paper's step for f32 and the one that is right for a random vector: neither is right for both kinds.
const FIXED: [&str; 4] = ["--fixed-step", "1e-3", "--fixed-step", "1e-1"];
const FORMULAS: [&str; 4] = ["--difference", "central", "--difference", "forward"];
/// Trains and does not look.
const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/regimes/probe.toml");

/// What is read of a calibration.
#[derive(Deserialize)]
struct Calibration {
    parameters: u64,
    tokens: u64,
    precisions: Vec<Regime>,
}

/// The demo's model.
///
/// # Errors
/// Where a program fails.
pub fn demo(options: &Options, programs: &Programs, output: &Output) -> Result<Study> {
    let demo = DemoModel::train(options, programs, output)?;
    let model = demo.calibrate(programs, output)?;
    let deflation = DEFLATE.iter().map(|&deflate| demo.deflate(deflate, options, programs, output));
    Ok(Study { model, deflation: deflation.collect::<Result<_>>()? })
}

/// SmolLM2-135M on the first text.
///
/// # Errors
/// Where a program fails.
pub fn smollm2(options: &Options, programs: &Programs, output: &Output) -> Result<Study> {
    let data = TEXTS[0].write(&GgufFile::open(&options.gguf)?, 1, TOKENS, &output.path(""))?;
    // Exact products need the memory, and the vectors of the f64 reference may have less.
    let more =
        ["--precisions", "f32,bf16-compute", "--points", "1", "--reference", "exact", "--basis", "f32"];
    let more = [&more[..], &FORMULAS, &FIXED].concat();
    let model = calibrate("SmolLM2-135M", &options.gguf, &data, &more, programs, output)?;
    Ok(Study { model, deflation: Vec::new() })
}

/// The demo's model as it is after its training, and text that it knows.
struct DemoModel {
    model: PathBuf,
    data: PathBuf,
}

impl DemoModel {
    fn train(options: &Options, programs: &Programs, output: &Output) -> Result<Self> {
        let (text, model, logs) = (output.path("text"), output.path("demo"), output.path("training"));
        sources::copy(&text)?;
        let trained = model.join("config.json").is_file();
        let mut arguments = Vec::new();
        for (flag, path) in [("--text", text.as_path()), ("--export", &model), ("--probe", Path::new(PROBE))]
        {
            arguments.extend([flag.into(), path.as_os_str().to_owned()]);
        }
        if !(options.reuse && trained) && model.exists() {
            fs::remove_dir_all(&model)?;
        }
        programs.demo(&logs, &arguments)?;
        let data = output.path("demo.jsonl");
        let bytes = sources::tail(&text, SEQUENCES * TOKENS)?;
        let tokens: Vec<u32> = bytes.into_iter().map(u32::from).collect();
        fs::write(&data, lines(&tokens, TOKENS))?;
        fs::remove_dir_all(&text)?;
        Ok(Self { model, data })
    }

    fn calibrate(&self, programs: &Programs, output: &Output) -> Result<Model> {
        let more = ["--precisions", "f32,bf16-compute,bf16,f64", "--points", "2"];
        let more = [&more[..], &FORMULAS, &FIXED].concat();
        calibrate("the demo's model", &self.model, &self.data, &more, programs, output)
    }

    fn deflate(
        &self,
        deflate: usize,
        options: &Options,
        programs: &Programs,
        output: &Output,
    ) -> Result<Deflated> {
        let mut arguments = given(&self.model, &self.data);
        arguments.extend(["--steps", DEFLATED_STEPS, "--probes", "2", "--deflate"].map(Into::into));
        arguments.push(deflate.to_string().into());
        arguments.extend(options.ranks_and_threads());
        let snapshot = programs.spectrum(&output.path(format!("deflate-{deflate}.json")), &arguments)?;
        Ok(Deflated::of(deflate, &snapshot))
    }
}

fn calibrate(
    name: &str,
    model: &Path,
    data: &Path,
    more: &[&str],
    programs: &Programs,
    output: &Output,
) -> Result<Model> {
    let mut arguments = given(model, data);
    arguments.extend(more.iter().map(Into::into));
    arguments.extend(["--plot".into(), output.path("calibration.png").into()]);
    let found: Calibration = programs.report("calibrate", &output.path("calibration.json"), &arguments)?;
    Ok(Model {
        name: name.into(),
        parameters: found.parameters,
        tokens: found.tokens,
        precisions: found.precisions.iter().map(InPrecision::from).collect(),
    })
}
