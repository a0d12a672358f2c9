"""`diagnose` with whatever is there: nothing trained, a run that goes on, one that failed, files that are broken."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, reviews, write_rows

from nlp_skills import files
from nlp_skills.diagnosis import diagnose, rules
from nlp_skills.diagnosis.course import Course
from nlp_skills.schema import yaml
from nlp_skills.schema.version import Check, ModelInfo, Results, RunStatus, Verdict
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    """A task with rows and a configured version, and nothing trained."""
    found = TaskFolder.at(make_task())
    rows = reviews(96)
    for name, split in {"train": rows[:60], "valid": rows[60:72], "test": rows[72:]}.items():
        write_rows(found.split(name), split)
    path = found.version("v1").config_path
    path.parent.mkdir(parents=True)
    path.write_text("base_model: none/none\nepochs: 4\nlearning_rate: 2e-5\n", encoding="utf-8")
    return found


def run_of(folder: TaskFolder, losses: Sequence[float], *, valid: Sequence[float] = (), **status: Any) -> None:
    """A run's records as a training leaves them, four epochs long."""
    version = folder.version("v1")
    version.run.mkdir(exist_ok=True)
    lines: list[dict[str, Any]] = []
    for step, loss in enumerate(losses, 1):
        lines.append({"step": step, "epoch": 4 * step / len(losses), "loss": loss, "tokens": step, "seconds": step})
    for number, loss in enumerate(valid, 1):
        step = len(losses) * number // len(valid)
        lines.append({**lines[step - 1], "eval_loss": loss})
        del lines[-1]["loss"]
    write_rows(version.metrics_path, lines)
    now = files.now()
    known = {"state": "completed", "pid": 1, "host": socket.gethostname(), "started": now, "updated": now}
    given = {"task": "sentiment", "version": "v1", "step": len(losses), "total_steps": len(losses), **known, **status}
    RunStatus.model_validate(given).save(version.status_path)


def results_of(folder: TaskFolder, **given: Any) -> Results:
    found = {
        "version": "v1",
        "created": files.now(),
        "test_sha256": files.sha256_file(folder.split("test")),
        "test_rows": 24,
        "metrics": {"macro_f1": 0.55, "accuracy": 0.55, "valid_answer_probability": 0.97},
        "success": Verdict(primary_metric="macro_f1", value=0.55, threshold=0.6, verdict="not_met"),
        **given,
    }
    results = Results.model_validate(found)
    results.save(folder.version("v1").results_path)
    return results


def codes(folder: TaskFolder) -> list[str]:
    return [finding.code for finding in diagnose.of(folder).findings]


def test_what_was_not_done_yet_is_named_with_its_command(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("diagnose", "--json", "sentiment")
    assert ran.code == 0 and ran.json["well"] and [f["code"] for f in ran.json["findings"]] == ["nothing"]
    mends = {entry.get("mend") for entry in ran.json["unseen"]}
    assert {"nlp-skills train sentiment --version v1", "nlp-skills evaluate sentiment --version v1"} <= mends
    said = cli("diagnose", "sentiment")
    assert "not looked at:" in said.out and "v1 was not trained" in said.out


def test_a_task_without_versions_and_a_version_that_is_none_are_refused(
    make_task: Callable[..., Path], cli: Callable[..., Ran]
) -> None:
    root = make_task()
    ran = cli("diagnose", root)
    assert ran.code == 1 and "version v1 does not exist" in ran.err and "mend:" in ran.err
    assert cli("diagnose", root, "--version", "newest").code == 2
    assert cli("diagnose", "nothing-of-this-name", "--json").json["exit_code"] == 2


def test_the_same_rows_in_train_and_test_come_first_even_untrained(folder: TaskFolder) -> None:
    write_rows(folder.split("test"), [*reviews(6), *reviews(18, start=200)])
    first = diagnose.of(folder).findings[0]
    assert (first.code, first.severity) == ("leakage", "critical")
    assert first.evidence[0].figures["same"] == 6 and list(first.evidence[0].rows) == [1, 2, 3, 4, 5]
    assert first.change is not None and first.change.lines[0] == "nlp-skills regenerate sentiment"


def test_of_a_run_that_goes_on_nothing_is_said_that_only_its_end_shows(folder: TaskFolder) -> None:
    run_of(folder, [1.9 - 0.001 * step for step in range(40)], state="running", pid=os.getpid())
    found = diagnose.of(folder)
    assert found.well and any("goes on" in entry.why for entry in found.unseen)
    run_of(folder, [1.9 - 0.001 * step for step in range(40)])
    assert codes(folder)[0] == "learning_rate_too_low"


def test_a_run_that_goes_on_and_was_thrown_off_is_told_so(folder: TaskFolder) -> None:
    run_of(folder, [1.9, 1.8, 1.7, 2.5, 6.0, 7.0, 6.0, *[2.4] * 20], state="running", pid=os.getpid())
    first = diagnose.of(folder).findings[0]
    assert first.code == "learning_rate_too_high" and first.evidence[0].step == 6
    assert first.change is not None and first.change.settings == {"learning_rate": 2e-6}


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ({"state": "failed", "reason": "nan_loss"}, "learning_rate_too_high", "no longer a number"),
        ({"state": "failed", "reason": "diverged"}, "learning_rate_too_high", "did not come down again"),
        ({"state": "failed", "reason": "out_of_memory"}, "run_failed", "not enough memory"),
        ({"state": "failed", "message": "a label is missing"}, "run_failed", "a label is missing"),
        ({"state": "running"}, "run_failed", "it is dead"),
        ({"state": "interrupted"}, "run_failed", "it is interrupted"),
    ],
)
def test_a_run_that_ended_badly_comes_first(folder: TaskFolder, status: dict[str, Any], code: str, words: str) -> None:
    gone = subprocess.run(["true"], check=True)  # whose number nobody has now
    assert gone.returncode == 0
    run_of(folder, [1.9, 1.5, 1.2], total_steps=40, **({"pid": 2**22 + 1} | status))
    first = diagnose.of(folder).findings[0]
    assert (first.code, first.severity) == (code, "critical")
    assert words in first.evidence[0].text and first.change is not None and first.change.lines


def test_broken_files_are_named_and_stop_nothing(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    version = folder.version("v1")
    run_of(folder, [1.9 - 0.001 * step for step in range(40)])
    with open(version.metrics_path, "a", encoding="utf-8") as stream:
        stream.write('{"step": 41, "loss": "x"}\n[1]\n"words"\n{"step": 42, "lo')
    results_of(folder)
    version.predictions_path.write_text("{not json\n")
    version.snapshot_path.write_text("[]")
    version.model_info_path.write_text("\x00")
    version.lineage_path.write_text("version: [")
    (version.root / "learning_curve.json").write_text("{")
    folder.split("test").write_bytes(b"\xff\xfe\n{}\n")
    ran = cli("diagnose", "sentiment", "--json")
    assert ran.code == 0 and ran.json["findings"][0]["code"] == "learning_rate_too_low"
    unseen = " ".join(entry["why"] for entry in ran.json["unseen"])
    for name in ("predictions.jsonl", "data_snapshot.json", "model_info.json", "lineage.yaml", "learning_curve.json"):
        assert name in unseen, name


def test_split_files_of_other_rows_than_the_versions_are_not_taken_for_its_own(folder: TaskFolder) -> None:
    from nlp_skills.data import snapshot

    snapshot.write(folder, "v1")
    write_rows(folder.split("test"), reviews(24))
    found = diagnose.of(folder)
    assert "leakage" not in {finding.code for finding in found.findings}
    assert any("changed since the version was made" in entry.why for entry in found.unseen)


def test_a_test_split_that_cannot_tell_says_how_many_rows_would(folder: TaskFolder) -> None:
    check = Check(about="threshold", metric="macro_f1", value=0.55, interval=(0.4, 0.7), least=0.6,
                  verdict="cannot_tell", rows_needed=310)  # fmt: skip
    success = Verdict(primary_metric="macro_f1", value=0.55, threshold=0.6, verdict="cannot_tell", checks=[check])
    results_of(folder, success=success)
    first = diagnose.of(folder).findings[0]
    assert first.code == "test_too_small" and first.effort is not None and first.effort.label_rows == 310 - 24
    assert first.change is not None and "310 instead of 24" in first.change.text


def test_settings_are_a_note_where_the_criteria_are_met(folder: TaskFolder) -> None:
    run_of(folder, [2.0] * 20 + [1.9] * 20)
    assert diagnose.of(folder).findings[0].severity == "warning"
    results_of(folder, success=Verdict(primary_metric="macro_f1", value=0.9, threshold=0.6, verdict="met"))
    assert diagnose.of(folder).well


def test_a_chat_template_of_ours_on_a_base_that_has_one_is_found(
    folder: TaskFolder, tiny_base: Path, cli: Callable[..., Ran]
) -> None:
    version = folder.version("v1")
    yaml.change(version.config_path, {("base_model",): str(tiny_base), ("chat_template",): "plain"})
    first = diagnose.of(folder).findings[0]
    assert first.code == "template_mismatch" and "chat_template.jinja" in first.evidence[0].text
    assert first.change is not None
    assert cli(*shlex.split(first.change.lines[0])[1:]).code == 0
    assert folder.version("v2").config().chat_template is None


def test_what_files_say_is_shown_cut_and_without_control_characters(
    folder: TaskFolder, cli: Callable[..., Ran]
) -> None:
    task = folder.task()
    info = ModelInfo.model_validate({
        "version": "v1", "base_model": "none/none", "dtype": "float32", "parameters": 1, "trainable_parameters": 1,
        "input_template": "\x1b[31mred {text} " + "long " * 200, "created": files.now(),
        "output_format": task.output_format.model_dump(by_alias=True),
    })  # fmt: skip
    info.save(folder.version("v1").model_info_path)
    said = cli("diagnose", "sentiment")
    assert "(template_mismatch)" in said.out and "\x1b" not in said.out
    assert max(map(len, said.out.splitlines())) < 400


def test_it_is_said_in_chinese_too(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    run_of(folder, [1.9 - 0.001 * step for step in range(40)])
    ran = cli("diagnose", "sentiment", "--lang", "zh-TW")
    assert ran.code == 0 and "learning_rate_too_low" in ran.out and "Traceback" not in ran.err


def test_torch_is_not_even_imported(folder: TaskFolder) -> None:
    program = (
        "import sys; from nlp_skills.cli import frame; from nlp_skills.cli.main import cli; "
        "code = frame.run(cli, ['diagnose', 'sentiment']); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    run_of(folder, [1.9 - 0.001 * step for step in range(40)])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rules_have_words_a_place_of_their_own_and_no_strangers() -> None:
    weights = [rule.weight for rule in rules.RULES.values()]
    assert len(set(weights)) == len(weights)
    named = {code for pair in rules.CONTRADICTIONS for code in pair}
    named |= {code for cause, effects in rules.EXPLAINS.items() for code in (cause, *effects)}
    assert named <= set(rules.RULES)
    assert rules.contradicted(["learning_rate_too_high", "too_few_epochs", "overfitting"]) == {
        "too_few_epochs", "overfitting"
    }  # fmt: skip


def test_a_course_is_read_from_lines_with_gaps_and_repeats() -> None:
    lines = [json.loads(line) for line in ('{"step": 1, "loss": 2.0}', '{"step": 1, "loss": 1.5}', '{"eval_loss": 1}')]
    course = Course.of([*lines, {"step": 2, "loss": float("nan")}, {"step": 3, "eval_loss": 1.0, "epoch": 1}])
    assert course.losses == [(1, 1.5)] and course.best == (3, 1.0) and course.still is None
    assert Course.of([]).end is None and Course.of([]).steps == 0


def test_criteria_that_are_not_met_without_a_known_fault_are_no_good_health(
    folder: TaskFolder, cli: Callable[..., Ran]
) -> None:
    results_of(folder)
    found = diagnose.of(folder)
    assert [finding.code for finding in found.findings] == ["no_cause"] and not found.well
    assert found.findings[0].change is not None
    words = shlex.split(found.findings[0].change.lines[0])
    assert cli(*words[1:], "--help").code == 0


def test_a_base_model_without_a_chat_template_is_found_before_anything_is_trained(
    folder: TaskFolder, tiny_base: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "bare"))
    (base / "chat_template.jinja").unlink()
    yaml.change(folder.version("v1").config_path, {("base_model",): str(base)})
    first = diagnose.of(folder).findings[0]
    assert first.code == "template_mismatch" and first.change is not None
    assert first.change.settings == {"chat_template": "plain"}


def test_a_prompt_that_rows_no_longer_fill_and_a_template_that_is_gone_stop_nothing(
    folder: TaskFolder, tiny_base: Path
) -> None:
    task, version = folder.task(), folder.version("v1")
    shape = {"type": "text", "schema": {"verdict": {"type": "string", "enum": ["good", "bad"]}}}
    ModelInfo.model_validate({
        "version": "v1", "base_model": str(tiny_base), "dtype": "float32", "parameters": 1, "created": files.now(),
        "trainable_parameters": 1, "input_template": task.input_template, "output_format": shape,
    }).save(version.model_info_path)  # fmt: skip
    gone = {("base_model",): str(tiny_base), ("chat_template",): "gone.jinja", ("allow_truncation",): True}
    yaml.change(version.config_path, gone)
    run_of(folder, [1.9 - 0.001 * step for step in range(40)])
    found = diagnose.of(folder)
    assert any("gone.jinja" in entry.why for entry in found.unseen)
    assert {"template_mismatch", "learning_rate_too_low"} <= {finding.code for finding in found.findings}
