//! The model in Hugging Face's form.

use super::config::write_config;
use super::weights::{INDEX, SINGLE};
use crate::checkpoint::agree;
use crate::checkpoint::agreement::from_rank_zero;
use crate::checkpoint::atomic::{IoAt, create_directory, parent, sync_directory, write_file};
use crate::checkpoint::checksum::{CHUNK_BYTES, ChecksumWriter};
use crate::checkpoint::header::Header;
use crate::error::{At, Error, Result};
use crate::sharding::{BlockLayout, ParameterLayout};
use crate::trainer::Trainer;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The largest file that is written unless asked otherwise.
const MAX_FILE_BYTES: u64 = 5_000_000_000;

/// How many bytes are copied out of a tensor at a time.
const PIECE: usize = 1 << 20;

/// Which of the files each parameter goes to: full files one after the other, in the order of blocks.
struct Files {
    /// Of each parameter, in order.
    numbers: Vec<usize>,
    count: usize,
}

impl Files {
    fn plan(bytes: impl Iterator<Item = u64>, max_file_bytes: u64) -> Self {
        let (mut numbers, mut file, mut filled) = (Vec::new(), 0, 0_u64);
        for size in bytes {
            if filled > 0 && filled.saturating_add(size) > max_file_bytes {
                (file, filled) = (file + 1, 0);
            }
            filled = filled.saturating_add(size);
            numbers.push(file);
        }
        Self { numbers, count: file + 1 }
    }

    fn name(&self, number: usize) -> String {
        if self.count == 1 {
            return SINGLE.into();
        }
        format!("model-{:05}-of-{:05}.safetensors", number + 1, self.count)
    }
}

impl Trainer {
    /// Writes the model into the new directory `directory`, from which
    /// [`from_hugging_face`](Self::from_hugging_face) and transformers' `from_pretrained` read it:
    /// `config.json` and `model.safetensors`, or several files of up to 5 GB with an index. Collective; rank 0
    /// writes, and holds one block at a time.
    ///
    /// # Errors
    /// On all ranks if on one: [`Io`](Error::Io), also where `directory` exists and is not empty. It is
    /// then not there.
    pub fn export_hugging_face(&self, directory: &Path) -> Result<()> {
        self.export_hugging_face_in_files(directory, MAX_FILE_BYTES)
    }

    /// [`export_hugging_face`](Self::export_hugging_face) with files of up to `max_file_bytes`, or of one
    /// weight where that is larger.
    ///
    /// # Errors
    /// As that.
    pub fn export_hugging_face_in_files(&self, directory: &Path, max_file_bytes: u64) -> Result<()> {
        let rank = self.group().rank();
        let mut nonce = [f64::from(std::process::id())];
        from_rank_zero(self.group(), "exporting a model", &mut nonce)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(directory.file_name().unwrap_or_default());
        name.push(format!(".exporting-{:x}", nonce[0] as u64));
        let staged = parent(directory).join(name);

        let result = self.export_staged(directory, &staged, max_file_bytes);
        if result.is_err()
            && rank == 0
            && staged.exists()
            && let Err(error) = fs::remove_dir_all(&staged)
        {
            log::warn!("cannot remove {}: {error}", staged.display());
        }
        result
    }

    fn export_staged(&self, directory: &Path, staged: &Path, max_file_bytes: u64) -> Result<()> {
        let rank = self.group().rank();
        let parameters = self.parameter_places();
        let size = self.config().dtype.bytes();
        let bytes = parameters.iter().map(|(_, parameter)| parameter.numel as u64 * size);
        let files = Files::plan(bytes, max_file_bytes);

        let prepared = if rank == 0 { self.prepare_export(directory, staged, &files) } else { Ok(()) };
        agree(self.group(), "exporting a model", prepared)?;

        let mut writer = Writer { trainer: self, staged, files: &files, parameters: &parameters, file: None };
        let mut index = 0;
        for (block, layout) in self.engine().parameters().layouts().iter().enumerate() {
            let written = self.export_block(block, layout, &mut index, &mut writer);
            agree(self.group(), "exporting a model", written)?;
        }
        let finished =
            if rank == 0 { writer.finish_file().and_then(|()| publish(staged, directory)) } else { Ok(()) };
        agree(self.group(), "exporting a model", finished)
    }

    fn export_block(
        &self,
        block: usize,
        layout: &BlockLayout,
        index: &mut usize,
        writer: &mut Writer<'_>,
    ) -> Result<()> {
        // A borrowed block's parameters come after the block's own, and are left out.
        let gathered = self.engine().parameters().gather(self.group(), block, false)?;
        for tensor in gathered.parameters().iter().take(layout.parameters.len()) {
            if self.group().rank() == 0 {
                writer.write(*index, tensor)?;
            }
            *index += 1;
        }
        Ok(())
    }

    /// Creates the directory, with everything but weights.
    fn prepare_export(&self, directory: &Path, staged: &Path, files: &Files) -> Result<()> {
        let occupied = match fs::read_dir(directory) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_) => directory.exists(),
        };
        if occupied {
            let source = std::io::Error::other("it exists and is not an empty directory; name another");
            return Err(Error::Io { rank: 0, action: "export to", path: directory.into(), source });
        }
        if staged.exists() {
            fs::remove_dir_all(staged).io_at(0, "remove", staged)?;
        }
        create_directory(staged, 0)?;
        let write = |name: &str, value: &serde_json::Value| {
            write_file(&staged.join(name), format!("{value:#}\n").as_bytes(), 0)
        };
        write("config.json", &write_config(&self.config().model, self.config().dtype))?;
        if files.count > 1 {
            let names = self.parameter_places().into_iter().map(|(_, parameter)| &parameter.spec.name);
            let map: serde_json::Map<_, _> = names
                .zip(&files.numbers)
                .map(|(name, &number)| (name.clone(), files.name(number).into()))
                .collect();
            let total = self.parameter_count() * self.config().dtype.bytes();
            write(INDEX, &json!({"metadata": {"total_size": total}, "weight_map": map}))?;
        }
        Ok(())
    }
}

/// Writes weights in order, one file after the other.
struct Writer<'a> {
    trainer: &'a Trainer,
    staged: &'a Path,
    files: &'a Files,
    parameters: &'a [(usize, &'a ParameterLayout)],
    file: Option<(usize, ChecksumWriter)>,
}

impl Writer<'_> {
    /// Writes parameter number `index`.
    fn write(&mut self, index: usize, tensor: &Tensor) -> Result<()> {
        let number = self.files.numbers.get(index).copied().unwrap_or_default();
        let size = self.trainer.config().dtype.bytes() as usize;
        let mut file = match self.file.take() {
            Some((current, file)) if current == number => file,
            other => {
                self.file = other;
                self.finish_file()?;
                self.start_file(number)?
            }
        };
        let mut buffer = Vec::new();
        let total = tensor.numel();
        for start in (0..total).step_by(PIECE / size) {
            let count = (PIECE / size).min(total - start);
            buffer.resize(count * size, 0);
            let mut copy = || {
                let piece = tensor.f_view([-1])?.f_narrow(0, start as i64, count as i64)?;
                piece.f_copy_data_u8(&mut buffer, count)
            };
            copy().at(0, || "exporting a weight")?;
            file.write(&buffer)?;
        }
        self.file = Some((number, file));
        Ok(())
    }

    fn start_file(&self, number: usize) -> Result<ChecksumWriter> {
        let path = self.path(number);
        let mut header = Header::new();
        for ((_, parameter), _) in
            self.parameters.iter().zip(&self.files.numbers).filter(|(_, it)| **it == number)
        {
            let shape = parameter.spec.shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
            header.push(parameter.spec.name.clone(), self.trainer.config().dtype.safetensors(), shape);
        }
        let header = header.encode().map_err(|error| std::io::Error::other(error.to_string())).io_at(
            0,
            "write the header of",
            &path,
        )?;
        let mut file = ChecksumWriter::create(&path, CHUNK_BYTES, 0)?;
        file.write(&header)?;
        Ok(file)
    }

    fn finish_file(&mut self) -> Result<()> {
        self.file.take().map_or(Ok(()), |(_, file)| file.finish().map(drop))
    }

    fn path(&self, number: usize) -> PathBuf {
        self.staged.join(self.files.name(number))
    }
}

fn publish(staged: &Path, directory: &Path) -> Result<()> {
    sync_directory(staged, 0)?;
    // Onto an empty directory, too.
    fs::rename(staged, directory).io_at(0, "rename to", directory)?;
    sync_directory(parent(directory), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_filled_in_order_and_a_large_weight_has_one_of_its_own() {
        let files = Files::plan([4, 4, 2, 11, 1, 9].into_iter(), 10);
        assert_eq!(files.numbers, [0, 0, 0, 1, 2, 2]);
        assert_eq!(files.name(2), "model-00003-of-00003.safetensors");
        assert_eq!(Files::plan([4, 4].into_iter(), u64::MAX).name(0), SINGLE);
    }
}
