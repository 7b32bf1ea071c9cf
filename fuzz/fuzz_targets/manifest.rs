//! A checkpoint's manifest, and a trainer that resumes from what it describes.
#![no_main]

use hessian_probe_fsdp::checkpoint::latest;
use hessian_probe_fsdp::{Checkpoint, Error, Trainer};
use hessian_probe_fuzz::{envelope, models, scratch, seeds};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::path::PathBuf;
use tch::{Kind, Tensor};

struct Run {
    directory: PathBuf,
    checkpoint: PathBuf,
    trainer: Trainer,
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::new({
        tch::set_num_threads(1);
        let directory = scratch::directory().join("checkpoints");
        Run { checkpoint: seeds::save_checkpoint(&directory), directory, trainer: models::trainer() }
    });
}

/// Their bits: a manifest may well say that moments are where other values lie, and lead to NaN.
fn parameters(trainer: &Trainer) -> Vec<Tensor> {
    let shards = trainer.named_shards().expect("parameters");
    shards.iter().map(|shard| shard.tensor.view_dtype(Kind::Int).copy()).collect()
}

fuzz_target!(|bytes: &[u8]| {
    RUN.with_borrow_mut(|Run { directory, checkpoint, trainer }| {
        scratch::write(&checkpoint.join("manifest.json"), envelope::manifest(bytes));
        match Checkpoint::open(checkpoint) {
            Ok(found) => {
                let _ = found.verify();
                let _ = latest(directory).map(|found| found.map(|found| found.step()));
                let before = parameters(trainer);
                match trainer.resume(checkpoint, &mut []) {
                    Ok(()) => {
                        assert_eq!(trainer.steps_done(), found.step());
                        let _ = trainer.step();
                    }
                    Err(error) => {
                        if !matches!(error, Error::Callback { .. }) {
                            assert_eq!(parameters(trainer), before, "{error}");
                        }
                    }
                }
            }
            Err(error) => {
                scratch::assert_names(&error, checkpoint);
                assert!(latest(directory).is_err(), "a run must not start from the beginning by accident");
            }
        }
    });
});
