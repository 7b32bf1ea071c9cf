//! Runs the programs.

use super::record::{Deflated, Deflation, InPrecision, Model, Study};
use crate::models::{self, Saved};
use crate::output::Output;
use crate::programs::{Programs, given};
use crate::texts::TEXTS;
use crate::{Options, Result};
use hessian_probe::regimes::Regime;
use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use serde::Deserialize;

/// Lanczos steps of the runs that are compared.
pub const STEPS: u64 = 12;
/// Tokens of a sequence.
const TOKENS: usize = 128;
/// Sequences that the demo's model is probed on; SmolLM2 is on one.
const SEQUENCES: usize = 8;
/// What is deflated, and Lanczos steps for each probe vector.
struct Deflating {
    steps: usize,
    outliers: &'static [usize],
}
const DEMO_DEFLATED: Deflating = Deflating { steps: 40, outliers: &[0, 8, 32] };
/// A Krylov vector and an outlier take 0.54 GB each: more of them would not fit into 24 GB.
const SMOLLM2_DEFLATED: Deflating = Deflating { steps: 16, outliers: &[0, 8] };
const CENTRAL: [&str; 2] = ["--difference", "central"];
/// The paper's step for f32 and the one that is right for a random vector: neither is right for both kinds.
const FIXED: [&str; 4] = ["--fixed-step", "1e-3", "--fixed-step", "1e-1"];
const FORWARD: [&str; 2] = ["--difference", "forward"];

/// What is read of a calibration.
#[derive(Deserialize)]
struct Calibration {
    parameters: u64,
    tokens: u64,
    precisions: Vec<Regime>,
}

/// What can be measured alone.
pub const PARTS: [&str; 4] = [DEMO, DEMO_DEFLATION, SMOLLM2, SMOLLM2_DEFLATION];
const DEMO: &str = "demo";
const DEMO_DEFLATION: &str = "demo-deflation";
const SMOLLM2: &str = "smollm2";
const SMOLLM2_DEFLATION: &str = "smollm2-deflation";

/// Both models; what is not measured is as `recorded`.
///
/// # Errors
/// Where a program fails.
pub fn run(options: &Options, output: &Output, recorded: Option<Study>) -> Result<Study> {
    let programs = &Programs::beside_this(options.reuse)?;
    let demo_calibrated = |saved: &Saved| on_demo(saved, programs, output);
    let demo_deflated = |saved: &Saved| saved.deflate(&DEMO_DEFLATED, options, programs, output);
    let calibrated = |saved: &Saved| on_smollm2(saved, programs, output);
    let deflated = |saved: &Saved| saved.deflate(&SMOLLM2_DEFLATED, options, programs, output);
    let Some(mut study) = recorded else {
        // First: what is wrong with the file is told before the demo is trained.
        let smollm2 = smollm2(options, output)?;
        let demo = models::demo(options, programs, output, SEQUENCES, TOKENS)?;
        let both = |deflation, model| Model { deflation: Some(deflation), ..model };
        return Ok(Study {
            demo: both(demo_deflated(&demo)?, demo_calibrated(&demo)?),
            smollm2: both(deflated(&smollm2)?, calibrated(&smollm2)?),
        });
    };
    if options.measures(DEMO) || options.measures(DEMO_DEFLATION) {
        let demo = models::demo(options, programs, output, SEQUENCES, TOKENS)?;
        if options.measures(DEMO_DEFLATION) {
            study.demo.deflation = Some(demo_deflated(&demo)?);
        }
        if options.measures(DEMO) {
            study.demo = Model { deflation: study.demo.deflation.take(), ..demo_calibrated(&demo)? };
        }
    }
    if options.measures(SMOLLM2) {
        let found = calibrated(&smollm2(options, output)?)?;
        study.smollm2 = Model { deflation: study.smollm2.deflation.take(), ..found };
    }
    if options.measures(SMOLLM2_DEFLATION) {
        study.smollm2.deflation = Some(deflated(&smollm2(options, output)?)?);
    }
    Ok(study)
}

/// In all precisions.
fn on_demo(demo: &Saved, programs: &Programs, output: &Output) -> Result<Model> {
    let precisions = ["--precisions", "f32,bf16-compute,bf16,f64", "--points", "2"];
    demo.calibrate("the demo's model", &precisions, programs, output)
}

/// In f32 only: most CPUs emulate bf16, where a gradient of this model takes a minute. Exact products need the memory,
/// and the vectors of their f64 may have less.
fn on_smollm2(smollm2: &Saved, programs: &Programs, output: &Output) -> Result<Model> {
    let single = ["--points", "1", "--reference", "exact", "--basis", "f32", "--precisions", "f32"];
    smollm2.calibrate("SmolLM2-135M", &single, programs, output)
}

/// SmolLM2 as it was published; its file is needed by nothing else.
fn smollm2(options: &Options, output: &Output) -> Result<Saved> {
    let model = options.gguf()?;
    let data = TEXTS[0].write(&GgufFile::open(model)?, 1, TOKENS, &output.path(""))?;
    Ok(Saved { name: SMOLLM2, model: model.to_owned(), data })
}

impl Saved {
    fn calibrate(&self, name: &str, more: &[&str], programs: &Programs, output: &Output) -> Result<Model> {
        let mut arguments = given(&self.model, &self.data);
        arguments.extend(["--steps".into(), STEPS.to_string().into()]);
        arguments.extend([more, &CENTRAL, &FORWARD, &FIXED].concat().iter().map(Into::into));
        let file = |extension: &str| output.path(format!("{}-calibration.{extension}", self.name));
        arguments.extend(["--plot".into(), file("png").into(), "--verbose".into()]);
        let found: Calibration = programs.report("calibrate", &file("json"), &arguments)?;
        Ok(Model {
            name: name.into(),
            parameters: found.parameters,
            tokens: found.tokens,
            precisions: found.precisions.iter().map(InPrecision::from).collect(),
            deflation: None,
        })
    }

    fn deflate(
        &self,
        deflating: &Deflating,
        options: &Options,
        programs: &Programs,
        output: &Output,
    ) -> Result<Deflation> {
        let Deflating { steps, outliers } = *deflating;
        let spectrum = |&deflate: &usize| {
            let mut arguments = given(&self.model, &self.data);
            arguments.extend(["--steps", &steps.to_string(), "--probes", "2"].map(Into::into));
            arguments.extend(["--deflate", &deflate.to_string()].map(Into::into));
            arguments.extend(options.ranks_and_threads());
            let out = output.path(format!("{}-deflate-{deflate}.json", self.name));
            Ok(Deflated::of(deflate, &programs.spectrum(&out, &arguments)?))
        };
        Ok(Deflation { steps, spectra: outliers.iter().map(spectrum).collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::refusal_of;

    #[test]
    fn the_demo_alone_asks_for_no_file_of_smollm2() {
        assert!([DEMO, DEMO_DEFLATION].into_iter().all(|part| !refusal_of::<Study>(part).contains("--gguf")));
        assert!(
            [SMOLLM2, SMOLLM2_DEFLATION].into_iter().all(|part| refusal_of::<Study>(part).contains("--gguf"))
        );
    }
}
