//! candle-transformers' own LLaMA reads the Hugging Face folders to the same logits, by code that shares nothing with ours.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use serde_json::Value as Json;

use super::variants::{hugging_face, ids};
use super::{fixtures, json};

/// candle's reading of a folder. It knows `rope_theta` and `rope_scaling`, and not transformers 5's `rope_parameters`,
/// which say both: those are put where it looks.
fn theirs(name: &str) -> candle_core::Result<(Llama, Cache)> {
    let folder = fixtures().join("hf").join(name);
    let mut config = json(&folder.join("config.json"));
    let rope = config["rope_parameters"].take();
    config["rope_theta"] = rope["rope_theta"].clone();
    config["rope_scaling"] = if rope["rope_type"] == "llama3" { rope } else { Json::Null };
    let config = serde_json::from_value::<LlamaConfig>(config).unwrap().into_config(false);
    let mut tensors = HashMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            tensors.extend(candle_core::safetensors::load(path, &Device::Cpu)?);
        }
    }
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Ok((Llama::load(weights, &config)?, Cache::new(true, DType::F32, &config, &Device::Cpu)?))
}

/// Ten prompts: logits of every token that is generated, and the tokens, which are those of transformers' `generate`.
fn check(name: &str) -> candle_core::Result<()> {
    let (model, expected) = hugging_face(name);
    let (candle, empty) = theirs(name)?;
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for (at, case) in cases.iter().enumerate() {
        let (prompt, tokens) = (ids(&case["prompt"]), ids(&case["tokens"]));
        let ours = model.all_logits(&[&prompt[..], &tokens].concat()).unwrap().concat();
        let mut cache = empty.clone();
        let (mut fed, mut next) = (0, prompt.clone());
        for (step, &token) in tokens.iter().enumerate() {
            let rows = Tensor::new(&next[..], &Device::Cpu)?.unsqueeze(0)?;
            let theirs = candle.forward(&rows, fed, &mut cache)?.squeeze(0)?.to_vec1::<f32>()?;
            let ours = &ours[(prompt.len() + step - 1) * theirs.len()..][..theirs.len()];
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: prompt {at}, token {step}: off by {worst:e}");
            let best = (0..theirs.len()).max_by(|&a, &b| theirs[a].total_cmp(&theirs[b])).unwrap();
            assert_eq!(best as u32, token, "{name}: prompt {at}, token {step}");
            fed += next.len();
            next = vec![token];
        }
        assert!(!tokens.is_empty());
    }
    Ok(())
}

#[test]
fn candles_llama_agrees_on_a_sharded_folder_with_scaled_rotation() {
    check("llama3").unwrap();
}

#[test]
fn candles_llama_agrees_on_a_folder_with_a_tied_output() {
    check("tied").unwrap();
}
