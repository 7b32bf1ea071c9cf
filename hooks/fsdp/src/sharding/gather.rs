//! A block's whole parameters, for as long as it runs; and how much of that there ever was at once.

use super::layout::BlockLayout;
use crate::error::{At, Result};
use crate::precision::cast;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tch::{Kind, Tensor};

/// Counts gathered blocks and elements (padding included) that are live on this rank, and their peaks.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Corpus, LlamaConfig, Trainer, TrainerConfig};
///
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// let meter = trainer.meter().clone();
/// trainer.step()?;
/// assert_eq!((meter.live_blocks(), meter.peak_blocks()), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GatherMeter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    blocks: AtomicUsize,
    elements: AtomicUsize,
    peak_blocks: AtomicUsize,
    peak_elements: AtomicUsize,
    total: AtomicUsize,
    bytes: AtomicUsize,
}

impl GatherMeter {
    /// Gathered blocks that are live now.
    #[must_use]
    pub fn live_blocks(&self) -> usize {
        self.0.blocks.load(Relaxed)
    }

    /// Elements of gathered blocks that are live now.
    #[must_use]
    pub fn live_elements(&self) -> usize {
        self.0.elements.load(Relaxed)
    }

    /// The most gathered blocks that were live at once.
    #[must_use]
    pub fn peak_blocks(&self) -> usize {
        self.0.peak_blocks.load(Relaxed)
    }

    /// The most elements of gathered blocks that were live at once.
    #[must_use]
    pub fn peak_elements(&self) -> usize {
        self.0.peak_elements.load(Relaxed)
    }

    /// How many blocks were gathered so far.
    #[must_use]
    pub fn total_gathers(&self) -> usize {
        self.0.total.load(Relaxed)
    }

    /// The size of all buffers that were gathered so far, in bytes: what a rank had to be sent, but for its own part.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    fn add(&self, elements: usize, bytes: usize) {
        let blocks = self.0.blocks.fetch_add(1, Relaxed) + 1;
        let elements = self.0.elements.fetch_add(elements, Relaxed) + elements;
        self.0.peak_blocks.fetch_max(blocks, Relaxed);
        self.0.peak_elements.fetch_max(elements, Relaxed);
        self.0.total.fetch_add(1, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    fn remove(&self, elements: usize) {
        self.0.blocks.fetch_sub(1, Relaxed);
        self.0.elements.fetch_sub(elements, Relaxed);
    }
}

/// Gathered parameters of a block and of the one that it borrows from. Dropping it frees them.
#[derive(Debug)]
pub struct Gathered {
    parameters: Vec<Tensor>,
    /// Elements of each gathered buffer; `parameters` are the only references to their storage.
    elements: Vec<usize>,
    meter: GatherMeter,
}

impl Gathered {
    pub(super) fn new(meter: &GatherMeter) -> Self {
        Self { parameters: Vec::new(), elements: Vec::new(), meter: meter.clone() }
    }

    /// Counts a buffer of `layout` in `kind`, which is there from now on.
    pub(super) fn count(&mut self, layout: &BlockLayout, kind: Kind) {
        self.meter.add(layout.padded(), layout.padded() * kind.elt_size_in_bytes());
        self.elements.push(layout.padded());
    }

    /// The parameters in `flat`, a whole block, cast to `compute`.
    pub(super) fn add(
        &mut self,
        layout: &BlockLayout,
        flat: Tensor,
        compute: Kind,
        requires_grad: bool,
        rank: usize,
    ) -> Result<()> {
        let describe = || format!("gathering block `{}`", layout.name);
        let flat = cast(&flat, compute).at(rank, describe)?;
        for view in layout.split_whole(&flat).at(rank, describe)? {
            // Detached, so that the leaf is the view itself and its gradient has the parameter's shape.
            let leaf = view.f_detach().and_then(|leaf| leaf.f_set_requires_grad(requires_grad));
            self.parameters.push(leaf.at(rank, describe)?);
        }
        Ok(())
    }

    /// The parameters in the order that [`Llama::run`](crate::model::Llama::run) takes, views of the
    /// gathered buffers.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.parameters.clear();
        for &elements in &self.elements {
            self.meter.remove(elements);
        }
    }
}
