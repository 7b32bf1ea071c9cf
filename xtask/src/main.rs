//! Commands of the repository, started as `cargo xtask COMMAND`.
//!
//! Only the standard library is used, so that this builds in seconds on a machine that has no
//! libtorch yet: getting it is the first of our tasks.
//!
//! - [`setup`]: a C++ compiler is there; libtorch into `.torch`, Python for the tests into `.venv`
//! - [`demo`], [`mod@test`], [`mod@bench`], [`study`], [`soak`], [`newcomer`], [`fuzz`]: the commands, each of which does the set-up first
//! - [`workspace`]: where things lie; how cargo is called
//! - [`process`]: runs other programs, says which, and how long they took
//! - [`failure`]: what people read when something fails

mod bench;
mod demo;
mod failure;
mod fuzz;
mod newcomer;
mod process;
mod setup;
mod soak;
mod study;
mod test;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use failure::{Failure, Result};
use workspace::Workspace;

const USAGE: &str = "\
Usage: cargo xtask COMMAND [ARGUMENTS]

Commands:
  setup            get what the others need: libtorch into .torch, a Python environment into .venv
  demo [--model M] [ARGS]
                   train a language model over 2 ranks with a probe: `small` (the default) from the start, `smollm2`
                   (135 million parameters, 93 MB to download) from its own weights; ARGS go to the demo
  test [STEPS]     all checks, or only the named ones: fmt, fuzz-fmt, clippy, fuzz-clippy,
                   test, doc, package, soak. Two take long and must be named: package-verify builds each
                   package from what is in it; smollm2 fetches that model (93 MB) and tests with it
  bench [ARGS]     what a probe costs; ARGS go to the benchmark. With --scaling [--sizes 0.2M,1M] [--world-sizes 1,2]: how
                   that grows with the model, the ranks and the probe; the law is fitted, and foretells what it has not seen.
                   With --peers [--model DIR --data FILE] [--threads N]: the same products by libraries for PyTorch, which
                   go into .venv-peers (5 GB): time, memory and agreement. --update-docs writes page and README
  study NAME [ARGS]
                   what a page of the docs reports: `blocks` (how much of a Hessian is block-diagonal), `peers` and `scaling` (as
                   bench --peers and --scaling), `regimes` (which numbers each precision allows) or `stability` (whether a
                   learning rate is). Tables, figures and JSON go to target/studies/NAME; fails if what the page claims does
                   not hold. Takes an hour or more, `stability` some minutes; --reuse takes what an earlier
                   run left
  soak [ARGS]      train while ranks are killed, stalled and told to end, files damaged, probes failing;
                   compare with an undisturbed run. ARGS: --minutes 5, --seed N, --ranks 2
  newcomer         walk the README in a clone of what is committed: its commands and files word for word, with nothing
                   exported and nothing built, as far as the spectrum in TensorBoard. Takes some ten minutes
  fuzz [--seconds N] [TARGET...]
                   feed the parsers hostile input, each for N seconds (60), and stop at the first that panics, hangs or
                   asks for too much memory. Installs Rust's nightly toolchain and cargo-fuzz where they are missing
  help             this text

demo, test, bench, study, soak, newcomer and fuzz do the set-up themselves; it takes no time once it is done.

Environment:
  LIBTORCH               your own libtorch 2.13.0 (for instance one with CUDA): nothing is downloaded.
                         LIBTORCH_USE_PYTORCH=1, or LIBTORCH_LIB with LIBTORCH_INCLUDE, do the same
  HESSIAN_PROBE_PYTHON   your own Python with tensorboard and selenium: no .venv is made
  HESSIAN_PROBE_PEERS_PYTHON
                         your own Python with the packages of benches/peers/requirements.txt: no .venv-peers is made
  HESSIAN_PROBE_REQUIRE_BROWSER=1
                         a machine without Chromium and chromedriver fails `test`; otherwise it skips the test of the
                         page of `hessian-probe render`, and says so. HESSIAN_PROBE_CHROMIUM and
                         HESSIAN_PROBE_CHROMEDRIVER name your own
";

fn main() -> ExitCode {
    match dispatch(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failure::Task(message)) => {
            eprintln!("\nerror: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Vec<OsString>) -> Result<()> {
    let Some((command, arguments)) = arguments.split_first() else {
        return Err(Failure::Usage("which command?".into()));
    };
    match command.to_str() {
        Some("setup") => match arguments.first() {
            None => setup::prepare(&Workspace::find()?).map(|_| ()),
            Some(argument) => {
                Err(Failure::Usage(format!("setup takes no argument, but got `{}`", argument.display())))
            }
        },
        Some("demo") => demo::run(&Workspace::find()?, arguments),
        Some("test") => test::run(&Workspace::find()?, arguments),
        Some("bench") => bench::run(&Workspace::find()?, arguments),
        Some("study") => study::run(&Workspace::find()?, arguments),
        Some("soak") => soak::run(&Workspace::find()?, arguments),
        Some("newcomer") => newcomer::run(&Workspace::find()?, arguments),
        Some("fuzz") => fuzz::run(&Workspace::find()?, arguments),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure::Usage(format!("no command `{}`", command.display()))),
    }
}
