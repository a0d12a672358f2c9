"""A language model small enough for a test: built in code, offline, the same bytes every time.

`build` makes a random Qwen3 with a byte-level BPE and a ChatML template; `tune` teaches it to answer
the reviews of `conftest`, because adapters on a random tied-embedding base cannot move its logits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conftest import reviews

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen's own pre-tokenizer pattern, so that converters which know Qwen know this model.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QUESTION = "Is this review positive, neutral or negative?\n{text}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tokenizer(vocabulary: int = 360, texts: Sequence[str] = ()) -> Any:
    """A byte-level BPE trained on the reviews, or on `texts`; it can spell any other text byte by byte."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, spelled])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = texts or [QUESTION.format(text=row["text"]) for row in reviews(240)]
    bpe.train_from_iterator([*texts, "user\nassistant\nsystem\n"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512
    )
    fast.chat_template = CHATML
    return fast


def build(path: Path, *, vocabulary: int = 360, texts: Sequence[str] = ()) -> Path:
    """Write the random model to `path` (config, weights, tokenizer, chat template) and return it."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.set_num_threads(1)
    fast = tokenizer(vocabulary, texts)
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
        dtype=torch.float32,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(path)
    fast.save_pretrained(path)
    return path


def tune(base: Path, path: Path, *, rows: int = 360, epochs: int = 6) -> Path:
    """Fine-tune every weight of `base` on the reviews and write the result to `path`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    fast = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    encoded = [_encode(fast, row) for row in reviews(rows)]
    for batch in _batches(encoded, epochs):
        model(**_pad(batch, fast.pad_token_id)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


def _encode(fast: Any, row: dict[str, str]) -> tuple[list[int], list[int]]:
    prompt = [{"role": "user", "content": QUESTION.format(text=row["text"])}]
    asked = fast.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    answer = fast(row["label"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
    return asked + answer, [-100] * len(asked) + answer


def _batches(encoded: list[Any], epochs: int, size: int = 24) -> Iterator[list[Any]]:
    order = random.Random(0)
    for _epoch in range(epochs):
        shuffled = order.sample(encoded, len(encoded))
        yield from (shuffled[at : at + size] for at in range(0, len(shuffled), size))


def _pad(batch: list[Any], pad: int) -> dict[str, Any]:
    import torch

    width = max(len(ids) for ids, _labels in batch)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _labels in batch])
    labels = torch.tensor([labels + [-100] * (width - len(labels)) for _ids, labels in batch])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _labels in batch])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
