//! Pixels of few colours, and their PNG.

use super::glyphs;
use std::io;

/// An encoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::log::tensorboard) struct Png {
    pub(in crate::log::tensorboard) width: u32,
    pub(in crate::log::tensorboard) height: u32,
    pub(in crate::log::tensorboard) bytes: Vec<u8>,
}

/// An entry of the palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Color(u8);

pub(super) const PAPER: Color = Color(0);
pub(super) const INK: Color = Color(1);
pub(super) const GRID: Color = Color(2);
pub(super) const CURVE: Color = Color(3);
pub(super) const BAND: Color = Color(4);
pub(super) const ZONE: Color = Color(5);
pub(super) const FLOOR: Color = Color(6);
const NAMED: [[u8; 3]; 7] = [
    [255, 255, 255],
    [70, 70, 70],
    [225, 225, 225],
    [0, 114, 178],
    [170, 206, 230],
    [238, 238, 232],
    [120, 120, 120],
];
/// What remains of 256 colours.
const HEAT: usize = 256 - NAMED.len();
/// From nothing to the most: ascending darkness, distinguishable also without red and green.
const STOPS: [[u8; 3]; 6] =
    [[255, 255, 255], [254, 227, 145], [247, 152, 62], [214, 72, 75], [126, 30, 108], [28, 12, 62]];
/// Pixels for each dot of a glyph.
const DOT: usize = 2;

impl Color {
    /// The colour of a level from 0 to 1.
    pub(super) fn heat(level: f64) -> Self {
        let index = (level.clamp(0.0, 1.0) * (HEAT - 1) as f64).round() as usize;
        Self((NAMED.len() + index) as u8)
    }
}

/// An image under construction; what is drawn beside it is not seen.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![PAPER.0; width * height] }
    }

    pub(super) fn set(&mut self, x: i64, y: i64, color: Color) {
        let inside = |value: i64, limit: usize| usize::try_from(value).ok().filter(|value| *value < limit);
        if let (Some(x), Some(y)) = (inside(x, self.width), inside(y, self.height)) {
            self.pixels[y * self.width + x] = color.0;
        }
    }

    /// All pixels from one corner to the other, both included, in whichever order.
    pub(super) fn fill(&mut self, (x0, y0): (i64, i64), (x1, y1): (i64, i64), color: Color) {
        let within = |a: i64, b: i64, limit: usize| (a.min(b).max(0), a.max(b).min(limit as i64 - 1));
        let (x, y) = (within(x0, x1, self.width), within(y0, y1, self.height));
        for row in y.0..=y.1 {
            (x.0..=x.1).for_each(|column| self.set(column, row, color));
        }
    }

    /// A number, its middle at x and its top at y.
    pub(super) fn text(&mut self, (x, y): (i64, i64), text: &str, color: Color) {
        let advance = ((glyphs::WIDTH + 1) * DOT) as i64;
        let mut left = x - (text.chars().count() as i64 * advance - DOT as i64) / 2;
        let dot = DOT as i64;
        for character in text.chars() {
            for (row, bits) in glyphs::rows(character).into_iter().enumerate() {
                for column in
                    (0..glyphs::WIDTH).filter(|column| bits >> (glyphs::WIDTH - 1 - column) & 1 == 1)
                {
                    let corner = (left + dot * column as i64, y + dot * row as i64);
                    self.fill(corner, (corner.0 + dot - 1, corner.1 + dot - 1), color);
                }
            }
            left += advance;
        }
    }

    /// The height of a text.
    pub(super) const TEXT: i64 = (glyphs::HEIGHT * DOT) as i64;
    /// The width of a text of so many characters.
    pub(super) const fn text_width(characters: usize) -> i64 {
        ((glyphs::WIDTH + 1) * DOT * characters) as i64
    }

    pub(super) fn png(&self) -> io::Result<Png> {
        let size = |value: usize| u32::try_from(value).map_err(io::Error::other);
        let (width, height) = (size(self.width)?, size(self.height)?);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(palette());
        // Differences of indices mean nothing: filters make such an image larger.
        encoder.set_filter(png::FilterType::NoFilter);
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer.write_image_data(&self.pixels).map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)?;
        Ok(Png { width, height, bytes })
    }
}

fn palette() -> Vec<u8> {
    let heat = (0..HEAT).map(|index| {
        let place = index as f64 / (HEAT - 1) as f64 * (STOPS.len() - 1) as f64;
        let stop = (place as usize).min(STOPS.len() - 2);
        let share = place - stop as f64;
        let mix = |channel: usize| {
            let [low, high] = [STOPS[stop], STOPS[stop + 1]].map(|color| f64::from(color[channel]));
            (low + share * (high - low)).round() as u8
        };
        [mix(0), mix(1), mix(2)]
    });
    NAMED.into_iter().chain(heat).flatten().collect()
}

#[cfg(test)]
impl Canvas {
    /// How many pixels have a colour.
    pub(super) fn count(&self, color: Color) -> usize {
        self.pixels.iter().filter(|pixel| **pixel == color.0).count()
    }

    pub(super) fn color(&self, x: usize, y: usize) -> Color {
        Color(self.pixels[y * self.width + x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_reads_back_with_the_colours_that_were_drawn() {
        let mut canvas = Canvas::new(20, 10);
        canvas.fill((3, 2), (5, 4), CURVE);
        canvas.fill((-5, 8), (100, 400), Color::heat(1.0));
        canvas.set(-1, 5, INK);
        canvas.set(19, 0, Color::heat(0.0));
        let png = canvas.png().unwrap();
        assert_eq!((png.width, png.height), (20, 10));
        let mut decoder = png::Decoder::new(&png.bytes[..]);
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (20, 10, png::ColorType::Rgb));
        let at = |x: usize, y: usize| &pixels[3 * (20 * y + x)..][..3];
        assert_eq!(at(0, 0), [255, 255, 255]);
        assert_eq!((at(3, 2), at(5, 4), at(6, 4)), (&[0, 114, 178][..], &[0, 114, 178][..], &[255; 3][..]));
        assert_eq!((at(0, 8), at(19, 9)), (&STOPS[5][..], &STOPS[5][..]));
        assert_eq!(at(0, 5), [255, 255, 255], "what is beside the image is nowhere else in it");
    }

    #[test]
    fn a_text_stands_around_its_middle() {
        let mut canvas = Canvas::new(41, 20);
        canvas.text((20, 3), "808", INK);
        let columns: Vec<usize> = (0..41).filter(|&x| (0..20).any(|y| canvas.color(x, y) == INK)).collect();
        let (first, last) = (columns[0], columns[columns.len() - 1]);
        assert!((first as i64 + last as i64 - 40).abs() <= 1, "{first} to {last}");
        let rows: Vec<usize> = (0..20).filter(|&y| (0..41).any(|x| canvas.color(x, y) == INK)).collect();
        assert_eq!((rows[0], rows.len() as i64), (3, Canvas::TEXT));
    }
}
