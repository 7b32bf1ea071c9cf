//! Vectors aligned with a host's shards, in f64.

use super::Result;
use hessian_probe::Host;
use hessian_probe_fsdp::model::standard_normal;
use tch::{Kind, Tensor};

/// One flat tensor per shard.
pub struct Vectors(pub Vec<Tensor>);

impl Vectors {
    /// Copies of `tensors` in `kind`.
    pub fn new(tensors: Vec<Tensor>, kind: Kind) -> Result<Self> {
        let copy = |tensor: Tensor| tensor.f_to_dtype(kind, false, true)?.f_reshape([-1]);
        Ok(Self(tensors.into_iter().map(copy).collect::<Result<_, _>>()?))
    }

    /// A copy of the parameters.
    pub fn of(host: &dyn Host) -> Result<Self> {
        Self::new(host.shards().into_iter().map(|shard| shard.tensor).collect(), Kind::Double)
    }

    /// The parameters as the forward pass uses them.
    pub fn as_used(host: &dyn Host) -> Result<Self> {
        let used = host.shards().into_iter().map(|shard| match host.compute_kind() {
            Some(kind) => shard.tensor.f_to_kind(kind),
            None => Ok(shard.tensor),
        });
        Self::new(used.collect::<Result<_, _>>()?, Kind::Double)
    }

    /// Independent standard normal elements.
    pub fn random(host: &dyn Host, stream: u64) -> Result<Self> {
        let piece = |shard: hessian_probe::Shard| {
            let own = shard.global_offset..shard.global_offset + shard.tensor.numel() as u64;
            let values: Vec<f64> = own.map(|index| standard_normal(stream, index)).collect();
            Tensor::f_from_slice(&values)
        };
        Ok(Self(host.shards().into_iter().map(piece).collect::<Result<_, _>>()?))
    }

    pub fn dot(&self, other: &Self) -> Result<f64> {
        let mut sum = 0.0;
        for (a, b) in self.0.iter().zip(&other.0) {
            sum += a.f_dot(b)?.f_double_value(&[])?;
        }
        Ok(sum)
    }

    pub fn norm(&self) -> Result<f64> {
        Ok(self.dot(self)?.sqrt())
    }

    /// `self + factor · other`.
    pub fn plus(&self, factor: f64, other: &Self) -> Result<Self> {
        let factor = Tensor::f_from_slice(&[factor])?;
        let sum = |(a, b): (&Tensor, &Tensor)| a.f_add(&b.f_mul(&factor)?);
        Ok(Self(self.0.iter().zip(&other.0).map(sum).collect::<Result<_, _>>()?))
    }

    pub fn times(&self, factor: f64) -> Result<Self> {
        let factor = Tensor::f_from_slice(&[factor])?;
        Ok(Self(self.0.iter().map(|a| a.f_mul(&factor)).collect::<Result<_, _>>()?))
    }

    pub fn unit(&self) -> Result<Self> {
        self.times(1.0 / self.norm()?)
    }

    /// Sets the parameters, rounded to their own type.
    pub fn write(&self, host: &dyn Host) -> Result<()> {
        for (shard, values) in host.shards().iter().zip(&self.0) {
            shard.tensor.shallow_clone().f_copy_(values)?;
        }
        Ok(())
    }

    /// `Hv` by double backward.
    pub fn exact_product(&self, host: &mut dyn Host) -> Result<Self> {
        let v = host.shards().into_iter().zip(&self.0).map(|(shard, v)| v.f_to_kind(shard.tensor.f_kind()?));
        let v = v.collect::<Result<Vec<_>, _>>()?;
        Self::new(host.exact_hvp(&v)?, Kind::Double)
    }
}
