//! Colours and sizes. On the page a colour is a variable, so that the same figure is light or dark: each has a value that
//! no other has, and [`themed`] puts the variable in its place.

use plotters::style::RGBColor;

pub const PAPER: RGBColor = RGBColor(255, 255, 255);
pub const INK: RGBColor = RGBColor(51, 51, 51);
pub const EDGE: RGBColor = RGBColor(136, 136, 136);
pub const GRID: RGBColor = RGBColor(226, 226, 226);
pub const ZONE: RGBColor = RGBColor(238, 236, 228);
pub const BAND: RGBColor = RGBColor(168, 206, 232);
pub const CURVE: RGBColor = RGBColor(0, 114, 179);
pub const FLOOR: RGBColor = RGBColor(112, 112, 112);
/// Okabe and Ito's: they can be told apart by everyone.
pub const SERIES: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
/// Where cells of a heat map, and its colour bar, belong.
pub const CELLS: RGBColor = RGBColor(254, 0, 1);
pub const BAR: RGBColor = RGBColor(254, 0, 2);

const VARIABLES: [(RGBColor, &str); 12] = [
    (PAPER, "--paper"),
    (INK, "--ink"),
    (EDGE, "--edge"),
    (GRID, "--grid"),
    (ZONE, "--zone"),
    (BAND, "--band"),
    (CURVE, "--curve"),
    (FLOOR, "--floor"),
    (SERIES[0], "--series-0"),
    (SERIES[1], "--series-1"),
    (SERIES[2], "--series-2"),
    (SERIES[3], "--series-3"),
];

/// As the SVG backend writes a colour.
pub fn hex(color: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
}

/// An SVG with the page's variables for colours.
pub fn themed(svg: &str) -> String {
    VARIABLES.iter().fold(svg.to_owned(), |svg, (color, variable)| {
        svg.replace(&format!("\"{}\"", hex(*color)), &format!("\"var({variable})\""))
    })
}

/// Size and room of a figure, in units of which two make a pixel of the page: coordinates are whole numbers.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub size: (u32, u32),
    pub font: u32,
    /// For numbers on the left, and below.
    pub left: u32,
    pub below: u32,
    /// Numbers at an axis at most, to the right and upwards.
    pub ticks: (usize, usize),
    /// A file has its title in itself, and paper below it.
    pub file: bool,
    /// Pixels are drawn rather than shapes.
    pub bitmap: bool,
}

impl Format {
    pub const WIDE: Self = Self {
        size: (1840, 760),
        font: 26,
        left: 150,
        below: 92,
        ticks: (11, 9),
        file: false,
        bitmap: false,
    };
    /// For a phone.
    pub const NARROW: Self = Self { size: (720, 640), left: 124, below: 88, ticks: (5, 7), ..Self::WIDE };
    pub const FILE: Self = Self { size: (1840, 880), file: true, ..Self::WIDE };
}
