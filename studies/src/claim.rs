//! What a page of the docs claims, with the measurement that it stands on.

use serde::{Deserialize, Serialize};

/// One claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// In words.
    pub statement: String,
    /// What was measured.
    pub evidence: String,
    /// Whether the measurement bears it out.
    pub holds: bool,
}

impl Claim {
    /// A claim that `holds`, or not, by `evidence`.
    pub fn new(holds: bool, statement: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { statement: statement.into(), evidence: evidence.into(), holds }
    }
}

/// The claims as a list in Markdown.
pub fn list(claims: &[Claim]) -> String {
    let line = |claim: &Claim| {
        let verdict = if claim.holds { "" } else { "**does not hold:** " };
        format!("- {verdict}{} *{}*\n", claim.statement, claim.evidence)
    };
    claims.iter().map(line).collect()
}
