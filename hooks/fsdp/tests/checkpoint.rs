//! A run goes on from a checkpoint as if it had never stopped.

mod common;

use common::{bits, config, generator_lock, on_ranks_with, published, text};
use hessian_probe::{Callback, Control, HessianProbe, Host, ProbeConfig, Shard};
use hessian_probe_c10d::{ProcessGroup, is_launched};
use hessian_probe_fsdp::{
    Checkpoint, CheckpointConfig, Dtype, Error, LearningRate, LlamaConfig, Trainer, TrainerConfig,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Where ranks find each other's files.
const DIRECTORY: &str = "CHECKPOINT_TEST_DIRECTORY";
const PHASE: &str = "CHECKPOINT_TEST_PHASE";

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("set by the parent").into()
}

fn cosine(mut config: TrainerConfig) -> TrainerConfig {
    config.schedule = LearningRate::Cosine { warmup_steps: 3, total_steps: 20, min_ratio: 0.1 };
    config
}

/// Everything that a step depends on, in bits, on this rank.
#[derive(Debug, PartialEq)]
struct Everything {
    step: u64,
    tokens: u64,
    parameters: Vec<Vec<u64>>,
    first: Vec<Vec<u64>>,
    second: Vec<Vec<u64>>,
    generator: Vec<u8>,
}

fn everything(trainer: &Trainer) -> Everything {
    let (first, second) = trainer.moments().unwrap();
    Everything {
        step: trainer.steps_done(),
        tokens: trainer.tokens(),
        parameters: trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect(),
        first: first.iter().map(bits).collect(),
        second: second.iter().map(bits).collect(),
        generator: trainer.generator_state().unwrap(),
    }
}

fn steps(trainer: &mut Trainer, count: usize) -> Vec<u64> {
    (0..count).map(|_| trainer.step().unwrap().loss.to_bits()).collect()
}

#[test]
fn a_resumed_run_equals_one_that_never_stopped_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        for (tied, dtype) in [(true, Dtype::F32), (false, Dtype::F64)] {
            let config = cosine(config(tied, 0.2, dtype));
            let directory = directory().join(format!("{}-{tied}", group.world_size()));

            let mut undisturbed = Trainer::new(config.clone(), group, text()).unwrap();
            let expected = steps(&mut undisturbed, 9);
            let end = everything(&undisturbed);
            group = undisturbed.into_group();

            let mut saving = Trainer::new(config.clone(), group, text()).unwrap();
            let mut losses = steps(&mut saving, 4);
            let path = saving.save(&directory, &mut []).unwrap();
            assert_eq!(path, directory.join("step-00000004"));
            let middle = everything(&saving);
            losses.extend(steps(&mut saving, 5));
            assert_eq!(losses, expected, "saving is not noticed");
            assert_eq!(everything(&saving), end);
            group = saving.into_group();

            let mut loaded = Trainer::load(&path, group, text(), &mut []).unwrap();
            assert_eq!(loaded.config(), &config);
            assert_eq!(everything(&loaded), middle);
            assert_eq!(steps(&mut loaded, 5), expected[4..]);
            assert_eq!(everything(&loaded), end);

            // A trainer that is somewhere else goes back.
            assert_eq!(loaded.resume_latest(&directory, &mut []).unwrap().unwrap(), path);
            assert_eq!(everything(&loaded), middle);
            assert_eq!(steps(&mut loaded, 5), expected[4..]);
            group = loaded.into_group();
        }
    });
}

/// Large enough for several chunks in a file on one and two ranks.
fn large() -> TrainerConfig {
    let model = LlamaConfig { hidden_size: 60, intermediate_size: 150, ..common::model(false, 0.0) };
    let mut config = TrainerConfig::new(model, 12, 8);
    config.dtype = Dtype::F64;
    config.optimizer.clip_norm = Some(1.0);
    config.threads = Some(1);
    cosine(config)
}

/// A rank's part of parameters and moments by global index, for others to compare with.
#[derive(serde::Serialize, serde::Deserialize)]
struct Part {
    losses: Vec<f64>,
    slices: Vec<Slice>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Slice {
    global_offset: u64,
    /// Parameter, first and second moment in bits.
    bits: [Vec<u64>; 3],
}

fn part(trainer: &Trainer) -> Part {
    let (first, second) = trainer.moments().unwrap();
    let shards = trainer.named_shards().unwrap();
    let slice = |(shard, (first, second)): (&Shard, (&Tensor, &Tensor))| Slice {
        global_offset: shard.global_offset,
        bits: [&shard.tensor, first, second].map(bits),
    };
    let slices = shards.iter().zip(first.iter().zip(&second)).map(slice).collect();
    Part { losses: Vec::new(), slices }
}

/// Each global index with the bits of the three vectors there.
fn by_index(parts: impl IntoIterator<Item = Part>) -> BTreeMap<u64, [u64; 3]> {
    let mut map = BTreeMap::new();
    for Slice { global_offset, bits: [parameter, first, second] } in
        parts.into_iter().flat_map(|part| part.slices)
    {
        assert_eq!((parameter.len(), parameter.len()), (first.len(), second.len()));
        for (index, ((p, m), v)) in (global_offset..).zip(parameter.into_iter().zip(first).zip(second)) {
            assert!(map.insert(index, [p, m, v]).is_none());
        }
    }
    map
}

#[test]
fn any_number_of_ranks_loads_what_any_other_saved() {
    const SIZES: [usize; 4] = [1, 2, 3, 4];
    let root = tempfile::tempdir().unwrap();
    // A rank does one of the two.
    let phases: &[&str] = if is_launched() { &["either"] } else { &["save", "load"] };
    for phase in phases {
        let variables = [(DIRECTORY, root.path().as_os_str()), (PHASE, OsStr::new(phase))];
        on_ranks_with(&SIZES, &variables, |group| {
            if std::env::var(PHASE).unwrap() == "save" { save_part(group) } else { load_parts(group) }
        });
    }

    fn save_part(group: ProcessGroup) {
        let (rank, world_size) = (group.rank(), group.world_size());
        let mut trainer = Trainer::new(large(), group, text()).unwrap();
        for _ in 0..3 {
            trainer.step().unwrap();
        }
        trainer.save(&directory().join(world_size.to_string()), &mut []).unwrap();
        let mut part = part(&trainer);
        part.losses = (0..2).map(|_| trainer.step().unwrap().loss).collect();
        let file = directory().join(format!("{rank}-of-{world_size}.json"));
        std::fs::write(file, serde_json::to_string(&part).unwrap()).unwrap();
    }

    fn load_parts(mut group: ProcessGroup) {
        for writers in SIZES {
            let parts: Vec<Part> = (0..writers)
                .map(|rank| std::fs::read(directory().join(format!("{rank}-of-{writers}.json"))).unwrap())
                .map(|text| serde_json::from_slice(&text).unwrap())
                .collect();
            let losses = parts[0].losses.clone();
            let saved = by_index(parts);
            let path = directory().join(writers.to_string()).join("step-00000003");
            if writers <= 2 {
                let checkpoint = Checkpoint::open(&path).unwrap();
                let files = &checkpoint.manifest().ranks;
                assert!(files.iter().all(|rank| rank.file.crc32c.len() > 1), "several chunks");
            }

            let mut trainer = Trainer::load(&path, group, text(), &mut []).unwrap();
            let loaded = by_index([part(&trainer)]);
            assert!(!loaded.is_empty());
            for (index, values) in &loaded {
                assert_eq!(values, &saved[index], "element {index} of {writers} ranks");
            }
            let seeded = trainer.generator_state().unwrap();
            for loss in losses {
                let found = trainer.step().unwrap().loss;
                assert!((found - loss).abs() <= 1e-10 * loss, "{writers} ranks: {found} instead of {loss}");
            }
            // The generators start again from the same place each time.
            trainer.resume(&path, &mut []).unwrap();
            assert_eq!(trainer.generator_state().unwrap(), seeded);
            group = trainer.into_group();
        }
    }
}

/// Writes a file of its own, and asks for checkpoints and an end.
#[derive(Default)]
struct Writer {
    ask_at: Option<u64>,
    stop_at: Option<u64>,
    saved: Vec<u64>,
    loaded: u64,
    state: u64,
    exceptions: usize,
}

impl Callback for Writer {
    fn on_before_optimizer_step(
        &mut self,
        step: u64,
        _host: &mut dyn Host,
    ) -> hessian_probe::Result<Control> {
        Ok(if self.ask_at == Some(step) { Control::RequestCheckpoint } else { Control::Continue })
    }

    fn on_step_end(&mut self, step: u64, _host: &mut dyn Host) -> hessian_probe::Result<Control> {
        Ok(if self.stop_at == Some(step) { Control::RequestStop } else { Control::Continue })
    }

    fn on_save_checkpoint(
        &mut self,
        step: u64,
        directory: &Path,
        host: &mut dyn Host,
    ) -> hessian_probe::Result<Control> {
        assert!(!directory.join("manifest.json").exists(), "the manifest is last");
        assert!(directory.read_dir().unwrap().count() >= host.group().world_size());
        let own = directory.join("hessian_probe/deep");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join(format!("{}.txt", host.group().rank())), format!("step {step}")).unwrap();
        self.saved.push(step);
        Ok(Control::Continue)
    }

    fn on_load_checkpoint(
        &mut self,
        directory: &Path,
        host: &mut dyn Host,
    ) -> hessian_probe::Result<Control> {
        let file = directory.join(format!("hessian_probe/deep/{}.txt", host.group().rank()));
        let text = std::fs::read_to_string(file).unwrap();
        self.loaded = text.strip_prefix("step ").unwrap().parse().unwrap();
        Ok(Control::Continue)
    }

    fn on_exception(&mut self, _error: &(dyn std::error::Error + 'static)) {
        self.exceptions += 1;
    }

    fn state_dict(&self) -> serde_json::Value {
        serde_json::json!({ "state": self.state })
    }

    fn load_state_dict(&mut self, state: &serde_json::Value) -> hessian_probe::Result<()> {
        self.state = state["state"].as_u64().unwrap();
        Ok(())
    }
}

#[test]
fn a_probe_finds_its_state_again() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let directory = directory().join(group.world_size().to_string());
        let probe = |name: &str| {
            let log = toml::Value::String(directory.join(name).display().to_string());
            let text = format!("[schedule]\nevery = 2\n[slq]\nsteps = 4\nprobes = 1\n[log]\ndir = {log}\n");
            HessianProbe::new(ProbeConfig::from_toml_str(&text).unwrap()).unwrap()
        };
        let mut settings = config(true, 0.1, Dtype::F32);
        settings.checkpoint = Some(CheckpointConfig::new(directory.join("checkpoints")));
        let mut trainer = Trainer::new(settings, group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        let mut first = probe("first");
        trainer.run(3, &mut [&mut first], |_| {}).unwrap();
        // The rest is what a rank measured of itself, as seconds; a checkpoint has rank 0's.
        let state = |probe: &HessianProbe| {
            let state = probe.state_dict();
            ["calibration", "last_probed", "probes_taken", "tokens"].map(|key| state[key].clone())
        };
        assert_eq!(state(&first)[1..3], [2, 2]);

        let mut second = probe("second");
        assert_ne!(state(&second), state(&first));
        let path =
            trainer.resume_latest(&directory.join("checkpoints"), &mut [&mut second]).unwrap().unwrap();
        assert_eq!(state(&second), state(&first));
        let checkpoint = Checkpoint::open(&path).unwrap();
        let mut files = checkpoint.manifest().files.iter();
        assert!(files.any(|file| file.path.starts_with("hessian_probe/")), "the probe's own is part of it");
        trainer.run(2, &mut [&mut second], |_| {}).unwrap();
        assert_eq!(state(&second)[1..3], [4, 3]);
    });
}

#[test]
fn a_run_saves_when_it_is_due_and_when_it_is_asked_and_keeps_the_newest() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let directory = directory().join(group.world_size().to_string());
        let mut config = config(true, 0.0, Dtype::F32);
        config.checkpoint =
            Some(CheckpointConfig { every: Some(3), keep: Some(2), ..CheckpointConfig::new(&directory) });
        let mut trainer = Trainer::new(config, group, text()).unwrap();
        let mut writer = Writer { ask_at: Some(3), stop_at: Some(6), state: 17, ..Writer::default() };
        let report = trainer.run(20, &mut [&mut writer], |_| {}).unwrap();
        assert_eq!((report.steps, report.stopped, report.checkpoint_requested), (7, true, true));
        assert_eq!((report.checkpoints, report.failed_checkpoints), (4, 0));
        // After 3 and 6 steps, after step number 3 on request, and after the last.
        assert_eq!(writer.saved, [2, 3, 5, 6]);
        trainer.group().barrier().unwrap();
        assert_eq!(published(&directory), ["step-00000006", "step-00000007"]);

        let mut other = Writer::default();
        let path = trainer.resume_latest(&directory, &mut [&mut other]).unwrap().unwrap();
        assert_eq!((path, other.loaded, other.state), (directory.join("step-00000007"), 6, 17));
        trainer.resume(&directory.join("step-00000006"), &mut [&mut other]).unwrap();
        assert_eq!((trainer.steps_done(), other.loaded), (6, 5));

        // Runs that take no step, or end where a checkpoint is due, do not save twice.
        assert_eq!(trainer.run(0, &mut [], |_| {}).unwrap().checkpoints, 0);
        assert_eq!(trainer.run(3, &mut [], |_| {}).unwrap().checkpoints, 1);
        trainer.group().barrier().unwrap();
        assert_eq!(published(&directory), ["step-00000007", "step-00000009"]);
    });
}

#[test]
fn a_checkpoint_of_another_model_is_refused_and_other_settings_are_the_trainers_own() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let config = config(false, 0.0, Dtype::F32);
    let mut trainer = Trainer::new(config.clone(), ProcessGroup::single(), text()).unwrap();
    trainer.step().unwrap();
    let path = trainer.save(root.path(), &mut []).unwrap();
    let try_with = |change: fn(&mut TrainerConfig)| {
        let mut config = config.clone();
        change(&mut config);
        let mut trainer = Trainer::new(config, ProcessGroup::single(), text()).unwrap();
        trainer.resume_latest(path.parent().unwrap(), &mut []).map(|_| trainer)
    };
    type Change = fn(&mut TrainerConfig);
    let refused: [(&str, Change); 5] = [
        ("config.model.intermediate_size", |config| config.model.intermediate_size = 28),
        ("config.model.rope_theta", |config| config.model.rope_theta = 1e5),
        ("config.model.tie_word_embeddings", |config| config.model.tie_word_embeddings = true),
        ("config.model.num_key_value_heads", |config| config.model.num_key_value_heads = None),
        ("config.dtype", |config| config.dtype = Dtype::F64),
    ];
    for (key, change) in refused {
        let error = try_with(change).unwrap_err();
        assert!(matches!(error, Error::Incompatible { .. }) && !error.is_damage());
        let message = error.to_string();
        assert!(message.contains(&format!("`{key}`")) && message.contains("step-00000001"), "{message}");
    }
    let resumed = try_with(|config| {
        config.optimizer.lr = 1e-4;
        config.batch_size = 6;
        config.model.dropout = 0.1;
    })
    .unwrap();
    assert_eq!((resumed.steps_done(), resumed.config().optimizer.lr), (1, 1e-4));
}

#[test]
fn a_checkpoint_before_the_first_step_and_of_an_empty_shard_is_one() {
    let root = tempfile::tempdir().unwrap();
    // 4 ranks on parameters of 2: some own nothing of a norm.
    on_ranks_with(&[4], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let model: LlamaConfig = serde_json::from_str(
            r#"{"vocab_size": 256, "hidden_size": 2, "intermediate_size": 1, "num_hidden_layers": 1,
                "num_attention_heads": 1, "tie_word_embeddings": true}"#,
        )
        .unwrap();
        let mut trainer = Trainer::new(TrainerConfig::new(model, 4, 4), group, text()).unwrap();
        let start = everything(&trainer);
        let path = trainer.save(&directory(), &mut []).unwrap();
        assert!(path.ends_with("step-00000000"));
        trainer.step().unwrap();
        trainer.resume(&path, &mut []).unwrap();
        assert_eq!(everything(&trainer), start);
    });
}

/// What a margin asks for, the trainer does: on all ranks, by a real probe's limits.
#[test]
fn a_margin_above_its_limits_has_a_run_save_and_stop() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let directory = directory().join(group.world_size().to_string());
        let probe = |triggers: &str| {
            let text = format!(
                "on_error = \"stop\"\n[slq]\nsteps = 2\noperator = \"preconditioned\"\n[track]\nevery = 1\nproducts = 2\n\
                 [triggers]\n{triggers}\n[log]\ntensorboard = false\njsonl = false"
            );
            HessianProbe::new(ProbeConfig::from_toml_str(&text).unwrap()).unwrap()
        };
        let mut settings = config(true, 0.1, Dtype::F32);
        settings.checkpoint = Some(CheckpointConfig::new(directory.join("checkpoints")));
        let mut trainer = Trainer::new(settings, group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        let report =
            trainer.run(2, &mut [&mut probe("checkpoint_margin = 1e9\nstop_margin = 1e9")], |_| {}).unwrap();
        assert_eq!(
            (report.steps, report.stopped, report.checkpoint_requested, report.checkpoints),
            (2, false, false, 1)
        );
        // After the first and, cooled down, the third; and after the last one.
        let saves = "checkpoint_margin = 1e-9\ncooldown = 2";
        let report = trainer.run(4, &mut [&mut probe(saves)], |_| {}).unwrap();
        assert_eq!(
            (report.steps, report.stopped, report.checkpoint_requested, report.checkpoints),
            (4, false, true, 3)
        );
        let report = trainer.run(10, &mut [&mut probe("stop_margin = 1e-9")], |_| {}).unwrap();
        assert_eq!(
            (report.steps, report.stopped, report.checkpoint_requested, report.checkpoints),
            (1, true, false, 1)
        );
        assert_eq!(trainer.steps_done(), 7);
    });
}
