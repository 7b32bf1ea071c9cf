//! Numbers as people read them.

use hessian_probe::spectrum::{Estimate, Extreme};
use std::fmt::{self, Display};

/// Six digits, without an exponent where that is readable.
pub(crate) struct Number(pub(crate) f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(f, self.0, 6)
    }
}

/// Three digits, for tables and errors.
pub(crate) struct Short(pub(crate) f64);

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(f, self.0, 3)
    }
}

fn digits(f: &mut fmt::Formatter<'_>, value: f64, digits: i32) -> fmt::Result {
    let size = value.abs();
    if size == 0.0 {
        f.write_str("0")
    } else if (1e-3..1e6).contains(&size) {
        let decimals = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
        write!(f, "{value:.decimals$}")
    } else {
        let decimals = digits as usize - 1;
        write!(f, "{value:.decimals$e}")
    }
}

pub(crate) fn extreme(value: Extreme) -> String {
    format!("{} ± {}", Number(value.value), Number(value.residual))
}

/// With its standard error.
pub(crate) fn estimate(value: Estimate) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", Number(value.mean), Number(error)),
        None => format!("{} (one probe vector: no error is known)", Number(value.mean)),
    }
}

/// With its standard error, where there is one, in fewer digits.
pub(crate) fn short(value: Estimate) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", Short(value.mean), Short(error)),
        None => Short(value.mean).to_string(),
    }
}

/// In units of 10⁹, 10⁶ or 10³ bytes.
pub(crate) fn bytes(count: u64) -> String {
    let size = count as f64;
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) => format!("{} {name}", Short(size / unit)),
        None => format!("{count} bytes"),
    }
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
}
