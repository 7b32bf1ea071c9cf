//! PNG files.

use png::{BitDepth, ColorType, Encoder, EncodingError, FilterType};

/// Of 8-bit RGB pixels.
pub fn rgb(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Of indices into a palette of RGB entries, the first of which have these opacities.
pub fn indexed(
    pixels: &[u8],
    (width, height): (u32, u32),
    palette: Vec<u8>,
    opacities: Vec<u8>,
) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(palette);
    // Differences of indices mean nothing: filters make such an image larger.
    encoder.set_filter(FilterType::NoFilter);
    encoder.set_trns(opacities);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
