//! Real ranks for tests, small models, and a plain unsharded loop as the oracle.

#![allow(dead_code, reason = "no test uses all of it")]

pub mod oracle;

use hessian_probe_c10d::{Launcher, Output, ProcessGroup, is_launched};
use hessian_probe_fsdp::{
    Corpus, Dtype, LlamaConfig, Result, Sequence, SequenceId, SequenceSource, TrainerConfig,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// libtorch's default generator is the process's: tests that draw from it or seed it take turns.
pub fn generator_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    tch::set_num_threads(1);
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In the test process, starts the calling test on each of `world_sizes` ranks and checks that all
/// succeed; in those ranks, runs `body`.
pub fn on_ranks<F: Fn(ProcessGroup)>(world_sizes: &[usize], body: F) {
    on_ranks_with(world_sizes, &[], body);
}

/// [`on_ranks`], with environment variables for the ranks.
pub fn on_ranks_with<F: Fn(ProcessGroup)>(world_sizes: &[usize], variables: &[(&str, &OsStr)], body: F) {
    if is_launched() {
        return body(joined());
    }
    for &world_size in world_sizes {
        start(test_of(&body), world_size, variables);
    }
}

/// [`on_ranks`], with what `body` found on rank 0 of each of `world_sizes`; `None` in the ranks themselves, which have nothing
/// more to do.
pub fn found_on<T, F, const N: usize>(world_sizes: [usize; N], body: F) -> Option<[T; N]>
where
    T: Serialize + DeserializeOwned,
    F: Fn(ProcessGroup) -> T,
{
    const FILE: &str = "HESSIAN_PROBE_TEST_FILE";
    if is_launched() {
        let group = joined();
        let rank = group.rank();
        let found = body(group);
        if rank == 0 {
            let file = std::env::var_os(FILE).expect("a file for what is found");
            std::fs::write(file, serde_json::to_vec(&found).unwrap()).unwrap();
        }
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    Some(world_sizes.map(|world_size| {
        let file = directory.path().join(format!("{world_size}.json"));
        start(test_of(&body), world_size, &[(FILE, file.as_os_str())]);
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }))
}

/// This rank's group.
fn joined() -> ProcessGroup {
    tch::set_num_threads(1);
    ProcessGroup::from_env(Duration::from_secs(30)).expect("a group")
}

/// The test whose closure this is, by its type.
fn test_of<F>(_: &F) -> &'static str {
    let path = std::any::type_name::<F>();
    path.trim_end_matches("::{{closure}}").split_once("::").expect("a test in a crate").1
}

/// Runs a test of this binary on so many ranks.
fn start(test: &str, world_size: usize, variables: &[(&str, &OsStr)]) {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.envs(variables.iter().copied());
    let outcome = Launcher::new(world_size)
        .command(command)
        .env("OMP_NUM_THREADS", "1")
        .output(Output::Captured)
        .run()
        .expect("ranks");
    if let Some((rank, status)) = outcome.first_failure() {
        for rank in 0..world_size {
            eprintln!("--- rank {rank} of {world_size}\n{}", outcome.output(rank));
        }
        panic!("rank {rank} of {world_size} failed first: {status}");
    }
    for rank in 0..world_size {
        // Seen with --nocapture, as what the test itself prints.
        println!("--- rank {rank} of {world_size}\n{}", outcome.output(rank));
        // A filter that matches nothing would pass, too.
        assert!(outcome.output(rank).contains("1 passed"), "rank {rank} ran no test `{test}`");
    }
}

/// Sizes whose blocks are not divisible by 4, so that there is padding.
pub fn model(tied: bool, dropout: f64) -> LlamaConfig {
    LlamaConfig {
        num_key_value_heads: Some(1),
        tie_word_embeddings: tied,
        max_position_embeddings: 32,
        initializer_range: 0.1,
        dropout,
        ..LlamaConfig::new(257, 10, 27, 2, 5)
    }
}

/// About the median of the gradient norms of the first 50 steps, so that some steps clip.
pub fn clip_norm(tied: bool) -> f64 {
    if tied { 1.16 } else { 1.22 }
}

pub fn config(tied: bool, dropout: f64, dtype: Dtype) -> TrainerConfig {
    let mut config = TrainerConfig::new(model(tied, dropout), 12, 16);
    config.dtype = dtype;
    config.gradient_accumulation = 2;
    config.optimizer.lr = 3e-3;
    config.optimizer.clip_norm = Some(clip_norm(tied));
    config.seed = 11;
    config.threads = Some(1);
    config
}

/// Text that can be learnt, with targets left out here and there: ranks count different numbers.
pub struct Text(Corpus);

pub fn text() -> Text {
    let bytes: Vec<u8> = (0..4000u32)
        .flat_map(|i| format!("{} plus {} is {}\n", i % 7, i % 5, i % 7 + i % 5).into_bytes())
        .collect();
    Text(Corpus::from_bytes(bytes, 0.2).expect("a corpus"))
}

impl SequenceSource for Text {
    fn training(&self, id: SequenceId, length: usize) -> Result<Sequence> {
        let mut sequence = self.0.training(id, length)?;
        // Sequence 0 loses no target, sequence 11 more than half of them.
        let kept = length - (id.index as usize * length / 16);
        sequence.labels[kept..].fill(-100);
        Ok(sequence)
    }

    fn validation(&self, index: u64, length: usize) -> Result<Sequence> {
        self.0.validation(index, length)
    }

    fn vocab_size(&self) -> usize {
        256
    }
}

/// The elements as f64.
pub fn values(tensor: &tch::Tensor) -> Vec<f64> {
    let tensor = tensor.detach().to_kind(tch::Kind::Double).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    let count = values.len();
    tensor.copy_data(&mut values, count);
    values
}

/// The elements' bits (exact also for f32, which f64 contains).
pub fn bits(tensor: &tch::Tensor) -> Vec<u64> {
    values(tensor).into_iter().map(f64::to_bits).collect()
}

pub fn assert_close(found: f64, expected: f64, relative: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(error <= relative * expected.abs(), "{what}: {found} instead of {expected}: off by {error:e}");
}

/// The names of what is in a directory.
pub fn published(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = directory
        .read_dir()
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}
