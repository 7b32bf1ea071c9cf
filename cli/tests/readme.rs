//! The README shows what the program prints.

mod common;

use common::text;
use std::fs;
use std::path::{Path, PathBuf};

const COMMAND: &str = "$ cargo run -q -p hessian-probe-cli -- ";

/// Each command of the README with the output that it shows.
fn examples() -> Vec<(String, Vec<String>)> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut examples = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let (command, output) = block.split_once("\n\n").unwrap();
        let command = command.replace("\\\n", " ");
        let arguments = command.strip_prefix(COMMAND).unwrap_or_else(|| panic!("{command}")).to_owned();
        examples.push((arguments, output.lines().map(str::to_owned).collect()));
    }
    examples
}

/// The first number of a line.
fn number(line: &str) -> Option<f64> {
    line.split_whitespace().find_map(|word| word.parse().ok())
}

#[test]
fn commands_of_the_readme_print_what_it_says() {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = tempfile::tempdir().unwrap();
    let examples = examples();
    assert!(examples.len() >= 2);
    for (arguments, expected) in examples {
        // Reports go elsewhere; all else is as a reader does it.
        let target = format!("{}/", directory.path().display());
        let arguments: Vec<String> =
            arguments.split_whitespace().map(|word| word.replace("target/", &target)).collect();
        let output = common::program().current_dir(&root).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let printed = text(&output.stderr) + &text(&output.stdout);
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(printed.len(), expected.len(), "{arguments:?} prints now:\n{}", printed.join("\n"));
        for (line, expected) in printed.iter().zip(&expected) {
            let label = |line: &str| line.split("  ").next().unwrap().to_owned();
            let told = format!("the README has\n{expected}\nand the program says\n{line}");
            assert_eq!(label(line), label(expected), "{told}");
            // Plans are computed, and measure nothing.
            if arguments[0] == "plan" {
                assert_eq!(line, expected, "{told}");
                continue;
            }
            // Machines round differently, and errors are estimates.
            let robust = [
                "parameters",
                "loss",
                "‖gradient‖",
                "λ_max",
                "λ_min",
                "trace",
                "‖H‖_F",
                "relative error",
                "cosine",
            ];
            if robust.contains(&label(line).as_str()) {
                let (found, expected) = (number(line).unwrap(), number(expected).unwrap());
                assert!((found - expected).abs() <= 0.01 * expected.abs(), "{told}");
            }
        }
    }
}
