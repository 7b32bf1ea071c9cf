//! The beginning of a safetensors file: eight bytes of length, then JSON with every tensor's place.

use safetensors::Dtype;
use safetensors::tensor::{Metadata, SafeTensorError, TensorInfo};
use std::collections::HashMap;

/// What a file holds, one tensor behind the other.
#[derive(Debug)]
pub(super) struct Header {
    tensors: Vec<(String, TensorInfo)>,
    end: usize,
}

impl Header {
    pub(super) fn new() -> Self {
        Self { tensors: Vec::new(), end: 0 }
    }

    /// Appends a tensor; returns the first byte of its data, counted from the end of the header.
    pub(super) fn push(&mut self, name: String, dtype: Dtype, shape: Vec<usize>) -> usize {
        let start = self.end;
        self.end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        self.tensors.push((name, TensorInfo { dtype, shape, data_offsets: (start, self.end) }));
        start
    }

    /// The number of bytes of all tensors.
    pub(super) fn data_bytes(&self) -> usize {
        self.end
    }

    /// The header's bytes, a multiple of eight so that data is aligned.
    pub(super) fn encode(self) -> Result<Vec<u8>, SafeTensorError> {
        // One key: a map of several would be written in another order each time.
        let kind = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut json = serde_json::to_vec(&Metadata::new(Some(kind), self.tensors)?)?;
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut json);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn the_safetensors_crate_reads_what_the_header_says() {
        let mut header = Header::new();
        assert_eq!(header.push("w".into(), Dtype::F32, vec![2, 3]), 0);
        assert_eq!(header.push("a longer name".into(), Dtype::F64, vec![1]), 24);
        assert_eq!(header.push("bytes".into(), Dtype::U8, vec![5]), 32);
        assert_eq!(header.data_bytes(), 37);
        let mut bytes = header.encode().unwrap();
        assert!(bytes.len().is_multiple_of(8));
        bytes.extend(0..37);
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("bytes").unwrap().data(), [32, 33, 34, 35, 36]);
        assert_eq!(read.tensor("w").unwrap().shape(), [2, 3]);
    }
}
