//! Runs the programs.

use super::record::{AtStep, Comparison, OnText, Spectrum, Study};
use crate::output::Output;
use crate::programs::{Programs, given};
use crate::texts::{TEXTS, Text};
use crate::{Options, Result, sources};
use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use std::fs;
use std::path::Path;

/// Tokens of the sequence that SmolLM2 is probed on: enough for the texts to differ, few enough for 2 cores.
const TOKENS: usize = 128;
/// Lanczos steps beside the comparison by layers; beside the other one there are as few as can be.
const STEPS: usize = 12;

/// What is spent on a text: flags of `hessian-probe spectrum`.
struct Effort {
    layers: &'static str,
    kinds: &'static str,
}

/// A product for each of 32 layers, and the spectra of blocks.
const CAREFULLY: Effort = Effort {
    layers: "--block-method exact --probes 2 --block-vectors 2 --block-steps 0",
    kinds: "--block-method exact --probes 1 --block-vectors 2 --block-steps 8",
};

/// A third of it: for layers signs are drawn.
const QUICKLY: Effort = Effort {
    layers: "--block-method stochastic --probes 1 --block-vectors 2 --block-draws 6 --block-steps 0",
    kinds: "--block-method exact --probes 1 --block-vectors 2 --block-steps 0",
};

/// How the demo's model is watched.
const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/blocks/probe.toml");

const TRAINING: &str = "training";

/// What can be measured alone: a text, or the training.
pub fn parts() -> Vec<&'static str> {
    TEXTS.iter().map(|text| text.name).chain([TRAINING]).collect()
}

/// Everything; what is not measured is as `recorded`.
///
/// # Errors
/// Where a program fails, or a text that is not measured has no record.
pub fn run(options: &Options, output: &Output, mut recorded: Option<Study>) -> Result<Study> {
    let programs = &Programs::beside_this(options.reuse)?;
    let ranks = ranks(options, recorded.as_ref())?;
    // The training needs no file of SmolLM2.
    let measures_text = TEXTS.iter().any(|text| options.measures(text.name));
    let gguf = if measures_text { Some(GgufFile::open(options.gguf()?)?) } else { None };
    let texts = TEXTS.iter().zip(0..).map(|(text, number)| {
        let Some(gguf) = gguf.as_ref().filter(|_| options.measures(text.name)) else {
            let found = recorded.as_mut().and_then(|study| {
                let place = study.texts.iter().position(|found| found.text == text.name)?;
                Some(study.texts.remove(place))
            });
            return found.ok_or_else(|| format!("there is no record of the text `{}`", text.name).into());
        };
        on_text(text, if number == 0 { &CAREFULLY } else { &QUICKLY }, gguf, options, programs, output)
    });
    let texts = texts.collect::<Result<_>>()?;
    let training = match recorded {
        Some(study) if !options.measures(TRAINING) => study.training,
        _ => training(programs, output)?,
    };
    Ok(Study { tokens: TOKENS, steps: STEPS, ranks, texts, training })
}

/// Of all texts: where some of them are those of the record, so are the ranks.
///
/// # Errors
/// Where the others are to be measured on another number of ranks.
fn ranks(options: &Options, recorded: Option<&Study>) -> Result<usize> {
    let measured = TEXTS.iter().filter(|text| options.measures(text.name)).count();
    match recorded {
        Some(study) if measured < TEXTS.len() => {
            if measured > 0 && study.ranks != options.ranks {
                let of = study.ranks;
                return Err(format!(
                    "--ranks {}: the record's other texts were measured on {of}",
                    options.ranks
                )
                .into());
            }
            Ok(study.ranks)
        }
        _ => Ok(options.ranks),
    }
}

fn on_text(
    text: &Text,
    effort: &Effort,
    gguf: &GgufFile,
    options: &Options,
    programs: &Programs,
    output: &Output,
) -> Result<OnText> {
    let data = text.write(gguf, 1, TOKENS, &output.path(""))?;
    let compare = |by: &str, steps: usize, more: &str| {
        let mut arguments = given(options.gguf()?, &data);
        arguments.extend(options.ranks_and_threads());
        // Four vectors in place of all: so few steps need no more.
        arguments.extend(["--reorthogonalize", "4"].map(Into::into));
        arguments.extend(["--steps".into(), steps.to_string().into()]);
        arguments.extend(more.split_whitespace().map(Into::into));
        arguments.extend(["--blocks".into(), by.into()]);
        programs.spectrum(&output.path(format!("{}-{by}.json", text.name)), &arguments)
    };
    let layers = compare("layer", STEPS, effort.layers)?;
    let kinds = compare("kind", 1, effort.kinds)?;
    Ok(OnText {
        text: text.name.into(),
        spectrum: Spectrum::from(&layers),
        layers: Comparison::of(&layers)?,
        kinds: Comparison::of(&kinds)?,
    })
}

/// The demo's model, trained from the start.
fn training(programs: &Programs, output: &Output) -> Result<Vec<AtStep>> {
    let sources = output.path("text");
    sources::copy(&sources)?;
    let mut arguments = Vec::new();
    let paths = [("--text", sources.as_path()), ("--probe", Path::new(PROBE))];
    for (flag, path) in paths {
        arguments.extend([flag.into(), path.as_os_str().to_owned()]);
    }
    let snapshots = programs.demo(&output.path("training"), &arguments)?;
    fs::remove_dir_all(&sources)?;
    let at_step = |snapshot: &hessian_probe::Snapshot| {
        Ok(AtStep {
            step: snapshot.step,
            spectrum: Spectrum::from(snapshot),
            layers: Comparison::of(snapshot)?,
        })
    };
    snapshots.iter().map(at_step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::refusal_of;

    #[test]
    fn texts_of_the_record_keep_its_ranks() {
        let record =
            Study { tokens: TOKENS, steps: STEPS, ranks: 2, texts: Vec::new(), training: Vec::new() };
        let of = |only: &[&str], given| {
            let only = only.iter().map(|part| (*part).to_owned()).collect();
            ranks(&Options { only, ranks: given, ..Options::default() }, Some(&record))
        };
        let all = TEXTS.each_ref().map(|text| text.name);
        assert_eq!(of(&[TRAINING], 1).unwrap(), 2);
        assert_eq!((of(&all[..1], 2).unwrap(), of(&all, 4).unwrap()), (2, 4));
        assert!(of(&all[..1], 1).unwrap_err().to_string().contains("--ranks 1"));
        assert_eq!(ranks(&Options { ranks: 3, ..Options::default() }, None).unwrap(), 3);
    }

    #[test]
    fn the_training_alone_asks_for_no_file_of_smollm2() {
        let [training, text] = [TRAINING, TEXTS[0].name].map(refusal_of::<Study>);
        assert!(!training.contains("--gguf") && text.contains("--gguf"), "{training}, {text}");
    }
}
