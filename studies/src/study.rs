//! What all studies have in common: measure, show, claim.

use crate::claim::Claim;
use crate::output::Output;
use crate::page::Section;
use crate::{Options, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was measured, as `docs/studies/NAME.json` keeps it. Everything that the page shows follows from it.
pub trait Study: Serialize + DeserializeOwned {
    /// Of page, record and figures.
    const NAME: &'static str;

    /// What can be measured alone.
    fn parts() -> Vec<&'static str> {
        Vec::new()
    }

    /// Measures everything; of what is `recorded`, where that is given, only the parts that the options name.
    ///
    /// # Errors
    /// Where a program or a training fails.
    fn measure(options: &Options, output: &Output, recorded: Option<Self>) -> Result<Self>;

    /// What the page says about it.
    fn claims(&self) -> Vec<Claim>;

    /// Its tables.
    fn sections(&self, claims: &[Claim]) -> Vec<Section>;

    /// Those for the README.
    fn readme(&self) -> Vec<Section> {
        Vec::new()
    }

    /// Name and SVG of each figure.
    ///
    /// # Errors
    /// The renderer's.
    fn figures(&self) -> Result<Vec<(&'static str, String)>>;

    /// Name and content of what follows from it, for programs: `docs/studies/STUDY-NAME.json`.
    ///
    /// # Errors
    /// Where nothing follows.
    fn derived(&self) -> Result<Vec<(&'static str, serde_json::Value)>> {
        Ok(Vec::new())
    }
}

/// Measures, publishes, and returns what was claimed.
///
/// # Errors
/// Where something cannot be measured or written.
pub fn run<S: Study>(options: &Options) -> Result<Vec<Claim>> {
    options.check(&S::parts())?;
    let output = Output::new(S::NAME, options)?;
    let study = if options.from_record {
        output.recorded()?
    } else {
        let recorded = if options.only.is_empty() { None } else { Some(output.recorded()?) };
        S::measure(options, &output, recorded)?
    };
    let claims = study.claims();
    let files = files(&study)?;
    output.publish(&study.sections(&claims), &study.readme(), &files)?;
    Ok(claims)
}

/// The record, what follows from it, and the figures: how the name of each goes on after the study's, and what is in it.
fn files<S: Study>(study: &S) -> Result<Vec<(String, String)>> {
    let mut files = vec![(".json".into(), serde_json::to_string_pretty(study)? + "\n")];
    for (name, value) in study.derived()? {
        files.push((format!("-{name}.json"), serde_json::to_string_pretty(&value)? + "\n"));
    }
    files.extend(study.figures()?.into_iter().map(|(name, svg)| (format!("-{name}.svg"), svg)));
    Ok(files)
}

/// Nobody has typed a figure into the page, and what it claims follows from the record beside it and holds.
#[cfg(test)]
pub fn the_page_shows_what_the_record_says<S: Study>() {
    let docs = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/studies"));
    let read = |end: &str| std::fs::read_to_string(docs.join(format!("{}{end}", S::NAME))).unwrap();
    let study: S = serde_json::from_str(&read(".json")).unwrap();
    let (claims, page) = (study.claims(), read(".md"));
    assert_eq!(crate::page::fill(&page, &study.sections(&claims)).unwrap(), page);
    for section in study.readme() {
        let readme = std::fs::read_to_string(crate::output::README).unwrap();
        assert_eq!(crate::page::fill(&readme, &[section]).unwrap(), readme);
    }
    let files = files(&study).unwrap();
    for (end, content) in &files {
        // What was recorded may be older than a field.
        assert!(end == ".json" || *content == read(end), "{}{end} is another", S::NAME);
    }
    let there = std::fs::read_dir(docs).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        name.starts_with(&format!("{}-", S::NAME)) || name == format!("{}.json", S::NAME)
    });
    assert_eq!(there.count(), files.len(), "files that the study does not write");
    assert!(files.iter().any(|(end, _)| end.ends_with(".svg")) && !claims.is_empty());
    for claim in &claims {
        assert!(claim.holds, "{claim:?}");
    }
}

/// Why a study that measures this part alone gets no further, where no program is to be found: tests are in a directory
/// of their own.
#[cfg(test)]
pub fn refusal_of<S: Study>(part: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        only: vec![part.into()],
        out: Some(directory.path().into()),
        ranks: 1,
        ..Options::default()
    };
    let output = Output::new(S::NAME, &options).unwrap();
    let recorded = output.recorded().unwrap();
    S::measure(&options, &output, Some(recorded)).err().unwrap().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::process::ExitCode;

    /// Claims that it was measured on one rank.
    #[derive(Serialize, Deserialize)]
    struct OnRanks(usize);

    impl Study for OnRanks {
        const NAME: &'static str = "ranks";

        fn measure(options: &Options, _: &Output, _: Option<Self>) -> Result<Self> {
            if options.ranks == 0 { Err("no ranks".into()) } else { Ok(Self(options.ranks)) }
        }

        fn claims(&self) -> Vec<Claim> {
            vec![Claim::new(self.0 == 1, "it was measured on one rank", self.0.to_string())]
        }

        fn sections(&self, claims: &[Claim]) -> Vec<Section> {
            vec![Section { name: "claims", markdown: crate::claim::list(claims) }]
        }

        fn figures(&self) -> Result<Vec<(&'static str, String)>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_claim_that_does_not_hold_is_published_and_fails_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let code = |ranks| {
            let options = Options { out: Some(directory.path().into()), ranks, ..Options::default() };
            format!("{:?}", crate::exit_code(run::<OnRanks>(&options)))
        };
        let [success, failure] = [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}"));
        assert_eq!([0, 1, 2].map(code), [failure.clone(), success, failure]);
        let tables = std::fs::read_to_string(directory.path().join("tables.md")).unwrap();
        assert!(tables.contains("does not hold"), "{tables}");
    }
}
