//! `cargo xtask fuzz`: hostile input for every parser. `fuzz/` says what the targets check.
//!
//! The targets are built with AddressSanitizer by a nightly toolchain, into `fuzz/target`. libtorch itself is not
//! instrumented, which mixes well: what is watched is our code, and the memory that it asks for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::failure::{Failure, Result};
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

/// What an input may take.
const LIMITS: [&str; 5] = [
    "-timeout=10",
    "-rss_limit_mb=2048",
    // In one piece; files have up to 16 KiB here.
    "-malloc_limit_mb=64",
    "-max_len=16384",
    // What libtorch keeps until the end of the process counts as leaked.
    "-detect_leaks=0",
];

const DEFAULT_SECONDS: u32 = 60;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u32,
    /// All, where none is named.
    targets: Vec<String>,
}

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let known = targets(&workspace.fuzz().join("fuzz_targets"))?;
    let Options { seconds, targets } = Options::parse(arguments, &known)?;
    let environment = setup::prepare(workspace)?;
    setup::fuzzing(workspace)?;
    let fuzz = |arguments: &[&str]| {
        let mut command = environment.nightly_cargo(workspace);
        command.arg("fuzz").args(arguments);
        command
    };

    heading("Build (some minutes the first time)");
    if targets.is_empty() {
        run_command(&mut fuzz(&["build"]))?;
    } else {
        for target in ["seeds"].into_iter().chain(targets.iter().map(String::as_str)) {
            run_command(&mut fuzz(&["build", target]))?;
        }
    }

    heading("Seeds");
    let scratch = Scratch::new()?;
    run_command(fuzz(&["run", "seeds"]).env("TMPDIR", &scratch.0))?;
    let chosen = if targets.is_empty() { &known } else { &targets };
    for target in chosen {
        heading(target);
        let mut command = fuzz(&["run", target, "--"]);
        command.args(LIMITS).args([&format!("-max_total_time={seconds}"), "-print_final_stats=1"]);
        let dictionary = workspace.fuzz().join("dictionaries").join(target);
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        // The sums of libtorch need no threads here, and their start takes longer than an input.
        command.env("TMPDIR", &scratch.0).env("OMP_NUM_THREADS", "1");
        run_command(&mut command).map_err(|failure| failure.with_advice(&replay(workspace, target)))?;
    }
    heading("Summary");
    eprintln!("{} for {seconds} s each: nothing was found", chosen.join(", "));
    Ok(())
}

impl Options {
    fn parse(arguments: &[OsString], known: &[String]) -> Result<Self> {
        let mut options = Self { seconds: DEFAULT_SECONDS, targets: Vec::new() };
        let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
        while let Some(argument) = arguments.next() {
            let seconds = match argument.strip_prefix("--seconds") {
                Some("") => arguments.next(),
                Some(rest) => rest.strip_prefix('=').map(Into::into),
                None if known.iter().any(|target| *target == argument) => {
                    options.targets.push(argument.into_owned());
                    continue;
                }
                None => {
                    let known = known.join(", ");
                    return Err(Failure::Usage(format!("no target `{argument}`: the targets are {known}")));
                }
            };
            options.seconds = seconds
                .and_then(|seconds| seconds.parse().ok())
                .filter(|&seconds| seconds > 0)
                .ok_or_else(|| Failure::Usage("--seconds takes a whole number, at least 1".into()))?;
        }
        Ok(options)
    }
}

/// What to do with what was found.
fn replay(workspace: &Workspace, target: &str) -> String {
    let artifacts = workspace.fuzz().join("artifacts").join(target);
    let entries = fs::read_dir(&artifacts).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = entries.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    let Some(input) = newest else {
        return format!("There is no input in {}: the target could not be run.", artifacts.display());
    };
    let (input, limits) = (input.display(), LIMITS.join(" "));
    format!(
        "`{target}` failed on an input that is kept in\n  {input}\nReplay it:        cargo +nightly fuzz run {target} \
         {input} -- {limits}\nMake it smaller:  cargo +nightly fuzz tmin {target} {input} -- {limits}\n\
         With the correction goes a test that fails without it: see CONTRIBUTING.md."
    )
}

/// Where targets write the files that they have parsed: in memory, if there is such a place.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
        let path = parent.join(format!("hessian-probe-fuzz-{}", std::process::id()));
        fs::create_dir(&path).map_err(Failure::at("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} cannot be removed: {error}", self.0.display());
        }
    }
}

/// The names of the targets, which are those of their files.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Failure::at("list", directory))? {
        let path = entry.map_err(Failure::at("list", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Options::parse(&arguments, &["gguf".to_owned(), "manifest".to_owned()])
    }

    #[test]
    fn targets_and_the_time_for_each_are_taken_in_any_order() {
        let all = Options { seconds: DEFAULT_SECONDS, targets: Vec::new() };
        assert_eq!(parsed(&[]).unwrap(), all);
        let one = Options { seconds: 5, targets: vec!["gguf".into()] };
        assert_eq!(parsed(&["--seconds", "5", "gguf"]).unwrap(), one);
        assert_eq!(parsed(&["gguf", "--seconds=5"]).unwrap(), one);
    }

    #[test]
    fn an_unknown_target_is_named_with_the_known_ones() {
        let Err(Failure::Usage(message)) = parsed(&["gif"]) else { panic!("`gif` is no target") };
        assert_eq!(message, "no target `gif`: the targets are gguf, manifest");
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--seconds=soon"], &["--secondsgguf"]] {
            assert!(matches!(parsed(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    /// A target that the manifest does not list is built by nobody.
    #[test]
    fn every_target_is_in_the_manifest() {
        let fuzz = Workspace::at(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).fuzz();
        let names = targets(&fuzz.join("fuzz_targets")).unwrap();
        assert!(names.len() >= 10, "{names:?}");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for name in names {
            assert!(
                manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
                "{name}"
            );
        }
    }
}
