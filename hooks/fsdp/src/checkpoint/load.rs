//! Reading a checkpoint, on any number of ranks.

use super::Checkpoint;
use super::agreement::{agree, from_rank_zero};
use super::checksum::VerifiedFile;
use super::latest::candidates;
use super::manifest::{RankEntry, State};
use super::names::Name;
use crate::data::SequenceSource;
use crate::error::{At, Error, Result};
use crate::model::hash;
use crate::sharding::ParameterLayout;
use crate::trainer::Trainer;
use hessian_probe::Callback;
use hessian_probe_c10d::ProcessGroup;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Tensor, no_grad_guard};

/// Where elements that this rank needs lie in a file, and where they belong.
struct Piece {
    state: State,
    block: usize,
    /// The first element's index in this rank's shard of the block.
    shard_start: usize,
    /// In the file.
    bytes: Range<u64>,
}

impl Trainer {
    /// The run that the checkpoint at `path` was saved by, with the configuration that it was saved with, on
    /// any number of ranks that divides its batch size. Collective. To change something, take
    /// [`Checkpoint::config`], change it, and use [`Trainer::new`] and [`resume`](Self::resume).
    ///
    /// # Errors
    /// As [`Checkpoint::open`], [`Trainer::new`] and [`resume`](Self::resume).
    pub fn load(
        path: &Path,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<Self> {
        let checkpoint = agree(&group, "opening a checkpoint", Checkpoint::open_on(path, group.rank()))?;
        let mut trainer = Self::without_parameters(checkpoint.config().clone(), group, source)?;
        trainer.resume(path, callbacks)?;
        Ok(trainer)
    }

    /// Goes on from the checkpoint at `path`, which any number of ranks may have written. Collective. A rank
    /// reads the ranges that it needs and no others.
    ///
    /// On as many ranks as had saved, training continues bit for bit as if it had never stopped (given the
    /// same configuration, threads and data). On another number, everything is restored bit for bit but
    /// the random generators, which the ranks had one each of: each is seeded with a hash of (seed, rank,
    /// step). Dropout masks then differ from those of an uninterrupted run; without dropout nothing does
    /// but the order of sums.
    ///
    /// The trainer keeps its own configuration. The model and the kind of its parameters must be the
    /// checkpoint's; any other difference is logged and allowed. Then every callback's `load_state_dict`
    /// gets what its predecessor at the same place in the list had returned, if it is not null, and
    /// `on_load_checkpoint` is called. The probe batch is not part of a checkpoint.
    ///
    /// # Errors
    /// On all ranks if on one. [`Damaged`](Error::Damaged), [`Incompatible`](Error::Incompatible),
    /// [`Io`](Error::Io): the trainer is as it was, unless the files changed while they were read (twice:
    /// to check them, and to use them). [`Callback`](Error::Callback): the trainer is restored.
    pub fn resume(&mut self, path: &Path, callbacks: &mut [&mut dyn Callback]) -> Result<()> {
        let rank = self.group().rank();
        let opened = Checkpoint::open_on(path, rank).and_then(|checkpoint| {
            self.fits(&checkpoint)?;
            Ok(checkpoint)
        });
        let checkpoint = agree(self.group(), "opening a checkpoint", opened)?;
        agree(self.group(), "checking a checkpoint", self.check_ranges(&checkpoint))?;
        // Before the rest, since only libtorch can tell whether a state is one: nothing else was changed then.
        let before = agree(self.group(), "reading the random state", self.generator_state())?;
        let restored = self.restore_generator(&checkpoint);
        if let Err(error) = agree(self.group(), "restoring the random state", restored) {
            self.set_generator_state(&before)?;
            return Err(error);
        }
        let read = self.read(&checkpoint);
        agree(self.group(), "reading a checkpoint", read)?;
        log::info!("rank {rank}: resumed from {}", path.display());
        self.call_on_load(&checkpoint, callbacks)
    }

    /// [`resume`](Self::resume) with the newest checkpoint in `directory` that is whole, whose path is
    /// returned; `None` where there is none. Damaged ones are logged and passed over. Collective.
    ///
    /// # Errors
    /// As [`resume`](Self::resume); and where there are checkpoints but none that is whole, what is wrong with
    /// the newest: a run must not start from the beginning by accident.
    pub fn resume_latest(
        &mut self,
        directory: &Path,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<Option<PathBuf>> {
        let mut newest = None;
        for name in self.agreed_candidates(directory)? {
            let path = directory.join(name.to_string());
            match self.resume(&path, callbacks) {
                Ok(()) => return Ok(Some(path)),
                Err(error) if error.is_damage() => {
                    log::warn!("{error}");
                    newest.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        newest.map_or(Ok(None), Err)
    }

    /// The candidates that rank 0 sees: file systems may show others to other ranks for a while.
    fn agreed_candidates(&self, directory: &Path) -> Result<Vec<Name>> {
        let (group, during) = (self.group(), "listing checkpoints");
        let listed = if group.rank() == 0 { candidates(directory, 0) } else { Ok(Vec::new()) };
        let listed = agree(group, during, listed)?;
        let mut count = [listed.len() as f64];
        from_rank_zero(group, during, &mut count)?;
        let encode = |name: &Name| match *name {
            Name::Replaced { step, nonce } => [step as f64, nonce as f64],
            Name::Published { step } | Name::Staging { step, .. } | Name::Deleting { step, .. } => {
                [step as f64, -1.0]
            }
        };
        let mut encoded: Vec<f64> = listed.iter().flat_map(encode).collect();
        encoded.resize(2 * count[0] as usize, 0.0);
        from_rank_zero(group, during, &mut encoded)?;
        let decode = |pair: &[f64]| match *pair {
            [step, nonce] if nonce >= 0.0 => Some(Name::Replaced { step: step as u64, nonce: nonce as u64 }),
            [step, _] => Some(Name::Published { step: step as u64 }),
            _ => None,
        };
        Ok(encoded.chunks(2).filter_map(decode).collect())
    }

    /// Checks every byte that this rank will use, and its share of those that no rank uses.
    fn check_ranges(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (rank, world_size, manifest) =
            (self.group().rank(), self.group().world_size(), checkpoint.manifest());
        for (writer, entry) in manifest.ranks.iter().enumerate() {
            let pieces = self.needed(entry);
            let responsible = writer % world_size == rank;
            if pieces.is_empty() && !responsible {
                continue;
            }
            let mut file = VerifiedFile::open(checkpoint.path(), &entry.file, rank)?;
            if responsible {
                let data = entry.slices.first().map_or(entry.random_state_offset, |slice| slice.offset);
                file.read(0..data, |_| Ok(()))?;
            }
            for piece in pieces {
                file.read(piece.bytes, |_| Ok(()))?;
            }
            if responsible {
                file.read(random_state_range(entry), |_| Ok(()))?;
            }
        }
        for (index, entry) in manifest.files.iter().enumerate() {
            if index % world_size == rank {
                VerifiedFile::open(checkpoint.path(), entry, rank)?.verify()?;
            }
        }
        Ok(())
    }

    fn read(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (rank, manifest) = (self.group().rank(), checkpoint.manifest());
        let _no_grad = no_grad_guard();
        for entry in &manifest.ranks {
            let pieces = self.needed(entry);
            if pieces.is_empty() {
                continue;
            }
            let mut file = VerifiedFile::open(checkpoint.path(), &entry.file, rank)?;
            for piece in pieces {
                let Some(shard) = self.state_shards(piece.state).get(piece.block) else { continue };
                let mut start = piece.shard_start as i64;
                let dtype = self.state_dtype(piece.state);
                file.read(piece.bytes, |bytes| {
                    let count = (bytes.len() / dtype.bytes() as usize) as i64;
                    let copy = || {
                        let values = Tensor::f_from_data_size(bytes, &[count], dtype.kind())?;
                        shard.f_narrow(0, start, count)?.f_copy_(&values)
                    };
                    copy().at(rank, || format!("reading {}", entry.file.path))?;
                    start += count;
                    Ok(())
                })?;
            }
        }
        self.restore_progress(manifest.step, manifest.tokens, manifest.optimizer_steps);
        Ok(())
    }

    fn restore_generator(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (rank, world_size, manifest) =
            (self.group().rank(), self.group().world_size(), checkpoint.manifest());
        match manifest.ranks.get(rank) {
            Some(entry) if manifest.world_size == world_size => {
                let mut state = Vec::new();
                VerifiedFile::open(checkpoint.path(), &entry.file, rank)?.read(
                    random_state_range(entry),
                    |bytes| {
                        state.extend_from_slice(bytes);
                        Ok(())
                    },
                )?;
                self.set_generator_state(&state)
            }
            _ => {
                // 0 to 2 are the streams of initial values, of data and of a new run's generators.
                let seed = [rank as u64, manifest.step].into_iter().fold(hash(self.config().seed, 3), hash);
                tch::manual_seed(seed.cast_signed());
                Ok(())
            }
        }
    }

    /// What this rank needs of a writer's file.
    fn needed(&self, entry: &RankEntry) -> Vec<Piece> {
        let parameters = self.parameter_places();
        let piece = |slice: &super::manifest::SliceEntry| {
            let &(block, parameter) = parameters.get(slice.parameter)?;
            let layout = self.engine().parameters().layouts().get(block)?;
            let own = layout.slice(self.group().rank(), parameter);
            let own_start = own.parameter_start as u64;
            let size = self.state_dtype(slice.state).bytes();
            let start = slice.start.max(own_start);
            let end = (slice.start + slice.len).min(own_start + own.len as u64);
            let first = slice.offset + start.saturating_sub(slice.start) * size;
            (start < end).then(|| Piece {
                state: slice.state,
                block,
                shard_start: own.shard_start + (start - own_start) as usize,
                bytes: first..first + (end - start) * size,
            })
        };
        entry.slices.iter().filter_map(piece).collect()
    }

    /// Block and layout of every parameter, in the order of blocks.
    pub(super) fn parameter_places(&self) -> Vec<(usize, &ParameterLayout)> {
        let layouts = self.engine().parameters().layouts().iter().enumerate();
        layouts.flat_map(|(block, layout)| layout.parameters.iter().map(move |it| (block, it))).collect()
    }

    fn call_on_load(&mut self, checkpoint: &Checkpoint, callbacks: &mut [&mut dyn Callback]) -> Result<()> {
        let (rank, step) = (self.group().rank(), checkpoint.step());
        let failed = |during| move |source| Error::Callback { rank, step, during, source: Box::new(source) };
        let states = &checkpoint.manifest().callbacks;
        if states.len() != callbacks.len() && rank == 0 && states.iter().any(|state| !state.is_null()) {
            log::warn!(
                "{}: saved with {} callbacks, resumed with {}; states go to those at the same place",
                checkpoint.path().display(),
                states.len(),
                callbacks.len()
            );
        }
        let none = serde_json::Value::Null;
        for (callback, state) in callbacks.iter_mut().zip(states.iter().chain(std::iter::repeat(&none))) {
            let loaded = if state.is_null() { Ok(()) } else { callback.load_state_dict(state) };
            agree(self.group(), "load_state_dict", loaded.map_err(failed("load_state_dict")))?;
            let called = callback.on_load_checkpoint(checkpoint.path(), self);
            agree(self.group(), "on_load_checkpoint", called.map_err(failed("on_load_checkpoint")))?;
        }
        Ok(())
    }
}

fn random_state_range(entry: &RankEntry) -> Range<u64> {
    entry.random_state_offset..entry.random_state_offset + entry.random_state_bytes
}
