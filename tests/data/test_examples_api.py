"""The API examples, as their README says, from the servers they name."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Ran
from fixtures_rest import free_port, running

SPLITS = ("train", "valid", "test")


@pytest.mark.parametrize(
    ("example", "program", "options", "variable", "rows", "field", "labels"),
    [
        ("api-rest", "json-server", "--port {port} db.json", "REVIEWS_API", 90, "label", 30),
        (
            "api-graphql",
            "json-graphql-server",
            "db.json --port {port} --host 127.0.0.1",
            "TICKETS_API",
            48,
            "topic",
            12,
        ),
    ],
)
def test_an_example_regenerates_and_is_valid(
    project: Path,
    cli: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    node_servers: Path,
    tmp_path: Path,
    example: str,
    program: str,
    options: str,
    variable: str,
    rows: int,
    field: str,
    labels: int,
) -> None:
    folder = project / example
    left_out = shutil.ignore_patterns("data", ".env", ".nlp-skills")
    shutil.copytree(ROOT / "examples" / example, folder, ignore=left_out)
    readme, sample = (folder / "README.md").read_text(), (folder / ".env.example").read_text()
    # The command of the README, on a port that is free here.
    written = int(re.search(rf"{variable}=http://127.0.0.1:(\d+)", sample)[1])  # type: ignore[index]
    assert re.search(rf"npx --yes {program}@\S+ {re.escape(options.format(port=written))}\n", readme)
    port = free_port()
    (folder / ".env").write_text(sample.replace(str(written), str(port)))
    monkeypatch.chdir(folder)
    command: list[str | Path] = [node_servers / program, *options.format(port=port).split()]
    with running(command, port, tmp_path / "log", "/db" if program == "json-server" else "/"):
        checked = cli("data-source", "check", "--json")
        assert checked.code == 0, checked
        assert not (folder / "data").exists() or not list((folder / "data").rglob("*.jsonl"))
        done = cli("regenerate", "--json")
        assert done.code == 0, done
    validated = cli("validate", "--json")
    assert validated.code == 0, validated
    merged = [
        json.loads(line)
        for split in SPLITS
        for line in (folder / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(merged) == rows == len({row["text"] for row in merged})
    assert set(Counter(row[field] for row in merged).values()) == {labels}
    assert all(re.search(rf"\b{count}\b", readme) for count in (rows, labels))
