"""Rare classes: repeated or weighed as said, to the row and to the gradient, and recalled better for it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Ran, reviews, write_rows
from fixtures_training import job_of

from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.training import arguments, base_model, device, order, preflight
from nlp_skills.training import train as training
from nlp_skills.training.encode import Encoded
from nlp_skills.training.methods import sft
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
CPU = device.Device("cpu", "cpu", "float32", None)
# Of 100 rows: 60, 30 and 10.
SKEWED = [("a",)] * 60 + [("b",)] * 30 + [("c",)] * 10


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def rows_of(classes: list[tuple[str, ...]]) -> list[Encoded]:
    return [Encoded(line, [5] * (5 + line * 7 % 40), [6], found) for line, found in enumerate(classes)]


def sampler(classes: list[tuple[str, ...]], **settings: Any) -> Any:
    config = Config.model_validate({"base_model": "x", "class_balance": "sampling", **settings})
    return order.of(config, rows_of(classes))


def epoch(sampler: Any, number: int) -> list[int]:
    sampler.set_epoch(number)
    return list(sampler)


def test_an_epoch_has_every_class_as_often_and_every_row() -> None:
    made = sampler(SKEWED)
    first = epoch(made, 0)
    assert len(made) == len(first) == 180
    assert Counter(SKEWED[row] for row in first) == {("a",): 60, ("b",): 60, ("c",): 60}
    assert set(first) == set(range(100))
    assert set(Counter(row for row in first if SKEWED[row] == ("c",)).values()) == {6}


def test_what_is_over_goes_to_other_rows_each_epoch_and_depends_on_seed_and_epoch_alone() -> None:
    classes = [("a",)] * 50 + [("b",)] * 7
    made = sampler(classes)
    first, second = epoch(made, 0), epoch(made, 1)
    often = [{row for row, times in Counter(one).items() if times == 8} for one in (first, second)]
    assert [len(rows) for rows in often] == [1, 1]
    assert {one.count(row) for one in (first, second) for row in range(50, 57)} == {7, 8}
    assert first != second
    assert epoch(sampler(classes), 1) == second
    assert epoch(sampler(classes, seed=7), 1) != second


def test_repeated_rows_still_stand_among_rows_of_their_length() -> None:
    classes = SKEWED * 4
    rows, made = rows_of(classes), sampler(classes)
    drawn = epoch(made, 0)

    def padding(places: list[int]) -> int:
        batches = [places[at : at + 8] for at in range(0, len(places), 8)]
        return sum(max(len(rows[row]) for row in batch) * len(batch) for batch in batches) - sum(
            len(rows[row]) for row in places
        )

    assert padding(drawn) < padding(sorted(drawn)) / 2


def test_a_row_with_several_labels_comes_as_often_as_their_mean_says() -> None:
    classes = [("a",)] * 8 + [("a", "b")] * 2 + [("b",)] * 2 + [()]
    # a has 10 rows and b 4: once, and two and a half times; a row with both (1 + 2.5) / 2 = 1.75 times.
    assert order.copies(classes) == {("a",): 8, ("a", "b"): 4, ("b",): 5, (): 1}


def test_weights_are_those_of_scikit_learn_and_one_on_average() -> None:
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    labels = [label for (label,) in SKEWED]
    theirs = dict(zip("abc", compute_class_weight("balanced", classes=np.array(list("abc")), y=labels), strict=True))
    ours = order.weights(SKEWED)
    assert ours == pytest.approx([theirs[label] for label in labels])
    assert sum(ours) / 100 == pytest.approx(1)


def test_of_given_weights_only_the_ratio_counts() -> None:
    ours = order.weights(SKEWED, {"c": 5.0})
    assert ours[-1] / ours[0] == pytest.approx(5) and ours[59] == ours[60]
    assert sum(ours) / 100 == pytest.approx(1)
    assert order.weights(SKEWED, {"a": 2.0, "b": 2.0, "c": 10.0}) == pytest.approx(ours)


def test_several_labels_weigh_their_mean() -> None:
    ours = order.weights([("a",), ("b",), ("a", "b")], {"a": 1.0, "b": 3.0})
    assert ours == pytest.approx([0.5, 1.5, 1.0])


def test_the_gradient_is_that_of_a_weighed_loss(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    config = Config.model_validate({"base_model": str(tiny_base), "class_balance": "weights", "adapter": "full"})
    rows = [
        Encoded(1, [5, 6, 7, 9], [8, 2], ("a",), weight=0.5),
        Encoded(2, [5], [8, 9, 11, 2], ("b",), weight=3.0),
        Encoded(3, [5, 7], [2], ("a",), weight=0.5),
    ]
    data, tokenizer = sft.dataset(rows, config), base_model.load_tokenizer(str(tiny_base))
    made = sft.trainer_class(config)(
        model=base_model.load_model(str(tiny_base), CPU),
        args=arguments.made(job_of(config, tmp_path), CPU, log_every=1, validate=False, checkpointing=False),
        train_dataset=data,
        data_collator=sft.collator(tokenizer, config),
        processing_class=tokenizer,
    )
    batch = next(iter(made.get_train_dataloader()))
    assert sorted(batch["weight"].tolist()) == [0.5, 0.5, 3.0], "the trainer drops columns it does not know"
    made.compute_loss(made.model, made.data_collator(list(data)), num_items_in_batch=torch.tensor(7)).backward()

    model = base_model.load_model(str(tiny_base), CPU)
    total = torch.tensor(0.0)
    for row in rows:
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, len(row.prompt) - 1 : -1]
        total = total + row.weight * torch.nn.functional.cross_entropy(
            logits, torch.tensor(row.completion), reduction="sum"
        )
    (total / 7).backward()
    ours, theirs = ([weight.grad for weight in one.parameters()] for one in (made.model, model))
    assert sum(grad.abs().sum() for grad in theirs) > 0
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_valid_rows_are_not_weighed(ready: Ready) -> None:
    folder = ready(train=24, class_balance={"positive": 4.0})
    checked = preflight.check(folder)
    assert checked.ok
    weights = {row.classes: row.weight for row in checked.encoded["train"]}
    assert weights["positive",] == pytest.approx(4 * weights["neutral",])
    assert {row.weight for row in checked.encoded["valid"]} == {None}
    assert "weight" not in sft.dataset(checked.encoded["valid"], folder.version("v1").config()).column_names


def skewed(folder: TaskFolder) -> list[dict[str, str]]:
    """Train on few rows of a rare class, which look like more rows of a common one; rows of the rare class to ask."""
    by = {label: [row for row in reviews(120) if row["label"] == label] for label in LABELS}
    alike = by["negative"]
    common = [*by["positive"][:12], *by["neutral"][:28], *({**row, "label": "neutral"} for row in alike[:12])]
    write_rows(folder.split("train"), [*common, *alike[12:16]])
    # Without valid rows the last weights are kept, whatever the loss on common rows thinks of them.
    folder.split("valid").write_text("")
    yaml.change(folder.sources_path, {("split", "valid"): 0.0, ("split", "train"): 0.7})
    write_rows(folder.split("test"), alike[20:])
    return alike[20:]


def recall(folder: TaskFolder, rows: list[dict[str, str]]) -> float:
    """The share of rows, all of one class, that the trained version gives this class."""
    from nlp_skills.evaluation.answering import transformers
    from nlp_skills.evaluation.answering.ask import ask
    from nlp_skills.evaluation.answering.partial import Partial

    scorer = transformers.load(folder, "v1")
    answers = ask(scorer, rows, scorer.loaded.renderer, "label", None, Partial(folder.root / "x.partial", "one"), "ask")
    return sum(answer.predicted == row["label"] for answer, row in zip(answers, rows, strict=True)) / len(rows)


def test_a_rare_class_is_recalled_where_it_would_drown(ready: Ready) -> None:
    found, steps = {}, {}
    for balance in (None, "weights", "sampling"):
        folder = ready(train=24, epochs=3, learning_rate=1e-3, **({"class_balance": balance} if balance else {}))
        rare = skewed(folder)
        steps[balance] = training.train(folder).step
        found[balance] = recall(folder, rare)
        shutil.rmtree(folder.root)
    assert found[None] < 0.3
    assert found["weights"] > 0.7 and found["sampling"] > 0.7
    # 12 positive, 40 neutral and 4 negative rows in batches of 8: 7 steps an epoch, 15 with every class 40 times.
    assert (steps[None], steps["weights"], steps["sampling"]) == (21, 21, 45)


def test_labels_that_the_task_does_not_have_are_refused(ready: Ready, cli: Callable[..., Ran]) -> None:
    ran = cli("preflight", ready(class_balance={"negativ": 3.0}).root)
    assert ran.code == 1
    assert "versions/v1/config.yaml" in ran.err and "negativ," in ran.err and "did you mean negative?" in ran.err


def test_only_a_classification_has_classes_to_balance(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(class_balance="sampling")
    yaml.change(folder.task_path, {("task_type",): "generation"})
    ran = cli("preflight", folder.root)
    assert ran.code == 1
    assert "class_balance is for classification" in ran.err and "remove class_balance" in ran.err


def test_packs_are_not_weighed(ready: Ready, cli: Callable[..., Ran]) -> None:
    ran = cli("preflight", ready(class_balance="weights", packing=True).root)
    assert ran.code == 1 and "packing" in ran.err


def test_weights_do_not_go_with_another_loss(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1, class_balance="weights", extra={"loss_type": "dft"})
    ran = cli("train", folder.root)
    assert ran.code == 1 and "class weights do not go with this loss" in ran.err
    assert "class_balance: sampling" in ran.err and "Traceback" not in ran.err
    assert folder.task().status == "configuring"
