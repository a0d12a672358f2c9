"""Every test runs in an empty home, in English, offline, on one thread."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

# Without compiled code beside it, each of the hundreds of programs that are started here would compile all it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that starts the tests in the background has Ctrl-C ignored, and every program they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "fixtures_browser",
    "fixtures_models",
    "fixtures_sql",
    "fixtures_llm",
    "fixtures_rest",
    "fixtures_ssh",
    "fixtures_cloud",
    "fixtures_training",
    "fixtures_deployment",
    "fixtures_export",
    "fixtures_serving",
    "claude_code",
    "conversation",
    "launching",
]

ROOT = Path(__file__).resolve().parent.parent


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _quiet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NLP_SKILLS_LANG", "en")
    # A command line that another test ran in this process has chosen its language for the whole of it.
    monkeypatch.setattr("nlp_skills.i18n._chosen", None)
    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, which is also the working directory."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `nlp-skills ARGS…` in this process, as a user would from the working directory."""

    def run(*arguments: object) -> Ran:
        from nlp_skills.cli import frame
        from nlp_skills.cli.main import cli as group

        capfd.readouterr()
        code = frame.run(group, [str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


LABELS = ("positive", "neutral", "negative")
_WORDS = {
    "positive": ("great", "lovely", "excellent", "superb"),
    "neutral": ("plain", "ordinary", "usual", "average"),
    "negative": ("awful", "broken", "terrible", "useless"),
}
_THINGS = ("camera", "router", "player", "phone", "lens", "battery", "case", "screen", "strap", "manual")


def reviews(count: int, start: int = 0) -> list[dict[str, str]]:
    """Distinct, learnable rows `{text, label}`, classes in turn."""
    rows = []
    for number in range(start, start + count):
        label = LABELS[number % 3]
        word = _WORDS[label][number // 3 % 4]
        thing = _THINGS[number // 12 % 10]
        rows.append({"text": f"Order {number * 7919 % 100003}: this {thing} is {word}.", "label": label})
    return rows


TASK_YAML = """\
# A comment a person wrote.
task_name: {name}
version: v1
task_type: classification
domain: retail
language: en
input_template: |
  Is this review positive, neutral or negative?
  {{text}}
output_format:
  type: text
  schema:
    label:
      type: string
      enum: [positive, neutral, negative]
training:
  base_model: {base_model}
  method: sft
  lora: {{r: 8, alpha: 16}}
  epochs: 2
  learning_rate: 1e-3
  batch_size: 16
  max_length: 128
success_criteria:
  primary_metric: macro_f1
  threshold: 0.60
"""

DATA_SOURCE_YAML = """\
sources:
  - type: file_import
    name: reviews
    path: {path}
split:
  train: 0.6
  valid: 0.1
  test: 0.3
  seed: 7
"""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def make_task(project: Path) -> Callable[..., Path]:
    """Write a task folder by hand: task.yaml, data_source.yaml and reviews.jsonl in it (no data/ yet)."""

    def make(name: str = "sentiment", *, rows: int = 120, base_model: str = "none/none") -> Path:
        root = project / name
        root.mkdir()
        (root / "task.yaml").write_text(TASK_YAML.format(name=name, base_model=base_model), encoding="utf-8")
        source = write_rows(root / "reviews.jsonl", reviews(rows))
        (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path=source.name), encoding="utf-8")
        return root

    return make
