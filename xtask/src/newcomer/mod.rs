//! `cargo xtask newcomer`: the README's commands and files, word for word, in a clone of what is committed, by somebody who
//! has exported nothing and built nothing. (`docs/check` has a quick walk, with what the workspace has built.)
//!
//! What the set-up downloads is not downloaded twice: `.torch` and `.venv` of the checkout are linked into the clone. All
//! else is built anew, most of ten minutes.
//!
//! - [`desk`]: the folder with the clone, and the environment in which commands are typed
//! - [`readme`]: the blocks of the README
//! - [`tensorboard`]: the server that a command starts, and what it shows

mod desk;
mod readme;
mod tensorboard;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::process::{heading, run as run_command};
use crate::workspace::Workspace;
use desk::{Desk, bare};
use readme::{Block, blocks};

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        return Err(Failure::Usage(format!("newcomer takes no argument, but got `{}`", argument.display())));
    }
    heading("What the set-up downloads");
    run_command(bare(&mut workspace.cargo()).args(["xtask", "setup"]))?;
    let desk = Desk::new(workspace)?;
    let path = desk.checkout().join("README.md");
    let readme = fs::read_to_string(&path).map_err(Failure::at("read", &path))?;
    let mut walk = Walk { desk, lines: 0, files: 0, boards: 0 };
    for block in blocks(&readme) {
        walk.follow(&block)?;
    }
    walk.end()
}

struct Walk {
    desk: Desk,
    /// What was done: a README whose blocks are no longer found would otherwise be walked in no time.
    lines: usize,
    files: usize,
    boards: usize,
}

impl Walk {
    fn follow(&mut self, block: &Block) -> Result<()> {
        if let Some(file) = &block.file {
            self.files += 1;
            return self.desk.write(file, &block.text);
        }
        // Some name what a reader brings: MODEL, FILE.jsonl.
        let placeholders = ["MODEL", "FILE"];
        if block.language != "sh" || placeholders.iter().any(|word| block.text.contains(word)) {
            return Ok(());
        }
        let folder = self.folder(&block.text);
        for line in block.text.lines() {
            heading(line);
            self.lines += 1;
            if line.contains("tensorboard ") {
                self.look(line, &folder)?;
            } else if line == "cargo run" {
                let said = self.desk.capture(line, &folder)?;
                print!("{said}");
                // What the last line of the README's program prints.
                if !said.starts_with("step 200: λ_max ") {
                    return Err(Failure::Task(format!(
                        "it should print a step with its λ_max, but says\n{said}"
                    )));
                }
            } else {
                self.desk.run(line, &folder)?;
            }
        }
        Ok(())
    }

    /// A reader is in the checkout, then beside it, then in the package that was made there.
    fn folder(&self, commands: &str) -> PathBuf {
        if commands.starts_with("cargo new ") {
            self.desk.folder().to_owned()
        } else if commands.contains("runs/demo") || commands.starts_with("cargo xtask ") {
            self.desk.checkout()
        } else {
            self.desk.package()
        }
    }

    /// At a free port, the only word that the README does not have.
    fn look(&mut self, line: &str, folder: &Path) -> Result<()> {
        let board = tensorboard::Board::start(self.desk.command(&format!("exec {line} --port 0"), folder))?;
        self.boards += 1;
        board.shows_the_spectrum()
    }

    fn end(&self) -> Result<()> {
        let page = self.desk.checkout().join("runs/demo/report/report.html");
        let walked = [(self.lines, 7), (self.files, 5), (self.boards, 2)];
        if walked.iter().any(|(found, least)| found < least) || !page.is_file() {
            return Err(Failure::Task(format!(
                "the README no longer leads all the way: {} commands, {} files, {} looks at TensorBoard; the page of \
                 the run is {}there",
                self.lines,
                self.files,
                self.boards,
                if page.is_file() { "" } else { "not " }
            )));
        }
        heading("The README leads all the way");
        Ok(())
    }
}
