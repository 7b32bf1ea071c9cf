//! What happens to files between two sessions, and which checkpoints are whole.

use crate::Result;
use crate::faults::{Damage, Random};
use crate::records::Orders;
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::log::JSONL_FILE;
use hessian_probe_fsdp::Checkpoint;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Does the damage; `false` where there is nothing yet that could be damaged.
pub fn inflict(damage: Damage, orders: &Orders, random: &mut Random) -> Result<bool> {
    match damage {
        Damage::JsonlCut => cut_in_a_record(&orders.logs().join(JSONL_FILE), random),
        Damage::EventsCut => match newest_event_file(&orders.logs())? {
            Some(path) => cut(&path, random),
            None => Ok(false),
        },
        Damage::LogsDeleted => {
            let exists = orders.logs().exists();
            if exists {
                fs::remove_dir_all(orders.logs())?;
            }
            Ok(exists)
        }
        Damage::CheckpointFlipped | Damage::CheckpointCut | Damage::SidecarCut => {
            let whole = whole_checkpoints(&orders.checkpoints())?;
            // One that is whole must be left to go on from.
            let [(_, newest), _, ..] = &whole[..] else { return Ok(false) };
            let files = files(newest)?;
            let file = &files[random.below(files.len() as u64) as usize];
            match damage {
                Damage::CheckpointFlipped => flip(file, random),
                Damage::CheckpointCut => cut(file, random),
                _ => cut(&Sidecar::path(newest), random),
            }
        }
    }
}

/// The checkpoints that the library calls whole, newest first.
pub fn whole_checkpoints(directory: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut whole = Vec::new();
    for path in entries(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("step-") || name.starts_with(".replaced-step-") {
            let opened = Checkpoint::open(&path);
            if let Ok(checkpoint) = opened.and_then(|checkpoint| checkpoint.verify().map(|()| checkpoint)) {
                whole.push((checkpoint.step(), path));
            }
        }
    }
    whole.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(whole)
}

/// What lies in a directory, sorted by name; nothing, where it does not exist.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// All files in a directory and those below it.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(directory)? {
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn newest_event_file(logs: &Path) -> Result<Option<PathBuf>> {
    Ok(entries(logs)?.into_iter().rfind(|path| path.to_string_lossy().contains("tfevents")))
}

fn flip(path: &Path, random: &mut Random) -> Result<bool> {
    let mut bytes = fs::read(path)?;
    let at = random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
    fs::write(path, bytes)?;
    Ok(true)
}

/// Cuts a file off anywhere, at its last byte at the latest.
fn cut(path: &Path, random: &mut Random) -> Result<bool> {
    let length = fs::metadata(path)?.len();
    fs::OpenOptions::new().write(true).open(path)?.set_len(random.below(length))?;
    Ok(length > 0)
}

/// Cuts a file of lines off within one of its last three.
fn cut_in_a_record(path: &Path, random: &mut Random) -> Result<bool> {
    let Ok(bytes) = fs::read(path) else { return Ok(false) };
    let mut starts: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    let Some(lines) = starts.len().checked_sub(2) else { return Ok(false) };
    let line = lines - random.below(3.min(lines as u64 + 1)) as usize;
    let (start, end) = (starts[line], starts[line + 1]);
    if end - start < 4 {
        return Ok(false);
    }
    let length = start as u64 + 1 + random.below((end - start - 3) as u64);
    fs::OpenOptions::new().write(true).open(path)?.set_len(length)?;
    Ok(true)
}
