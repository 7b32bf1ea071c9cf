//! What was measured, what was foretold, and how far they are apart.

use crate::case::Case;
use crate::exponents::{PowerLaw, power_laws};
use crate::fit::Fitted;
use crate::memory::Memories;
use crate::plot;
use crate::points::Point;
use crate::time::Times;
use crate::{Result, support};
use hessian_probe::cost::{Machine, Parts};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// How far a point that was held out may be off.
const TIME: f64 = 0.15;
const MEMORY: f64 = 0.10;

/// A point with what was foretold of it.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub point: Point,
    pub foretold: Parts,
    /// Foretold over measured, less 1.
    pub residual: f64,
}

/// The same of memory, in bytes beyond those of a gradient.
#[derive(Debug, Serialize)]
pub struct ComparedMemory {
    pub place: String,
    pub measured: Option<f64>,
    pub foretold: u64,
    /// What the probe told of itself.
    pub told: u64,
    pub residual: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    /// What `hessian-probe plan --machine` reads.
    machine: Machine,
    fitted: Fitted,
    power_laws: Vec<PowerLaw>,
    pub points: Vec<Compared>,
    memory: Vec<ComparedMemory>,
    /// Everything that the figures were computed from.
    raw: Vec<serde_json::Value>,
}

impl Report {
    pub fn new(times: Vec<(Case, Times)>, memories: Vec<(Case, Memories)>) -> Result<Self> {
        let points: Vec<Vec<Point>> =
            times.iter().map(|(case, times)| Point::of(case, times)).collect::<Result<_>>()?;
        let points: Vec<Point> = points.into_iter().flatten().collect();
        let training: Vec<&Point> = points.iter().filter(|point| !point.probe.held_out).collect();
        let fitted = Fitted::to(&training)?;
        let power_laws = power_laws(&points);
        let compared = points.into_iter().map(|point| {
            let foretold = point.foretold(&fitted)?;
            let residual = foretold.total() / point.seconds - 1.0;
            Ok(Compared { point, foretold, residual })
        });
        let compared = compared.collect::<Result<Vec<_>>>()?;
        let raw = times.iter().map(|(case, found)| serde_json::json!({ "case": case, "measured": found }));
        let raw = raw.chain(
            memories.iter().map(|(case, found)| serde_json::json!({ "case": case, "measured": found })),
        );
        Ok(Self {
            machine: fitted.machine,
            power_laws,
            points: compared,
            memory: memories.iter().flat_map(|(case, found)| memory(case, found)).collect(),
            raw: raw.collect(),
            fitted,
        })
    }

    /// Targets that points held out of the fit miss. Nothing is fitted to memory.
    pub fn missed(&self) -> usize {
        self.points.iter().filter(|compared| compared.missed()).count()
            + self.memory.iter().filter(|compared| compared.missed()).count()
    }

    /// Writes JSON and plots; returns where.
    pub fn write(&self) -> Result<Vec<PathBuf>> {
        let directory = support::directory()?;
        let files = [
            ("scaling.json", serde_json::to_string_pretty(self)?),
            ("scaling-foretold.svg", plot::foretold(&self.points)?),
            ("scaling-parts.svg", plot::parts(&self.points)?),
        ];
        let mut written = Vec::new();
        for (name, text) in files {
            let path = directory.join(name);
            std::fs::write(&path, text)?;
            written.push(path);
        }
        Ok(written)
    }
}

impl Report {
    /// One gradient of each process, against its law: what a plan need not know where it was measured.
    fn gradients(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(law) = &self.fitted.gradient else { return Ok(()) };
        writeln!(f, "\n{:46} {:>10} {:>10} {:>8}", "one gradient, fitted", "measured", "law", "off")?;
        let mut last = None;
        for Compared { point, .. } in &self.points {
            let place = format!("{} {} rank(s), {} tokens", point.size, point.ranks, point.tokens);
            if last.as_ref() == Some(&place) {
                continue;
            }
            let (measured, found) = (point.gradient_seconds, law.seconds(point));
            writeln!(
                f,
                "{place:46} {measured:>8.4} s {found:>8.4} s {:>+6.1} %",
                100.0 * (found / measured - 1.0)
            )?;
            last = Some(place);
        }
        Ok(())
    }
}

impl Compared {
    fn missed(&self) -> bool {
        // Not a number is a miss.
        self.point.probe.held_out && (self.residual.is_nan() || self.residual.abs() > TIME)
    }
}

impl ComparedMemory {
    fn missed(&self) -> bool {
        self.residual.is_some_and(|residual| residual.is_nan() || residual.abs() > MEMORY)
    }
}

fn memory(case: &Case, found: &Memories) -> Vec<ComparedMemory> {
    let compare = |taken: &crate::memory::Taken| {
        let measured =
            taken.probe_peak.zip(taken.gradient_peak).map(|(with, without)| with as f64 - without as f64);
        ComparedMemory {
            place: format!("{} {}", case.place(), taken.probe.name()),
            measured,
            foretold: taken.vectors,
            told: taken.told,
            residual: measured.map(|measured| taken.vectors as f64 / measured - 1.0),
        }
    };
    found.probes.iter().map(compare).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "power laws, of all points\n")?;
        for law in &self.power_laws {
            let exponents: Vec<String> =
                law.exponents.iter().map(|(name, power)| format!("({name})^{power:.2}")).collect();
            writeln!(
                f,
                "{:26} {:44} R² {:.3}, {} points",
                law.part,
                exponents.join(" "),
                law.r_squared,
                law.points
            )?;
        }
        writeln!(f, "\nthe law, fitted to the points that are not held out\n")?;
        for quality in &self.fitted.quality {
            writeln!(
                f,
                "{:26} R² {:.3}, median residual {:.1} %, {} values",
                quality.part,
                quality.r_squared,
                100.0 * quality.residual,
                quality.points
            )?;
        }
        let machine = &self.machine;
        writeln!(f, "\nconstants\n")?;
        for (name, value, unit) in [
            ("products", machine.product_bandwidth / 1e9, "GB/s"),
            ("Lanczos steps", machine.lanczos_bandwidth / 1e9, "GB/s"),
            ("copies", machine.copy_bandwidth / 1e9, "GB/s"),
            ("a piece", 1e6 * machine.piece_seconds, "µs"),
            ("QQᵀ", machine.multiplications / 1e9, "10⁹ multiplications/s"),
            ("drawing", machine.drawn / 1e6, "10⁶ entries/s"),
            ("an all_reduce", 1e6 * machine.all_reduce_seconds, "µs for each doubling of ranks"),
            ("a value in it", 1e9 * machine.value_seconds, "ns, likewise"),
            ("a probe besides", 1e3 * machine.fixed_seconds, "ms"),
            ("computed again", 100.0 * self.fitted.redone, "% of products"),
            ("distances", self.fitted.distances as f64, "of points, to find the noise"),
        ] {
            writeln!(f, "{name:26} {value:.4} {unit}")?;
        }
        if let Some(law) = &self.fitted.gradient {
            writeln!(
                f,
                "{:26} {:.3} ms a block, {:.3e} s a parameter and token, {:.3e} s a byte gathered, {:.3e} reduced",
                "a gradient",
                1e3 * law.block,
                law.operation,
                law.gathered,
                law.reduced
            )?;
        }
        self.gradients(f)?;
        writeln!(
            f,
            "\n{:46} {:>10} {:>10} {:>8} {:>8}  of it gradients",
            "time", "measured", "foretold", "off", "spread"
        )?;
        for compared in &self.points {
            let Compared { point, foretold, residual } = compared;
            let judged = match (point.probe.held_out, compared.missed()) {
                (false, _) => "",
                (true, false) => "  held out, ok",
                (true, true) => "  held out, MISS",
            };
            writeln!(
                f,
                "{:46} {:>8.3} s {:>8.3} s {:>+6.1} % {:>6.1} %  {:.3}{judged}",
                point.place(),
                point.seconds,
                foretold.total(),
                100.0 * residual,
                100.0 * point.spread,
                (point.parts.gradients + point.gradient_seconds * point.work.calibration_gradients as f64)
                    / point.seconds,
            )?;
        }
        writeln!(
            f,
            "\n{:46} {:>12} {:>12} {:>12} {:>8}",
            "memory beyond a gradient's", "measured", "foretold", "told", "off"
        )?;
        for compared in &self.memory {
            let off =
                compared.residual.map_or("–".into(), |residual| format!("{:+.1} %", 100.0 * residual));
            writeln!(
                f,
                "{:46} {:>9.3} MB {:>9.3} MB {:>9.3} MB {off:>8}{}",
                compared.place,
                compared.measured.unwrap_or(f64::NAN) / 1e6,
                compared.foretold as f64 / 1e6,
                compared.told as f64 / 1e6,
                if compared.missed() { "  MISS" } else { "" }
            )?;
        }
        let held_out = self.points.iter().filter(|compared| compared.point.probe.held_out).count();
        let late = self.points.iter().filter(|compared| compared.missed()).count();
        let large = self.memory.iter().filter(|compared| compared.missed()).count();
        writeln!(
            f,
            "\n{late} of {held_out} points held out are off by more than {:.0} % in time, {large} of {} by more than {:.0} % in memory",
            100.0 * TIME,
            self.memory.len(),
            100.0 * MEMORY
        )
    }
}
