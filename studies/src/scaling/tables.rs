//! The study as tables of Markdown.

use super::case::{LARGEST, Probe};
use super::law::{Compared, Law};
use super::record::{Measured, Study};
use crate::claim::{self, Claim};
use crate::number::{percent, row, short};
use crate::page::Section;
use hessian_probe::config::{Difference, Reorthogonalize};

/// The page's sections; tables of the law are empty where there is none.
pub fn sections(study: &Study, law: Option<&Law>, claims: &[Claim]) -> Vec<Section> {
    let section = |name, markdown| Section { name, markdown };
    let of = |table: &dyn Fn(&Law) -> String| law.map_or_else(String::new, table);
    vec![
        section("claims", claim::list(claims)),
        section("settings", settings(study)),
        section("models", models(study, law)),
        section("exponents", of(&exponents)),
        section("quality", of(&quality)),
        section("constants", of(&constants)),
        section("time", of(&|law| time(study, law))),
        section("memory", of(&|law| memory(study, law))),
        section("largest", largest(study)),
    ]
}

fn settings(study: &Study) -> String {
    let Study { cores, threads, rounds, models } = study;
    let all = || models.iter().flat_map(|model| &model.probes);
    let (probes, calibrating) = (all().count(), all().filter(|probed| probed.calibrating.is_some()).count());
    format!(
        "{cores} cores, {threads} thread(s) a rank; {} models on so many ranks, {probes} probes of them, {calibrating} of these with measuring the noise, too; medians of {rounds} rounds.\n",
        models.len()
    )
}

/// What is probed, and one gradient of it, with the law that knows its sizes only.
fn models(study: &Study, law: Option<&Law>) -> String {
    let mut table = String::from(
        "| model | width × layers | parameters | ranks | tokens | a gradient | by its law |\n|---|---|---|---|---|---|---|\n",
    );
    for model in &study.models {
        let point = law.and_then(|law| {
            law.points.iter().map(|compared| &compared.point).find(|point| {
                point.size == model.size.name && point.ranks == model.ranks && !point.calibrates
            })
        });
        let gradient = point.map_or_else(|| "–".into(), |point| seconds(point.gradient_seconds));
        let foretold = point.zip(law.and_then(|law| law.fitted.gradient.as_ref())).map_or_else(
            || "–".into(),
            |(point, law)| off(law.seconds(point) / point.gradient_seconds - 1.0),
        );
        table += &row(&[
            model.size.name.clone(),
            model.size.shape(),
            model.sizes.parameters.to_string(),
            model.ranks.to_string(),
            model.sizes.tokens.to_string(),
            gradient,
            foretold,
        ]);
    }
    table
}

fn exponents(law: &Law) -> String {
    let mut table = String::from("| seconds of | grow with | R² | points |\n|---|---|---|---|\n");
    for law in &law.power_laws {
        let powers: Vec<String> =
            law.exponents.iter().map(|(name, power)| format!("({name})^{power:.2}")).collect();
        table += &row(&[
            law.part.into(),
            powers.join(" · "),
            format!("{:.3}", law.r_squared),
            law.points.to_string(),
        ]);
    }
    table
}

fn quality(law: &Law) -> String {
    let mut table = String::from("| part | R² | median residual | values |\n|---|---|---|---|\n");
    for quality in &law.fitted.quality {
        table += &row(&[
            quality.part.into(),
            format!("{:.3}", quality.r_squared),
            percent(quality.residual),
            quality.points.to_string(),
        ]);
    }
    table
}

fn constants(law: &Law) -> String {
    let machine = &law.machine;
    let mut table = String::from("| constant | |\n|---|---|\n");
    for (name, value, unit) in [
        ("passes of products", machine.product_bandwidth / 1e9, "GB/s"),
        ("passes of Lanczos steps", machine.lanczos_bandwidth / 1e9, "GB/s"),
        ("copies", machine.copy_bandwidth / 1e9, "GB/s"),
        ("a piece of a pass", 1e6 * machine.piece_seconds, "µs"),
        ("QQᵀ", machine.multiplications / 1e9, "10⁹ multiplications a second"),
        ("drawing", machine.drawn / 1e6, "10⁶ entries a second"),
        ("an all_reduce", 1e6 * machine.all_reduce_seconds, "µs for each doubling of ranks"),
        ("a value in it", 1e9 * machine.value_seconds, "ns, likewise"),
        ("a probe besides", 1e3 * machine.fixed_seconds, "ms"),
        ("products that are computed again", 100.0 * law.fitted.redone, "%"),
        ("distances, to find the noise", law.fitted.distances as f64, ""),
    ] {
        table += &row(&[name.into(), format!("{} {unit}", short(value)).trim_end().into()]);
    }
    if let Some(gradient) = &law.fitted.gradient {
        for (name, value, unit) in [
            ("a gradient: a block", 1e3 * gradient.block, "ms"),
            ("a parameter and token, on each rank's share", 1e12 * gradient.operation, "ps"),
            ("a byte that is gathered", 1e9 * gradient.gathered, "ns"),
            ("a byte that is reduced", 1e9 * gradient.reduced, "ns"),
        ] {
            table += &row(&[name.into(), format!("{} {unit}", short(value))]);
        }
    }
    table
}

/// The probes that are held out of the fit, in the order of columns, with and without measuring the noise.
const HELD_OUT: [(Reorthogonalize, Difference, bool, &str); 4] = [
    (Reorthogonalize::Full, Difference::Central, false, "full, central"),
    (Reorthogonalize::Full, Difference::Forward, false, "full, forward, r = 2"),
    (Reorthogonalize::None, Difference::Central, false, "none, central"),
    (Reorthogonalize::None, Difference::Central, true, "the same, measuring the noise"),
];

/// What was measured, and how far what was foretold is off.
fn time(study: &Study, law: &Law) -> String {
    let mut table = header(&HELD_OUT.map(|(.., name)| name.to_owned()));
    for model in &study.models {
        let cell =
            |(reorthogonalize, difference, calibrates, _): (Reorthogonalize, Difference, bool, &str)| {
                let same = |Compared { point, .. }: &&Compared| {
                    of_model(model, &point.size, point.ranks)
                        && point.calibrates == calibrates
                        && (point.probe.reorthogonalize, point.probe.difference)
                            == (reorthogonalize, difference)
                };
                law.held_out().find(same).map_or_else(
                    || "–".into(),
                    |Compared { point, residual, .. }| {
                        format!("m = {}: {} {}", point.probe.steps, seconds(point.seconds), off(*residual))
                    },
                )
            };
        table += &cells(model, HELD_OUT.map(cell).to_vec());
    }
    table
}

fn memory(study: &Study, law: &Law) -> String {
    // The way to probe without its m, which is another for each size.
    let way = |probe: &Probe| {
        let formula = if probe.difference == Difference::Central { "central" } else { "forward" };
        format!("{}, {formula}", probe.reorthogonalize)
    };
    let mut ways: Vec<String> = Vec::new();
    for taken in study.models.iter().flat_map(|model| &model.memory) {
        let way = way(&taken.probe);
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let mut table = header(&ways);
    for model in &study.models {
        let of = |wanted: &String| {
            let mut longest: Option<&super::memory::Taken> = None;
            for taken in model.memory.iter().filter(|taken| way(&taken.probe) == *wanted) {
                if longest.is_none_or(|longest| taken.probe.steps > longest.probe.steps) {
                    longest = Some(taken);
                }
            }
            let taken = longest?;
            let compared = law.memory.iter().find(|compared| {
                of_model(model, &compared.size, compared.ranks) && compared.probe == taken.probe.name()
            })?;
            let megabytes = short(compared.measured? / 1e6);
            Some(format!("m = {}: {megabytes} MB {}", taken.probe.steps, off(compared.residual?)))
        };
        table += &cells(model, ways.iter().map(|way| of(way).unwrap_or_else(|| "–".into())).collect());
    }
    table
}

fn largest(study: &Study) -> String {
    let mut table = String::from(
        "| model | parameters | ranks | probe | gradients | a probe | of it gradients | a rank's peak: a gradient | with the probe |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for model in study.models.iter().filter(|model| model.size.name == LARGEST) {
        for probed in &model.probes {
            let told = &probed.plain.told;
            let taken = model.memory.iter().find(|taken| taken.probe == probed.probe);
            let peak = |bytes: Option<u64>| bytes.map_or_else(|| "–".into(), |bytes| gigabytes(bytes as f64));
            table += &row(&[
                model.size.name.clone(),
                model.sizes.parameters.to_string(),
                model.ranks.to_string(),
                probed.probe.name(),
                told.gradients.to_string(),
                seconds(told.seconds),
                percent(told.parts.gradients / told.seconds),
                peak(taken.and_then(|taken| taken.gradient_peak)),
                peak(taken.and_then(|taken| taken.probe_peak)),
            ]);
        }
    }
    table
}

fn header(columns: &[String]) -> String {
    format!("| model | ranks | {} |\n|---|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

fn cells(model: &Measured, cells: Vec<String>) -> String {
    let mut all = vec![model.size.name.clone(), model.ranks.to_string()];
    all.extend(cells);
    row(&all)
}

fn of_model(model: &Measured, size: &str, ranks: u64) -> bool {
    model.size.name == size && model.ranks == ranks
}

fn off(residual: f64) -> String {
    format!("({:+.1} %)", 100.0 * residual)
}

fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{} ms", short(1e3 * value)) } else { format!("{} s", short(value)) }
}

fn gigabytes(value: f64) -> String {
    format!("{} GB", short(value / 1e9))
}
