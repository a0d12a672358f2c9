"""Packed rows are learnt as rows apart: the same loss, no row sees another, and nothing is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_training import job_of

from nlp_skills.schema.training import Config
from nlp_skills.training import arguments, base_model, device, packing, run
from nlp_skills.training.encode import Encoded
from nlp_skills.training.methods import sft
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
CPU = device.Device("cpu", "cpu", "float32", None)


def rows_of(count: int) -> list[Encoded]:
    return [
        Encoded(number, [5 + (number * place) % 300 for place in range(4 + number * 5 % 23)], [9, 20 + number, 2])
        for number in range(count)
    ]


def made_of(base: Path, out: Path, *, packed: bool) -> tuple[Any, Any]:
    """The trainer of a configuration, and its collator."""
    config = Config.model_validate({"base_model": str(base), "adapter": "full", "packing": packed or None})
    tokenizer = base_model.load_tokenizer(str(base))
    made = sft.trainer_class(config)(
        model=base_model.load_model(str(base), CPU),
        args=arguments.made(job_of(config, out), CPU, log_every=1, validate=False, checkpointing=False),
        train_dataset=sft.dataset(rows_of(2), config),
        data_collator=sft.collator(tokenizer, config),
        processing_class=tokenizer,
    )
    return made, made.data_collator


def test_no_row_is_cut_lost_or_split() -> None:
    rows = rows_of(57)
    packs = packing.packs(rows, 64)
    found = []
    for pack in packs:
        assert len(pack) == sum(pack.lengths) <= 64
        start = 0
        for length in pack.lengths:
            found.append((pack.ids[start : start + length], pack.labels[start : start + length]))
            start += length
    assert sorted(found) == sorted((row.ids, row.labels) for row in rows)
    assert sum(pack.learnt for pack in packs) == sum(row.learnt for row in rows)
    assert len(packs) <= 1.2 * sum(map(len, rows)) / 64


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_have_the_loss_and_the_gradient_of_rows_apart(
    tuned_base: Path, tmp_path: Path, attention: str
) -> None:
    import torch

    rows = rows_of(9)
    items = torch.tensor(sum(row.learnt for row in rows))
    losses, gradients = [], []
    for packed in (False, True):
        made, collate = made_of(tuned_base, tmp_path, packed=packed)
        made.model.set_attn_implementation(attention)
        given: list[Any] = packing.packs(rows, 40) if packed else rows
        columns = list(sft.dataset(given, Config(base_model="x")))
        batches = [columns[:2], columns[2:]]
        loss = sum(made.compute_loss(made.model, collate(batch), num_items_in_batch=items) for batch in batches)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([weight.grad.flatten() for weight in made.model.parameters()]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5) and gradients[0].abs().sum() > 0


def test_a_row_does_not_see_the_one_before_it(tuned_base: Path, tmp_path: Path) -> None:
    made, collate = made_of(tuned_base, tmp_path, packed=True)
    row, config = Encoded(1, [7, 8, 9], [20, 2]), Config(base_model="x")

    def loss(before: list[int]) -> float:
        (pack,) = packing.packs([Encoded(0, before, [9, 2]), row], 64)
        last = [-100] * (len(pack) - len(row)) + row.labels
        alone = packing.Pack(pack.ids, last, pack.lengths)
        assert pack.ids[-len(row) :] == row.ids
        found: float = made.compute_loss(made.model, collate(list(sft.dataset([alone], config)))).item()
        return found

    assert loss([5] * 30) == pytest.approx(loss(list(range(40, 90))), abs=1e-5)


def test_a_packed_training_learns_and_is_recorded(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=48, epochs=2, packing=True, batch_size=2, max_length=128)
    ran = cli("train", folder.root)
    assert ran.code == 0, ran.err
    version = folder.version("v1")
    lines = run.metrics(version)
    losses = [line["loss"] for line in lines if "loss" in line]
    # 48 rows of some 45 tokens, two or three to a pack of 128: about a dozen steps of two packs an epoch.
    assert 8 <= len(losses) / 2 <= 12 and losses[-1] < losses[0]
    assert [line for line in lines if "eval_loss" in line]
    assert "Packing" not in ran.err
