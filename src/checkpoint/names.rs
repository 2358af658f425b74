//! Names of tensors in Meta's way, whatever wrapped the model or named its parts.

/// What wrappers put into a name, wherever they stand: torch.compile, FSDP, activation checkpointing.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];
/// What stands before the names of a model inside of another: DDP, the trainers, PEFT, Hugging Face and Lightning.
const OUTER: [&str; 4] = ["module.", "transformer.", "base_model.", "model."];

/// Hugging Face's name of a part → Meta's, and whether its rows are in half-split rotary order.
const PARTS: [(&str, &str, bool); 11] = [
    ("self_attn.q_proj.", "attention.wq.", true),
    ("self_attn.k_proj.", "attention.wk.", true),
    ("self_attn.v_proj.", "attention.wv.", false),
    ("self_attn.o_proj.", "attention.wo.", false),
    ("mlp.gate_proj.", "feed_forward.w1.", false),
    ("mlp.down_proj.", "feed_forward.w2.", false),
    ("mlp.up_proj.", "feed_forward.w3.", false),
    ("input_layernorm.", "attention_norm.", false),
    ("post_attention_layernorm.", "ffn_norm.", false),
    ("embed_tokens.", "tok_embeddings.", false),
    ("lm_head.", "output.", false),
];

/// What computing a model does not need: the head that values states, and buffers that follow from the configuration.
pub(super) fn is_weight(name: &str) -> bool {
    const DERIVED: [&str; 4] = ["rotary_emb.inv_freq", "rope.freqs", "freqs_cis", "attention.mask"];
    !name.starts_with("value_head.") && !DERIVED.iter().any(|derived| name.ends_with(derived))
}

/// `layers.0.attention.wq.weight` for `model.layers.0.self_attn.q_proj.weight`, and whether the rows of that tensor are
/// in Hugging Face's half-split rotary order.
pub(super) fn meta_name(name: &str) -> (String, bool) {
    let mut name = name.to_owned();
    for wrapper in WRAPPERS {
        name = name.replace(wrapper, "");
    }
    let mut inner = name.as_str();
    while let Some(rest) = OUTER.iter().find_map(|outer| inner.strip_prefix(outer)) {
        inner = rest;
    }
    for (theirs, metas, halves) in PARTS {
        let begins = inner.find(theirs).filter(|&at| at == 0 || inner[..at].ends_with('.'));
        if let Some(at) = begins {
            let (before, after) = (&inner[..at], lora_name(&inner[at + theirs.len()..]));
            // The inner side of a low-rank change has no output rows.
            return (format!("{before}{metas}{after}"), halves && after != "lora_A");
        }
    }
    let stem = inner.rfind("lora_").or_else(|| inner.rfind("base_layer.")).unwrap_or(inner.len());
    (format!("{}{}", &inner[..stem], lora_name(&inner[stem..])), false)
}

/// PEFT's names of the parts of a changed matrix → the trainers'.
fn lora_name(part: &str) -> &str {
    match part {
        "base_layer.weight" => "linear.weight",
        "lora_A.weight" | "lora_A.default.weight" => "lora_A",
        "lora_B.weight" | "lora_B.default.weight" => "lora_B",
        other => other,
    }
}

/// The matrix that a stored tensor is or changes: `….wq.weight` for `….wq.linear.weight` and `….wq.lora_A`.
pub(super) fn matrix_of(name: &str) -> String {
    let stem = [".linear.weight", ".lora_A", ".lora_B"].iter().find_map(|part| name.strip_suffix(part));
    stem.map_or_else(|| name.to_owned(), |stem| format!("{stem}.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_metas() {
        for (theirs, metas, halves) in [
            ("layers.0.attention.wq.weight", "layers.0.attention.wq.weight", false),
            ("module._orig_mod.transformer.norm.weight", "norm.weight", false),
            ("_fsdp_wrapped_module.layers.3._fsdp_wrapped_module.ffn_norm.weight", "layers.3.ffn_norm.weight", false),
            ("model.layers.11.self_attn.q_proj.weight", "layers.11.attention.wq.weight", true),
            ("model.layers.0.self_attn.k_proj.weight", "layers.0.attention.wk.weight", true),
            ("model.layers.0.mlp.down_proj.weight", "layers.0.feed_forward.w2.weight", false),
            ("model.embed_tokens.weight", "tok_embeddings.weight", false),
            ("model.norm.weight", "norm.weight", false),
            ("lm_head.weight", "output.weight", false),
            ("extra_heads.0.wq.lora_A", "extra_heads.0.wq.lora_A", false),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
                "layers.0.attention.wq.lora_A",
                false,
            ),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", "layers.0.attention.wq.lora_B", true),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
                "layers.0.attention.wq.linear.weight",
                true,
            ),
            ("layers.0.attention.wq.lora_B.default.weight", "layers.0.attention.wq.lora_B", false),
            ("layers.0.attention.wq.base_layer.weight", "layers.0.attention.wq.linear.weight", false),
        ] {
            assert_eq!(meta_name(theirs), (metas.to_owned(), halves), "{theirs}");
        }
        assert_eq!(matrix_of("layers.0.attention.wq.linear.weight"), "layers.0.attention.wq.weight");
        assert_eq!(matrix_of("layers.0.attention.wq.lora_B"), "layers.0.attention.wq.weight");
        assert_eq!(matrix_of("norm.weight"), "norm.weight");
        assert!(is_weight("norm.weight") && !is_weight("layers.0.self_attn.rotary_emb.inv_freq"));
    }
}
