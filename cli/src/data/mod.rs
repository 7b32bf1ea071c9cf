//! The file with the data: one JSON object a line.

mod line;

use hessian_probe_fsdp::model::IGNORE_INDEX;
use hessian_probe_fsdp::{LlamaConfig, Sequence};
use line::Line;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// No sequence that a model takes needs more; a file without line breaks must not fill the memory.
const LONGEST_LINE: u64 = 64 << 20;

/// What is wrong with the data, and where.
#[derive(Debug)]
pub struct DataError {
    path: PathBuf,
    /// Counted from 1.
    line: Option<usize>,
    reason: String,
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl Error for DataError {}

/// What a file holds for a model.
#[derive(Debug, Default)]
pub struct Data {
    /// Inputs and, for each, the target that should follow. A sequence of one token has none, and is left out.
    pub sequences: Vec<Sequence>,
    /// Keys of the objects that nothing was made of.
    pub ignored: BTreeSet<String>,
}

impl Data {
    /// The number of targets that are counted.
    pub fn targets(&self) -> usize {
        let labels = self.sequences.iter().flat_map(|sequence| &sequence.labels);
        labels.filter(|&&label| label != IGNORE_INDEX).count()
    }
}

/// Reads `path` for `model`, and refuses what the model cannot run.
pub fn read(path: &Path, model: &LlamaConfig) -> Result<Data, DataError> {
    let at = |line, reason| DataError { path: path.to_owned(), line, reason };
    let file = File::open(path).map_err(|error| at(None, format!("cannot be opened: {error}")))?;
    let mut data = Data::default();
    let mut lines = 0;
    let mut reader = BufReader::new(file);
    for number in 1.. {
        let Some(text) = next_line(&mut reader).map_err(|reason| at(Some(number), reason))? else { break };
        // Some editors mark UTF-8 so.
        let text = if number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text) } else { &text };
        if text.trim_ascii().is_empty() {
            continue;
        }
        lines += 1;
        let sequence = Line::parse(text)
            .and_then(|line| {
                line.check(model)?;
                Ok(line.into_sequence(&mut data.ignored))
            })
            .map_err(|reason| at(Some(number), reason))?;
        data.sequences.extend(sequence);
    }
    if lines == 0 {
        return Err(at(None, "is empty; a line with `input_ids` is needed".into()));
    }
    if data.targets() == 0 {
        let reason = "no target is counted: every label is -100, or no sequence has a second token";
        return Err(at(None, reason.into()));
    }
    Ok(data)
}

/// The next line with its end; `None` after the last.
fn next_line(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut text = Vec::new();
    let read = |error: io::Error| format!("cannot be read: {error}");
    reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(read)?;
    if text.len() as u64 == LONGEST_LINE && !text.ends_with(b"\n") {
        return Err(format!("is longer than {} MiB", LONGEST_LINE >> 20));
    }
    Ok((!text.is_empty()).then_some(text))
}
