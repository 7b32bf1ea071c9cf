//! Digits, and what else a number is written with, in 3 × 5 dots.

/// Columns and rows of a glyph.
pub(super) const WIDTH: usize = 3;
pub(super) const HEIGHT: usize = 5;

/// The dots of a character, row by row from the top, three bits each with the left one first; nothing for characters that no
/// number has.
pub(super) fn rows(character: char) -> [u8; HEIGHT] {
    match character {
        '0' => [0b111, 0b101, 0b101, 0b101, 0b111],
        '1' => [0b010, 0b110, 0b010, 0b010, 0b111],
        '2' => [0b111, 0b001, 0b111, 0b100, 0b111],
        '3' => [0b111, 0b001, 0b111, 0b001, 0b111],
        '4' => [0b101, 0b101, 0b111, 0b001, 0b001],
        '5' => [0b111, 0b100, 0b111, 0b001, 0b111],
        '6' => [0b111, 0b100, 0b111, 0b101, 0b111],
        '7' => [0b111, 0b001, 0b010, 0b010, 0b010],
        '8' => [0b111, 0b101, 0b111, 0b101, 0b111],
        '9' => [0b111, 0b101, 0b111, 0b001, 0b111],
        'e' => [0b000, 0b111, 0b111, 0b100, 0b111],
        '-' => [0b000, 0b000, 0b111, 0b000, 0b000],
        '.' => [0b000, 0b000, 0b000, 0b000, 0b010],
        _ => [0; HEIGHT],
    }
}

/// A number as it is written at a tick.
pub(super) fn tick(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if (0.1..10_000.0).contains(&size) {
        // Three digits at most: ticks are round numbers.
        let rounded = (value * 1000.0).round() / 1000.0;
        rounded.to_string()
    } else {
        format!("{value:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_a_tick_has_a_glyph_of_its_own() {
        let values = [0.0, 1.0, -2.0, 0.5, 3e-7, -4e6, 6789.0, 0.6000000000000001];
        let text: String = values.map(tick).concat();
        assert_eq!(values.map(tick)[7], "0.6");
        let mut seen = Vec::new();
        for character in text.chars() {
            assert_ne!(rows(character), [0; HEIGHT], "{character}");
            if !seen.contains(&character) {
                assert!(seen.iter().all(|other| rows(*other) != rows(character)), "{character}");
                seen.push(character);
            }
        }
        assert_eq!(seen.len(), 13, "{seen:?}");
    }
}
