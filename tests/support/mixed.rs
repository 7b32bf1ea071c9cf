//! A host of a loop in mixed precision.

use super::closure_host::ClosureHost;
use super::models::Model;
use tch::Kind;

impl ClosureHost {
    /// Masters in f32, from which every forward pass rounds the bf16 parameters that it computes with.
    pub fn computing_in_bf16(model: Model) -> Self {
        let mut host = Self::new(model, Kind::Float);
        host.compute = Some(Kind::BFloat16);
        host
    }
}
