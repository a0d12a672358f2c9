"""`nlp-skills tasks`: every task once, the broken ones with their reason, filtered and sorted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import ROOT, Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import aligned, tables

from nlp_skills.cli.tasks import TYPES
from nlp_skills.errors import Problem
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Status, Task, TaskType
from nlp_skills.workspace import digest, listing
from nlp_skills.workspace.folder import TaskFolder

EXAMPLE = ROOT / "examples" / "workspace"
Command = Callable[..., Ran]


@pytest.fixture
def three(project: Path) -> Path:
    """The three example tasks in a project of their own."""
    for name in ("entity-sentiment", "stance-detection", "ner-finance"):
        shutil.copytree(EXAMPLE / name, project / name)
    return project


def names(ran: Ran) -> list[str]:
    assert ran.code == 0, ran.err
    return [row["name"] for row in ran.json["tasks"]]


def broken(ran: Ran) -> dict[str, dict[str, Any]]:
    return {row["name"]: row["error"] for row in ran.json["tasks"] if "error" in row}


def test_states_and_types_are_those_of_the_schema() -> None:
    assert get_args(Status) == listing.STATES
    assert get_args(TaskType) == TYPES


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--status", "training"], ["stance-detection"]),
        (["--status", "training", "--status", "deployed"], ["stance-detection", "ner-finance"]),
        (["--type", "extraction"], ["ner-finance"]),
        (["--domain", "Finance"], ["entity-sentiment", "ner-finance"]),
        (["--domain", "finance", "--type", "classification"], ["entity-sentiment"]),
        (["--status", "archived"], []),
    ],
)
def test_filters(three: Path, cli: Command, options: list[str], left: list[str]) -> None:
    assert names(cli("tasks", *options, "--json")) == left


@pytest.mark.parametrize("options", [["--status", "running"], ["--type", "translation"], ["--sort", "colour"]])
def test_unknown_words_are_answered_with_the_known_ones(three: Path, cli: Command, options: list[str]) -> None:
    ran = cli("tasks", *options)
    assert ran.code == 2
    known = {"--status": "deployed", "--type": "extraction", "--sort": "metric"}[options[0]]
    assert known in ran.err and options[1] in ran.err


def test_an_empty_result_says_which_filter_left_nothing(three: Path, cli: Command) -> None:
    ran = cli("tasks", "--status", "training", "--domain", "law")
    assert ran.code == 0
    assert "no task is left" in ran.out and "3" in ran.out
    by_status, by_domain = (line for line in ran.out.splitlines() if "--" in line)
    assert "--status training" in by_status and "by itself: 1" in by_status
    assert "--domain law" in by_domain and "by itself: 0" in by_domain and "finance, politics" in by_domain
    found = cli("tasks", "--status", "training", "--domain", "law", "--json").json
    assert found["filters"] == {"readable": 3, "left_by_each_alone": {"status": 1, "domain": 0}}


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("name", ["entity-sentiment", "ner-finance", "stance-detection"]),
        ("status", ["stance-detection", "entity-sentiment", "ner-finance"]),
        ("version", ["ner-finance", "entity-sentiment", "stance-detection"]),
        ("metric", ["entity-sentiment", "ner-finance", "stance-detection"]),
        ("updated", ["entity-sentiment", "stance-detection", "ner-finance"]),
    ],
)
def test_sorting(three: Path, cli: Command, by: str, order: list[str]) -> None:
    assert names(cli("tasks", "--sort", by, "--json")) == order


def test_versions_sort_as_numbers_and_what_has_no_value_comes_last(three: Path, cli: Command) -> None:
    shutil.copytree(three / "ner-finance", three / "tenth")
    (three / "tenth" / "versions" / "v3").rename(three / "tenth" / "versions" / "v10")
    (three / "tenth" / "versions" / "v10" / "results.json").unlink()
    (three / "tenth" / "versions" / "v10" / "lineage.yaml").unlink()
    yaml.change(three / "tenth" / "task.yaml", {("task_name",): "tenth", ("version",): "v10", ("updated",): None})
    assert names(cli("tasks", "--sort", "version", "--json"))[:2] == ["tenth", "ner-finance"]
    assert names(cli("tasks", "--sort", "metric", "--json"))[-2:] == ["stance-detection", "tenth"]
    assert names(cli("tasks", "--sort", "updated", "--json"))[-1] == "tenth"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _results(task: Path) -> Path:
    return task / "versions" / "v2" / "results.json"


# What is done to a healthy task, the file that is blamed, its line, and a word of the reason.
FAULTS: dict[str, tuple[Callable[[Path], Any], str, int | None, str]] = {
    "bad YAML": (lambda task: _write(task / "task.yaml", b"task_name: x\nstatus: [\n"), "task.yaml", 3, "not valid"),
    "a key too few": (
        lambda task: yaml.change(task / "task.yaml", {("task_type",): None}),
        "task.yaml", None, "task_type is missing",
    ),
    "an unknown state": (
        lambda task: yaml.change(task / "task.yaml", {("status",): "running"}),
        "task.yaml", 4, "wrong value for status",
    ),
    "no version name": (
        lambda task: yaml.change(task / "task.yaml", {("version",): "../v2"}),
        "task.yaml", 3, "not a version name",
    ),
    "empty": (lambda task: _write(task / "task.yaml", b""), "task.yaml", None, "empty"),
    "not UTF-8": (lambda task: _write(task / "task.yaml", b"a: b\nc: \xff\n"), "task.yaml", 2, "UTF-8"),
    "a folder": (
        lambda task: ((task / "task.yaml").unlink(), (task / "task.yaml").mkdir()),
        "task.yaml", None, "is a folder",
    ),
    "a link to nowhere": (
        lambda task: ((task / "task.yaml").unlink(), (task / "task.yaml").symlink_to("/no/such/file")),
        "task.yaml", None, "leads nowhere",
    ),
    "a version gone": (
        lambda task: shutil.rmtree(task / "versions" / "v2"), "versions/v2", None, "has no folder",
    ),
    "every version gone": (
        lambda task: shutil.rmtree(task / "versions"), "versions/v2", None, "has no folder",
    ),
    "broken results": (
        lambda task: _write(_results(task), b'{\n"version": "v2",\n"metr'), "versions/v2/results.json", 3, "JSON",
    ),
    "results without figures": (
        lambda task: _write(_results(task), b'{"version": "v2"}'), "versions/v2/results.json", None, "missing",
    ),
    "figures that are words": (
        lambda task: _write(_results(task), _results(task).read_bytes().replace(b"0.815", b'"good"')),
        "versions/v2/results.json", None, "macro_f1",
    ),
    "results that lead nowhere": (
        lambda task: (_results(task).unlink(), _results(task).symlink_to("gone.json")),
        "versions/v2/results.json", None, "leads nowhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("with_digest", [False, True], ids=["cold", "digest"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_task_is_listed_with_file_line_and_reason(
    three: Path, cli: Command, fault: str, with_digest: bool
) -> None:
    task = three / "entity-sentiment"
    if with_digest:
        digest.write(TaskFolder.at(task))
    damage, file, line, reason = FAULTS[fault]
    damage(task)
    ran = cli("tasks", "--json")
    assert ran.code == 0, ran.err
    assert names(ran)[:2] == ["stance-detection", "ner-finance"]
    problem = broken(ran)["entity-sentiment"]
    assert problem["file"] == str(task / file)
    assert line is None or problem["line"] == line
    assert reason in problem["message"]
    shown = cli("tasks")
    assert shown.code == 0
    assert [row[0] for row in tables(shown.out)[0][1:]] == ["stance-detection", "ner-finance"]
    below = shown.out[shown.out.rindex("┘") :]
    assert f"entity-sentiment/{file}" in below and reason in below


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("from: created", "from: creatd"),
        ("to: configuring", "to: null"),
        ("reason: training v1", "because: training v1"),
        ("reason: training v1", "reason: null"),
        ("reason: training v1", "reason: [training"),
        ("reason: training v1", "reason: 12"),
        ("version: v1", "version: 1"),
        ("'2026-01-05T10:05:00+08:00'", "'2026-02-30T10:05:00+08:00'"),
        ("'2026-01-05T10:05:00+08:00'", "yesterday"),
        ("  - time:", "  -  time:"),
    ],
)
def test_a_fault_in_the_log_of_a_task_is_found_as_any_other(three: Path, cli: Command, line: str, instead: str) -> None:
    path = three / "entity-sentiment" / "task.yaml"
    text = path.read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, instead, 1), encoding="utf-8")
    with pytest.raises(Problem) as caught:
        Task.load(path)
    assert broken(cli("tasks", "--json"))["entity-sentiment"] == caught.value.as_dict()


@settings(max_examples=150, deadline=None)
@given(
    raw=st.one_of(st.text(max_size=12), st.from_regex(r"[\w ,;:#'./()+-]{0,12}", fullmatch=True)),
    key=st.sampled_from(["time", "from", "version", "reason"]),
)
def test_the_list_never_takes_a_log_that_the_schema_refuses(
    tmp_path_factory: pytest.TempPathFactory, raw: str, key: str
) -> None:
    folder = tmp_path_factory.mktemp("log") / "entity-sentiment"
    folder.mkdir()
    text = (EXAMPLE / "entity-sentiment" / "task.yaml").read_text(encoding="utf-8")
    head, found, tail = text.rpartition(f" {key}: ")
    rest = tail[tail.index("\n") :] if "\n" in tail else "\n"
    (folder / "task.yaml").write_bytes(f"{head}{found}{raw}{rest}".encode("utf-8", "surrogatepass"))
    (folder / "versions" / "v2").mkdir(parents=True)
    (row,) = listing.tasks(folder).rows
    try:
        Task.load(folder / "task.yaml")
    except Problem as problem:
        assert row.problem is not None and row.problem.as_dict() == problem.as_dict()
    else:
        assert row.problem is None


def test_broken_tasks_stay_in_a_filtered_list(three: Path, cli: Command) -> None:
    (three / "entity-sentiment" / "task.yaml").write_text("task_name: [\n", encoding="utf-8")
    assert names(cli("tasks", "--status", "deployed", "--json")) == ["ner-finance", "entity-sentiment"]


def test_a_new_task_without_versions_is_not_broken(project: Path, cli: Command) -> None:
    assert cli("new-task", "reviews", "--labels", "a,b").code == 0
    ran = cli("tasks", "--json")
    assert broken(ran) == {} and names(ran) == ["reviews"]


def test_the_figure_of_a_version_whose_results_are_gone_is_in_its_lineage(three: Path, cli: Command) -> None:
    _results(three / "entity-sentiment").unlink()
    assert cli("tasks", "--json").json["tasks"][0]["value"] == 0.815


def test_the_digest_never_outlives_task_yaml(three: Path, cli: Command) -> None:
    """The list is the same with a digest as without, and an edit by hand shows at once."""
    task = three / "entity-sentiment"
    cold = cli("tasks", "--json").json
    digest.write(TaskFolder.at(task))
    assert cli("tasks", "--json").json == cold
    text = (task / "task.yaml").read_text(encoding="utf-8")
    (task / "task.yaml").write_text(text.replace("status: evaluating", "status: configuring"), encoding="utf-8")
    assert cli("tasks", "--json").json["tasks"][0]["status"] == "configuring"


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"documents": 3}', '{"documents": {"task.yaml": [SIZE, TIME]}}',
        '{"documents": {"task.yaml": [SIZE, TIME]}, "task": 3, "version": "v1", "status": "created", '
        '"task_type": "x", "primary_metric": "y", "domain": null, "updated": null}',
        '{"documents": {"task.yaml": [SIZE, TIME]}, "task": "x", "version": "../..", "status": "created", '
        '"task_type": "x", "primary_metric": "y", "domain": null, "updated": null}',
    ],
)  # fmt: skip
def test_a_damaged_digest_is_as_good_as_none(three: Path, cli: Command, content: str) -> None:
    before = cli("tasks", "--json").json
    stat = (three / "entity-sentiment" / "task.yaml").stat()
    text = content.replace("SIZE", str(stat.st_size)).replace("TIME", str(stat.st_mtime_ns))
    _write(three / "entity-sentiment" / ".nlp-skills" / "digest.json", text.encode())
    assert cli("tasks", "--json").json == before


def test_tasks_with_a_digest_are_listed_without_a_parser(three: Path) -> None:
    """What makes a thousand tasks quick: neither YAML nor pydantic is loaded, let alone asked."""
    for name in ("entity-sentiment", "stance-detection", "ner-finance"):
        digest.write(TaskFolder.at(three / name))
    code = (
        "import sys; from nlp_skills.cli import frame, main; code = frame.run(main.cli, ['tasks', '--json']);"
        "sys.exit(code or 10 * bool({'yaml', 'ruamel', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=three, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["tasks"]) == 3


def test_listing_writes_nothing(three: Path, cli: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in three.rglob("*")}
    assert cli("tasks").code == 0 and cli("history", "entity-sentiment").code == 0
    assert {path: path.stat().st_mtime_ns for path in three.rglob("*")} == before


@pytest.mark.parametrize("inside", ["versions", "data", "models", ".hidden", "node_modules"])
def test_folders_that_hold_no_tasks_are_not_searched(three: Path, cli: Command, inside: str) -> None:
    shutil.copytree(three / "ner-finance", three / "area" / inside / "copy")
    assert len(names(cli("tasks", "--json"))) == 3
    shutil.copytree(three / "ner-finance", three / "area" / "team" / "copy")
    assert len(names(cli("tasks", "--json"))) == 4


def test_tasks_of_one_name_are_told_apart_by_where_they_are(three: Path, cli: Command) -> None:
    shutil.copytree(three / "ner-finance", three / "old" / "ner-finance")
    shown = cli("tasks", "--sort", "name")
    assert [row[0] for row in tables(shown.out)[0][1:3]] == ["entity-sentiment", "ner-finance"]
    assert tables(shown.out)[0][3][0] == "ner-finance (old/ner-finance)"
    assert aligned(shown.out)


def _without_root_powers() -> list[str]:
    """Root reads what nobody may; without these two powers it is refused as anybody else."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root is refused nothing, and there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


def test_what_may_not_be_read_is_named_and_the_rest_is_listed(three: Path) -> None:
    (three / "locked").mkdir()
    shutil.copytree(three / "ner-finance", three / "locked" / "inner")
    (three / "locked").chmod(0)
    for name in ("entity-sentiment", "stance-detection"):
        digest.write(TaskFolder.at(three / name))
    (three / "entity-sentiment" / "task.yaml").chmod(0)
    command = [*_without_root_powers(), sys.executable, "-m", "nlp_skills.cli.main", "tasks"]
    try:
        ran = subprocess.run(command, cwd=three, capture_output=True, text=True, check=False)
        plain = subprocess.run([*command, "--json"], cwd=three, capture_output=True, text=True, check=False)
    finally:
        (three / "locked").chmod(0o755)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr
    assert [row[0] for row in tables(ran.stdout)[0][1:]] == ["stance-detection", "ner-finance"]
    assert "entity-sentiment/task.yaml: cannot be read" in ran.stdout
    assert "locked" in ran.stderr
    assert json.loads(plain.stdout)["unreadable_folders"] == [str(three / "locked")]


def test_a_folder_name_that_is_no_text_breaks_nothing(three: Path) -> None:
    strange = three / os.fsdecode(b"caf\xe9\x1b[31m")
    shutil.copytree(three / "stance-detection", strange)
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "nlp_skills.cli.main", "tasks"]
    shown = subprocess.run(command, cwd=three, env=env, capture_output=True, text=True, check=True)
    assert "caf" in shown.stdout and "\x1b" not in shown.stdout
    plain = subprocess.run([*command, "--json"], cwd=three, env=env, capture_output=True, text=True, check=True)
    assert str(strange) in [row["path"] for row in json.loads(plain.stdout)["tasks"]]


def test_figures_of_several_metrics_carry_their_names(three: Path, cli: Command) -> None:
    change = {("success_criteria", "primary_metric"): "accuracy"}
    yaml.change(three / "entity-sentiment" / "task.yaml", change)
    heading, first, *_rest = tables(cli("tasks").out)[0]
    assert heading[3] == "Primary metric"
    assert first[3] == "Accuracy 82.0%"


def test_days_are_local(three: Path) -> None:
    """14:30 at +08:00 is the evening before in Honolulu."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", "tasks"]
    for zone, day in (("Asia/Taipei", "2026-01-06"), ("Pacific/Honolulu", "2026-01-05")):
        env = {**os.environ, "TZ": zone}
        ran = subprocess.run(command, cwd=three, env=env, capture_output=True, text=True, check=True)
        assert tables(ran.stdout)[0][1][4] == day
