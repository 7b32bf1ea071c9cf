//! Exact Hessian-vector products against a dense Hessian.

mod common;

use common::oracle::Plain;
use common::{bits, config, generator_lock, on_ranks, text, values};
use hessian_probe::{HessianProbe, Host, Precision, ProbeConfig, Shard};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use hessian_probe_fsdp::model::standard_normal;
use hessian_probe_fsdp::{
    Attention, Batch, Dtype, LlamaConfig, MixedPrecision, ProbeBatch, Result, Sequence, SequenceId,
    SequenceSource, Trainer, TrainerConfig,
};
use tch::{Device, Kind, Tensor};

/// Eleven words in some order.
struct Words;

impl SequenceSource for Words {
    fn training(&self, id: SequenceId, length: usize) -> Result<Sequence> {
        self.validation(id.step * 1000 + id.micro_step * 100 + id.index, length)
    }

    fn validation(&self, index: u64, length: usize) -> Result<Sequence> {
        let words: Vec<i64> =
            (0..=length as u64).map(|i| ((i * i + 3 * index + 1) % 11).cast_signed()).collect();
        Ok(Sequence { inputs: words[..length].to_vec(), labels: words[1..].to_vec() })
    }

    fn vocab_size(&self) -> usize {
        11
    }
}

/// About 500 parameters.
fn tiny(tied: bool, dropout: f64, dtype: Dtype) -> TrainerConfig {
    let model = LlamaConfig {
        vocab_size: 11,
        hidden_size: 8,
        intermediate_size: 6,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        initializer_range: 0.4,
        ..common::model(tied, dropout)
    };
    // Micro-batches of two sequences.
    TrainerConfig { dtype, seed: 5, threads: Some(1), ..TrainerConfig::new(model, 2, 6) }
}

/// Five sequences, some targets not counted: three micro-batches, the last of one.
fn batches() -> Vec<Batch> {
    let mut sequences: Vec<Sequence> = (0..5).map(|i| Words.validation(i, 6).unwrap()).collect();
    sequences[0].labels[..4].fill(-100);
    sequences.chunks(2).map(|pair| Batch::from_sequences(pair, 0, Device::Cpu).unwrap()).collect()
}

fn trainer(config: TrainerConfig) -> Trainer {
    let dropout = config.model.dropout > 0.0;
    let mut trainer = Trainer::new(config, ProcessGroup::single(), Words).unwrap();
    let whole = |part: fn(&Batch) -> &Tensor| {
        let parts: Vec<Tensor> = batches().iter().map(|batch| part(batch).shallow_clone()).collect();
        Tensor::cat(&parts, 0)
    };
    let (inputs, labels) = (whole(|batch| &batch.inputs), whole(|batch| &batch.labels));
    trainer.set_probe_batch(ProbeBatch { inputs, labels, dropout }).unwrap();
    trainer
}

/// H row by row, in the order of the shards, by backward over backward in a plain loop.
fn dense(config: &TrainerConfig) -> Tensor {
    let plain = Plain::new(config);
    let leaves: Vec<&Tensor> = plain.parameters.iter().flatten().collect();
    let count = batches().iter().map(|batch| batch.counted_targets(0).unwrap()).sum::<u64>() as f64;
    let dropout = config.model.dropout > 0.0;
    let losses = batches().into_iter().map(|batch| {
        plain.logits(&batch.inputs, dropout).view([-1, 11]).cross_entropy_loss(
            &batch.labels.view([-1]),
            None::<&Tensor>,
            tch::Reduction::Sum,
            -100,
            0.0,
        )
    });
    let loss = losses.reduce(|sum, loss| sum + loss).unwrap() / count;
    let options = GradOptions { create_graph: true, ..GradOptions::default() };
    let flat = |gradients: Vec<Option<Tensor>>| {
        let pieces: Vec<Tensor> = gradients
            .into_iter()
            .zip(&leaves)
            .map(|(gradient, leaf)| gradient.unwrap_or_else(|| leaf.zeros_like()).reshape([-1]))
            .collect();
        Tensor::cat(&pieces, 0)
    };
    let gradient = flat(grad(&[&loss], &leaves, &[], options).unwrap());
    let options = GradOptions { retain_graph: true, allow_unused: true, create_graph: false };
    let rows: Vec<Tensor> = (0..gradient.numel() as i64)
        .map(|i| flat(grad(&[&gradient.get(i)], &leaves, &[], options).unwrap()))
        .collect();
    Tensor::stack(&rows, 0)
}

/// A random vector, aligned with the shards.
fn random(stream: u64, shards: &[Shard]) -> Vec<Tensor> {
    let piece = |shard: &Shard| {
        let own = shard.global_offset..shard.global_offset + shard.tensor.numel() as u64;
        let values: Vec<f64> = own.map(|i| standard_normal(stream, i)).collect();
        Tensor::from_slice(&values).to_kind(shard.tensor.kind())
    };
    shards.iter().map(piece).collect()
}

fn flat(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(tensors, 0).to_kind(Kind::Double)
}

fn norm(vector: &Tensor) -> f64 {
    vector.norm().double_value(&[])
}

fn product(trainer: &mut Trainer, v: &[Tensor]) -> Tensor {
    flat(&trainer.exact_hvp(v).unwrap())
}

#[test]
fn products_are_those_of_the_dense_hessian() {
    let _lock = generator_lock();
    for (tied, dropout) in [(false, 0.0), (true, 0.3)] {
        let config = tiny(tied, dropout, Dtype::F64);
        let mut trainer = trainer(config.clone());
        assert!(trainer.offers_exact_hvp());
        let state = trainer.generator_state().unwrap();
        let dense = dense(&config);
        assert!(norm(&(&dense - dense.tr())) < 1e-12 * norm(&dense));
        for stream in 0..3 {
            trainer.set_generator_state(&state).unwrap();
            let v = random(stream, &trainer.shards());
            let found = product(&mut trainer, &v);
            let expected = dense.mv(&flat(&v));
            let error = norm(&(&found - &expected)) / norm(&expected);
            assert!(error < 1e-10, "tied {tied}, dropout {dropout}: off by {error:e}");
            assert!(trainer.generator_state().unwrap() == state, "the random state is as before");
        }
        // Of the gradient, the difference is that of the same masks.
        let v = random(9, &trainer.shards());
        let h = 1e-5;
        let mut gradient_at = |h: f64| {
            trainer.set_generator_state(&state).unwrap();
            for (shard, v) in trainer.shards().iter().zip(&v) {
                let _ = shard.tensor.shallow_clone().g_add_(&(v * h));
            }
            flat(&trainer.gradient().unwrap().tensors)
        };
        let (plus, minus) = (gradient_at(h), gradient_at(-2.0 * h));
        let difference: Tensor = (plus - minus) / (2.0 * h);
        let error = norm(&(difference - dense.mv(&flat(&v)))) / norm(&dense.mv(&flat(&v)));
        assert!(error < 1e-6, "differences are off by {error:e}");
    }
}

/// A probe with `difference = "exact"` finds the outermost eigenvalues to all digits.
#[test]
fn a_probe_takes_exact_products() {
    let _lock = generator_lock();
    let config = tiny(false, 0.0, Dtype::F64);
    let eigenvalues = Vec::<f64>::try_from(dense(&config).linalg_eigvalsh("L")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let toml = format!(
        "on_error = \"stop\"\n[schedule]\nevery = 1\n[slq]\nsteps = 60\ndtype = \"f64\"\n\
         [hvp]\ndifference = \"exact\"\n[log]\ndir = {:?}",
        directory.path().to_str().unwrap()
    );
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    let snapshot = probe.probe(0, &mut trainer(config)).unwrap();
    assert_eq!((snapshot.hvp.exact, snapshot.hvp.central), (60, 0));
    let (least, most) = (eigenvalues[0], eigenvalues[eigenvalues.len() - 1]);
    let size = most.max(-least);
    assert!(
        (snapshot.lambda_max.value - most).abs() < 1e-10 * size,
        "{} for {most}",
        snapshot.lambda_max.value
    );
    assert!(
        (snapshot.lambda_min.value - least).abs() < 1e-10 * size,
        "{} for {least}",
        snapshot.lambda_min.value
    );
}

#[test]
fn products_are_linear_and_symmetric_and_touch_nothing() {
    let _lock = generator_lock();
    let mut trainer = trainer(tiny(false, 0.3, Dtype::F64));
    trainer.step().unwrap();
    let before: Vec<_> = trainer.shards().iter().map(|shard| bits(&shard.tensor)).collect();
    let gradient = flat(&trainer.gradient().unwrap().tensors);
    let (u, v) = (random(1, &trainer.shards()), random(2, &trainer.shards()));
    let sum: Vec<Tensor> = u.iter().zip(&v).map(|(u, v)| u * 2.0 - v).collect();
    let state = trainer.generator_state().unwrap();
    let [hu, hv, h_sum] = [&u, &v, &sum].map(|vector| product(&mut trainer, vector));
    assert!(norm(&(&hu * 2.0 - &hv - &h_sum)) < 1e-12 * norm(&h_sum));
    let (uhv, vhu) = (flat(&u).dot(&hv).double_value(&[]), flat(&v).dot(&hu).double_value(&[]));
    assert!((uhv - vhu).abs() < 1e-12 * uhv.abs().max(norm(&hv)), "{uhv} and {vhu}");
    assert!(product(&mut trainer, &u) == hu, "repeats");
    assert!(before == trainer.shards().iter().map(|shard| bits(&shard.tensor)).collect::<Vec<_>>());
    assert!(trainer.generator_state().unwrap() == state);
    let again = flat(&trainer.gradient().unwrap().tensors);
    assert!(values(&gradient) != values(&again), "other masks");
}

/// In f32, and in full precision of bf16 parameters, which then have f32 vectors; and in bf16 itself.
#[test]
fn products_are_in_the_present_precision() {
    let _lock = generator_lock();
    let reference = TrainerConfig { dtype: Dtype::F32, ..tiny(false, 0.0, Dtype::F64) };
    let masters = TrainerConfig { mixed_precision: MixedPrecision::bf16(), ..reference.clone() };
    let mut wide = trainer(reference);
    let v = random(3, &wide.shards());
    let expected = product(&mut wide, &v);
    let mut mixed = trainer(masters);
    let narrow = product(&mut mixed, &v);
    let error = norm(&(&narrow - &expected)) / norm(&expected);
    assert!(error > 1e-4 && error < 0.1, "in bf16, off by {error:e}");
    mixed.set_precision(Precision::Full).unwrap();
    assert!(product(&mut mixed, &v) == expected);

    let mut pure = trainer(tiny(false, 0.0, Dtype::Bf16));
    pure.set_precision(Precision::Full).unwrap();
    let found = product(&mut pure, &v);
    for shard in pure.shards() {
        let (_, whole) = (&shard.name, pure.full_parameter(&shard.name).unwrap());
        wide.set_parameter(&shard.name, &whole.to_kind(Kind::Float)).unwrap();
    }
    assert!(product(&mut wide, &v) == found);
}

#[test]
fn where_there_are_none_the_error_says_why_and_what_to_set() {
    let _lock = generator_lock();
    let mut fused = tiny(false, 0.0, Dtype::F32);
    fused.model.attention = Attention::Sdpa;
    let mut fused = trainer(fused);
    assert!(!fused.offers_exact_hvp());
    let v = random(0, &fused.shards());
    let error = fused.exact_hvp(&v).unwrap_err().to_string();
    assert!(error.contains("model.attention = \"plain\""), "{error}");

    let mut without_batch =
        Trainer::new(tiny(false, 0.0, Dtype::F32), ProcessGroup::single(), Words).unwrap();
    let error = without_batch.exact_hvp(&v).unwrap_err().to_string();
    assert!(error.contains("set_probe_batch"), "{error}");
    let error = trainer(tiny(false, 0.0, Dtype::F32)).exact_hvp(&v[1..]).unwrap_err().to_string();
    assert!(error.contains("tensors for"), "{error}");
}

#[test]
fn sharded_trainers_say_that_they_offer_none() {
    on_ranks(&[2], |group| {
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F32), group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        assert!(!trainer.offers_exact_hvp());
        let v: Vec<Tensor> = trainer.shards().into_iter().map(|shard| shard.tensor).collect();
        let error = trainer.exact_hvp(&v).unwrap_err().to_string();
        assert!(error.contains("2 ranks") && error.contains("differences"), "{error}");
    });
}
