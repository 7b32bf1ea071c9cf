//! Rotary position embeddings, in Hugging Face's rotate-half convention.

use super::config::LlamaConfig;
use crate::precision::{cast, wider};
use std::cell::RefCell;
use tch::{Device, Kind, TchError, Tensor, no_grad_guard};

/// Tables of cosines and sines, `[positions, head_size]` each, as long as the longest sequence so far: a model
/// may allow many more positions than anybody uses. They are in f32 or wider; rounded to the type of what is turned.
///
/// Element `j` of a head is paired with element `j + h/2`; the pair at position `t` is turned by the
/// angle `t · f_j` (Su et al., *RoFormer*, 2021; the original pairs neighbours instead). The frequencies `f_j` are
/// those of [`RopeScaling`](super::RopeScaling).
#[derive(Debug)]
pub(super) struct Rope {
    frequencies: Vec<f64>,
    longest: i64,
    kind: Kind,
    device: Device,
    tables: RefCell<Option<Tables>>,
}

#[derive(Debug)]
struct Tables {
    positions: i64,
    cosine: Tensor,
    sine: Tensor,
}

impl Rope {
    pub(super) fn new(config: &LlamaConfig, kind: Kind, device: Device) -> Self {
        let frequencies = config.rope_scaling.frequencies(config.rope_theta, config.head_size());
        let longest = i64::try_from(config.max_position_embeddings).unwrap_or(i64::MAX);
        Self { frequencies, longest, kind: wider(kind, Kind::Float), device, tables: RefCell::new(None) }
    }

    /// Turns queries or keys `[B, heads, T, h]` by the angles of positions `0..T`.
    pub(super) fn rotate(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (_, _, time, size) = x.size4()?;
        let (cosine, sine) = self.tables(time)?;
        let (cosine, sine) = (cast(&cosine, x.f_kind()?)?, cast(&sine, x.f_kind()?)?);
        let first = x.f_narrow(-1, 0, size / 2)?;
        let second = x.f_narrow(-1, size / 2, size / 2)?;
        let turned = Tensor::f_cat(&[second.f_neg()?, first], -1)?;
        x.f_mul(&cosine)?.f_add(&turned.f_mul(&sine)?)
    }

    /// Cosines and sines of positions `0..time`.
    fn tables(&self, time: i64) -> Result<(Tensor, Tensor), TchError> {
        if time > self.longest {
            let reason = format!("{time} tokens, but max_position_embeddings is {}", self.longest);
            return Err(TchError::Shape(reason));
        }
        let mut tables = self.tables.borrow_mut();
        let tables = match &mut *tables {
            Some(tables) if tables.positions >= time => tables,
            other => other.insert(self.compute(time)?),
        };
        Ok((tables.cosine.f_narrow(0, 0, time)?, tables.sine.f_narrow(0, 0, time)?))
    }

    fn compute(&self, positions: i64) -> Result<Tables, TchError> {
        let _no_grad = no_grad_guard();
        let table = |function: fn(f64) -> f64| -> Result<Tensor, TchError> {
            let mut values = Vec::new();
            for position in 0..positions {
                for frequency in self.frequencies.iter().chain(&self.frequencies) {
                    values.push(function(position as f64 * frequency));
                }
            }
            Tensor::f_from_slice(&values)?
                .f_view([positions, 2 * self.frequencies.len() as i64])?
                .f_to_kind(self.kind)?
                .f_to(self.device)
        };
        Ok(Tables { positions, cosine: table(f64::cos)?, sine: table(f64::sin)? })
    }
}
