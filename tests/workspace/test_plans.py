"""Written plans: what a new one says, what a person may do to it, and what marking a step leaves alone."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, write_rows

from nlp_skills import files
from nlp_skills.schema import yaml
from nlp_skills.schema.version import Results
from nlp_skills.workspace import plans
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
Put = Callable[..., Path]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


@pytest.fixture
def put(task: TaskFolder) -> Put:
    """Write a plan by hand."""

    def write(content: str | bytes, name: str = "2026-01-06-by-hand.md") -> Path:
        path = task.root / "plans" / name
        files.write_bytes(path, content if isinstance(content, bytes) else content.encode())
        return path

    return write


THREE = "# Better\n\n- [ ] One\n- [ ] Two\n- [ ] Three\n\n> checkpoint: look at the rows\n\n- [ ] Four\n"


def trained(task: TaskFolder, *, met: bool | None = None, name: str = "v1") -> None:
    """A version with splits, model record and results, as far as a plan looks."""
    for split in ("train", "valid", "test"):
        write_rows(task.split(split), [{"text": "a", "label": "neutral"}])
    version = task.version(name)
    version.root.mkdir(parents=True)
    version.config_path.write_text("base_model: none/none\n", encoding="utf-8")
    info = {
        "version": name, "base_model": "none/none", "dtype": "float32", "parameters": 1, "trainable_parameters": 1,
        "input_template": "{text}", "output_format": {"type": "text", "schema": {"label": {"enum": ["a", "b"]}}},
        "created": "2026-01-06T14:00:00+08:00",
    }  # fmt: skip
    files.write_json(version.model_info_path, info)
    if met is None:
        return
    value = 0.8 if met else 0.4
    figures = {"precision": value, "recall": value, "f1": value}
    worse = {**figures, "f1": value - 0.1}
    results = {
        "version": name, "created": "2026-01-06T14:00:00+08:00", "test_sha256": "sha256:0", "test_rows": 15,
        "metrics": {"macro_f1": value}, "per_class": {"positive": figures, "neutral": worse},
        "success": {"primary_metric": "macro_f1", "value": value, "threshold": 0.6, "met": met},
    }  # fmt: skip
    Results.model_validate(results).save(version.results_path)


def commands(ran: Ran) -> list[str]:
    return [step["command"] for step in ran.json["steps"]]


def test_a_new_plan_begins_where_the_task_stands(task: TaskFolder, cli: Cli) -> None:
    task.sources_path.write_text("sources: []\n", encoding="utf-8")
    assert commands(cli("plan", "new", "first", "--json"))[:2] == [
        "nlp-skills data-source add sentiment",
        "nlp-skills regenerate sentiment",
    ]
    task.sources_path.write_text("sources: [{type: file_import, path: reviews.jsonl}]\n", encoding="utf-8")
    assert commands(cli("plan", "new", "first", "--json"))[0] == "nlp-skills regenerate sentiment"
    trained(task)
    measured = commands(cli("plan", "new", "then", "--json"))
    assert measured[0] == "nlp-skills evaluate sentiment --version v1"


def test_a_version_below_its_goal_gets_another_round(task: TaskFolder, cli: Cli) -> None:
    trained(task, met=False)
    ran = cli("plan", "new", "60% at last", "--json")
    assert "nlp-skills compare sentiment v1 v2" in commands(ran)
    assert any(command.startswith("nlp-skills new-version sentiment --from v1") for command in commands(ran))
    text = Path(ran.json["path"]).read_text(encoding="utf-8")
    assert "macro_f1 is 40.0%, wanted 60.0%" in text and "neutral, F1 30.0%" in text


def test_a_version_that_met_its_goal_is_settled(task: TaskFolder, cli: Cli) -> None:
    trained(task, met=True)
    assert not any("new-version" in command for command in commands(cli("plan", "new", "ship", "--json")))


def test_a_stopped_training_is_gone_on_with(task: TaskFolder, cli: Cli) -> None:
    trained(task)
    version = task.version("v1")
    version.model_info_path.unlink()
    run = {"task": "sentiment", "version": "v1", "state": "interrupted", "pid": 1, "step": 7, "total_steps": 20}
    files.write_json(version.status_path, {**run, "started": "2026-01-06T14:00:00Z", "updated": "2026-01-06T14:00:00Z"})
    ran = cli("plan", "new", "go on", "--json")
    assert "Go on training v1" in [step["title"] for step in ran.json["steps"]]
    assert "step 7 of 20" in Path(ran.json["path"]).read_text(encoding="utf-8")


def test_a_broken_document_comes_first(task: TaskFolder, cli: Cli) -> None:
    task.sources_path.write_text("sourcs: []\n", encoding="utf-8")
    assert commands(cli("plan", "new", "mend", "--json"))[0] == "nlp-skills validate sentiment --documents"


def test_every_command_of_every_plan_exists_with_its_options(task: TaskFolder, cli: Cli) -> None:
    """--help is asked of each as it stands: an option that is not there is refused before."""
    written = {}
    for stage in range(6):
        if stage == 1:
            task.sources_path.write_text(
                "sources: [{type: llm_generated, prompt: write, llm: {model: m}, validation: {require_review: true}}]",
                encoding="utf-8",
            )
        if stage == 2:
            trained(task, met=False)
            task.version("v1").model_info_path.rename(task.root / "aside")
            task.version("v1").results_path.rename(task.root / "beside")
        if stage == 3:
            (task.root / "aside").rename(task.version("v1").model_info_path)
            (task.root / "beside").rename(task.version("v1").results_path)
        if stage == 4:
            trained(task, met=True, name="v1-exp")
            task.version("v1-exp").lineage_path.write_text(
                "version: v1-exp\ncreated: 2026-01-06T14:00:00+08:00\nparent: v1\n", encoding="utf-8"
            )
            yaml.change(task.task_path, {("version",): "v1-exp"})
        if stage == 5:
            yaml.change(task.task_path, {("status",): "archived"})
        ran = cli("plan", "new", f"stage {stage}", "--json")
        assert ran.code == 0, ran.out
        for step in ran.json["steps"]:
            assert step["expected"]
            written |= {step[key]: stage for key in ("command", "verify")}
    assert len(written) > 20
    for command in written:
        words = shlex.split(command)
        assert words[0] == "nlp-skills"
        ran = cli(*words[1:], "--help")
        assert ran.code == 0 and "Usage:" in ran.out, (command, ran.err)


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        ("85% Macro-F1, at last!", "85-macro-f1-at-last"),
        ("中立類別的 F1 超過 80%", "中立類別的-f1-超過-80"),
        ("../../etc/passwd", "etc-passwd"),
        ("?!", "plan"),
        ("ＡＢＣ　１２", "abc-12"),
        ("a goal that goes on and on for longer than any name should", "a-goal-that-goes-on-and-on-for-longer"),
        ("情" * 300, "情" * 40),
    ],
)
def test_a_plan_is_named_by_day_and_goal(task: TaskFolder, cli: Cli, goal: str, name: str) -> None:
    ran = cli("plan", "new", goal, "--step", "x", "--json")
    path = Path(ran.json["path"])
    assert path.parent == task.root / "plans"
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d-{re.escape(name)}\.md", path.name)
    again = cli("plan", "new", goal, "--step", "y", "--json")
    assert Path(again.json["path"]).name == f"{path.stem}-2.md"
    assert "x" in path.read_text(encoding="utf-8")
    assert cli("plan", "show", "--json").json["plan"] == f"{path.stem}-2"


def test_steps_of_ones_own(task: TaskFolder, cli: Cli, project: Path) -> None:
    (project / "steps.txt").write_bytes(
        "\ufeff# mine\r\n1. Look at 50 rows\r\n\r\n- [ ] Train: `nlp-skills train`\r\n".encode()
    )
    ran = cli("plan", "new", "own", "--from", "steps.txt", "--step", "看 status: 的意思", "--json")
    assert [(step["title"], step.get("command")) for step in ran.json["steps"]] == [
        ("Look at 50 rows", None),
        ("Train", "nlp-skills train"),
        ("看 status: 的意思", None),
    ]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["new"], "needs a goal"),
        (["new", "sentiment"], "needs a goal"),
        (["new", "sentiment", " \n "], "needs a goal"),
        (["new", "reach", "85", "percent"], "one argument"),
        (["new", "goal", "--from", "nowhere.txt"], "nowhere.txt"),
        (["new", "goal", "--step", " "], "needs a title"),
        (["show"], "no plan"),
        (["next"], "no plan"),
        (["done"], "no plan"),
        (["show", "nonsense"], "no plan called nonsense"),
        (["show", "nowhere", "nonsense"], "no task called nowhere"),
    ],
)
def test_used_wrongly_it_says_how(task: TaskFolder, cli: Cli, arguments: list[str], part: str) -> None:
    ran = cli("plan", *arguments)
    assert ran.code == 2
    assert part in ran.err and "mend:" in ran.err
    assert not (task.root / "plans").exists()


def test_one_step_after_the_other_and_a_checkpoint_after_three(
    task: TaskFolder, cli: Cli, put: Callable[..., Path]
) -> None:
    path = put(THREE)
    for number, title in enumerate(("One", "Two", "Three"), 1):
        ran = cli("plan", "next")
        assert f"step {number} is in-progress: {title}" in ran.out and "checkpoint" not in ran.out
        assert cli("plan", "next", "--json").json["next"]["number"] == number  # asked twice, it is the same one
        done = cli("plan", "done")
        assert f"completed: {number} of 4" in done.out
        assert ("checkpoint: look at the rows" in done.out) == (number == 3)
    assert "checkpoint: look at the rows" in cli("plan", "next").out
    assert "checkpoint" not in cli("plan", "next").out
    last = cli("plan", "done", "--note", "rows: 612", "--json")
    assert last.json["finished"] and last.json["completed"] == 4
    assert "the plan is finished" in cli("plan", "next").out
    assert path.read_text(encoding="utf-8").count("- [x]") == 4


def test_what_is_blocked_is_said_when_nothing_else_is_left(
    task: TaskFolder, cli: Cli, put: Callable[..., Path]
) -> None:
    put("- [ ] One\n- [ ] Two\n")
    assert cli("plan", "done", "1", "--status", "blocked", "--note", "no GPU\nbefore Friday").code == 0
    assert cli("plan", "done", "2", "--status", "skipped").code == 0
    ran = cli("plan", "next")
    assert ran.code == 1 and "step 1 is blocked: One" in ran.out and "no GPU before Friday" in ran.out
    shown = cli("plan", "show")
    assert "completed: 0 of 2; skipped: 1; blocked: 1" in shown.out
    assert cli("plan", "done", "1").code == 0
    assert cli("plan", "next").code == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("tail", ["", "\n"])
def test_marking_a_step_leaves_every_other_byte(
    task: TaskFolder, cli: Cli, put: Callable[..., Path], end: str, mark: bytes, tail: str
) -> None:
    before = (
        "# 目標\n\n  Prose of mine,\twith a tab and two spaces  \nand \u2028 odd \x0c characters.\n\n"
        "- [ ] One\n  - Status: **pending**  <!-- mine -->\n  - command: `a`\n\n"
        "- [ ] Two\n  * status：In Progress\n  * my own key: 5\n\n| a | b |\n|---|---|\n\n* [ ] Last"
    ) + tail
    path = put(mark + before.replace("\n", end).encode())
    ran = cli("plan", "done")
    assert ran.code == 0 and "step 2 is completed" in ran.out
    after = before.replace("- [ ] Two\n  * status：In Progress", "- [x] Two\n  * status：completed")
    assert path.read_bytes() == mark + after.replace("\n", end).encode()
    assert cli("plan", "done", "3", "--status", "skipped").code == 0
    assert cli("plan", "done", "1").code == 0
    after = after.removesuffix(tail).replace(
        "- [ ] One\n  - Status: **pending**", "- [x] One\n  - Status: **completed**"
    )
    assert path.read_bytes() == mark + (f"{after}\n  - status: skipped{tail}").replace("\n", end).encode()


def test_a_note_stands_under_its_step_with_the_time(task: TaskFolder, cli: Cli, put: Put) -> None:
    path = put("- [ ] One\n  - status: pending\n  - command: |\n      a\n      b\n\nprose\n\n- [ ] Two\n")
    assert cli("plan", "done", "1", "--note", "中立太少").code == 0
    text = path.read_text(encoding="utf-8")
    assert re.search(r"      b\n  - note: \d{4}-\d\d-\d\dT[\d:]+[+-]\d\d:\d\d 中立太少\n\nprose", text)
    ran = cli("plan", "show", "--json")
    assert len(ran.json["steps"]) == 2 and "中立太少" in ran.json["steps"][0]["notes"][0]


BY_HAND = """\
# Goal

Some prose. - [ ] not a step

- A list of mine
- without boxes

```
- [ ] an example, not a step
  status: nonsense
```
<!--
- [ ] put aside
-->

## Phase one

* [X] Ticked
  * status: pending
    - [ ] nested, a part of the step
1. [ ] Numbered
   - **Status**: in_progress
   - **Command:**
     ```
     nlp-skills train
     nlp-skills evaluate
     ```
   - verification: ``echo `x` ``

## Phase two

- Group
  - [ ] In a group
- Without a box
  status: SKIPPED, nobody needs it
- [ ] No status at all

Expected: nothing, this is prose.

- [x] Passed over
  - status: skipped
"""


def test_what_people_write_by_hand_is_read(task: TaskFolder, cli: Cli, put: Put) -> None:
    put(BY_HAND)
    steps = cli("plan", "show", "--json").json["steps"]
    assert [(step["title"], step["status"]) for step in steps] == [
        ("Ticked", "completed"),
        ("Numbered", "in-progress"),
        ("In a group", "pending"),
        ("Without a box", "skipped"),
        ("No status at all", "pending"),
        ("Passed over", "skipped"),
    ]
    assert steps[1]["command"] == "nlp-skills train\nnlp-skills evaluate"
    assert steps[1]["verify"] == "echo `x`"
    assert "expected" not in steps[4]
    lines = BY_HAND.splitlines()
    assert all(step["title"] in lines[step["line"] - 1] for step in steps)


@pytest.mark.parametrize("status", ["done", "完成", "not completed", "completed-ish", "in-progressing"])
def test_an_unknown_status_is_answered_with_its_line(
    task: TaskFolder, cli: Cli, put: Callable[..., Path], status: str
) -> None:
    path = put(f"# Goal\n\n- [ ] One\n  - status: pending\n- [ ] Two\n  - status: {status}\n")
    before = path.read_bytes()
    for command in (["show"], ["next"], ["done", "1"]):
        ran = cli("plan", *command)
        assert ran.code == 1
        assert f"{path.relative_to(Path.cwd())}:6" in ran.err and status in ran.err
        assert "pending, in-progress, completed, blocked, skipped" in ran.err
    assert path.read_bytes() == before
    error = cli("plan", "show", "--json").json["error"]
    assert error["line"] == 6 and error["file"] == str(path)


def test_a_second_status_is_answered(task: TaskFolder, cli: Cli, put: Put) -> None:
    put("- [ ] One\n  - status: pending\n  - status: completed\n")
    ran = cli("plan", "show")
    assert ran.code == 1 and ":3" in ran.err and "second status" in ran.err


def test_bytes_that_are_no_text_are_answered(task: TaskFolder, cli: Cli, put: Put) -> None:
    put("# Goal\n- [ ] 一\n".encode("big5"))
    ran = cli("plan", "show")
    assert ran.code == 1 and ":2" in ran.err and "UTF-8" in ran.err


def test_which_step_is_asked_when_it_is_not_clear(task: TaskFolder, cli: Cli, put: Put) -> None:
    put(THREE)
    assert "no step is in progress" in cli("plan", "done").err
    put("- [ ] A\n  - status: in-progress\n- [ ] B\n  - status: in-progress\n")
    ran = cli("plan", "done")
    assert ran.code == 2 and "1, 2" in ran.err
    for number in ("0", "3"):
        assert "there is no step" in cli("plan", "done", number).err


def test_the_newest_unfinished_plan_is_meant(task: TaskFolder, cli: Cli, put: Put) -> None:
    put("# Old\n- [ ] One\n", "2026-01-05-old.md")
    put("# Done\n- [x] One\n", "2026-01-07-done.md")
    put("# Broken\n- [ ] x\n  - status: perhaps\n", "2026-01-04-broken.md")
    put("no plan of ours: [ ]\n", "README.md")
    ran = cli("plan", "show")
    assert ran.out.startswith("Old\n") and "2026-01-07-done (completed: 1 of 1)" in ran.out
    assert "2026-01-04-broken.md:3" in ran.out and "README" not in ran.out
    for name in (
        "2026-01-07-done",
        "2026-01-07-done.md",
        "plans/2026-01-07-done.md",
        "sentiment/plans/2026-01-07-done.md",
    ):
        assert cli("plan", "show", name, "--json").json["goal"] == "Done"
    assert "did you mean 2026-01-07-done?" in cli("plan", "show", "sentiment", "2026-01-07-dine").err


def test_a_path_out_of_the_task_is_refused(task: TaskFolder, cli: Cli, put: Callable[..., Path], project: Path) -> None:
    outside = project / "2026-01-09-outside.md"
    outside.write_text("- [ ] One\n", encoding="utf-8")
    inside = put(THREE)
    (inside.parent / "2026-01-08-link.md").symlink_to(outside)
    for name in ("../../2026-01-09-outside.md", str(outside), "2026-01-08-link", "../../nowhere.md"):
        for command in (["show", "sentiment", name], ["done", "sentiment", name, "1"]):
            ran = cli("plan", *command)
            assert ran.code == 2 and "leaves the task folder" in ran.err
    assert cli("plan", "show", "--json").json["plan"] == inside.stem
    assert outside.read_text(encoding="utf-8") == "- [ ] One\n"


def test_a_folder_of_plans_that_leads_out_is_refused(task: TaskFolder, cli: Cli, project: Path) -> None:
    (project / "elsewhere").mkdir()
    (task.root / "plans").symlink_to(project / "elsewhere")
    assert cli("plan", "new", "goal").code == 2
    assert not list((project / "elsewhere").iterdir())


def test_looking_writes_nothing(task: TaskFolder, cli: Cli, put: Put) -> None:
    put(THREE)
    before = {path: path.stat().st_mtime_ns for path in task.root.rglob("*")}
    assert cli("plan", "show").code == 0 and cli("plan", "show", "--json").code == 0
    assert {path: path.stat().st_mtime_ns for path in task.root.rglob("*")} == before


def test_what_stands_in_a_file_steers_no_terminal(task: TaskFolder, cli: Cli, put: Put) -> None:
    put("# \x1b[31mred\n- [ ] a\x1b]0;title\x07\n  - command: \x1b[2Jx\n")
    assert "\x1b" not in cli("plan", "show").out + cli("plan", "next").out


def test_a_plan_keeps_its_permissions(task: TaskFolder, cli: Cli, put: Put) -> None:
    path = put(THREE)
    path.chmod(0o664)
    assert cli("plan", "next").code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_a_plan_that_is_full_of_steps_is_quick(task: TaskFolder, put: Put) -> None:
    put("# Long\n" + "- [ ] step\n  - status: pending\n  - note: x\n" * 20_000)
    assert len(plans.find(task).steps) == 20_000


_KILLER = """
import os, sys
from pathlib import Path
from nlp_skills.workspace import plans
from nlp_skills.workspace.folder import TaskFolder
left = int(sys.argv[2])
def counted(original):
    def call(*arguments, **named):
        global left
        if left == 0:
            os._exit(137)
        left -= 1
        return original(*arguments, **named)
    return call
os.replace, os.fsync = counted(os.replace), counted(os.fsync)
plans.mark(TaskFolder.at(Path(sys.argv[1])), 1, "completed", note="fine")
"""


def test_killed_before_any_write_the_plan_is_whole(task: TaskFolder, cli: Cli, put: Put) -> None:
    path, codes = put(THREE), []
    for survived in range(12):
        ended = subprocess.run([sys.executable, "-c", _KILLER, str(task.root), str(survived)], check=False)
        codes.append(ended.returncode)
        assert len(plans.find(task).steps) == 4
        if ended.returncode == 0:
            break
        assert path.read_text(encoding="utf-8") == THREE
    assert codes[-1] == 0 and 137 in codes
    assert plans.find(task).steps[0].status == "completed"


def test_two_at_once_lose_nothing(task: TaskFolder, put: Put) -> None:
    path = put("# Both\n" + "- [ ] step\n" * 6)
    command = [sys.executable, "-m", "nlp_skills.cli.main", "plan", "done", str(task.root)]
    running = [
        subprocess.Popen([*command, str(number)], env=os.environ, stdout=subprocess.DEVNULL) for number in range(1, 7)
    ]
    assert [process.wait(timeout=60) for process in running] == [0] * 6
    assert path.read_text(encoding="utf-8") == "# Both\n" + "- [x] step\n" * 6


def test_a_plan_in_chinese_is_read_back(task: TaskFolder, cli: Cli) -> None:
    trained(task, met=False)
    ran = cli("--lang", "zh-TW", "plan", "new", "超過 60%", "--json")
    assert ran.code == 0
    assert {step["status"] for step in ran.json["steps"]} == {"pending"}
    assert commands(ran) == commands(cli("plan", "new", "again", "--json"))
