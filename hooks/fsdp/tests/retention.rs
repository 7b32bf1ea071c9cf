//! Which checkpoints stay, and what becomes of what an ended writer left behind.

mod common;

use common::{config, generator_lock, published, text};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::checkpoint::{latest, retain};
use hessian_probe_fsdp::{Checkpoint, Dtype, Trainer};

#[test]
fn the_newest_whole_checkpoint_is_never_deleted() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path();
    let mut trainer = Trainer::new(config(true, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    for _ in 0..5 {
        trainer.step().unwrap();
        trainer.save(directory, &mut []).unwrap();
    }
    // 4 and 5 are damaged: 3 is the newest that is whole.
    for step in [4, 5] {
        std::fs::write(directory.join(format!("step-0000000{step}/manifest.json")), "{").unwrap();
    }
    retain(directory, 1, None).unwrap();
    assert_eq!(published(directory), ["step-00000003", "step-00000004", "step-00000005"]);
    assert_eq!(latest(directory).unwrap().unwrap().step(), 3);

    // The one just written stays, even if an abandoned branch of the run went further.
    trainer.resume(&directory.join("step-00000003"), &mut []).unwrap();
    for _ in 0..2 {
        trainer.step().unwrap();
        trainer.save(directory, &mut []).unwrap();
    }
    trainer.resume(&directory.join("step-00000003"), &mut []).unwrap();
    trainer.save(directory, &mut []).unwrap();
    retain(directory, 1, Some(3)).unwrap();
    assert_eq!(published(directory), ["step-00000003", "step-00000005"]);
    assert!(retain(&directory.join("nowhere"), 1, None).is_ok());
    assert!(latest(&directory.join("nowhere")).unwrap().is_none());
}

#[test]
fn what_an_ended_writer_left_behind_is_cleaned_up_but_never_a_checkpoint() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path();
    let mut trainer = Trainer::new(config(true, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    trainer.step().unwrap();
    let first = trainer.save(directory, &mut []).unwrap();
    // Between the two renames of replacing step 1.
    let aside = directory.join(".replaced-step-00000001-0123456789ab");
    std::fs::rename(&first, &aside).unwrap();
    for left in [".staging-step-00000002-0123456789ab", ".deleting-step-00000000-000000000000"] {
        std::fs::create_dir(directory.join(left)).unwrap();
        std::fs::write(directory.join(left).join("rank-00000-of-00001.safetensors"), "half").unwrap();
    }
    std::fs::create_dir(directory.join("notes")).unwrap();
    assert_eq!(latest(directory).unwrap().unwrap().path(), aside);
    let path = trainer.resume_latest(directory, &mut []).unwrap().unwrap();
    assert_eq!(path, aside);

    trainer.step().unwrap();
    trainer.save(directory, &mut []).unwrap();
    assert_eq!(published(directory), ["notes", "step-00000001", "step-00000002"]);
    trainer.resume(&first, &mut []).unwrap();
    trainer.save(directory, &mut []).unwrap();
    trainer.save(directory, &mut []).unwrap();
    assert_eq!(published(directory), ["notes", "step-00000001", "step-00000002"]);
    retain(directory, 1, None).unwrap();
    assert_eq!(published(directory), ["notes", "step-00000002"]);
}

#[test]
fn of_a_checkpoint_that_was_being_replaced_and_its_successor_one_whole_one_stays() {
    let _lock = generator_lock();
    let mut trainer = Trainer::new(config(true, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
    trainer.step().unwrap();
    // What is in the place of step 1, what was moved aside, and what the save of another step makes of them.
    let cases = [
        ("missing", "whole", true),
        ("cut off", "whole", true),
        ("whole", "whole", true),
        ("whole", "cut off", true),
        // A damaged one is kept where it is the only one: a run must not begin anew by accident.
        ("missing", "cut off", false),
        ("cut off", "cut off", false),
    ];
    for (there, aside, is_whole) in cases {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path();
        let place = directory.join("step-00000001");
        let replaced = directory.join(".replaced-step-00000001-0123456789ab");
        for (path, state) in [(&replaced, aside), (&place, there)] {
            if state == "missing" {
                continue;
            }
            std::fs::rename(trainer.save(&directory.join("elsewhere"), &mut []).unwrap(), path).unwrap();
            if state == "cut off" {
                let file = path.join("rank-00000-of-00001.safetensors");
                let length = file.metadata().unwrap().len();
                std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
            }
        }
        std::fs::remove_dir(directory.join("elsewhere")).unwrap();
        let mut other = Trainer::new(config(true, 0.0, Dtype::F32), ProcessGroup::single(), text()).unwrap();
        for saves in 0..2 {
            other.save(directory, &mut []).unwrap();
            let names = published(directory);
            assert_eq!(names, ["step-00000000", "step-00000001"], "{there}, {aside}, {saves}");
            assert_eq!(Checkpoint::open(&place).is_ok(), is_whole, "{there}, {aside}, {saves}");
        }
        if is_whole {
            assert_eq!(latest(directory).unwrap().unwrap().path(), place);
            other.resume(&place, &mut []).unwrap();
            assert_eq!(other.steps_done(), 1);
        }
    }
}
