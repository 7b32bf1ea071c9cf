//! Blocks of quantized elements to f32, in the order of operations of ggml's own reference.

use super::tensor_type::TensorType;
use half::{bf16, f16};

impl TensorType {
    /// Appends the elements of the blocks in `bytes`; a block that is cut off is left out.
    pub fn dequantize(self, bytes: &[u8], elements: &mut Vec<f32>) {
        match self {
            Self::F32 => each(bytes, |block: &[u8; 4]| elements.push(f32::from_le_bytes(*block))),
            Self::F16 => each(bytes, |block: &[u8; 2]| elements.push(f16::from_le_bytes(*block).to_f32())),
            Self::Bf16 => each(bytes, |block: &[u8; 2]| elements.push(bf16::from_le_bytes(*block).to_f32())),
            Self::Q8_0 => each(bytes, |block| q8_0(block, elements)),
            Self::Q4_0 => each(bytes, |block| q4_0(block, elements)),
            Self::Q4_1 => each(bytes, |block| q4_1(block, elements)),
            Self::Q4K => each(bytes, |block| q4_k(block, elements)),
            Self::Q6K => each(bytes, |block| q6_k(block, elements)),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], block: impl FnMut(&[u8; N])) {
    bytes.as_chunks().0.iter().for_each(block);
}

fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// `d`, 32 × i8.
fn q8_0(block: &[u8; 34], elements: &mut Vec<f32>) {
    let [d0, d1, quants @ ..] = block;
    let d = half([*d0, *d1]);
    elements.extend(quants.iter().map(|&quant| d * f32::from(quant.cast_signed())));
}

/// `d`, 16 bytes: low halves are elements 0 to 15, high halves 16 to 31.
fn q4_0(block: &[u8; 18], elements: &mut Vec<f32>) {
    let [d0, d1, quants @ ..] = block;
    let d = half([*d0, *d1]);
    let value = |quant: u8| d * (f32::from(quant) - 8.0);
    elements.extend(quants.iter().map(|quant| value(quant & 15)));
    elements.extend(quants.iter().map(|quant| value(quant >> 4)));
}

/// `d`, `m`, 16 bytes as in [`q4_0`].
fn q4_1(block: &[u8; 20], elements: &mut Vec<f32>) {
    let [d0, d1, m0, m1, quants @ ..] = block;
    let (d, m) = (half([*d0, *d1]), half([*m0, *m1]));
    let value = |quant: u8| d * f32::from(quant) + m;
    elements.extend(quants.iter().map(|quant| value(quant & 15)));
    elements.extend(quants.iter().map(|quant| value(quant >> 4)));
}

/// `d`, `m`, 12 bytes with eight `s` and eight `t` of 6 bits, 128 bytes: of each 32, low halves are one of the eight
/// and high halves the next.
fn q4_k(block: &[u8; 144], elements: &mut Vec<f32>) {
    let [d0, d1, m0, m1, rest @ ..] = block;
    let (d, m) = (half([*d0, *d1]), half([*m0, *m1]));
    let (scales, quants) = rest.split_at(12);
    // Bytes 0–3 hold s₀…s₃ in their lower six bits, 4–7 t₀…t₃, 8–11 the lower four bits of s₄…s₇ and of t₄…t₇; the
    // upper two bits of those are the upper two of the first eight bytes.
    let scale = |j: usize| match j {
        0..4 => (scales[j] & 63, scales[j + 4] & 63),
        _ => (scales[j + 4] & 15 | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4),
    };
    for (pair, quants) in quants.as_chunks::<32>().0.iter().enumerate() {
        for (j, shift) in [(2 * pair, 0), (2 * pair + 1, 4)] {
            let (s, t) = scale(j);
            let (d, m) = (d * f32::from(s), m * f32::from(t));
            elements.extend(quants.iter().map(|quant| d * f32::from(quant >> shift & 15) - m));
        }
    }
}

/// 128 bytes with the lower four bits of `q`, 64 with the upper two, 16 × i8 `s`, `d`; each half of the block in 4 of 32.
fn q6_k(block: &[u8; 210], elements: &mut Vec<f32>) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = half([d[0], d[1]]);
    for half in 0..2 {
        let (low, high, scales) = (&low[64 * half..], &high[32 * half..], &scales[8 * half..]);
        for quarter in 0..4 {
            let low = &low[32 * (quarter % 2)..];
            for l in 0..32 {
                let quant = low[l] >> (4 * (quarter / 2)) & 15 | (high[l] >> (2 * quarter) & 3) << 4;
                let scale = d * f32::from(scales[2 * quarter + l / 16].cast_signed());
                elements.push(scale * (f32::from(quant) - 32.0));
            }
        }
    }
}
