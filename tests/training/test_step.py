"""Our way through a batch gives the losses and gradients of TRL's, on the models it is for and on those it is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_training import job_of

from nlp_skills.schema.training import Config
from nlp_skills.training import adapters, arguments, base_model, device, one_row, step
from nlp_skills.training.encode import Encoded
from nlp_skills.training.methods import sft

CPU = device.Device("cpu", "cpu", "float32", None)
SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}


def rows(kind: str) -> list[Encoded]:
    """Batches as they come: a long common beginning, none, one row, rows that differ in their answer only."""
    chance = random.Random(kind)

    def some(count: int) -> list[int]:
        return [chance.randrange(3, 97) for _number in range(count)]

    beginning = some(11)
    if kind == "shared":
        return [Encoded(1, beginning + some(length), [*some(2), 2]) for length in (9, 3, 1, 14)]
    if kind == "apart":
        return [Encoded(1, [number + 3, *some(length)], [*some(1), 2]) for number, length in enumerate((3, 8, 5))]
    if kind == "alone":
        return [Encoded(1, beginning, [5, 2])]
    return [Encoded(1, beginning, answer) for answer in ([5, 6, 2], [5, 6, 7, 2], [5, 2], [2])]


def batch_of(encoded: list[Encoded]) -> dict[str, Any]:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=0)
    collated: dict[str, Any] = collate([{"input_ids": row.ids, "labels": row.labels} for row in encoded])
    return collated


def model_of(architecture: str, lora: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A random model of an architecture of transformers, with adapters that already say something."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(**{**SMALL, **settings})
    model = transformers.AutoModelForCausalLM.from_config(config)
    if lora is not None:
        model = adapted(model, lora)
    return model.train()


def adapted(model: Any, lora: dict[str, Any]) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **lora))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def learnt(model: Any, batch: dict[str, Any], loss: Callable[..., Any], items: Any = None) -> tuple[float, Any]:
    """A loss and all its gradients in one vector."""
    import torch

    model.zero_grad()
    value = loss(model, batch, items)
    value.backward()
    grads = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return value.item(), torch.cat(grads)


def plain(model: Any, batch: dict[str, Any], items: Any) -> Any:
    """The loss as its definition has it: every logit, then those of the answers."""
    import torch

    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    each = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100, reduction="none"
    ).view(len(logits), -1)
    weights = batch.get("weight", torch.ones(len(logits)))
    return (each * weights[:, None]).sum() / (items or (batch["labels"][:, 1:] != -100).sum())


def assert_same(model: Any, batch: dict[str, Any], items: Any = None) -> None:
    import torch

    expected, gradients = learnt(model, batch, plain, items)
    found, ours = learnt(model, batch, step.loss, items)
    assert found == pytest.approx(expected, rel=1e-5)
    assert gradients.abs().max() > 1e-4
    assert torch.allclose(ours, gradients, atol=1e-5)


def tokens_read(model: Any, batch: dict[str, Any]) -> int:
    """How many tokens went through the model for one loss."""
    seen: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _module, given, _out: seen.append(given[0].numel())
    )
    step.loss(model, batch, None)
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize("kind", ["shared", "apart", "alone", "answers"])
@pytest.mark.parametrize("architecture", ["Llama", "Qwen3"])
def test_loss_and_every_gradient_are_those_of_the_padded_batch(architecture: str, kind: str) -> None:
    model = model_of(architecture, {})
    assert one_row.suits(model)
    assert_same(model, batch_of(rows(kind)))


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"use_rslora": True}, None])
def test_other_adapters_and_full_training_too(lora: dict[str, Any] | None) -> None:
    model = model_of("Qwen2", lora)
    assert one_row.suits(model)
    assert_same(model, batch_of(rows("shared")))


def test_weights_and_the_count_of_a_whole_step_enter_as_they_should() -> None:
    import torch

    model, batch = model_of("Llama", {}), batch_of(rows("shared"))
    batch["weight"] = torch.tensor([0.5, 2.0, 1.0, 0.25])
    assert_same(model, batch, items=31)
    alone = {name: values[:1] for name, values in batch.items()}
    assert learnt(model, alone, step.loss)[0] == pytest.approx(learnt(model, alone, plain)[0])


def test_rows_of_many_tokens_go_through_fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_row, "LONG", 8)
    model = model_of("Qwen3", {})
    for kind in ("shared", "apart", "answers"):
        assert_same(model, batch_of(rows(kind)))


def test_what_rows_begin_with_is_read_once_and_padding_not_at_all() -> None:
    encoded = [Encoded(1, [*range(3, 63), *range(70 + length, 70, -1)], [5, 2]) for length in (2, 4, 6, 20)]
    batch = batch_of(encoded)
    own = sum(length + 2 for length in (2, 4, 6, 20))
    assert batch["input_ids"].numel() == 4 * 82
    read = tokens_read(model_of("Llama", {}), batch)
    assert 60 + own <= read < 60 + own + one_row.TOKENS


def test_with_dropout_every_row_has_a_beginning_of_its_own() -> None:
    model, batch = model_of("Llama", {"lora_dropout": 0.3}), batch_of(rows("shared"))
    real = int(batch["attention_mask"].sum())
    assert real <= tokens_read(model, batch) < real + one_row.TOKENS
    model.eval()
    assert tokens_read(model, batch) < real
    assert step.loss(model, batch, None).item() == pytest.approx(plain(model, batch, None).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("Gemma2", {"attn_logit_softcapping": 5.0, "sliding_window": 64}),
        ("Bloom", {"n_layer": 2, "n_head": 4, "hidden_size": 32}),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
    ],
)
def test_a_model_that_attends_otherwise_is_left_to_itself(architecture: str, settings: dict[str, Any]) -> None:
    model, batch = model_of(architecture, None, **settings), batch_of(rows("shared"))
    assert not one_row.suits(model)
    assert_same(model, batch)


def test_rows_longer_than_a_sliding_window_are_left_to_the_model() -> None:
    model = model_of("Mistral", {}, sliding_window=16)
    within = batch_of([Encoded(1, [3, 4, 5, 6, 7, number], [8, 2]) for number in (9, 10, 11)])
    assert one_row.suits(model) and tokens_read(model, within) < within["input_ids"].numel()
    beyond = batch_of(rows("shared"))
    assert tokens_read(model, beyond) == beyond["input_ids"].numel()
    for batch in (within, beyond):
        assert_same(model, batch)
    assert model.config._attn_implementation != one_row.ATTENTION


def test_padding_on_the_left_is_left_to_the_model() -> None:
    import torch

    model, batch = model_of("Llama", {}), batch_of(rows("shared"))
    turned = {name: torch.flip(values, (1,)) for name, values in batch.items()}
    assert_same(model, turned)
    assert tokens_read(model, turned) == turned["input_ids"].numel()


def test_a_batch_that_would_crowd_memory_is_learnt_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model, batch = model_of("Llama", {}), batch_of(rows("shared"))
    batch["weight"] = torch.tensor([0.5, 2.0, 1.0, 0.25])
    assert len(list(step.pieces(batch))) == 1
    expected, gradients = learnt(model, batch, plain, 11)
    monkeypatch.setattr(step, "AT_ONCE", 2 * batch["input_ids"].shape[1])
    pieces = list(step.pieces(batch))
    assert [len(piece["input_ids"]) for piece in pieces] == [2, 2]
    found, ours = learnt(model, batch, lambda *_given: sum(step.loss(model, piece, 11) for piece in pieces))
    assert found == pytest.approx(expected, rel=1e-5) and torch.allclose(ours, gradients, atol=1e-5)


def test_in_16_bits_the_loss_is_as_near_as_the_padded_one() -> None:
    import torch

    model, batch = model_of("Llama", {}), batch_of(rows("shared"))
    exact = plain(model, batch, None).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert step.loss(model, batch, None).item() == pytest.approx(exact, rel=0.01)


def test_trl_reaches_the_same_weights_by_its_own_way(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from trl import SFTTrainer

    monkeypatch.setattr(step, "AT_ONCE", 70)
    settings = {"lora": {"r": 4, "alpha": 8}, "learning_rate": 1e-3, "batch_size": 4, "gradient_accumulation": 2}
    config = Config.model_validate({"base_model": str(tiny_base), "epochs": 2, **settings})
    chance = random.Random(0)
    encoded = [
        Encoded(1, [*range(5, 25), *chance.choices(range(30, 300), k=number % 7 + 1)], [8 + number, 2])
        for number in range(20)
    ]
    trained = []
    for number, kind in enumerate((sft.trainer_class(config), SFTTrainer)):
        given = arguments.made(
            job_of(config, tmp_path / str(number)), CPU, log_every=1, validate=False, checkpointing=False
        )
        made = kind(
            model=base_model.load_model(str(tiny_base), CPU),
            args=given,
            train_dataset=sft.dataset(encoded, config),
            processing_class=base_model.load_tokenizer(str(tiny_base)),
            peft_config=adapters.settings(config),
        )
        made.train()
        losses = [line["loss"] for line in made.state.log_history if "loss" in line]
        trained.append((losses, torch.cat([w.detach().flatten() for w in made.model.parameters() if w.requires_grad])))
    assert trained[0][0] == pytest.approx(trained[1][0], rel=1e-4)
    assert torch.allclose(trained[0][1], trained[1][1], atol=2e-4)
