//! What names of parameters say.

/// The kind of a parameter by its name, as Hugging Face and others spell it. A name is taken apart at its dots;
/// the first row with a part that fits decides:
///
/// | kind | a part of the name contains | or is |
/// |---|---|---|
/// | `norms` | `norm` | `ln`, `ln_1`, `ln_2`, `ln_f` |
/// | `embedding` | `embed`, `lm_head` | `wte`, `wpe`, `head` |
/// | `attention` | `attn`, `attention` | `q_proj`, `k_proj`, `v_proj`, `o_proj`, `q`, `k`, `v`, `o`, `qkv` |
/// | `mlp` | `mlp`, `ffn`, `feed_forward`, `expert` | `gate_proj`, `up_proj`, `down_proj`, `gate`, `up`, `down`, `fc1`, `fc2` |
/// | `other` | anything else | |
///
/// ```
/// use hessian_probe::blocks::partition::kind;
/// assert_eq!(kind("model.layers.0.self_attn.q_proj.weight"), "attention");
/// assert_eq!(kind("model.layers.0.post_attention_layernorm.weight"), "norms");
/// assert_eq!(kind("lm_head.weight"), "embedding");
/// ```
#[must_use]
pub fn kind(name: &str) -> &'static str {
    const KINDS: [(&str, &[&str], &[&str]); 4] = [
        ("norms", &["norm"], &["ln", "ln_1", "ln_2", "ln_f"]),
        ("embedding", &["embed", "lm_head"], &["wte", "wpe", "head"]),
        (
            "attention",
            &["attn", "attention"],
            &["q_proj", "k_proj", "v_proj", "o_proj", "q", "k", "v", "o", "qkv"],
        ),
        (
            "mlp",
            &["mlp", "ffn", "feed_forward", "expert"],
            &["gate_proj", "up_proj", "down_proj", "gate", "up", "down", "fc1", "fc2"],
        ),
    ];
    let name = name.to_lowercase();
    let fits = |contained: &[&str], whole: &[&str]| {
        name.split('.').any(|part| whole.contains(&part) || contained.iter().any(|word| part.contains(word)))
    };
    KINDS.iter().find(|(_, contained, whole)| fits(contained, whole)).map_or("other", |(kind, ..)| kind)
}

/// Whether `pattern` matches all of `name`; `*` stands for any characters, none included.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or("");
    for part in parts {
        // The first occurrence leaves most to the parts that follow.
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kinds_of_the_usual_names() {
        for (name, expected) in [
            ("model.embed_tokens.weight", "embedding"),
            ("model.layers.3.self_attn.k_proj.weight", "attention"),
            ("model.layers.3.self_attn.q_norm.weight", "norms"),
            ("model.layers.3.mlp.down_proj.weight", "mlp"),
            ("model.layers.3.input_layernorm.weight", "norms"),
            ("model.norm.weight", "norms"),
            ("transformer.h.0.attn.c_attn.weight", "attention"),
            ("transformer.h.0.ln_1.bias", "norms"),
            ("transformer.wpe.weight", "embedding"),
            ("layers.1.gate", "mlp"),
            ("layers.1.o", "attention"),
            ("rotary.inverse_frequencies", "other"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    /// The definition, character by character.
    fn defined(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skipped| defined(rest, &name[skipped..])),
            Some((c, rest)) => name.split_first().is_some_and(|(n, left)| n == c && defined(rest, left)),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_definition_says(pattern in "[ab*]{0,7}", name in "[ab]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &name), defined(&chars(&pattern), &chars(&name)));
        }
    }
}
