//! Writing a checkpoint, by all ranks.

use super::agreement::{agree, from_rank_zero, gather};
use super::atomic::{IoAt, Staging, sync_directory, write_file};
use super::checksum::{CHUNK_BYTES, ChecksumWriter, checksum_file, chunks};
use super::manifest::{FileEntry, MANIFEST, Manifest, ParameterEntry, RankEntry, State, VERSION};
use super::rank_file::{RankFile, file_name};
use super::retention;
use crate::config::Dtype;
use crate::error::{At, Error, Result};
use crate::trainer::Trainer;
use hessian_probe::{Callback, Control};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// How many elements are copied out of a tensor at a time.
const PIECE: usize = 1 << 17;

impl Trainer {
    /// Saves this run as `directory/step-00000123`, where 123 is [`steps_done`](Trainer::steps_done), and
    /// returns that path. Collective: every rank writes its part of a directory that all ranks see.
    ///
    /// Everything is written, and synced to the disk, into a hidden directory, which one rename makes a
    /// checkpoint: whatever happens before, there is none, and an earlier one of the same step stays until
    /// then. `callbacks` are called when the trainer's own part is there: what they write into the
    /// directory that they are given becomes part of the checkpoint, and under the same names. They get the
    /// number of the last step taken, as in [`on_step_end`](Callback::on_step_end).
    ///
    /// Training goes on as if nothing had been saved, after an error, too. The group's timeout must be longer
    /// than the slowest rank takes to write its part.
    ///
    /// # Errors
    /// On all ranks if on one: [`Io`](Error::Io) and [`Callback`](Error::Callback) on that rank,
    /// [`Peer`](Error::Peer) on the others. Nothing was saved then, with one exception: where the error is that
    /// `directory` cannot be synced, the checkpoint is there and whole, but may not outlive a loss of power.
    pub fn save(&mut self, directory: &Path, callbacks: &mut [&mut dyn Callback]) -> Result<PathBuf> {
        self.save_and_ask(directory, callbacks).map(|(path, _)| path)
    }

    /// [`save`](Self::save), with the strongest request of the callbacks.
    pub(crate) fn save_and_ask(
        &mut self,
        directory: &Path,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<(PathBuf, Control)> {
        let mut nonce = [nonce()];
        from_rank_zero(self.group(), "preparing a checkpoint", &mut nonce)?;
        let staging = Staging::new(directory, self.steps_done(), nonce[0] as u64);
        let result = self.save_staged(directory, &staging, callbacks);
        if result.is_err() && self.group().rank() == 0 {
            staging.discard(0);
        }
        result
    }

    fn save_staged(
        &mut self,
        directory: &Path,
        staging: &Staging,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<(PathBuf, Control)> {
        let rank = self.group().rank();
        let prepared = if rank == 0 { prepare(directory, staging) } else { Ok(()) };
        agree(self.group(), "preparing a checkpoint", prepared)?;

        let parts = self.write_parts(staging)?;
        let control = self.call_on_save(&staging.path(), callbacks)?;
        // Every rank is done with its files here.
        let published = if rank == 0 {
            self.seal(&staging.path(), parts, callbacks).and_then(|()| staging.publish(rank))
        } else {
            Ok(staging.target())
        };
        let path = agree(self.group(), "publishing a checkpoint", published)?;
        log::info!("rank {rank}: saved {}", path.display());
        Ok((path, control))
    }

    /// Writes this rank's file; returns what all ranks wrote.
    fn write_parts(&self, staging: &Staging) -> Result<Vec<RankEntry>> {
        let (group, directory) = (self.group(), staging.path());
        let (rank, world_size) = (group.rank(), group.world_size());
        let random_state = agree(group, "reading the random state", self.generator_state())?;
        let lengths =
            gather(group, "planning a checkpoint", &vec![1; world_size], &[random_state.len() as f64])?;
        let plans: Result<Vec<RankFile>> = (0..world_size)
            .zip(&lengths)
            .map(|(rank, &length)| {
                let layouts = self.engine().parameters().layouts();
                RankFile::plan(layouts, rank, |state| self.state_dtype(state), length as usize, &directory)
            })
            .collect();
        let plans = agree(group, "planning a checkpoint", plans)?;

        let written = match plans.get(rank) {
            Some(plan) => self.write_part(plan, &random_state, &directory.join(file_name(rank, world_size))),
            None => Ok(Vec::new()),
        };
        let mine: Vec<f64> =
            agree(group, "writing a checkpoint", written)?.into_iter().map(f64::from).collect();
        let counts: Vec<usize> = plans.iter().map(|plan| chunks(plan.bytes, CHUNK_BYTES) as usize).collect();
        let mut all = gather(group, "gathering checksums", &counts, &mine)?.into_iter();

        let entry = |(rank, (plan, count)): (usize, (RankFile, usize))| RankEntry {
            file: FileEntry {
                path: file_name(rank, world_size),
                bytes: plan.bytes,
                chunk_bytes: CHUNK_BYTES,
                crc32c: all.by_ref().take(count).map(|checksum| checksum as u32).collect(),
            },
            slices: plan.slices,
            random_state_offset: plan.random_state_offset,
            random_state_bytes: lengths.get(rank).map_or(0, |&length| length as u64),
        };
        Ok(plans.into_iter().zip(counts).enumerate().map(entry).collect())
    }

    fn write_part(&self, plan: &RankFile, random_state: &[u8], path: &Path) -> Result<Vec<u32>> {
        let rank = self.group().rank();
        let parameters = self.parameter_places();
        let mut file = ChecksumWriter::create(path, CHUNK_BYTES, rank)?;
        file.write(&plan.header)?;
        let mut buffer = Vec::new();
        for slice in &plan.slices {
            let Some(&(block, parameter)) = parameters.get(slice.parameter) else { continue };
            let Some(shard) = self.state_shards(slice.state).get(block) else { continue };
            let start = self.engine().parameters().layouts()[block].slice(rank, parameter).shard_start;
            for done in (0..slice.len as usize).step_by(PIECE) {
                let count = PIECE.min(slice.len as usize - done);
                let size = self.state_dtype(slice.state).bytes() as usize;
                copy_out(shard, start + done, count, size, &mut buffer)
                    .at(rank, || format!("saving `{}`", parameter.spec.name))?;
                file.write(&buffer)?;
            }
        }
        file.write(random_state)?;
        Ok(file.finish()?.1)
    }

    /// The flat slices of all blocks of one of the three vectors.
    pub(super) fn state_shards(&self, state: State) -> &[Tensor] {
        match state {
            State::Parameter => self.engine().parameters().flat_shards(),
            State::ExpAvg => self.optimizer.first_moments(),
            State::ExpAvgSq => self.optimizer.second_moments(),
        }
    }

    /// The type of the elements of one of the three vectors.
    pub(super) fn state_dtype(&self, state: State) -> Dtype {
        let config = self.config();
        match state {
            State::Parameter => config.dtype,
            State::ExpAvg | State::ExpAvgSq => config.optimizer.state_dtype.unwrap_or(config.dtype),
        }
    }

    fn call_on_save(&mut self, directory: &Path, callbacks: &mut [&mut dyn Callback]) -> Result<Control> {
        let (rank, step) = (self.group().rank(), self.steps_done().saturating_sub(1));
        let mut control = Control::Continue;
        for callback in callbacks {
            let result = callback.on_save_checkpoint(step, directory, self).map_err(|source| {
                Error::Callback { rank, step, during: "on_save_checkpoint", source: Box::new(source) }
            });
            // After each, or the next one would communicate with ranks that are not there.
            control = control.and(agree(self.group(), "on_save_checkpoint", result)?);
        }
        Ok(control)
    }

    /// On rank 0: takes up what callbacks wrote, and writes the manifest.
    fn seal(
        &self,
        directory: &Path,
        ranks: Vec<RankEntry>,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<()> {
        let own: BTreeSet<&str> = ranks.iter().map(|rank| rank.file.path.as_str()).collect();
        let mut files = Vec::new();
        take_up(directory, "", &own, &mut files)?;
        let layouts = self.engine().parameters().layouts();
        let parameters =
            layouts.iter().flat_map(|layout| &layout.parameters).map(|parameter| ParameterEntry {
                name: parameter.spec.name.clone(),
                shape: parameter.spec.shape.clone(),
                dtype: self.config().dtype,
                moments_dtype: self.config().optimizer.state_dtype.filter(|&it| it != self.config().dtype),
            });
        let manifest = Manifest {
            format: Manifest::format(),
            version: VERSION,
            step: self.steps_done(),
            tokens: self.tokens(),
            optimizer_steps: self.optimizer.steps(),
            world_size: self.group().world_size(),
            config: self.config().clone(),
            parameters: parameters.collect(),
            ranks,
            files,
            callbacks: callbacks.iter().map(|callback| callback.state_dict()).collect(),
        };
        let path = directory.join(MANIFEST);
        let bytes = manifest.encode().map_err(std::io::Error::from).io_at(0, "encode", &path)?;
        write_file(&path, &bytes, 0)
    }
}

fn prepare(directory: &Path, staging: &Staging) -> Result<()> {
    // First of all, for it may be what fills the disk. Not essential.
    if let Err(error) = retention::clean(directory) {
        log::warn!("{error}");
    }
    staging.create(0)
}

/// Syncs everything under `directory` that is not in `own`, and lists the files.
fn take_up(directory: &Path, prefix: &str, own: &BTreeSet<&str>, files: &mut Vec<FileEntry>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).io_at(0, "list", directory)? {
        entries.push(entry.io_at(0, "list", directory)?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let refuse = |reason: &str| Error::Io {
            rank: 0,
            action: "make part of a checkpoint",
            path: path.clone(),
            source: std::io::Error::other(reason),
        };
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| refuse("a callback gave it a name that is not UTF-8"))?;
        let relative = format!("{prefix}{name}");
        if own.contains(relative.as_str()) {
            continue;
        }
        if relative == MANIFEST {
            return Err(refuse("the name belongs to the trainer, but a callback used it"));
        }
        let kind = entry.file_type().io_at(0, "look at", &path)?;
        if kind.is_dir() {
            take_up(&path, &format!("{relative}/"), own, files)?;
            sync_directory(&path, 0)?;
        } else if kind.is_file() {
            let (bytes, crc32c) = checksum_file(&path, CHUNK_BYTES, 0)?;
            files.push(FileEntry { path: relative, bytes, chunk_bytes: CHUNK_BYTES, crc32c });
        } else {
            return Err(refuse("a callback made it, and it is neither a file nor a directory"));
        }
    }
    Ok(())
}

/// The bytes of `count` elements of `shard` from element number `start` on.
fn copy_out(
    shard: &Tensor,
    start: usize,
    count: usize,
    size: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), tch::TchError> {
    buffer.resize(count * size, 0);
    shard.f_narrow(0, start as i64, count as i64)?.f_copy_data_u8(buffer, count)
}

/// 48 bits that another run, or the same at another time, does not have.
fn nonce() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mixed = crate::model::hash(now.as_nanos() as u64, std::process::id().into());
    (mixed >> 16) as f64
}
