//! Hugging Face's names of weights in terms of GGUF's.

/// The name in a GGUF file of the weight that Hugging Face calls `name`.
pub(super) fn gguf_name(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.into());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let module = match module {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{kind}"))
}

/// The order of a weight's rows in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// As they are used.
    Plain,
    /// Of each head of so many rows, those that are turned together are neighbours.
    Neighbours { head_size: usize },
}

impl RowOrder {
    /// Where row number `row` lies in the file.
    pub(super) fn place(self, row: usize) -> usize {
        match self {
            Self::Plain => row,
            Self::Neighbours { head_size } => {
                let (head, within, half) = (row / head_size, row % head_size, head_size / 2);
                head * head_size + 2 * (within % half) + within / half
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_turned_together_are_brought_apart() {
        let order = RowOrder::Neighbours { head_size: 6 };
        let places: Vec<_> = (0..12).map(|row| order.place(row)).collect();
        assert_eq!(places, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
