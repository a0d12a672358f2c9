"""Data sets of the Hub: the real `datasets` and `huggingface_hub` against our loopback hub, which is a fake."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minihub
import pytest

from nlp_skills.data import sources
from nlp_skills.schema.source import HuggingFace

CARD = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': negative
          '1': positive
---
"""

# Many fetches in one process: importing `datasets` costs seconds.
MANY = """
import json, sys
from pathlib import Path
from nlp_skills.data import sources
from nlp_skills.errors import Problem
from nlp_skills.schema.source import HuggingFace
from nlp_skills.workspace.folder import TaskFolder
folder = TaskFolder(Path(sys.argv[1]))
for line in sys.stdin:
    case = json.loads(line)
    fetching = sources.Fetching(folder, preview=case.pop("preview", False))
    answer = {"record": fetching.record, "warnings": fetching.warnings}
    try:
        stream = sources.fetch(HuggingFace(type="huggingface", name="h", **case), fetching)
        answer["rows"] = [next(stream), next(stream)] if fetching.preview else list(stream)
        stream.close()
    except Problem as problem:
        answer |= {"problem": problem.as_dict(), "code": problem.exit_code}
    print(json.dumps(answer))
"""


def table(rows: list[tuple[str, int]]) -> bytes:
    return ("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)).encode()


PICTURES = {
    "README.md": CARD[: CARD.index("  - name: label")].encode() + b"  - name: photo\n    dtype: image\n---\n",
    "train.jsonl": b'{"text": "a", "photo": "a.png"}\n',
}


def nested() -> bytes:
    import datasets

    kind = datasets.ClassLabel(names=["PER", "LOC"])
    features = datasets.Features({"text": datasets.Value("string"), "tags": datasets.List(kind), "at": {"kind": kind}})
    rows = {"text": ["a", "b"], "tags": [[0, 1], []], "at": [{"kind": 1}, {"kind": None}]}
    out = io.BytesIO()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def hub() -> Iterator[minihub.Hub]:
    with minihub.running() as found:
        repo = found.repo("shop/reviews")
        old = {"README.md": CARD.encode(), "train.csv": table([("好", 1), ("壞", 0)]), "test.csv": table([("t", 0)])}
        repo.commit(old, tag="v1.0")
        repo.commit({**old, "train.csv": table([("好", 1), ("壞", 0), ("新", 1)])}, branch="main")
        many = [json.dumps({"text": "很長的評論" * 200, "n": n}).encode() for n in range(4000)]
        parts = {f"train-{part}.jsonl": b"\n".join(many[1000 * part : 1000 * (part + 1)]) for part in range(4)}
        found.repo("shop/many").commit(parts)
        found.repo("shop/pictures").commit(PICTURES)
        found.repo("shop/nested").commit({"train.parquet": nested()})
        found.repo("shop/secret", private=True).commit({"train.jsonl": b'{"text": "x"}\n'})
        found.repo("shop/gated", gated=True).commit({"train.jsonl": b'{"text": "x"}\n'})
        found.repo("shop/script").commit({"script.py": b"import os\n"})
        yield found


@pytest.fixture
def ask(hub: minihub.Hub, tmp_path: Path) -> Any:
    """Fetch several sources in one fresh process."""
    root = tmp_path / "task"
    root.mkdir()
    (root / "data_source.yaml").write_text("sources: []\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def fetched(*cases: dict[str, Any], **variables: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-c", MANY, str(root)],
            input="".join(json.dumps(case) + "\n" for case in cases),
            env={**kept, **online, "HF_HOME": str(tmp_path / "hf"), **variables},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    return fetched


def reviews(revision: str, **more: Any) -> dict[str, Any]:
    return {"dataset": "shop/reviews", "revision": revision, **more}


def test_a_revision_is_the_commit_it_stands_for(hub: minihub.Hub, ask: Any) -> None:
    repo = hub.repos["shop/reviews"]
    old, new = repo.tags["v1.0"], repo.heads["main"]
    repo.heads["next"] = new
    pinned, tag, main, branch, test = ask(
        reviews(old), reviews("v1.0"), reviews("main"), reviews("next"), reviews(old, split="test")
    )
    two = [{"text": "好", "label": "positive"}, {"text": "壞", "label": "negative"}]
    assert pinned["rows"] == tag["rows"] == two
    assert main["rows"] == branch["rows"] == [*two, {"text": "新", "label": "positive"}]
    assert test["rows"] == [{"text": "t", "label": "negative"}]
    found = [(answer["record"]["commit"], answer["record"]["ref"]) for answer in (pinned, tag, main, branch)]
    assert found == [(old, "commit"), (old, "tag"), (new, "branch"), (new, "branch")]
    assert [len(answer["warnings"]) for answer in (pinned, tag, main, branch)] == [0, 0, 0, 1]
    assert new in branch["warnings"][0]


def test_a_preview_and_max_rows_download_a_part(hub: minihub.Hub, ask: Any) -> None:
    def read() -> set[str]:
        return {path[-13:] for path in hub.asked if path.startswith("GET /datasets/shop/many/resolve")}

    [preview] = ask({"dataset": "shop/many", "revision": "main", "preview": True})
    assert len(preview["rows"]) == 2
    [some] = ask({"dataset": "shop/many", "revision": "main", "max_rows": 5})
    assert [row["n"] for row in some["rows"]] == [0, 1, 2, 3, 4]
    assert read() == {"train-0.jsonl"}
    [every] = ask({"dataset": "shop/many", "revision": "main"})
    assert [row["n"] for row in every["rows"]] == list(range(4000))
    assert read() == {f"train-{part}.jsonl" for part in range(4)}


def test_classes_within_lists_have_names_and_pictures_are_refused(ask: Any) -> None:
    inner, picture = ask(
        {"dataset": "shop/nested", "revision": "main"}, {"dataset": "shop/pictures", "revision": "main"}
    )
    assert inner["rows"] == [
        {"text": "a", "tags": ["PER", "LOC"], "at": {"kind": "LOC"}},
        {"text": "b", "tags": [], "at": {"kind": None}},
    ]
    assert "photo" in picture["problem"]["message"]
    assert "Image" in picture["problem"]["message"]


@pytest.mark.parametrize("preview", [False, True])
def test_whatever_goes_wrong_has_its_words_and_a_mend(hub: minihub.Hub, ask: Any, preview: bool) -> None:
    cases = {
        "no revision v9": reviews("v9"),
        "no split dev": reviews("main", split="dev"),
        "which subset": reviews("main", subset="zh"),
        "no data set shop/none": {"dataset": "shop/none", "revision": "main"},
        "no data set shop/secret": {"dataset": "shop/secret", "revision": "main"},
        "no data set shop/secret for us": {"dataset": "shop/secret", "revision": "main", "token": "hf_wrongTokenHere"},
        "only for those let in": {"dataset": "shop/gated", "revision": "main"},
        "cannot be read": {"dataset": "shop/script", "revision": "main"},
    }
    answers = ask(*({**case, "preview": preview} for case in cases.values()))
    for words, answer in zip(cases, answers, strict=True):
        problem = answer["problem"]
        assert words in problem["message"]
        assert problem["cause"] and problem["mend"]
        assert problem["file"].endswith("data_source.yaml")
        assert "hf_wrongTokenHere" not in json.dumps(answer)
        assert answer["code"] == (3 if "let in" in words else 1)


def test_a_token_opens_what_is_closed(ask: Any) -> None:
    token = "${MY_TOKEN}"
    secret, gated = ask(
        {"dataset": "shop/secret", "revision": "main", "token": token},
        {"dataset": "shop/gated", "revision": "main", "token": token},
        MY_TOKEN=minihub.TOKEN,
    )
    assert secret["rows"] == gated["rows"] == [{"text": "x"}]
    assert minihub.TOKEN not in json.dumps([secret, gated])


def test_offline_and_unreachable_are_told_apart(hub: minihub.Hub, ask: Any) -> None:
    old = hub.repos["shop/reviews"].tags["v1.0"]
    # What is in the cache of another commit is never taken for the one that is asked for.
    ask(reviews("main"))
    [offline] = ask(reviews(old), HF_HUB_OFFLINE="1")
    assert (offline["code"], "HF_HUB_OFFLINE" in offline["problem"]["mend"]) == (3, True)
    assert "rows" not in offline
    [away] = ask(reviews(old), HF_ENDPOINT="http://127.0.0.1:9")
    assert (away["code"], away["problem"]["message"]) == (3, "the Hub cannot be reached")


def test_a_revision_that_moves_is_warned_about_before_fetching() -> None:
    def warned(revision: str) -> int:
        return len(sources.warnings(HuggingFace(type="huggingface", name="h", dataset="a/b", revision=revision)))

    assert [warned(name) for name in ("main", "refs/pr/1", "v1.0", "0" * 40)] == [1, 1, 0, 0]
