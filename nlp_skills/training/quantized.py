"""A base model whose linear layers are kept in four bits, as QLoRA trains adapters on it: NF4, its scales in 8 bits.

What is evaluated must be what was trained, and what an evaluation leaves must be trainable. bitsandbytes breaks both
on CPUs that multiply bfloat16: the first forward pass in evaluation mode stores the weights in another layout, which
is multiplied with other roundings (logits 0.03 apart), has no gradient (every layer below it stops learning, and
nothing says so) and is read wrongly by DoRA (logits 0.9 apart). `steady` keeps the one layout.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from nlp_skills import extras
from nlp_skills.training.device import Device

# On import, which PEFT does wherever it is installed, it misses a package that is of no use here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def loading(device: Device, *, shared: bool = False) -> dict[str, Any]:
    """What `from_pretrained` is given to load a base model in four bits onto `device`.

    `shared`: FSDP shares it out among several, which it does with weights that lie in memory as floating-point numbers.

    Raises:
        Unavailable: the extra qlora is missing.
    """
    extras.need("qlora", "bitsandbytes")
    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, device.autocast or device.dtype),
        bnb_4bit_quant_storage=torch.bfloat16 if shared else torch.uint8,
    )
    # Weights in four bits do not move to another device later; of several processes each has its own.
    place = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device.type == "cuda" else device.type
    return {"quantization_config": settings, "device_map": {"": place}}


def steady(model: Any) -> Any:
    """The model, its four-bit layers computing alike in training and in evaluation."""
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def is_quantized(model: Any) -> bool:
    """Whether the model's base, an adapter on it or not, is in four bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
