//! Numbers as people read them: three digits and a unit.

/// 7 B, 131 k.
pub fn count(value: u64) -> String {
    let size = value as f64;
    match [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")].into_iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) => format!("{} {name}", digits(size / unit)),
        None => value.to_string(),
    }
}

/// In units of 10⁹, 10⁶ or 10³ bytes.
pub fn bytes(value: f64) -> String {
    let units = [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")];
    let (unit, name) = units.into_iter().find(|(unit, _)| value >= *unit).unwrap_or((1.0, "B"));
    format!("{} {name}", digits(value / unit))
}

/// With the unit that fits.
pub fn seconds(value: f64) -> String {
    let units = [(86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
    let (unit, name) = units.into_iter().find(|(unit, _)| value >= *unit).unwrap_or((1e-6, "µs"));
    format!("{} {name}", digits(value / unit))
}

/// Three of them, and no zeros behind a point.
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let decimals = (2 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// In per cent.
pub fn percent(share: f64) -> String {
    format!("{} %", digits(100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        for (value, shown) in [(7_000_000_000, "7 B"), (134_515_008, "135 M"), (5968, "5.97 k"), (12, "12")] {
            assert_eq!(count(value), shown);
        }
        for (value, shown) in [(0.0, "0 B"), (1.5e9, "1.5 GB"), (42e9, "42 GB"), (999.0, "999 B")] {
            assert_eq!(bytes(value), shown);
        }
        for (value, shown) in
            [(0.5, "500 ms"), (90.0, "1.5 min"), (7200.0, "2 h"), (3e-7, "0.3 µs"), (0.0, "0 µs")]
        {
            assert_eq!(seconds(value), shown);
        }
        assert_eq!((percent(0.0123), digits(1e9)), ("1.23 %".into(), "1.00e9".into()));
    }
}
