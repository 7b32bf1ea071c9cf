//! Runs other programs: says which, and on failure says what was run and how it ended.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::failure::{Failure, Result};

/// Starts a new part of the output.
pub fn heading(title: &str) {
    eprintln!("\n=== {title}");
}

/// Runs `command` with its output going straight to the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Task(format!("`{}` failed ({status})", shown(command))))
    }
}

/// Runs `command` without a word; what it printed is returned, or is part of the failure.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    let Output { status, stdout, stderr } = output;
    let stdout = String::from_utf8_lossy(&stdout);
    if status.success() {
        return Ok(stdout.trim().to_owned());
    }
    let said = format!("{stdout}{}", String::from_utf8_lossy(&stderr));
    Err(Failure::Task(format!("`{}` failed ({status}):\n{}", shown(command), said.trim())))
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().display();
    match error.kind() {
        ErrorKind::NotFound => Failure::Task(format!("`{program}` was not found")),
        _ => Failure::Task(format!("`{program}` could not be started: {error}")),
    }
}

/// The command as one could type it, with the variables that make a difference.
pub fn shown(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter(|(name, _)| *name == "RUSTDOCFLAGS")
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))));
    let program = match std::path::Path::new(command.get_program()).file_stem() {
        // Cargo tells us its full path; that is nothing that anybody types.
        Some(stem) if stem == "cargo" => "cargo".to_owned(),
        _ => quoted(command.get_program()),
    };
    let words = command.get_args().map(quoted);
    variables.chain([program]).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `7.3 s`, `4 min 12 s`.
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 100 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_types_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command
            .args(["clippy", "--", "-D", "two words"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .env("OTHER", "x");
        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo clippy -- -D 'two words'");
    }

    #[test]
    fn a_missing_program_is_named() {
        let Err(Failure::Task(message)) = run(&mut Command::new("no-such-program-of-ours")) else {
            panic!("it cannot have run");
        };
        assert_eq!(message, "`no-such-program-of-ours` was not found");
    }

    #[test]
    fn what_a_failed_program_said_is_part_of_the_failure() {
        let Err(Failure::Task(message)) = capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"]))
        else {
            panic!("it cannot have succeeded");
        };
        assert!(message.ends_with("(exit status: 3):\nwhy"), "{message}");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(7_340)), "7.3 s");
        assert_eq!(seconds(Duration::from_secs(252)), "4 min 12 s");
    }
}
