"""The examples of files, databases and the Hub: every command of their READMEs is run, against real servers.

Only the Hub is a fake one, on the loopback interface; what the README does to fill the real one is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import minihub
import pytest
from conftest import ROOT
from fixtures_sql import PASSWORD, Server

SPLITS = ("train", "valid", "test")


@pytest.fixture
def follow(tmp_path: Path) -> Any:
    """Do what an example's README says, in an empty folder; returns the task folder and what was printed."""

    def run(example: str, *, without: str = "\0", **variables: str) -> tuple[Path, str]:
        left_out = shutil.ignore_patterns("data", ".env", ".nlp-skills", "*.db")
        if example == "huggingface":
            left_out = shutil.ignore_patterns(".env", ".nlp-skills")
        shutil.copytree(ROOT / "examples" / example, tmp_path / "examples" / example, ignore=left_out)
        readme = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
        blocks = [block for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL) if without not in block]
        psql = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        path = [Path(sys.executable).parent, *psql[-1:], *os.environ["PATH"].split(os.pathsep)]
        environment = {**os.environ, "PATH": os.pathsep.join(map(str, path)), **variables}
        command = ["bash", "-euxo", "pipefail", "-c", "".join(blocks)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        folder = tmp_path / re.findall(r"^cd (.*)$", readme, re.MULTILINE)[0]
        return folder, done.stdout + done.stderr

    return run


def every_row(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for split in SPLITS
        for line in (folder / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def counted(folder: Path) -> tuple[int, dict[str, int]]:
    rows = every_row(folder)
    assert len({row["text"] for row in rows}) == len(rows)
    assert all(len((folder / "data" / f"{split}.jsonl").read_bytes().splitlines()) >= 1 for split in SPLITS)
    return len(rows), dict(Counter(row["label"] for row in rows))


def test_postgresql(follow: Any, postgresql: Server) -> None:
    admin = {"PGHOST": "127.0.0.1", "PGPORT": str(postgresql.port), "PGUSER": postgresql.user, "PGPASSWORD": PASSWORD}
    folder, said = follow("database-postgresql", DB_PORT=str(postgresql.port), **admin)
    assert counted(folder) == (96, {"billing": 24, "delivery": 24, "account": 24, "product": 24})
    assert PASSWORD not in said
    assert "warning" not in said.lower(), said
    # The later tickets are in the table, and come in when the date is moved.
    settings = folder / "data_source.yaml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("2026-06-30", "2026-07-31"), encoding="utf-8")
    subprocess.run(
        [Path(sys.executable).parent / "nlp-skills", "regenerate"],
        cwd=folder,
        env={**os.environ, "DB_PORT": str(postgresql.port)},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert counted(folder)[0] == 100


def test_mariadb(follow: Any, mariadb: Server, tmp_path: Path) -> None:
    home = tmp_path / "admin"
    home.mkdir()
    # How a client is told of a server other than the usual one, without a change to the commands.
    login = {"host": "127.0.0.1", "port": mariadb.port, "user": "root", "protocol": "tcp"}
    (home / ".my.cnf").write_text("[client]\n" + "".join(f"{key}={value}\n" for key, value in login.items()))
    folder, _said = follow("database-mariadb", DB_PORT=str(mariadb.port), HOME=str(home))
    assert counted(folder) == (72, {"positive": 24, "neutral": 24, "negative": 24})
    assert {row["annotator"] for row in every_row(folder)} == {"lin", "wu"}


def test_sqlite(follow: Any) -> None:
    folder, _said = follow("database-sqlite")
    assert counted(folder) == (78, {"sport": 26, "economy": 26, "weather": 26})


def test_files(follow: Any) -> None:
    folder, said = follow("file-import")
    assert counted(folder) == (90, {"positive": 30, "neutral": 30, "negative": 30})
    assert "cp950" in said
    assert {row.get("門市") for row in every_row(folder)} == {"台北", "高雄", None}


def test_the_hub(follow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = ROOT / "examples" / "huggingface" / "hub"
    content = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    with minihub.running() as hub:
        repo = hub.repo("YOUR-NAME/desk-questions")
        pinned = repo.commit(content, tag="v1.0")
        repo.commit({**content, "data/train.csv": b"text,label\nlater,0\n"})
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "hf")}
        folder, _said = follow("huggingface", without="hf upload", HF_ENDPOINT=hub.url, **quiet)
    assert counted(folder) == (72, {"hours": 24, "loans": 24, "events": 24})
    assert pinned in "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.source.json")) + "".join(
        path.read_text(encoding="utf-8") for path in folder.rglob("data.lock.yaml")
    )
