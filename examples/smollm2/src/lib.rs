//! What SmolLM2 needs beside the model itself.

pub mod tokenizer;
