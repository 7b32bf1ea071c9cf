//! A checkpoint whose random state is none, though every checksum is right: somebody edited it.

mod common;

use common::{bits, config, generator_lock, text};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::Path;

/// Moves the random state one byte forward, and gives the manifest its checksum anew.
fn move_random_state(manifest: &Path) {
    let written = std::fs::read_to_string(manifest).unwrap();
    let (opening, middle) = ("{\n\"crc32c\": \"", "\",\n\"manifest\": ");
    let body = written.split_once(middle).unwrap().1.strip_suffix("\n}\n").unwrap();
    let key = "\"random_state_offset\": ";
    let (before, after) = body.split_once(key).unwrap();
    let (offset, after) = after.split_once(',').unwrap();
    let moved = offset.parse::<u64>().unwrap() - 1;
    let body = format!("{before}{key}{moved},{after}");
    let checksum = crc32c::crc32c(body.as_bytes());
    std::fs::write(manifest, format!("{opening}{checksum:08x}{middle}{body}\n}}\n")).unwrap();
}

#[test]
fn a_trainer_is_not_changed_by_a_checkpoint_whose_random_state_is_none() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(config(true, 0.1, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    trainer.step().unwrap();
    let saved = trainer.save(root.path(), &mut []).unwrap();
    trainer.step().unwrap();
    let state = |trainer: &Trainer| {
        let shards = trainer.named_shards().unwrap();
        let parameters: Vec<_> = shards.iter().map(|shard| bits(&shard.tensor)).collect();
        (trainer.steps_done(), trainer.generator_state().unwrap(), parameters)
    };
    let before = state(&trainer);
    move_random_state(&saved.join("manifest.json"));
    let error = trainer.resume(&saved, &mut []).unwrap_err();
    assert!(error.to_string().contains("random"), "{error}");
    assert!(state(&trainer) == before, "changed by what it refused: {error}");
}
