//! How the elements of a tensor are stored.

/// A type that can be read. `d`, `m`: scales in f16; `q`: small integers; a block is some consecutive elements of a
/// row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// 32 bits.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// Blocks of 32: `d·q`, `q` of 8 bits.
    Q8_0,
    /// Blocks of 32: `d·(q − 8)`, `q` of 4 bits.
    Q4_0,
    /// Blocks of 32: `d·q + m`, `q` of 4 bits.
    Q4_1,
    /// Blocks of 256 in 8 of 32: `(d·s)·q − (m·t)`, `q` of 4 bits, `s` and `t` of 6 bits for each of the 8.
    Q4K,
    /// Blocks of 256 in 16 of 16: `(d·s)·(q − 32)`, `q` of 6 bits, `s` of 8 bits for each of the 16.
    Q6K,
}

impl TensorType {
    /// The types by their numbers in a file.
    const NUMBERS: [(u32, Self); 8] = [
        (0, Self::F32),
        (1, Self::F16),
        (2, Self::Q4_0),
        (3, Self::Q4_1),
        (8, Self::Q8_0),
        (12, Self::Q4K),
        (14, Self::Q6K),
        (30, Self::Bf16),
    ];

    /// The type with this number, if it can be read.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        if let Some((_, found)) = Self::NUMBERS.iter().find(|(known, _)| *known == number) {
            return Ok(*found);
        }
        // Those that people meet; the list is the format's.
        let name = match number {
            6 => "Q5_0",
            7 => "Q5_1",
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            13 => "Q5_K",
            15 => "Q8_K",
            16..=23 | 29 => "an IQ type",
            34 | 35 => "a TQ type",
            39 => "MXFP4",
            _ => "unknown",
        };
        let known: Vec<_> = Self::NUMBERS.iter().map(|(_, known)| known.name()).collect();
        Err(format!("is of type {number} ({name}); {} can be read", known.join(", ")))
    }

    /// The format's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The number of elements of a block, which divides the length of a row.
    #[must_use]
    pub fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// The number of bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }
}
