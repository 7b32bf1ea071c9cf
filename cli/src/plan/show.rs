//! A plan for the terminal.

use super::answer::{Answer, Answers};
use super::table::table;
use crate::number::{NONE, count, digits, percent, seconds, volume};
use crate::table::{Table, row};
use hessian_probe::config::{BasisConfig, BasisKind, Reorthogonalize};
use std::fmt::{self, Display, Formatter};

impl Display for Answers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.answers[..] {
            [one] => self.one(f, one)?,
            _ => write!(f, "{}", table(self))?,
        }
        writeln!(f, "\nassumed")?;
        self.assumptions.iter().try_for_each(|line| writeln!(f, "- {line}"))
    }
}

impl Answers {
    fn one(&self, f: &mut Formatter<'_>, answer: &Answer) -> fmt::Result {
        let Answer { plan, facts, .. } = answer;
        row(f, "model", &answer.model)?;
        let parameters = format!("{}; {} on a rank of {}", answer.parameters, facts.entries, answer.ranks);
        row(f, "parameters", &parameters)?;
        row(f, "probe batch", &format!("{} tokens", answer.tokens))?;
        let computed = answer.gradient.map(|work| {
            format!(": {} operations, {} received and sent", digits(work.operations), volume(work.bytes))
        });
        row(
            f,
            "a gradient",
            &format!("{}{}", seconds(answer.gradient_seconds), computed.unwrap_or_default()),
        )?;
        row(
            f,
            "a probe",
            &format!("{}, {} of it gradients", seconds(plan.mean_seconds), percent(plan.gradient_share())),
        )?;
        let (work, noise) = (&plan.work, &plan.calibrating);
        writeln!(f)?;
        let mut parts = Table::default();
        parts.row("time", ["a probe".into(), "measuring noise, too".into()]);
        for ((name, one), (_, other)) in
            plan.seconds.named().into_iter().zip(plan.calibrating_seconds.named())
        {
            if one > 0.0 || other > 0.0 {
                parts.row(name, [seconds(one), seconds(other)]);
            }
        }
        parts.row("together", [seconds(plan.seconds.total()), seconds(plan.calibrating_seconds.total())]);
        parts.row("gradients, number", [work.gradients.to_string(), noise.gradients.to_string()]);
        parts.row("all_reduces", [work.all_reduces.to_string(), noise.all_reduces.to_string()]);
        parts.row("f64 in them", [work.reduced_values.to_string(), noise.reduced_values.to_string()]);
        writeln!(f, "{parts}")?;
        let mut memory = Table::default();
        memory.row("memory of a rank", [String::new()]);
        for (name, size) in plan.memory.named() {
            memory.row(name, [volume(size as f64)]);
        }
        memory.row("together", [volume((plan.memory.total() + plan.memory.pieces) as f64)]);
        writeln!(f, "{memory}")?;
        let mut ways = Table::default();
        let place = if facts.accelerated { "on the accelerator" } else { "memory" };
        ways.row("Lanczos vectors", [place.into(), "in the CPU's".into(), "a probe".into(), "fits".into()]);
        for way in &plan.choices {
            let fits = way.fits.map_or("?", |fits| if fits { "yes" } else { "no" });
            let elsewhere = way.memory.elsewhere;
            let elsewhere = if elsewhere == 0 { NONE.into() } else { volume(elsewhere as f64) };
            ways.row(
                &name(way.reorthogonalize, way.basis),
                [volume(way.memory.on_device() as f64), elsewhere, seconds(way.seconds), fits.into()],
            );
        }
        writeln!(f, "{ways}")?;
        if let Some(memory) = self.memory {
            let way = plan.recommended().map(|way| name(way.reorthogonalize, way.basis));
            let limit = volume(memory.0 as f64);
            let told = match way {
                Some(way) => format!("{way}: it fits into {limit}"),
                None => format!("nothing fits into {limit}: shard over more ranks"),
            };
            row(f, "to keep", &told)?;
        }
        if let (Some(every), Some(step), Some(most)) = (plan.every, answer.step_seconds, self.max_overhead)
            && plan.recommended().is_some()
        {
            let share = plan.scheduled_seconds() / (every as f64 * step);
            let every = format!(
                "every = {} steps of {}: {} of training time, at most {} %",
                steps(every),
                seconds(step),
                percent(share),
                digits(most)
            );
            row(f, "schedule", &every)?;
        }
        Ok(())
    }
}

/// Steps, whole where they can be read.
pub fn steps(every: u64) -> String {
    if every < 1_000_000 { every.to_string() } else { count(every) }
}

/// A way to keep Lanczos vectors.
pub fn name(reorthogonalize: Reorthogonalize, basis: BasisConfig) -> String {
    let dtype = match basis.dtype {
        Some(BasisKind::Bf16) => ", bf16",
        Some(BasisKind::F32) => ", f32",
        Some(BasisKind::F64) => ", f64",
        None => "",
    };
    let device = if basis.device.is_some() { ", CPU" } else { "" };
    format!("{reorthogonalize}{dtype}{device}")
}
