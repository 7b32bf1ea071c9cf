//! Numbers as people read them.

use hessian_probe::spectrum::{Estimate, Extreme};
use std::fmt::{self, Display};

/// Unknown, or not asked for.
pub const NONE: &str = "–";

/// Six digits, without an exponent where that is readable.
pub struct Number(pub f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rounded(self.0, 6))
    }
}

/// Three digits, for tables and errors.
pub struct Short(pub f64);

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rounded(self.0, 3))
    }
}

fn rounded(value: f64, digits: i32) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if (1e-3..1e6).contains(&size) {
        fixed(value, digits)
    } else {
        let decimals = digits as usize - 1;
        format!("{value:.decimals$e}")
    }
}

/// So many digits at least, without an exponent, of a number that is not 0.
fn fixed(value: f64, digits: i32) -> String {
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// Without zeros behind a point.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Three digits, and no zeros behind a point.
pub fn digits(value: f64) -> String {
    let shown = rounded(value, 3);
    // With an exponent they tell how precise it is.
    if shown.contains('e') { shown } else { trimmed(&shown).to_owned() }
}

/// A round number, as it stands at an axis: of what rounding left of one nothing is seen.
pub fn tick(value: f64) -> String {
    let size = value.abs();
    if size < 1e-300 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        trimmed(&fixed(value, 4)).to_owned()
    } else {
        let shown = format!("{value:.2e}");
        let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
        format!("{}e{exponent}", trimmed(mantissa))
    }
}

pub fn extreme(value: Extreme) -> String {
    format!("{} ± {}", Number(value.value), Number(value.residual))
}

/// With its standard error.
pub fn estimate(value: Estimate) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", Number(value.mean), Number(error)),
        None => format!("{} (one probe vector: no error is known)", Number(value.mean)),
    }
}

/// With its standard error, where there is one, in fewer digits.
pub fn short(value: Estimate) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", Short(value.mean), Short(error)),
        None => Short(value.mean).to_string(),
    }
}

/// The same, where there is something.
pub fn optional(value: Option<Estimate>) -> String {
    value.map_or_else(|| NONE.into(), short)
}

/// In per cent.
pub fn percent(share: f64) -> String {
    format!("{} %", digits(100.0 * share))
}

/// 7 B, 131 k.
pub fn count(value: u64) -> String {
    match fitting(value as f64, &[(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")]) {
        Some((size, unit)) => format!("{} {unit}", digits(size)),
        None => value.to_string(),
    }
}

/// Bytes that were counted, in units of 10⁹, 10⁶ or 10³.
pub fn bytes(count: u64) -> String {
    match fitting(count as f64, &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]) {
        Some((size, unit)) => format!("{} {unit}", Short(size)),
        None => format!("{count} bytes"),
    }
}

/// Bytes that are foretold, or a second: up to any size.
pub fn volume(bytes: f64) -> String {
    let units = [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let (size, unit) = fitting(bytes, &units).unwrap_or((bytes, "B"));
    format!("{} {unit}", digits(size))
}

/// With the unit that fits.
pub fn seconds(value: f64) -> String {
    let units = [(86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")];
    let (time, unit) = fitting(value, &units).unwrap_or((value / 1e-6, "µs"));
    format!("{} {unit}", digits(time))
}

/// In the first of descending units of which there is one at least.
fn fitting<'a>(value: f64, units: &[(f64, &'a str)]) -> Option<(f64, &'a str)> {
    let found = units.iter().find(|(unit, _)| value >= *unit);
    found.map(|(unit, name)| (value / unit, *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits_or_three() {
        for (number, six, three) in [
            (0.0, "0", "0"),
            (-114.789_12, "-114.789", "-115"),
            (0.012_345_678, "0.0123457", "0.0123"),
            (123_456.7, "123457", "123457"),
            (3.0e-7, "3.00000e-7", "3.00e-7"),
            (-2.5e6, "-2.50000e6", "-2.50e6"),
        ] {
            assert_eq!(Number(number).to_string(), six);
            assert_eq!(Short(number).to_string(), three);
        }
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (count, shown) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_500, "1.50 kB"),
            (48_700_000, "48.7 MB"),
            (6_560_000_000, "6.56 GB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        for (value, shown) in [(7_000_000_000, "7 B"), (134_515_008, "135 M"), (5968, "5.97 k"), (12, "12")] {
            assert_eq!(count(value), shown);
        }
        for (value, shown) in [(0.0, "0 B"), (1.5e9, "1.5 GB"), (42e9, "42 GB"), (999.0, "999 B")] {
            assert_eq!(volume(value), shown);
        }
        for (value, shown) in
            [(0.5, "500 ms"), (90.0, "1.5 min"), (7200.0, "2 h"), (3e-7, "0.3 µs"), (0.0, "0 µs")]
        {
            assert_eq!(seconds(value), shown);
        }
        assert_eq!((percent(0.0123), digits(1e9)), ("1.23 %".into(), "1.00e9".into()));
    }

    #[test]
    fn round_numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.6000000000000001, "0.6"),
            (-200.0, "-200"),
            (20_000.0, "20000"),
            (1e-7, "1e-7"),
            (-5.0e6, "-5e6"),
            (0.001, "0.001"),
            (1234.0, "1234"),
        ] {
            assert_eq!(tick(value), shown);
        }
    }
}
