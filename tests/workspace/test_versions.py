"""The next version: what it copies, what it says, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from killing import run_until

from nlp_skills.schema import yaml
from nlp_skills.schema.task import Versioning
from nlp_skills.schema.version import Results
from nlp_skills.workspace import naming, versions
from nlp_skills.workspace.folder import TaskFolder

CONFIG = "# mine\nbase_model: none/none\nlora: {r: 8, alpha: 16}\nlearning_rate: 1e-3  # found by hand\nepochs: 2\n"


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    folder = TaskFolder.at(make_task())
    v1 = folder.version("v1")
    v1.root.mkdir(parents=True)
    v1.config_path.write_text(CONFIG, encoding="utf-8")
    return folder


def test_new_version_copies_the_configuration_with_its_comments(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("new-version", "sentiment", "--change", "LoRA rank 8 → 32", "--set", "lora.r=32", "--json")
    assert ran.code == 0, ran.err
    assert ran.json.pop("diff").startswith("--- versions/v1/config.yaml\n+++ versions/v2/config.yaml\n@@")
    assert ran.json == {
        "ok": True, "version": "v2", "parent": "v1", "changes": ["LoRA rank 8 → 32"],
        "computed": ["LoRA rank 8 → 32"], "proposal": "minor", "diff": ran.json["diff"], "reasons": [],
        "next": "nlp-skills regenerate && nlp-skills train",
    }  # fmt: skip
    text = task.version("v2").config_path.read_text(encoding="utf-8")
    assert "# mine" in text and "# found by hand" in text
    config = task.version("v2").config()
    assert config.lora is not None and config.lora.r == 32
    assert config.learning_rate == 1e-3
    assert task.task().version == "v2"
    assert task.task().status == "configuring"
    assert "A comment a person wrote" in task.task_path.read_text(encoding="utf-8")


def test_what_was_set_is_described_when_nobody_says(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("new-version", "--set", "lora.r=32", "--set", "learning_rate=5e-4", "--json")
    assert ran.json["changes"] == ["LoRA rank 8 → 32", "learning_rate 1e-3 → 5e-4"]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ([], 2, "nothing says what changes"),
        (["--change", "x", "--set", "lora.rank=3"], 1, "unknown key lora.rank"),
        (["--change", "x", "--set", "learning_rate=1.0"], 1, "it must be <= 0.1"),
        (["--change", "x", "--set", "learning_rate"], 2, "KEY=VALUE"),
        (["--set", "epochs.few=3"], 2, "epochs is one value, not a group of settings"),
        (["--set", "lora.r.r=3"], 2, "lora.r is one value, not a group of settings"),
        (["--set", "lora=8"], 1, "wrong value for lora"),
        (["--set", "epochs=2"], 2, "the next version would be v1 again"),
        (["--set", "epochs=3", "--minor", "--exp"], 2, "a version is of one kind"),
        (["--change", "x", "--from", "v7"], 1, "v7 does not exist"),
        (["--change", "x", "--from", "../v1"], 2, "not a version name"),
    ],
)
def test_bad_requests_change_nothing(
    task: TaskFolder, cli: Callable[..., Ran], arguments: list[str], code: int, part: str
) -> None:
    before = {path: path.read_bytes() for path in task.root.rglob("*.yaml")}
    ran = cli("new-version", *arguments)
    assert ran.code == code
    assert part in ran.err
    assert {path: path.read_bytes() for path in task.root.rglob("*.yaml")} == before


KINDS = {"": "v2", "--major": "v2", "--minor": "v1.1", "--exp": "v1-exp"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_name(task: TaskFolder, cli: Callable[..., Ran], kind: str) -> None:
    ran = cli("new-version", "--set", "epochs=3", *filter(None, [kind]), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["version"] == task.task().version == KINDS[kind]
    lineage = task.version(KINDS[kind]).lineage()
    assert lineage is not None and (lineage.version, lineage.parent) == (KINDS[kind], "v1")


def test_a_script_gets_the_major_version_and_a_hint(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("new-version", "--set", "epochs=3")
    assert "v2, from v1" in ran.out
    assert "only parameters change: with --minor it would have been v1.1" in ran.err
    assert "v1.1" not in cli("new-version", "--set", "base_model=other/other").err
    assert "--minor" not in cli("new-version", "--set", "epochs=4", "--major").err


@pytest.mark.parametrize("strategy", ["date", "hybrid"])
def test_strategies_without_minor_versions_propose_none(
    task: TaskFolder, cli: Callable[..., Ran], strategy: str
) -> None:
    first = naming.first_name(Versioning.model_validate({"strategy": strategy}))
    task.version("v1").root.rename(task.root / "versions" / first)
    yaml.change(task.task_path, {("version",): first, ("versioning",): {"strategy": strategy}})
    ran = cli("new-version", "--set", "epochs=3", "--json")
    assert ran.code == 0 and ran.json["proposal"] is None
    refused = cli("new-version", "--set", "epochs=4", "--minor")
    assert refused.code == 2 and "no minor number" in refused.err
    assert len(task.version_names()) == 2


def test_the_difference_is_shown_line_by_line(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("new-version", "--set", "lora.r=32", "--exp")
    assert "-lora: {r: 8, alpha: 16}\n+lora: {r: 32, alpha: 16}\n" in ran.out
    assert "@@" not in cli("new-version", "--change", "labels of sarcastic reviews corrected").out


def test_a_version_that_was_never_trained_says_so_before_another_is_made(
    task: TaskFolder, cli: Callable[..., Ran]
) -> None:
    assert cli("new-version", "--set", "epochs=3").code == 0
    ran = cli("new-version", "--set", "epochs=3")
    assert ran.code == 2
    assert "the next version would be v2 again" in ran.err and "v2 is not trained yet" in ran.err


def test_an_archived_task_gets_no_version(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(task.task_path, {("status",): "archived"})
    ran = cli("new-version", "--set", "epochs=3")
    assert ran.code == 1 and "archived" in ran.err and "unarchive" in ran.err
    assert task.version_names() == ["v1"]


def editor(project: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let $EDITOR be a program that changes the file as a person would."""
    path = project / "editor.py"
    path.write_text(f"import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n{script}\n")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {path}")
    monkeypatch.delenv("VISUAL", raising=False)


EDIT = "path.write_text(path.read_text().replace('epochs: 2', 'epochs: 4  # by hand'))"


def test_the_configuration_is_edited_before_anything_is_made(
    task: TaskFolder, cli: Callable[..., Ran], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(project, monkeypatch, EDIT)
    ran = cli("new-version", "--edit", "--set", "lora.r=32", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["changes"] == ["LoRA rank 8 → 32", "epochs 2 → 4"]
    text = task.version("v2").config_path.read_text()
    assert "epochs: 4  # by hand" in text and "r: 32" in text and "# found by hand" in text


def test_an_editor_left_as_it_was_makes_nothing(
    task: TaskFolder, cli: Callable[..., Ran], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script in ("pass", "path.write_text(path.read_text())"):
        editor(project, monkeypatch, script)
        ran = cli("new-version", "--edit")
        assert ran.code == 2 and "no version made: the configuration was left as it is" in ran.err
    assert task.version_names() == ["v1"] and task.task().status == "created"
    assert cli("new-version", "--edit", "--set", "epochs=3").code == 0
    assert task.version("v2").config().epochs == 3


@pytest.mark.parametrize(
    ("written", "part"),
    [("epochs: many\n", "config.yaml:1: wrong value for epochs"), ("epochs: [\n", "not valid YAML"), ("", "is empty")],
)
def test_an_edited_configuration_that_is_wrong_makes_nothing(
    task: TaskFolder, cli: Callable[..., Ran], project: Path, monkeypatch: pytest.MonkeyPatch, written: str, part: str
) -> None:
    editor(project, monkeypatch, f"path.write_text({written!r})")
    ran = cli("new-version", "--edit")
    assert ran.code == 1
    assert part in ran.err
    assert task.version_names() == ["v1"]


def in_terminal(*arguments: str, answers: list[tuple[str, str]]) -> tuple[int, str]:
    """The command in a terminal of its own: each answer is typed once its question is on the screen."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nlp_skills.cli.main", *arguments], stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    screen = ""
    with contextlib.suppress(OSError):  # the terminal closes with the program
        while part := os.read(leader, 4096).decode():
            screen += part
            if answers and answers[0][0] in screen:
                os.write(leader, answers.pop(0)[1].encode() + b"\n")
    os.close(leader)
    return process.wait(timeout=30), screen


@pytest.mark.parametrize(
    ("settings", "answer", "proposed", "made"),
    [("epochs=3", "", "minor", "v1.1"), ("epochs=3", "exp", "minor", "v1-exp"), ("method=dpo", "", "major", "v2")],
)
def test_a_person_is_asked_with_the_proposal_as_the_default(
    task: TaskFolder, settings: str, answer: str, proposed: str, made: str
) -> None:
    code, screen = in_terminal("new-version", "--set", settings, answers=[("Which kind of version is it?", answer)])
    assert code == 0, screen
    assert f"[{proposed}]" in screen and "minor: v1.1" in screen and "exp: v1-exp" in screen
    assert task.version_names() == sorted(["v1", made], key=naming.sort_key)


def test_a_person_who_walks_away_from_the_question_leaves_nothing(task: TaskFolder) -> None:
    code, screen = in_terminal("new-version", "--set", "epochs=3", answers=[("Which kind", "\x04")])
    assert code == 130, screen
    assert task.version_names() == ["v1"]


def test_a_person_may_mend_what_was_edited(task: TaskFolder, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "text = path.read_text()\npath.write_text(text.replace('epochs: many', 'epochs: 6') "
    editor(project, monkeypatch, script + "if 'many' in text else text.replace('epochs: 2', 'epochs: many'))")
    answers = [("Change the answers?", "y"), ("Which kind", "")]
    code, screen = in_terminal("new-version", "--edit", answers=answers)
    assert code == 0, screen
    assert "wrong value for epochs" in screen
    assert task.version("v1.1").config().epochs == 6


@pytest.mark.parametrize("options", [[], ["--minor"], ["--exp"], ["--from", "v1", "--exp"]], ids=" ".join)
def test_killed_before_any_change_the_same_command_goes_on(
    task: TaskFolder, project: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran], options: list[str]
) -> None:
    command = ["--change", "longer training", "--set", "epochs=5", *options]
    killed = 0
    for write in range(200):
        copy = project / f"turn{write}" / "sentiment"
        shutil.copytree(task.root, copy)
        code = run_until(write, copy, ["new-version", str(copy), *command])
        folder = TaskFolder.at(copy)
        assert folder.task().version in folder.version_names()
        if code == 0:
            break
        assert code == -9
        killed += 1
        again = cli("new-version", copy, *command)
        assert again.code == 0, again.err
        assert len(folder.version_names()) == 2, f"made twice, killed at {write}"
        lineage = folder.version().lineage()
        assert lineage is not None and (lineage.parent, lineage.changes) == ("v1", ["longer training"])
        assert not list((copy / "versions").glob("*.tmp"))
    assert killed > 5


def test_a_half_made_version_of_another_command_is_not_taken_for_this_one(
    task: TaskFolder, cli: Callable[..., Ran]
) -> None:
    """Same words and same parent, but other settings, or begun already."""
    words = ["--from", "v1", "--change", "longer training"]
    assert cli("new-version", *words, "--set", "epochs=5", "--json").json["version"] == "v2"
    assert cli("new-version", *words, "--set", "epochs=5", "--json").json["version"] == "v2"
    assert cli("new-version", *words, "--set", "epochs=6", "--json").json["version"] == "v3"
    task.version("v2").run.mkdir()
    assert cli("new-version", *words, "--set", "epochs=5", "--json").json["version"] == "v4"


def test_a_purged_name_is_not_given_again(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    assert cli("new-version", "--set", "epochs=3").code == 0
    assert cli("new-version", "--from", "v1", "--set", "epochs=4").code == 0
    shutil.rmtree(task.version("v3").root)
    assert cli("new-version", "--from", "v1", "--set", "epochs=5", "--json").json["version"] == "v4"


def _results(value: float) -> Results:
    per_class = {
        name: {"precision": value, "recall": value, "f1": value, "support": 5}
        for name in ("positive", "neutral", "negative")
    }
    return Results.model_validate(
        {
            "version": "v1",
            "created": "2026-01-06T14:00:00+08:00",
            "test_sha256": "sha256:0",
            "test_rows": 15,
            "metrics": {"macro_f1": value, "accuracy": value},
            "per_class": per_class,
            "success": {"primary_metric": "macro_f1", "value": value, "threshold": 0.6, "met": value >= 0.6},
        }
    )


def test_history_and_tasks_show_the_primary_metric(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    versions.new_version(task, changes=["中立樣本 +200"], settings={})
    _results(0.815).save(task.version("v2").results_path)
    ran = cli("history")
    assert "v2 (*)" in ran.out and "81.5%" in ran.out and "中立樣本 +200" in ran.out
    lines = [line for line in ran.out.splitlines() if line.startswith(("│", "┌"))]
    from rich.cells import cell_len

    assert len({cell_len(line) for line in lines}) == 1
    listed = cli("tasks")
    assert "Macro-F1" in listed.out and "81.5%" in listed.out and "v2" in listed.out


def test_a_broken_task_is_listed_with_its_reason(task: TaskFolder, cli: Callable[..., Ran], project: Path) -> None:
    (project / "broken").mkdir()
    (project / "broken" / "task.yaml").write_text("task_name: broken\nstatu: created\n", encoding="utf-8")
    ran = cli("tasks")
    assert ran.code == 0
    assert "sentiment" in ran.out
    assert "broken/task.yaml" in ran.out
    by_name = {entry["name"]: entry for entry in cli("tasks", "--json").json["tasks"]}
    assert by_name["broken"]["error"]["line"] is not None
    assert by_name["sentiment"]["status"] == "created"


def test_looking_at_a_lineage_makes_none(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("lineage", "v1")
    assert ran.code == 1
    assert "no lineage yet" in ran.err and "--complete" in ran.err
    assert not task.version("v1").lineage_path.exists()


def test_lineage_is_completed_from_the_versions_own_files(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    v1 = task.version("v1")
    _results(0.7).save(v1.results_path)
    ran = cli("lineage", "v1", "--complete", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["mended"] == ["config", "results"]
    lineage = yaml.read(v1.lineage_path).data
    assert lineage["results"]["macro_f1"] == 0.7
    assert lineage["results"]["per_class"]["neutral"]["f1"] == 0.7
    assert lineage["config"]["lora"]["r"] == 8
    again = cli("lineage", "sentiment", "v1", "--complete", "--json")
    assert again.json["mended"] == []
