//! Rotary position embeddings, in Hugging Face's rotate-half convention.

use super::config::LlamaConfig;
use crate::precision::{cast, wider};
use tch::{Device, Kind, TchError, Tensor};

/// Tables of cosines and sines, `[max_position_embeddings, head_size]` each, in f32 or wider; rounded to the type
/// of what is turned.
///
/// Element `j` of a head is paired with element `j + h/2`; the pair at position `t` is turned by the
/// angle `t · θ^(-2j/h)` (Su et al., *RoFormer*, 2021; the original pairs neighbours instead).
#[derive(Debug)]
pub(super) struct Rope {
    cosine: Tensor,
    sine: Tensor,
}

impl Rope {
    pub(super) fn new(config: &LlamaConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let kind = wider(kind, Kind::Float);
        let half = config.head_size() / 2;
        let frequency: Vec<f64> =
            (0..half).map(|j| config.rope_theta.powf(-(j as f64) / half as f64)).collect();
        let table = |function: fn(f64) -> f64| -> Result<Tensor, TchError> {
            let mut values = Vec::with_capacity(config.max_position_embeddings * 2 * half);
            for position in 0..config.max_position_embeddings {
                for j in 0..2 * half {
                    values.push(function(position as f64 * frequency[j % half]));
                }
            }
            Tensor::f_from_slice(&values)?
                .f_view([config.max_position_embeddings as i64, 2 * half as i64])?
                .f_to_kind(kind)?
                .f_to(device)
        };
        Ok(Self { cosine: table(f64::cos)?, sine: table(f64::sin)? })
    }

    /// Turns queries or keys `[B, heads, T, h]` by the angles of positions `0..T`.
    pub(super) fn rotate(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (_, _, time, size) = x.size4()?;
        let table = |table: &Tensor| cast(&table.f_narrow(0, 0, time)?, x.f_kind()?);
        let (cosine, sine) = (table(&self.cosine)?, table(&self.sine)?);
        let first = x.f_narrow(-1, 0, size / 2)?;
        let second = x.f_narrow(-1, size / 2, size / 2)?;
        let turned = Tensor::f_cat(&[second.f_neg()?, first], -1)?;
        x.f_mul(&cosine)?.f_add(&turned.f_mul(&sine)?)
    }
}
