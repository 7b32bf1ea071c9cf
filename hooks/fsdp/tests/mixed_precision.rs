//! Training in bf16: with f32 masters, and with bf16 parameters alone.

mod common;

use common::oracle::Plain;
use common::{bits, config, generator_lock, on_ranks, on_ranks_with, text, values};
use hessian_probe::Host;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use hessian_probe_c10d::{ProcessGroup, is_launched};
use hessian_probe_fsdp::{
    Attention, Batch, Checkpoint, Dtype, Error, Llama, MixedPrecision, ProbeBatch, SequenceSource, Trainer,
    TrainerConfig,
};
use std::ffi::OsStr;
use std::path::PathBuf;
use tch::{Device, Kind, Reduction, Tensor};

/// f32 masters, everything else in bf16.
fn masters(dropout: f64) -> TrainerConfig {
    TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..config(true, dropout, Dtype::F32) }
}

/// bf16 parameters and gradients, moments in `state`.
fn pure(dropout: f64, state: Option<Dtype>) -> TrainerConfig {
    let mut config = config(false, dropout, Dtype::Bf16);
    config.optimizer.state_dtype = state;
    config
}

fn keys(param: Dtype, compute: Dtype, reduce: Dtype) -> MixedPrecision {
    MixedPrecision { param_dtype: Some(param), compute_dtype: Some(compute), reduce_dtype: Some(reduce) }
}

/// Loss of a plain whole-graph loop, and its gradient added to `total` (of the parameters' kind, one tensor per
/// parameter; `written` tells whether something is there): leaves are `parameters` cast to `gather` and then to
/// `compute`, gradients are cast to `reduce`. What is in f32 whatever the leaves are in is spelled out.
fn explicit(
    model: &Llama,
    parameters: &[Tensor],
    batch: &Batch,
    count: f64,
    [gather, compute, reduce]: [Kind; 3],
    total: &mut Vec<Option<Tensor>>,
) -> f64 {
    let kind = parameters[0].kind();
    total.resize_with(parameters.len(), || None);
    let mut ends = vec![0];
    for block in model.blocks() {
        ends.push(ends[ends.len() - 1] + block.parameters.len());
    }
    // Tied embeddings are two leaves: the sum of their gradients is of the parameters' kind, not of `compute`.
    let uses: Vec<Vec<usize>> = model
        .blocks()
        .iter()
        .enumerate()
        .map(|(block, spec)| {
            let borrowed = spec.borrows.map_or(0..0, |block| ends[block]..ends[block + 1]);
            (ends[block]..ends[block + 1]).chain(borrowed).collect()
        })
        .collect();
    let leaves: Vec<Vec<Tensor>> = uses
        .iter()
        .map(|uses| {
            let cast = |&i: &usize| parameters[i].to_kind(gather).to_kind(compute).detach().copy();
            uses.iter().map(|i| cast(i).set_requires_grad(true)).collect()
        })
        .collect();
    let mut hidden = batch.inputs.shallow_clone();
    for (block, leaves) in leaves.iter().enumerate() {
        hidden = model.run(block, leaves, &hidden, true).unwrap();
    }
    assert_eq!(hidden.kind(), compute);
    let losses = hidden.to_kind(Kind::Float).view([-1, model.config().vocab_size as i64]).cross_entropy_loss(
        &batch.labels.view([-1]),
        None::<&Tensor>,
        Reduction::None,
        -100,
        0.0,
    );
    let sum = losses.sum(Kind::Double);
    // The last block first.
    let (uses, leaves): (Vec<usize>, Vec<&Tensor>) =
        uses.iter().zip(&leaves).rev().flat_map(|(uses, leaves)| uses.iter().copied().zip(leaves)).unzip();
    let gradients = grad(&[&(&sum * (1.0 / count))], &leaves, &[], GradOptions::default()).unwrap();
    for (i, gradient) in uses.into_iter().zip(gradients) {
        let gradient = gradient.unwrap().to_kind(reduce);
        total[i] = Some(match total[i].take() {
            Some(total) => (total + gradient).to_kind(kind),
            None => gradient.to_kind(kind),
        });
    }
    sum.double_value(&[])
}

fn step_batches(config: &TrainerConfig, step: u64) -> Vec<Batch> {
    (0..config.gradient_accumulation as u64)
        .map(|micro_step| {
            let sequences: Vec<_> = (0..config.batch_size as u64)
                .map(|index| hessian_probe_fsdp::SequenceId { seed: config.seed, step, micro_step, index })
                .map(|id| text().training(id, config.sequence_length).unwrap())
                .collect();
            Batch::from_sequences(&sequences, 0, Device::Cpu).unwrap()
        })
        .collect()
}

#[test]
fn losses_and_gradients_are_those_of_a_loop_that_casts_explicitly_bit_for_bit() {
    let _lock = generator_lock();
    let (bf16, f32) = (Dtype::Bf16, Dtype::F32);
    let cases = [
        (masters(0.2), [bf16, bf16, bf16]),
        (TrainerConfig { mixed_precision: keys(bf16, f32, f32), ..masters(0.2) }, [bf16, f32, f32]),
        (TrainerConfig { mixed_precision: keys(f32, bf16, f32), ..masters(0.2) }, [f32, bf16, f32]),
        (TrainerConfig { mixed_precision: keys(f32, f32, bf16), ..masters(0.2) }, [f32, f32, bf16]),
        (pure(0.2, None), [bf16, bf16, bf16]),
        (TrainerConfig { mixed_precision: keys(bf16, f32, f32), ..pure(0.2, None) }, [bf16, f32, f32]),
    ];
    for (config, casts) in cases {
        let (kind, casts) = (config.dtype.kind(), casts.map(Dtype::kind));
        let model = Llama::new(config.model.clone(), kind, Device::Cpu).unwrap();
        let mut trainer = Trainer::new(config.clone(), ProcessGroup::single(), text()).unwrap();
        for step in 0..3 {
            let shapes = model.blocks().iter().flat_map(|block| &block.parameters);
            let parameters: Vec<Tensor> = trainer
                .named_shards()
                .unwrap()
                .iter()
                .zip(shapes)
                .map(|(shard, spec)| shard.tensor.copy().view(&spec.shape[..]))
                .collect();
            assert!(parameters.iter().all(|parameter| parameter.kind() == kind), "masters");
            let state = trainer.generator_state().unwrap();
            let report = trainer.step().unwrap();
            let end = trainer.generator_state().unwrap();

            trainer.set_generator_state(&state).unwrap();
            let batches = step_batches(&config, step);
            let count = batches.iter().map(|batch| batch.counted_targets(0).unwrap()).sum::<u64>() as f64;
            let (mut loss, mut total) = (0.0, Vec::new());
            for batch in &batches {
                loss += explicit(&model, &parameters, batch, count, casts, &mut total);
            }
            assert_eq!(report.loss.to_bits(), (loss / count).to_bits(), "step {step} of {casts:?}");
            let norm = total.iter().flatten().flat_map(values).map(|g| g * g).sum::<f64>().sqrt();
            // The sum over elements is in another order.
            assert!((report.grad_norm - norm).abs() < 1e-12 * norm, "step {step} of {casts:?}");
            assert!(trainer.generator_state().unwrap() == end, "the same masks");
        }
    }
}

#[test]
fn a_probe_batch_has_the_gradient_of_a_loop_that_casts_explicitly() {
    let _lock = generator_lock();
    for config in [masters(0.0), pure(0.0, None)] {
        let kind = config.dtype.kind();
        let plain = Plain::new(&config);
        let mut trainer = Trainer::new(config, ProcessGroup::single(), text()).unwrap();
        let sequences: Vec<_> = (0..4).map(|i| text().validation(i, 16).unwrap()).collect();
        let batch = Batch::from_sequences(&sequences, 0, Device::Cpu).unwrap();
        let [inputs, labels] = [&batch.inputs, &batch.labels].map(Tensor::shallow_clone);
        trainer.set_probe_batch(ProbeBatch { inputs, labels, dropout: false }).unwrap();
        let parameters: Vec<Tensor> = plain.parameters.iter().flatten().map(Tensor::detach).collect();
        let mut gradient = Vec::new();
        let loss = explicit(&plain.model, &parameters, &batch, 64.0, [Kind::BFloat16; 3], &mut gradient);
        let found = trainer.gradient().unwrap();
        assert_eq!(found.loss.to_bits(), (loss / 64.0).to_bits());
        for (found, expected) in found.tensors.iter().zip(gradient.iter().flatten()) {
            assert_eq!(found.kind(), kind);
            assert!(bits(found) == bits(expected));
        }
    }
}

#[test]
fn norms_and_softmax_add_up_in_f32() {
    let config = pure(0.0, None);
    let model = Llama::new(config.model.clone(), Kind::BFloat16, Device::Cpu).unwrap();
    // 257 and 1 differ in more bits than bf16 has, so that a mean in bf16 would lose most of them.
    let x = Tensor::from_slice(&[257.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0f32]);
    let x = x.to_kind(Kind::BFloat16).view([1, 1, 10]);
    let gain = Tensor::ones([10], (Kind::BFloat16, Device::Cpu));
    let identity = Tensor::eye(10, (Kind::BFloat16, Device::Cpu));
    let head = model.blocks().len() - 1;
    let found = model.run(head, &[gain, identity], &x, false).unwrap();
    let wide = x.to_kind(Kind::Float);
    let mean = (&wide * &wide).mean_dim([-1_i64].as_slice(), true, None);
    let expected: Tensor = wide * (mean + 1e-5).rsqrt();
    assert!(bits(&found) == bits(&expected.to_kind(Kind::BFloat16)));

    // A thousand equal probabilities: a sum in bf16 would stop at 256.
    let scores = Tensor::zeros([1000], (Kind::BFloat16, Device::Cpu));
    let found = scores.softmax(-1, None::<Kind>);
    assert!(
        bits(&found) == bits(&scores.to_kind(Kind::Float).softmax(-1, None::<Kind>).to_kind(Kind::BFloat16))
    );
}

#[test]
fn fused_attention_in_bf16_agrees_with_plain_attention() {
    let _lock = generator_lock();
    let losses = [Attention::Plain, Attention::Sdpa].map(|attention| {
        let mut config = masters(0.0);
        config.model.attention = attention;
        let mut trainer = Trainer::new(config, ProcessGroup::single(), text()).unwrap();
        [(); 4].map(|()| trainer.step().unwrap().loss)
    });
    assert_ne!(losses[0], losses[1], "rounded in other places");
    for (plain, fused) in losses[0].iter().zip(&losses[1]) {
        assert!((plain - fused).abs() < 2e-3 * plain, "{plain} and {fused}");
    }
}

#[test]
fn losses_fall_and_stay_close_to_those_in_f32() {
    on_ranks(&[1, 2], |group| {
        let mut group = Some(group);
        let mut run = |config: TrainerConfig| {
            let mut trainer = Trainer::new(config, group.take().unwrap(), text()).unwrap();
            let losses: Vec<f64> = (0..40).map(|_| trainer.step().unwrap().loss).collect();
            group = Some(trainer.into_group());
            losses
        };
        let wide_sums = MixedPrecision { reduce_dtype: Some(Dtype::F32), ..MixedPrecision::bf16() };
        let tied = run(config(true, 0.0, Dtype::F32));
        let untied = run(config(false, 0.0, Dtype::F32));
        let cases = [
            ("f32 masters", masters(0.0), &tied, 0.01),
            ("f32 sums", TrainerConfig { mixed_precision: wide_sums, ..masters(0.0) }, &tied, 0.01),
            // Parameters in bf16 lose updates of less than half of their last bit, and stay behind.
            ("bf16 parameters", pure(0.0, None), &untied, 0.1),
            ("f32 moments", pure(0.0, Some(Dtype::F32)), &untied, 0.1),
        ];
        for (name, narrow, wide, tolerance) in cases {
            let narrow = run(narrow);
            let off = |(narrow, wide): (&f64, &f64)| (narrow - wide).abs() / wide;
            let worst = narrow.iter().zip(wide).map(off).fold(0.0, f64::max);
            println!(
                "{name}: {:.4} -> {:.4}, in f32 {:.4}; at most {worst:.4} off",
                narrow[0], narrow[39], wide[39]
            );
            assert!(narrow[39] < 0.65 * narrow[0], "{name}: {} -> {}", narrow[0], narrow[39]);
            assert!(worst < tolerance, "{name}: {worst} off");
            assert!(worst > 0.0, "{name}: rounded");
        }
    });
}

#[test]
fn blocks_are_gathered_in_bf16_one_after_the_other() {
    on_ranks(&[1, 2, 3], |mut group| {
        let mut meters = Vec::new();
        let narrow_compute = MixedPrecision { compute_dtype: Some(Dtype::Bf16), ..MixedPrecision::default() };
        for config in [
            config(false, 0.0, Dtype::F32),
            TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..config(false, 0.0, Dtype::F32) },
            pure(0.0, None),
            TrainerConfig { mixed_precision: narrow_compute, ..config(false, 0.0, Dtype::F32) },
        ] {
            let mut trainer = Trainer::new(config, group, text()).unwrap();
            trainer.step().unwrap();
            let meter = trainer.meter();
            assert_eq!((meter.peak_blocks(), meter.live_blocks()), (1, 0));
            meters.push((meter.total_bytes(), meter.total_gathers(), meter.peak_elements()));
            group = trainer.into_group();
        }
        let [wide, masters, pure, gathered_wide] = meters[..] else { unreachable!() };
        assert_eq!(masters, (wide.0 / 2, wide.1, wide.2));
        assert_eq!(pure, masters);
        assert_eq!(gathered_wide, wide);
    });
}

/// Everything that a step depends on, in bits, on this rank.
#[derive(Debug, PartialEq)]
struct Everything {
    parameters: Vec<Vec<u64>>,
    moments: Vec<Vec<u64>>,
    generator: Vec<u8>,
}

fn everything(trainer: &Trainer) -> Everything {
    let (first, second) = trainer.moments().unwrap();
    Everything {
        parameters: trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect(),
        moments: first.iter().chain(&second).map(bits).collect(),
        generator: trainer.generator_state().unwrap(),
    }
}

fn steps(trainer: &mut Trainer, count: usize) -> Vec<u64> {
    (0..count).map(|_| trainer.step().unwrap().loss.to_bits()).collect()
}

const DIRECTORY: &str = "MIXED_PRECISION_TEST_DIRECTORY";
const PHASE: &str = "MIXED_PRECISION_TEST_PHASE";

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("set by the parent").into()
}

fn cases() -> [(&'static str, TrainerConfig); 4] {
    // Moments narrower than their parameters are odd, but files must be able to hold them.
    let mut narrow_state = masters(0.2);
    narrow_state.optimizer.state_dtype = Some(Dtype::Bf16);
    [
        ("masters", masters(0.2)),
        ("pure", pure(0.2, None)),
        ("f32-moments", pure(0.2, Some(Dtype::F32))),
        ("bf16-moments", narrow_state),
    ]
}

#[test]
fn a_resumed_run_equals_one_that_never_stopped_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |mut group| {
        for (name, config) in cases() {
            let mut saving = Trainer::new(config.clone(), group, text()).unwrap();
            steps(&mut saving, 3);
            let directory = directory().join(format!("{}-{name}", saving.group().world_size()));
            let path = saving.save(&directory, &mut []).unwrap();
            let middle = everything(&saving);
            let losses = steps(&mut saving, 3);
            let end = everything(&saving);

            let mut loaded = Trainer::load(&path, saving.into_group(), text(), &mut []).unwrap();
            assert_eq!(loaded.config(), &config);
            assert_eq!(everything(&loaded), middle, "{name}");
            assert_eq!(steps(&mut loaded, 3), losses, "{name}");
            assert_eq!(everything(&loaded), end, "{name}");

            let checkpoint = Checkpoint::open(&path).unwrap();
            let state = config.optimizer.state_dtype.unwrap_or(config.dtype);
            for entry in &checkpoint.manifest().parameters {
                assert_eq!((entry.dtype, entry.moments_dtype.unwrap_or(entry.dtype)), (config.dtype, state));
            }
            group = loaded.into_group();
        }
    });
}

#[test]
fn one_rank_loads_what_two_saved() {
    let root = tempfile::tempdir().unwrap();
    // Each case in ranks of its own: a rank has one generator.
    let phases: &[(usize, &str)] = if is_launched() { &[(0, "")] } else { &[(2, "save"), (1, "load")] };
    for &(world_size, phase) in phases {
        let variables = [(DIRECTORY, root.path().as_os_str()), (PHASE, OsStr::new(phase))];
        on_ranks_with(&[world_size], &variables, |mut group| {
            let saves = std::env::var(PHASE).unwrap() == "save";
            for (name, mut config) in cases() {
                config.model.dropout = 0.0;
                let rank = group.rank();
                if saves {
                    let mut trainer = Trainer::new(config, group, text()).unwrap();
                    steps(&mut trainer, 3);
                    trainer.save(&directory().join(name), &mut []).unwrap();
                    let whole = whole(&trainer);
                    let loss = trainer.step().unwrap().loss;
                    if rank == 0 {
                        let text = serde_json::to_string(&(whole, loss)).unwrap();
                        std::fs::write(directory().join(format!("{name}.json")), text).unwrap();
                    }
                    group = trainer.into_group();
                } else {
                    let text_of = std::fs::read(directory().join(format!("{name}.json"))).unwrap();
                    let (saved, loss): (Vec<Vec<u64>>, f64) = serde_json::from_slice(&text_of).unwrap();
                    let path = directory().join(name).join("step-00000003");
                    let mut trainer = Trainer::load(&path, group, text(), &mut []).unwrap();
                    assert_eq!(whole(&trainer), saved, "{name}");
                    let found = trainer.step().unwrap().loss;
                    // bf16 products of batches of other sizes are added in another order.
                    assert!((found - loss).abs() < 2e-3 * loss, "{name}: {found} instead of {loss}");
                    group = trainer.into_group();
                }
            }
        });
    }

    /// All parameters, whole.
    fn whole(trainer: &Trainer) -> Vec<Vec<u64>> {
        let names = trainer.named_shards().unwrap().into_iter().map(|shard| shard.name);
        names.map(|name| bits(&trainer.full_parameter(&name).unwrap())).collect()
    }
}

#[test]
fn a_checkpoint_with_moments_of_another_type_is_refused() {
    let _lock = generator_lock();
    let directory = tempfile::tempdir().unwrap();
    let saving = || Trainer::new(pure(0.0, Some(Dtype::F32)), ProcessGroup::single(), text()).unwrap();
    let path = saving().save(directory.path(), &mut []).unwrap();
    let mut other = Trainer::new(pure(0.0, None), ProcessGroup::single(), text()).unwrap();
    let error = other.resume(&path, &mut []).unwrap_err();
    assert!(
        matches!(&error, Error::Incompatible { key, .. } if key == "config.optimizer.state_dtype"),
        "{error}"
    );
    // What is only computed otherwise may change.
    let mut mixed = pure(0.0, Some(Dtype::F32));
    mixed.mixed_precision.reduce_dtype = Some(Dtype::F32);
    let mut other = Trainer::new(mixed, ProcessGroup::single(), text()).unwrap();
    other.resume(&path, &mut []).unwrap();
}

#[test]
fn hugging_face_weights_in_bf16_are_written_and_read() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(pure(0.0, None), ProcessGroup::single(), text()).unwrap();
    steps(&mut trainer, 2);
    let directory = root.path().join("exported");
    trainer.export_hugging_face(&directory).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.join("config.json")).unwrap()).unwrap();
    assert_eq!(json["torch_dtype"], "bfloat16");
    let bytes = std::fs::read(directory.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.iter().all(|(_, view)| view.dtype() == safetensors::Dtype::BF16));

    let expected = everything(&trainer).parameters;
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let read = Trainer::from_hugging_face(&directory, ProcessGroup::single(), text(), |model| {
            let mut config = pure(0.0, None);
            (config.model, config.dtype) = (model, dtype);
            config
        });
        assert_eq!(everything(&read.unwrap()).parameters, expected, "{dtype:?}");
    }
}
