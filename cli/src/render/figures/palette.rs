//! The colours of a heat map, on light and on dark paper, and cells as an image.

use crate::image;

/// From next to none, which is the paper, to the most; distinguishable also without red and green.
const LIGHT: [[u8; 3]; 6] =
    [[255, 250, 235], [254, 217, 118], [247, 146, 62], [212, 70, 76], [124, 30, 108], [30, 12, 64]];
const DARK: [[u8; 3]; 6] =
    [[28, 22, 58], [92, 24, 110], [174, 48, 96], [236, 104, 60], [250, 180, 62], [252, 250, 190]];

/// Which paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paper {
    Light,
    Dark,
}

impl Paper {
    fn stops(self) -> [[u8; 3]; 6] {
        match self {
            Self::Light => LIGHT,
            Self::Dark => DARK,
        }
    }

    /// The colour of a level above 0, up to 1.
    pub fn color(self, level: f64) -> [u8; 3] {
        let stops = self.stops();
        let place = level.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let stop = (place as usize).min(stops.len() - 2);
        let share = place - stop as f64;
        std::array::from_fn(|channel| {
            let [low, high] = [stops[stop], stops[stop + 1]].map(|color| f64::from(color[channel]));
            (low + share * (high - low)).round() as u8
        })
    }

    /// Levels from 0 to 1, row by row, as a PNG through which the paper is seen where there is nothing.
    pub fn png(self, levels: &[f64], size: (u32, u32)) -> Result<Vec<u8>, ::png::EncodingError> {
        let index = |level: &f64| if *level > 0.0 { 1 + (level * 254.0).round().min(254.0) as u8 } else { 0 };
        let pixels: Vec<u8> = levels.iter().map(index).collect();
        let colors = (0..255).map(|index| self.color(f64::from(index) / 254.0));
        let palette: Vec<u8> = std::iter::once([0; 3]).chain(colors).flatten().collect();
        image::indexed(&pixels, size, palette, vec![0])
    }
}
