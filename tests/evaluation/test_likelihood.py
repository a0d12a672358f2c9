from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, reviews

from nlp_skills.evaluation import branches, likelihood

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def asked(tuned_base: Path) -> tuple[Any, list[list[int]], list[list[int]]]:
    """A model that knows the reviews, prompts of unlike lengths, and the labels' tokens."""
    import tiny
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tuned_base, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(tuned_base)
    rows = [{**row, "text": row["text"] + " Really." * (number % 4)} for number, row in enumerate(reviews(18, 500))]
    prompts = [_prompt(words, tiny.QUESTION.format(text=row["text"])) for row in rows]
    answers = [words(label + "<|im_end|>")["input_ids"] for label in LABELS]
    return model, prompts, answers


def _prompt(words: Any, text: str) -> list[int]:
    turn = [{"role": "user", "content": text}]
    ids: list[int] = words.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    return ids


def naive(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    """One forward pass a prompt and answer; no padding, no cache, no batch."""
    values = torch.empty(len(prompts), len(answers))
    with torch.inference_mode():
        for i, prompt in enumerate(prompts):
            for j, answer in enumerate(answers):
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
                values[i, j] = sum(logits[len(prompt) - 1 + k, token] for k, token in enumerate(answer))
    return values


def scored(model: Any, prompts: list[list[int]], answers: list[list[int]], budget: int) -> torch.Tensor:
    values = torch.full((len(prompts), len(answers)), float("nan"))
    for batch in likelihood.score(model, prompts, answers, budget=budget):
        values[batch.rows] = torch.tensor(batch.values)
    return values


@pytest.fixture(params=["branches", "copies"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How labels follow a prompt: as branches behind it, which is for CPUs, or each with a copy of its cache."""
    if request.param == "copies":
        monkeypatch.setattr(branches, "suits", lambda _model: False)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("budget", [1, 400, 100_000])
def test_it_equals_one_forward_pass_per_label_whatever_the_batch(asked: Any, budget: int) -> None:
    model, prompts, answers = asked
    assert len({len(prompt) for prompt in prompts}) > 3 and len({len(answer) for answer in answers}) > 1
    assert torch.allclose(scored(model, prompts, answers, budget), naive(model, prompts, answers), atol=2e-4)


@pytest.mark.usefixtures("way")
def test_prompts_that_share_nothing_and_answers_that_share_their_beginning(asked: Any) -> None:
    model, prompts, answers = asked
    apart = [prompt[number % 5 + 1 :] for number, prompt in enumerate(prompts[:6])]
    assert likelihood.common_prefix(apart) == []
    stemmed = [[11, 12, *answer] for answer in answers] + [[11, 12, 13]]
    assert likelihood.common_prefix(stemmed) == [11, 12]
    assert torch.allclose(scored(model, apart, stemmed, 900), naive(model, apart, stemmed), atol=2e-4)


@pytest.mark.usefixtures("way")
def test_answers_of_a_single_token(asked: Any) -> None:
    model, prompts, _ = asked
    single = [[40], [41], [42]]
    assert torch.allclose(scored(model, prompts, single, 900), naive(model, prompts, single), atol=2e-4)


def test_the_most_likely_answer_is_the_one_the_model_was_taught(asked: Any, tuned_base: Path) -> None:
    import tiny
    from transformers import AutoTokenizer

    model, _, answers = asked
    words, rows = AutoTokenizer.from_pretrained(tuned_base), reviews(18, 500)
    prompts = [_prompt(words, tiny.QUESTION.format(text=row["text"])) for row in rows]
    best = scored(model, prompts, answers, 2000).argmax(dim=1)
    assert sum(LABELS[place] == row["label"] for place, row in zip(best, rows, strict=True)) >= 16


def test_left_out_positions_would_be_noticed(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The equality above is a real check: with the model's own positions it fails."""
    model, prompts, answers = asked
    right = naive(model, prompts, answers)
    monkeypatch.setattr(branches, "suits", lambda _model: False)
    monkeypatch.setattr(likelihood, "_positions", lambda mask: torch.arange(mask.shape[1]).expand_as(mask))
    assert not torch.allclose(scored(model, prompts, answers, 100_000), right, atol=1e-2)


def test_a_label_that_saw_another_would_be_noticed(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for labels that lie behind each other in one row."""
    model, prompts, answers = asked
    assert branches.suits(model)
    right, laid_out = naive(model, prompts, answers), branches._laid_out
    monkeypatch.setattr(branches, "_laid_out", lambda *given: dataclasses.replace(laid_out(*given), hidden=None))
    assert not torch.allclose(scored(model, prompts, answers, 100_000), right, atol=1e-2)


def test_a_model_with_a_sliding_window_is_scored_the_plain_way(tmp_path: Path) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=99, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, use_sliding_window=True, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).eval()
    prompts = [[1, 2, 3, *range(number, number + number % 4 + 5)] for number in range(4, 12)]
    answers = [[5, 6, 7], [5, 9], [8]]
    assert torch.allclose(scored(model, prompts, answers, 60), naive(model, prompts, answers), atol=1e-4)


def test_batches_are_of_like_length_and_within_the_budget() -> None:
    lengths = [5, 90, 7, 80, 6, 300]
    groups = likelihood.batches(lengths, [[1, 2], [3]], budget=400)
    assert groups == [[5], [1, 3], [2, 4, 0]]


def test_nothing_to_score_is_nothing(asked: Any) -> None:
    assert list(likelihood.score(asked[0], [], asked[2])) == []
