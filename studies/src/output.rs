//! Where a study leaves what it found.

use crate::claim::Claim;
use crate::page::{self, Section};
use crate::{Options, Result};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a user reads first.
pub const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// The directories of a study.
pub struct Output {
    name: &'static str,
    directory: PathBuf,
    update_docs: bool,
}

impl Output {
    /// Makes the directory that reports and figures go to.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(name: &'static str, options: &Options) -> Result<Self> {
        let default = || Path::new(ROOT).join("target/studies").join(name);
        let directory = options.out.clone().unwrap_or_else(default);
        fs::create_dir_all(&directory)?;
        Ok(Self { name, directory, update_docs: options.update_docs })
    }

    /// The file or directory `name` among the results.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes the files (by how their names go on after the study's) and the sections as Markdown; and, where that was
    /// asked for, both into the docs, and some sections into the README.
    ///
    /// # Errors
    /// Where something cannot be written, or the page has no place for it.
    pub fn publish(
        &self,
        sections: &[Section],
        readme: &[Section],
        files: &[(String, String)],
    ) -> Result<()> {
        let tables: Vec<_> = sections.iter().map(|section| section.markdown.trim_end()).collect();
        let write_all = |directory: &Path| -> Result<()> {
            let write = |(end, content): &(String, String)| {
                Ok(fs::write(directory.join(format!("{}{end}", self.name)), content)?)
            };
            files.iter().try_for_each(write)
        };
        write_all(&self.directory)?;
        fs::write(self.path("tables.md"), tables.join("\n\n") + "\n")?;
        // After the rest: a page without a place for a section must not cost what was measured.
        if self.update_docs {
            page::update(&self.docs().join(format!("{}.md", self.name)), sections)?;
            if !readme.is_empty() {
                page::update(Path::new(README), readme)?;
            }
            write_all(&self.docs())?;
        }
        println!("{}", tables.join("\n\n"));
        println!("\nreports, tables and figures: {}", self.directory.display());
        Ok(())
    }

    /// What an earlier run left in the docs.
    ///
    /// # Errors
    /// Where there is nothing, or something else.
    pub fn recorded<T: DeserializeOwned>(&self) -> Result<T> {
        let path = self.docs().join(format!("{}.json", self.name));
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn docs(&self) -> PathBuf {
        Path::new(ROOT).join("docs/studies")
    }
}

/// Success only if every claim holds.
pub fn verdict(claims: &[Claim]) -> ExitCode {
    println!();
    for claim in claims {
        let verdict = if claim.holds { "holds" } else { "DOES NOT HOLD" };
        println!("{verdict}: {} ({})", claim.statement, claim.evidence);
    }
    let broken = claims.iter().filter(|claim| !claim.holds).count();
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_claim_that_does_not_hold_fails_the_study() {
        let code = |holds: &[bool]| {
            let claims: Vec<Claim> = holds.iter().map(|&holds| Claim::new(holds, "a claim", "it")).collect();
            format!("{:?}", verdict(&claims))
        };
        let [success, failure] = [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}"));
        assert_eq!((code(&[]), code(&[true, true])), (success.clone(), success));
        assert_eq!((code(&[true, false, true]), code(&[false])), (failure.clone(), failure));
    }
}
