"""Entries of the catalogue against plain arithmetic and against what transformers builds from them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from nlp_skills.knowledge import catalogue, shape
from nlp_skills.schema.training import Lora

MODELS = catalogue.models()
# One of each kind that transformers builds differently; the small ones, since a layer takes time to build.
BUILT = [
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3.5-0.8B",
    "Qwen/Qwen3.5-35B-A3B",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "microsoft/Phi-4-mini-instruct",
    "google/gemma-3-270m-it",
    "HuggingFaceTB/SmolLM3-3B",
    "zai-org/GLM-4-9B-0414",
    "zai-org/GLM-4.5-Air",
    "zai-org/GLM-4.5",
    "openai/gpt-oss-20b",
    "mistralai/Mistral-Nemo-Instruct-2407",
]
# Of these the counts, since a width that differs from layer to layer, or by kind of head, is not in a shape.
COUNTED = ["deepseek-ai/DeepSeek-R1", "google/gemma-4-26B-A4B-it", "google/gemma-4-31B-it", "google/gemma-3-4b-it"]


def config_of(model: catalogue.Model) -> Any:
    """Transformers' configuration with the dimensions of an entry."""
    from transformers import AutoConfig

    said: dict[str, Any] = {
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "vocab_size": model.vocabulary,
        "tie_word_embeddings": model.tied,
    }
    if model.latent is None and model.head_dim * model.heads != model.hidden:
        said["head_dim"] = model.head_dim
    if model.experts:
        said |= {
            "num_experts": model.experts,
            "num_local_experts": model.experts,
            "n_routed_experts": model.experts,
            "num_experts_per_tok": model.experts_per_token,
            "moe_intermediate_size": model.moe_intermediate,
            "n_shared_experts": model.shared_experts,
            "first_k_dense_replace": model.dense_layers,
        }
    if model.latent:
        said |= {
            "q_lora_rank": model.latent.q_rank,
            "kv_lora_rank": model.latent.kv_rank,
            "qk_nope_head_dim": model.latent.nope,
            "qk_rope_head_dim": model.latent.rope,
            "v_head_dim": model.latent.value,
        }
    if model.delta:
        said |= {
            "linear_num_key_heads": model.delta.key_heads,
            "linear_num_value_heads": model.delta.value_heads,
            "linear_key_head_dim": model.delta.key_dim,
            "linear_value_head_dim": model.delta.value_dim,
            "linear_conv_kernel_dim": model.delta.convolution,
            "shared_expert_intermediate_size": model.moe_intermediate,
        }
    if model.model_type == "glm4_moe":
        said |= {"attention_bias": model.qkv_bias, "use_qk_norm": model.qk_norm}
    if model.wide:
        said |= {
            "global_head_dim": model.wide.head_dim,
            "num_global_key_value_heads": model.wide.kv_heads,
            "attention_k_eq_v": model.wide.keys_are_values,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": bool(model.experts),
            "top_k_experts": model.experts_per_token,
        }
    said |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    # The language model inside one that sees pictures.
    kind = f"{model.model_type}_text" if model.vision else model.model_type
    return AutoConfig.for_model(kind, **({"text_config": said} if kind.startswith("qwen3_5") else said))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.name))
def test_the_parameters_follow_from_the_dimensions(model: catalogue.Model) -> None:
    assert shape.parameters(model) == model.parameters
    assert (model.active is None) == (model.experts is None)
    if model.experts:
        assert shape.active(model) == model.active


@pytest.mark.parametrize("name", BUILT)
def test_transformers_builds_the_same(name: str) -> None:
    from nlp_skills.training.estimate.shape import of_config

    model = catalogue.named(name)
    built, counted = of_config(config_of(model)), shape.shape(model)

    assert counted == built


@pytest.mark.parametrize("name", COUNTED)
def test_transformers_counts_the_same(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = catalogue.named(name)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config_of(model))
    assert sum(weight.numel() for weight in built.parameters()) == model.parameters
    linears = [
        (
            at.replace("model.", "model.language_model.", 1) if model.vision else at,
            module.in_features,
            module.out_features,
        )
        for at, module in built.named_modules()
        if isinstance(module, torch.nn.Linear) and at != "lm_head"
    ]
    assert sorted(linears) == sorted((at.name, at.inputs, at.outputs) for at in shape.shape(model).linears)


def test_published_counts_to_the_last_weight() -> None:
    known = {
        "Qwen/Qwen3-0.6B": (596_049_920, 440_401_920, 10_092_544),
        "Qwen/Qwen3-8B": (8_190_735_360, 6_945_767_424, 43_646_976),
        "meta-llama/Llama-3.1-8B-Instruct": (8_030_261_248, 6_979_321_856, 41_943_040),
    }
    for name, figures in known.items():
        made = shape.shape(catalogue.named(name))
        assert (made.parameters, made.quantisable, made.adapter(Lora(r=16, target_modules="all-linear"))) == figures


def test_neither_torch_nor_transformers_is_needed() -> None:
    code = (
        "import sys; from nlp_skills.knowledge import catalogue, shape; shape.shape(catalogue.named('qwen3-8b'));"
        "print([name for name in ('torch', 'transformers', 'peft', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
