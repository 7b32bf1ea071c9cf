//! Whatever stands in a configuration of the trainer or in a manifest whose checksum is right: an answer, without a panic, and
//! without memory that the input does not justify.

mod common;

use common::{config, generator_lock, parameters, text};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::checkpoint::latest;
use hessian_probe_fsdp::{Checkpoint, CheckpointConfig, Dtype, Error, Llama, Trainer, TrainerConfig};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tch::{Device, Kind};

/// As much as a fuzzed input may take in one piece.
const MOST: usize = 64 << 20;

/// The system's allocator, which remembers the largest piece.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Watched = Watched;

// SAFETY: everything is the system's.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        // SAFETY: what is asked of this is asked of that.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        // SAFETY: the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Relaxed);
        // SAFETY: the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn is_bounded() -> bool {
    LARGEST.load(Relaxed) <= MOST
}

/// A text with some of its bytes replaced, removed, inserted, or all behind them removed.
fn mutated(text: &str, edits: &[(Index, u8, u8)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (place, kind, byte) in edits {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match kind % 8 {
            0..=2 => bytes[place] = *byte,
            3..=4 => drop(bytes.remove(place)),
            5..=6 => bytes.insert(place, *byte),
            _ => bytes.truncate(place),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn edits() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec((any::<Index>(), any::<u8>(), any::<u8>()), 1..6)
}

/// Numbers on which arithmetic fails.
fn hostile_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            2,
            255,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 53,
            1 << 62,
            1 << 63,
            u64::MAX
        ])
        .prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

/// All numbers in a value.
fn numbers(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Array(values) => values.iter_mut().flat_map(numbers).collect(),
        Value::Object(values) => values.values_mut().flat_map(numbers).collect(),
        Value::Number(_) => vec![value],
        _ => Vec::new(),
    }
}

/// As the format's documentation says.
fn with_checksum(manifest: &str) -> String {
    let checksum = crc32c::crc32c(manifest.as_bytes());
    format!("{{\n\"crc32c\": \"{checksum:08x}\",\n\"manifest\": {manifest}\n}}\n")
}

fn trainer_toml() -> String {
    let mut config = config(true, 0.1, Dtype::F32);
    config.checkpoint =
        Some(CheckpointConfig { every: Some(3), keep: Some(2), ..CheckpointConfig::new("x") });
    toml::to_string(&config).unwrap()
}

/// What is accepted is written and read alike, and says how large its model is.
fn parse(text: &str) -> Result<(), TestCaseError> {
    let Ok(config) = toml::from_str::<TrainerConfig>(text) else { return Ok(()) };
    match config.validate(2) {
        Err(error) => prop_assert!(!error.to_string().is_empty()),
        Ok(()) => {
            let written = toml::to_string(&config).unwrap();
            prop_assert_eq!(&toml::from_str::<TrainerConfig>(&written).unwrap(), &config);
            // A model has as much to describe as it has layers, and that is what its user asks for.
            if config.model.num_hidden_layers <= 64 {
                let _ =
                    Llama::new(config.model, Kind::Float, Device::Cpu).map(|model| model.parameter_count());
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_trainers_configuration_is_valid_or_an_error_whatever_is_in_it(
        edits in edits(), noise in ".{0,60}", number in hostile_number(), place in any::<Index>(),
    ) {
        parse(&mutated(&trainer_toml(), &edits))?;
        parse(&noise)?;
        // One of its numbers is another.
        let mut value: Value = serde_json::to_value(toml::from_str::<toml::Table>(&trainer_toml()).unwrap()).unwrap();
        let mut all = numbers(&mut value);
        let place = place.index(all.len());
        *all[place] = number;
        if let Ok(text) = toml::to_string(&value) {
            parse(&text)?;
        }
        prop_assert!(is_bounded(), "{} bytes in one piece", LARGEST.load(Relaxed));
    }
}

/// A checkpoint, and a trainer that is to resume from it.
struct Run {
    root: tempfile::TempDir,
    checkpoint: PathBuf,
    manifest: Value,
    trainer: Trainer,
}

impl Run {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut trainer =
            Trainer::new(config(true, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
        trainer.step().unwrap();
        let checkpoint = trainer.save(root.path(), &mut []).unwrap();
        let file: Value =
            serde_json::from_slice(&std::fs::read(checkpoint.join("manifest.json")).unwrap()).unwrap();
        Self { root, checkpoint, manifest: file["manifest"].clone(), trainer }
    }

    /// What comes of this manifest.
    fn meets(&mut self, manifest: &str) -> Result<(), TestCaseError> {
        std::fs::write(self.checkpoint.join("manifest.json"), with_checksum(manifest)).unwrap();
        match Checkpoint::open(&self.checkpoint) {
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains(self.checkpoint.to_str().unwrap()), "{}", text);
                prop_assert!(latest(self.root.path()).is_err(), "a run must not begin anew by accident");
            }
            Ok(found) => {
                let _ = found.verify();
                let before = parameters(&self.trainer);
                match self.trainer.resume(&self.checkpoint, &mut []) {
                    Ok(()) => prop_assert_eq!(self.trainer.steps_done(), found.step()),
                    Err(Error::Callback { .. }) => {}
                    Err(error) => prop_assert!(parameters(&self.trainer) == before, "{}", error),
                }
            }
        }
        prop_assert!(is_bounded(), "{} bytes in one piece", LARGEST.load(Relaxed));
        Ok(())
    }
}

#[test]
fn a_manifest_with_a_right_checksum_is_used_or_an_error_whatever_it_says() {
    let _lock = generator_lock();
    let run = std::cell::RefCell::new(Run::new());
    let whole = run.borrow().manifest.clone();
    let count = numbers(&mut whole.clone()).len();
    run.borrow_mut().meets(&whole.to_string()).unwrap();
    assert_eq!(Checkpoint::open(&run.borrow().checkpoint).unwrap().step(), 1, "the checksum is put right");
    // Each of its numbers, as long or as large as can be.
    for place in 0..count {
        for number in [u64::MAX, 1 << 62, 1 << 40, 0] {
            let mut manifest = whole.clone();
            *numbers(&mut manifest)[place] = Value::from(number);
            run.borrow_mut().meets(&manifest.to_string()).unwrap();
        }
    }
    let strategy = (prop::collection::vec((any::<Index>(), hostile_number()), 1..4), edits());
    proptest!(ProptestConfig::with_cases(256), |((changes, edits) in strategy)| {
        let mut manifest = whole.clone();
        for (place, number) in changes {
            *numbers(&mut manifest)[place.index(count)] = number;
        }
        run.borrow_mut().meets(&manifest.to_string())?;
        run.borrow_mut().meets(&mutated(&whole.to_string(), &edits))?;
    });
}
