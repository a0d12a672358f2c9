"""examples/web-scrape, as its README says, with the pages served by Python's own web server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Ran

EXAMPLE = ROOT / "examples" / "web-scrape"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of the example's site, and the server's log."""
    log = tmp_path / "server.log"
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", EXAMPLE / "site"]
    with open(log, "wb") as stream:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    try:
        assert running.stdout is not None
        port = re.search(r"port (\d+)", running.stdout.readline())
        assert port, log.read_text()
        yield f"http://127.0.0.1:{port[1]}", log
    finally:
        running.kill()
        running.wait(10)


@pytest.fixture
def task(project: Path, server: tuple[str, Path]) -> Path:
    root = project / "web-scrape"
    shutil.copytree(EXAMPLE, root)
    example = (EXAMPLE / ".env.example").read_text(encoding="utf-8")
    (root / ".env").write_text(re.sub(r"(?m)^REVIEWS_SITE=.*", f"REVIEWS_SITE={server[0]}", example), encoding="utf-8")
    return root


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(log: Path) -> list[str]:
    return re.findall(r'"GET (\S+) HTTP', log.read_text(encoding="utf-8"))


def test_the_example_regenerates_and_is_valid(
    task: Path, server: tuple[str, Path], cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, log = server
    monkeypatch.chdir(task)
    looked = cli("data-source", "check")
    assert looked.code == 0, looked.err
    assert "三分鐘就煮開一公升" in looked.out
    assert not (task / "data").exists()

    done = cli("regenerate", "--json")
    assert done.code == 0, done.err
    assert asked(log) == [
        *("/robots.txt", "/index.html"),
        *("/robots.txt", "/index.html", "/page2.html", "/page3.html"),
    ]
    raw = lines(task / "data" / "raw" / "reviews.jsonl")
    assert Counter(row["label"] for row in raw) == {"positive": 22, "neutral": 22, "negative": 22}
    assert Counter(row["url"] for row in raw) == {
        "${REVIEWS_SITE}/index.html": 24,
        "${REVIEWS_SITE}/page2.html": 21,
        "${REVIEWS_SITE}/page3.html": 21,
    }
    assert raw[-1]["text"].endswith("弄丟一支。")
    assert any("robots.txt" in text for text in done.json["warnings"])
    counts = {name: len(lines(task / "data" / f"{name}.jsonl")) for name in ("train", "valid", "test")}
    assert counts == {"train": 42, "valid": 12, "test": 12}

    checked = cli("validate", "--no-tokens", "--json")
    assert checked.code == 0, checked.out
    assert not [path for path in (task / "data").rglob("*") if path.is_file() and address in path.read_text("utf-8")]


def test_a_changed_selector_asks_for_no_page_and_the_same_settings_give_the_same_bytes(
    task: Path, server: tuple[str, Path], cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    _address, log = server
    monkeypatch.chdir(task)
    assert cli("regenerate").code == 0
    first = {path.name: path.read_bytes() for path in (task / "data").glob("*.jsonl")}
    settings = task / "data_source.yaml"
    written = settings.read_text(encoding="utf-8")
    settings.write_text(written.replace("product: .product", "stars: .stars"), encoding="utf-8")
    asked_before = asked(log)
    assert cli("regenerate").code == 0
    assert {row["stars"] for row in lines(task / "data" / "train.jsonl")} == {"★★★★★", "★★★☆☆", "★☆☆☆☆"}
    assert asked(log) == asked_before
    settings.write_text(written, encoding="utf-8")
    assert cli("regenerate", "--refresh").code == 0
    assert asked(log) == asked_before * 2
    assert {path.name: path.read_bytes() for path in (task / "data").glob("*.jsonl")} == first
