//! Writes GGUF files, from the format's specification.

/// A value of the metadata.
#[derive(Clone, Debug)]
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(&'static str),
    Strings(&'static [&'static str]),
    I32s(&'static [i32]),
}

/// A tensor: name, sizes slowest first, the number of its type, its bytes.
pub type Tensor = (String, Vec<usize>, u32, Vec<u8>);

const ALIGNMENT: usize = 32;

/// A file of version 3.
#[must_use]
pub fn write(metadata: &[(&str, Value)], tensors: &[Tensor]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        string(&mut file, key);
        value.write(&mut file);
    }
    let mut offset = 0;
    for (name, shape, kind, bytes) in tensors {
        string(&mut file, name);
        file.extend((shape.len() as u32).to_le_bytes());
        for &size in shape.iter().rev() {
            file.extend((size as u64).to_le_bytes());
        }
        file.extend(kind.to_le_bytes());
        file.extend((offset as u64).to_le_bytes());
        offset = (offset + bytes.len()).next_multiple_of(ALIGNMENT);
    }
    for (_, _, _, bytes) in tensors {
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(bytes);
    }
    file
}

fn string(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

impl Value {
    fn write(&self, file: &mut Vec<u8>) {
        let mut kind = |number: u32| file.extend(number.to_le_bytes());
        match self {
            Self::U32(value) => {
                kind(4);
                file.extend(value.to_le_bytes());
            }
            Self::F32(value) => {
                kind(6);
                file.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                kind(7);
                file.push((*value).into());
            }
            Self::String(value) => {
                kind(8);
                string(file, value);
            }
            Self::Strings(values) => {
                kind(9);
                kind(8);
                file.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| string(file, value));
            }
            Self::I32s(values) => {
                kind(9);
                kind(5);
                file.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| file.extend(value.to_le_bytes()));
            }
        }
    }
}
