//! GGUF files by hand.

/// Pairs and tensors as bytes.
#[derive(Clone, Default)]
pub struct Handmade {
    pub pairs: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    /// Bytes of data, all zero.
    pub data: usize,
}

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Handmade {
    /// Adds a key with a value of a type by its number.
    pub fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.push([&string(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    /// Adds a tensor; its shape is the file's, fastest first.
    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let sizes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
        let dimensions = (shape.len() as u32).to_le_bytes();
        self.tensors.push(
            [&string(name)[..], &dimensions, &sizes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat(),
        );
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.pairs.len() as u64).to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }
}
