"""How long rows are is told; max_length follows them where asked to, and never passes what the model reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, write_rows

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.training import lengths, preflight
from nlp_skills.training import train as training
from nlp_skills.training.encode import Encoded
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]


@pytest.mark.parametrize(("longest", "most", "held"), [(1, 512, 64), (64, 512, 64), (65, 512, 128), (500, 509, 509)])
def test_the_limit_is_the_next_multiple_of_64_and_never_more_than_the_model_reads(
    longest: int, most: int, held: int
) -> None:
    assert lengths.holding(longest, most) == held


def test_the_report_tells_the_distribution_and_what_would_hold_it() -> None:
    rows = [Encoded(number, [5] * (number - 1), [2]) for number in range(1, 201)]
    told = lengths.report(rows, 150)
    assert {name: told[name] for name in ("rows", "min", "median", "p90", "p95", "p99", "max", "over")} == {
        "rows": 200, "min": 1, "median": 100, "p90": 180, "p95": 190, "p99": 198, "max": 200, "over": 50,
    }  # fmt: skip
    assert (told["holds_all"], told["holds_99"]) == (256, 256)
    assert lengths.report([*rows[:100], rows[-1]], 150)["holds_99"] == 128


def test_a_cut_row_counts_with_what_it_had() -> None:
    row = Encoded(1, list(range(90)), [2]).shortened(50)
    told = lengths.report([row.shortened(40)], 40)
    assert (told["tokens"], told["max"], told["over"]) == (40, 91, 1)


def test_preflight_says_what_the_rows_want(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(max_length=256)
    ran, told = cli("preflight", folder.root), cli("preflight", folder.root, "--json").json
    longest = max(split["max"] for split in told["lengths"].values())
    assert longest <= 64 < 256
    assert f"max_length 256; the longest row has {longest} tokens: 64 holds every row, 64 holds 99 of 100" in ran.out
    assert f"95 of 100 up to {told['lengths']['train']['p95']}" in ran.out
    assert told["max_length"] == 256


def test_auto_follows_the_longest_row_and_the_run_records_the_number(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1, max_length="auto")
    rows = [json.loads(line) for line in folder.split("valid").read_text().splitlines()]
    rows[0]["text"] += " indeed" * 10
    write_rows(folder.split("valid"), rows)
    told = cli("preflight", folder.root, "--json").json
    longest = told["lengths"]["valid"]["max"]
    assert told["lengths"]["train"]["max"] <= 64 < longest <= 128
    assert told["max_length"] == 128

    assert training.train(folder).state == "completed"
    lineage = folder.version("v1").lineage()
    assert lineage is not None and lineage.run is not None and lineage.config is not None
    assert lineage.run.max_length == 128
    assert lineage.config.model_dump()["max_length"] == "auto"


def test_auto_still_refuses_what_the_model_cannot_read(ready: Ready, tuned_base: Path) -> None:
    folder = ready(max_length="auto")
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    rows[3]["text"] += " indeed" * 100
    write_rows(folder.split("train"), rows)
    checked = preflight.check(folder)
    (long,) = [finding for finding in checked.findings if finding.severity == "error"]
    assert (long.code, long.line) == ("too_long", 4)
    assert "512" in long.message and long.mend is not None and "raise max_length" not in long.mend

    yaml.change(folder.version("v1").config_path, {("allow_truncation",): True})
    checked = preflight.check(folder)
    assert checked.ok and checked.max_length == 512
    assert len(checked.encoded["train"][3]) == 512


def test_a_limit_beyond_what_the_model_reads_is_what_it_reads(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(max_length=1024)
    assert cli("preflight", folder.root, "--json").json["max_length"] == 512
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    rows[3]["text"] += " indeed" * 100
    write_rows(folder.split("train"), rows)
    ran = cli("preflight", folder.root)
    assert ran.code == 1
    assert "data/train.jsonl:4: rows longer than the 512 tokens that the base model reads: 1" in ran.err
    assert "raise max_length" not in ran.err and "reads more" in ran.err
    with pytest.raises(Invalid, match="512 tokens"):
        training.train(folder)
