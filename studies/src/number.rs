//! Numbers in tables.

use hessian_probe::spectrum::{Estimate, Extreme};

/// Three significant digits.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// With the standard error, if there is one.
pub fn estimate(value: &Estimate) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", short(value.mean), short(error)),
        None => short(value.mean),
    }
}

/// A dash where there is none.
pub fn optional(value: Option<&Estimate>) -> String {
    value.map_or_else(|| "–".into(), estimate)
}

/// With its residual.
pub fn extreme(value: &Extreme) -> String {
    extreme_of(value.value, value.residual)
}

/// The same of numbers.
pub fn extreme_of(value: f64, residual: f64) -> String {
    format!("{} ± {}", short(value), short(residual))
}

/// In per cent.
pub fn percent(share: f64) -> String {
    format!("{} %", short(100.0 * share))
}

/// The row of a table.
pub fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        for (value, shown) in
            [(0.0, "0"), (439.45, "439"), (-0.056_12, "-0.0561"), (3.174e-5, "3.17e-5"), (1234.5, "1234")]
        {
            assert_eq!(short(value), shown);
        }
        assert_eq!(estimate(&Estimate { mean: 0.5, standard_error: Some(0.0123) }), "0.500 ± 0.0123");
        assert_eq!(percent(0.2468), "24.7 %");
    }
}
