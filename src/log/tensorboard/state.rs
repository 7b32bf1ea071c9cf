//! From records to the events that tell them.

use super::cheap_scalars;
use super::event::{Data, Event, Value};
use super::histogram::{Histogram, SymlogAxis};
use super::images::{Image, operator};
use super::layout;
use super::scalars::{self, Scalar, scalars};
use crate::config::ProbeConfig;
use crate::log::record::{Session, Skipped};
use crate::sharpness::CriticalSharpness;
use crate::spectrum::Snapshot;
use crate::tracking::Tracked;
use crate::triggers::Triggered;
use std::collections::HashSet;
use std::sync::Arc;

/// What later events depend on; replaced only once the events of a record are in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Most records bring no new tag: they share the set.
    pub(super) described: Arc<HashSet<String>>,
    pub(super) axis: Option<SymlogAxis>,
}

impl State {
    pub(super) fn session(&mut self, session: &Session) -> Vec<Event> {
        let Session { start_step, world_size, parameters, config } = session;
        let fence = fence(config);
        let read = ProbeConfig::from_toml_str(config).unwrap_or_default();
        let (blocks, optimizer) = (read.blocks.is_on(), !read.slq.operator.is_hessian());
        let text = format!(
            "{parameters} parameters on {world_size} ranks, from step {start_step}\n\n{fence}toml\n{}\n{fence}\n",
            config.trim_end()
        );
        let config = self.value("probe/config", "The configuration of hessian-probe.", Data::Text(text));
        let layout = self.value(layout::TAG, "", Data::Layout(layout::layout(blocks, optimizer)));
        vec![Event::SessionStart, Event::Summary(vec![config, layout])]
    }

    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, images: Vec<Image>) -> Vec<Event> {
        let mut values: Vec<Value> = scalars(snapshot)
            .into_iter()
            .map(|scalar| self.value(&scalar.tag, &scalar.description, Data::Scalar(scalar.value as f32)))
            .collect();
        self.axis = self.axis.or_else(|| SymlogAxis::of_snapshot(snapshot));
        // Where H = 0 all mass is at zero, on whichever axis; the next snapshot may still choose it.
        let axis = self.axis.unwrap_or_default();
        let (of, name) = operator(snapshot.operator);
        let on_axis = format!(
            "in each tenth of a decade, at x = sign(λ) · log₁₀(1 + |λ|/λ₀) with λ₀ = {:e}.",
            axis.threshold()
        );
        if let Some(density) = Histogram::density(snapshot.parameters, &snapshot.probes, axis) {
            let describe = |what| format!("{what} eigenvalues λ of {of} {on_axis}");
            let tall = describe("log₁₀(1 + 100 × number) of");
            let tall =
                self.value(&format!("{name}/log_density"), &tall, Data::Histogram(density.logarithmic()));
            let density =
                self.value(&format!("{name}/density"), &describe("The number of"), Data::Histogram(density));
            values.extend([density, tall]);
        }
        for block in snapshot.block_diagonal.iter().flat_map(|blocks| &blocks.blocks) {
            let probes = block.spectrum.as_slice();
            let Some(density) = Histogram::density(block.parameters, probes, axis) else { continue };
            let meaning =
                format!("log₁₀(1 + 100 × number) of eigenvalues λ of this diagonal block {on_axis}");
            let tag = format!("blocks/{}/log_density", block.name);
            values.push(self.value(&tag, &meaning, Data::Histogram(density.logarithmic())));
        }
        values.extend(images.into_iter().map(|image| image.value(self)));
        vec![Event::Summary(values)]
    }

    pub(super) fn tracked(&mut self, tracked: &Tracked) -> Vec<Event> {
        self.plain(scalars::tracked(tracked))
    }

    pub(super) fn sharpness(&mut self, found: &CriticalSharpness) -> Vec<Event> {
        self.plain(cheap_scalars::sharpness(found))
    }

    fn plain(&mut self, scalars: Vec<Scalar>) -> Vec<Event> {
        let value =
            |scalar: Scalar| self.value(&scalar.tag, &scalar.description, Data::Scalar(scalar.value as f32));
        vec![Event::Summary(scalars.into_iter().map(value).collect())]
    }

    pub(super) fn skipped(&mut self, skipped: &Skipped) -> Vec<Event> {
        self.text("probe/skipped", "Why a probe that was due did not come about.", &skipped.reason)
    }

    pub(super) fn triggered(&mut self, triggered: &Triggered) -> Vec<Event> {
        self.text("probe/triggered", "Why a probe started by itself.", &triggered.to_string())
    }

    fn text(&mut self, tag: &str, meaning: &str, text: &str) -> Vec<Event> {
        let fence = fence(text);
        let text = format!("{fence}\n{text}\n{fence}\n");
        vec![Event::Summary(vec![self.value(tag, meaning, Data::Text(text))])]
    }

    pub(super) fn value(&mut self, tag: &str, description: &str, data: Data) -> Value {
        let is_new = !self.described.contains(tag);
        if is_new {
            Arc::make_mut(&mut self.described).insert(tag.into());
        }
        Value { tag: tag.into(), description: is_new.then(|| description.into()), data }
    }
}

/// A Markdown fence that `text` does not close.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_any_in_the_text() {
        assert_eq!(fence("plain"), "```");
        assert_eq!(fence("a ```` b `"), "`````");
    }
}
