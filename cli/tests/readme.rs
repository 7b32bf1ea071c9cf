//! The README shows what the program prints, and no page flags that it has not.

mod common;

use common::text;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const COMMAND: &str = "$ cargo run -q -p hessian-probe-cli -- ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

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
    let directory = tempfile::tempdir().unwrap();
    let examples = examples();
    assert!(examples.len() >= 2);
    for (arguments, expected) in examples {
        // Reports go elsewhere; all else is as a reader does it.
        let target = format!("{}/", directory.path().display());
        let arguments: Vec<String> =
            arguments.split_whitespace().map(|word| word.replace("target/", &target)).collect();
        let output = common::program().current_dir(root()).args(&arguments).output().unwrap();
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

/// All pages of the repository, by their paths.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // What cargo and the set-up made is not ours.
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.insert(path, text);
            }
        }
    }
    pages
}

/// What stands between backticks within sentences, and the lines of blocks of commands, continued ones joined.
fn code(page: &str) -> (Vec<String>, Vec<String>) {
    let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut spans, mut lines) = (Vec::new(), Vec::new());
    for (position, part) in page.split("```").enumerate() {
        if position % 2 == 0 {
            spans.extend(part.split('`').skip(1).step_by(2).map(joined));
        } else if let Some(block) = part.strip_prefix("sh\n").or_else(|| part.strip_prefix("console\n")) {
            let block = block.replace("\\\n", " ");
            lines.extend(block.lines().map(|line| joined(line.split(" #").next().unwrap_or_default())));
        }
    }
    (spans, lines)
}

/// The arguments of the program in a command, as it is run from a checkout, by its name, or by torchrun.
fn arguments(command: &str) -> Option<Vec<&str>> {
    let (before, rest) = match command.split_once(" -p hessian-probe-cli -- ") {
        Some(parts) => parts,
        None if command.starts_with("torchrun ") => command.split_once(" hessian-probe ")?,
        None => ("", command.strip_prefix("hessian-probe ")?),
    };
    let runs = before.is_empty() || before.split(' ').any(|word| ["run", "torchrun"].contains(&word));
    runs.then(|| rest.split_whitespace().collect())
}

fn flags<'a>(words: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    words
        .into_iter()
        .map(|word| word.split('=').next().unwrap_or_default())
        .filter(|word| word.starts_with("--"))
}

/// The flags of a command, by its help: those that a line begins with. `None` where there is no such command.
fn known(command: &str) -> Option<BTreeSet<String>> {
    let output = common::program().args([command, "--help"]).output().unwrap();
    let lines = text(&output.stdout);
    let options = lines.lines().filter(|line| line.trim_start().starts_with('-'));
    let words = options.flat_map(|line| {
        line.split([' ', ',', '[', '<'])
            .filter(|word| !word.is_empty())
            .take_while(|word| word.starts_with('-'))
    });
    // `--verbose...` may be given several times.
    output.status.success().then(|| flags(words).map(|flag| flag.trim_end_matches('.').to_owned()).collect())
}

#[test]
fn commands_of_all_pages_have_only_flags_that_the_program_has() {
    let mut helps: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut checked = 0;
    for (path, page) in pages() {
        let (spans, lines) = code(&page);
        for code in spans.iter().chain(&lines) {
            let Some(arguments) = arguments(code) else { continue };
            let place = format!("{}: `{code}`", path.display());
            let (command, rest) = arguments.split_first().unwrap();
            if !helps.contains_key(*command) {
                let known = known(command).unwrap_or_else(|| panic!("{place}: no command {command}"));
                helps.insert((*command).to_owned(), known);
            }
            let unknown = flags(rest.iter().copied()).find(|flag| !helps[*command].contains(*flag));
            assert_eq!(unknown, None, "{place}");
            checked += 1;
        }
    }
    assert!(checked > 20 && helps.len() == 6, "{checked} commands of {:?}", helps.keys());
    // Flags by themselves, of any of them.
    let (spans, _) = code(&pages()[&root().join("cli/README.md")]);
    for span in spans.iter().filter(|span| span.starts_with("--")) {
        for flag in flags(span.split_whitespace()) {
            assert!(helps.values().any(|known| known.contains(flag)), "cli/README.md: {flag}");
        }
    }
}

#[test]
fn a_flag_of_another_command_is_no_flag_of_this_one() {
    assert!(known("spectrum").unwrap().contains("--steps") && !known("compare").unwrap().contains("--steps"));
    assert_eq!(known("spectra"), None);
    assert_eq!(arguments("hessian-probe compare A B --json"), Some(vec!["compare", "A", "B", "--json"]));
    assert_eq!(arguments("cargo test -p hessian-probe-cli -- --ignored"), None);
}

#[test]
fn the_data_of_the_readme_is_that_of_its_example() {
    let page = &pages()[&root().join("cli/README.md")];
    let block = page.split("```jsonl\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(block, fs::read_to_string(root().join("cli/tests/data/example.jsonl")).unwrap());
}
