"""Generated rows wait for a person: by flags, and by keys in a real terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import Ran

from nlp_skills.data import review
from nlp_skills.data.review import Decision, Entry
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.schema.source import LlmGenerated
from nlp_skills.workspace.folder import TaskFolder

SOURCE = """\
sources:
  - type: llm_generated
    name: made
    model: none
    base_url: http://127.0.0.1:9/v1
    prompt_template: Write {{count}} reviews.
    count: {count}
    validation: {{require_review: true, review_sample: {share}, accept_rate: 0.75}}
"""


def rows(count: int) -> list[dict[str, str]]:
    return [{"text": f"Review number {number}", "label": "positive"} for number in range(count)]


@pytest.fixture
def waiting(make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskFolder]:
    """A task with generated rows that wait for review."""

    def make(count: int = 8, share: float = 0.5, made: list[dict[str, Any]] | None = None) -> TaskFolder:
        folder = TaskFolder.at(make_task())
        folder.sources_path.write_text(SOURCE.format(count=count, share=share))
        review.keep(folder, source_of(folder), [Entry(row, {"model": "fake"}) for row in made or rows(count)])
        monkeypatch.chdir(folder.root)
        return folder

    return make


def source_of(folder: TaskFolder) -> LlmGenerated:
    (source,) = folder.sources().sources
    assert isinstance(source, LlmGenerated)
    return source


def state(folder: TaskFolder) -> review.State:
    return review.state(folder, source_of(folder))


def decide(folder: TaskFolder, entries: list[Entry], word: str) -> None:
    for entry in entries:
        review.decide(folder, source_of(folder), entry.key, Decision(word))


def test_a_good_sample_lets_the_others_through(waiting: Callable[..., TaskFolder]) -> None:
    folder = waiting(8, 0.5)
    sample = state(folder).to_review
    assert (len(sample), state(folder).waiting, state(folder).released()) == (4, 8, [])
    decide(folder, sample[:2], "accept")
    assert state(folder).released() == [entry.row for entry in state(folder).entries if entry in sample[:2]]
    assert state(folder).waiting == 6
    review.decide(folder, source_of(folder), sample[2].key, Decision("edit", {"text": "Mended", "label": "neutral"}))
    decide(folder, sample[3:], "reject")
    assert state(folder).to_review == []
    assert state(folder).waiting == 0
    released = state(folder).released()
    assert len(released) == 7
    assert {"text": "Mended", "label": "neutral"} in released
    assert sample[3].row not in released
    assert sample[2].row not in released


def test_a_bad_sample_brings_up_the_others(waiting: Callable[..., TaskFolder]) -> None:
    folder = waiting(8, 0.5)
    sample = state(folder).to_review
    decide(folder, sample[:2], "reject")
    decide(folder, sample[2:], "accept")
    others = state(folder).to_review
    assert len(others) == 4
    assert not {entry.key for entry in others} & {entry.key for entry in sample}
    assert (state(folder).waiting, len(state(folder).released())) == (4, 2)
    decide(folder, others, "accept")
    assert (state(folder).waiting, state(folder).to_review, len(state(folder).released())) == (0, [], 6)


def test_the_sample_depends_on_the_rows_alone(waiting: Callable[..., TaskFolder]) -> None:
    folder = waiting(40, 0.25)
    sampled, written = state(folder).sampled, review.rows_path(folder, source_of(folder)).read_bytes()
    review.keep(folder, source_of(folder), [Entry(row, {"model": "fake"}) for row in reversed(rows(40))])
    assert state(folder).sampled == sampled
    assert len(sampled) == 10
    review.keep(folder, source_of(folder), [Entry(row, {"model": "fake"}) for row in rows(40)])
    assert review.rows_path(folder, source_of(folder)).read_bytes() == written


def test_the_last_decision_counts_and_a_torn_one_does_not(waiting: Callable[..., TaskFolder]) -> None:
    folder = waiting(2, 1.0)
    first, second = state(folder).entries
    decide(folder, [first], "reject")
    decide(folder, [first], "accept")
    path = review.decisions_path(folder, source_of(folder))
    with open(path, "ab") as stream:
        stream.write(b'not json\n{"key": "%s", "decision": "rej' % second.key.encode())
    assert state(folder).counts == {"accept": 1, "edit": 0, "reject": 0}
    decide(folder, [second], "edit")
    assert state(folder).counts == {"accept": 1, "edit": 1, "reject": 0}
    assert [line.get("time", "")[:2] for line in map(json.loads, path.read_bytes().splitlines()[:2])] == ["20", "20"]
    review.decide(folder, source_of(folder), first.key, None)
    assert state(folder).counts["accept"] == 0


def test_a_row_that_changed_is_looked_at_again(waiting: Callable[..., TaskFolder]) -> None:
    folder = waiting(2, 1.0)
    decide(folder, state(folder).entries, "accept")
    changed = [{**row, "label": "negative"} for row in rows(2)]
    review.keep(folder, source_of(folder), [Entry(row, {}) for row in changed])
    assert len(state(folder).to_review) == 2


def test_damage_and_a_full_disk(waiting: Callable[..., TaskFolder]) -> None:
    folder = waiting(2, 1.0)
    review.rows_path(folder, source_of(folder)).write_text('{"key": 1}\n')
    with pytest.raises(Invalid) as caught:
        state(folder)
    assert "regenerate" in str(caught.value.mend)
    path = review.decisions_path(folder, source_of(folder))
    path.symlink_to("/dev/full")
    with pytest.raises(Unavailable, match="cannot write"):
        review.decide(folder, source_of(folder), "x", Decision("accept"))


def test_programs_decide_by_key(waiting: Callable[..., TaskFolder], cli: Callable[..., Ran]) -> None:
    folder = waiting(4, 1.0)
    listed = cli("review", "--list", "--json").json["sources"][0]
    assert (listed["waiting"], listed["to_review"], len(listed["review"])) == (4, 4, 4)
    one, two, three, four = [entry["key"] for entry in listed["review"]]
    ran = cli("review", "--accept", one[:8], "--reject", two, "--json")
    assert (ran.code, ran.json["decided"], ran.json["sources"][0]["reject"]) == (0, 2, 1)
    shown = cli("review", "--list")
    assert three in shown.out
    assert one not in shown.out
    assert "1 accepted, 0 edited, 1 rejected, 2 to look at" in shown.out
    ran = cli("review", "--accept-all")
    assert "regenerate" in ran.out
    assert state(folder).counts == {"accept": 3, "edit": 0, "reject": 1}
    assert four in state(folder).decisions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--accept", "zz"), "no row zz"),
        (("--accept", "0123456789abcdef", "--accept-all"), "no row"),
        ((), "--accept-all"),
        (("--source", "other"), "no source is called other"),
    ],
)
def test_wrong_use_decides_nothing(
    waiting: Callable[..., TaskFolder], cli: Callable[..., Ran], arguments: tuple[str, ...], words: str
) -> None:
    folder = waiting(4, 1.0)
    ran = cli("review", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert state(folder).decisions == {}


def test_contradictions_and_short_keys(waiting: Callable[..., TaskFolder], cli: Callable[..., Ran]) -> None:
    folder = waiting(40, 1.0)
    key = state(folder).entries[0].key
    assert "at once" in cli("review", "--accept", key, "--reject", key).err
    # Of 40 hexadecimal keys some two begin alike.
    first = next(k for k in "0123456789abcdef" if sum(e.key[0] == k for e in state(folder).entries) > 1)
    assert "several rows" in cli("review", "--accept", first).err
    assert state(folder).decisions == {}


def test_nothing_to_review(make_task: Callable[..., Path], cli: Callable[..., Ran]) -> None:
    root = make_task()
    ran = cli("review", root)
    assert (ran.code, "require_review" in ran.err) == (1, True)
    assert cli("review", root, "--source", "reviews").code == 2
    (root / "data_source.yaml").write_text(SOURCE.format(count=1, share=1))
    ran = cli("review", root, "--list")
    assert (ran.code, "no generated rows yet" in ran.err) == (1, True)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`nlp-skills review` in a pseudo-terminal; `editor` is a program that gets the file's name."""
    started = []

    def start(folder: TaskFolder, editor: str = "false") -> Any:
        environment = {**os.environ, "EDITOR": editor, "VISUAL": editor, "TERM": "xterm", "NLP_SKILLS_LANG": "en"}
        terminal: dict[str, Any] = {"env": environment, "encoding": "utf-8", "timeout": 20, "dimensions": (40, 100)}
        command = ["-m", "nlp_skills.cli.main", "review"]
        child = pexpect.spawn(sys.executable, command, cwd=str(folder.root), **terminal)
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def editor(tmp_path: Path, *changes: str) -> str:
    """An editor that makes the next of some changes (sed programs) each time it is opened."""
    script = tmp_path / "editor.py"
    (tmp_path / "seen").mkdir()
    script.write_text(
        "import pathlib, subprocess, sys\n"
        f"changes, seen = {list(changes)!r}, pathlib.Path({str(tmp_path / 'seen')!r})\n"
        "count = len(list(seen.iterdir()))\n"
        "(seen / str(count)).write_text(pathlib.Path(sys.argv[1]).read_text())\n"
        "subprocess.run(['sed', '-i', changes[count], sys.argv[1]], check=True)\n"
    )
    return f"{sys.executable} {script}"


def test_keys_decide_row_by_row(waiting: Callable[..., TaskFolder], screen: Callable[..., Any], tmp_path: Path) -> None:
    folder = waiting(5, 1.0)
    child = screen(folder, editor(tmp_path, "s/^label: .*/label: great/", "s/^label: .*/label: neutral/"))
    child.expect("made: 1/5, accepted 0")
    child.expect("Review number 0")
    child.send("a")
    child.expect("made: 2/5, accepted 1")
    assert state(folder).counts["accept"] == 1
    # A key that means nothing does nothing, and a held key decides one row.
    child.send("x")
    child.send("\x1b[A")
    time.sleep(0.5)
    child.send("rrrr")
    child.expect("made: 3/5, accepted 1")
    child.send("u")
    child.expect("made: 2/5, accepted 1")
    child.expect("Review number 1")
    assert state(folder).counts["reject"] == 0
    # The first try names a label the task does not know; the second, opened at once with the reason, is right.
    child.send("e")
    child.expect("made: 3/5, accepted 2")
    assert "'great' is not one of" in (tmp_path / "seen" / "1").read_text()
    assert {"text": "Review number 1", "label": "neutral"} in state(folder).released()
    child.send("s")
    child.expect("Review number 3")
    child.send("q")
    child.expect("1 accepted, 1 edited, 0 rejected, 3 to look at")
    child.expect("nlp-skills regenerate")
    child.expect(pexpect.EOF)
    # What was passed over or not reached comes up the next time.
    child = screen(folder)
    child.expect("made: 3/5, accepted 2")
    child.expect("Review number 2")
    child.send("a")
    child.expect("made: 4/5")
    child.send("a")
    child.expect("made: 5/5")
    child.send("r")
    child.expect("3 accepted, 1 edited, 1 rejected, 0 to look at")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_kill_loses_no_decision(waiting: Callable[..., TaskFolder], screen: Callable[..., Any]) -> None:
    folder = waiting(3, 1.0)
    child = screen(folder)
    child.expect("made: 1/3")
    child.send("a")
    child.expect("made: 2/3")
    child.kill(9)
    assert state(folder).counts["accept"] == 1
    child = screen(folder)
    child.expect("made: 2/3, accepted 1")
    child.sendintr()
    child.expect("stopped")


def test_a_bad_sample_goes_on_with_the_others(waiting: Callable[..., TaskFolder], screen: Callable[..., Any]) -> None:
    folder = waiting(4, 0.5)
    child = screen(folder)
    child.expect("made: 1/2, accepted 0")
    child.send("r")
    child.expect("made: 2/2, accepted 0")
    child.send("r")
    child.expect("made: 3/4, accepted 0")
    child.send("a")
    child.expect("made: 4/4, accepted 1")
    child.send("a")
    child.expect("2 accepted, 0 edited, 2 rejected, 0 to look at")
    child.expect("less than 75% of the sample")
    assert len(state(folder).released()) == 2


def test_what_a_model_wrote_cannot_play_with_the_terminal(
    waiting: Callable[..., TaskFolder], screen: Callable[..., Any]
) -> None:
    nasty = "\x1b[2J\x1b]0;title\x07[bold]not bold[/bold] \u202egnihton\u3000全形"
    folder = waiting(1, 1.0, [{"text": nasty, "label": "positive"}])
    child = screen(folder, "/no/such/editor")
    child.expect("u undo")
    shown = child.before
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "[bold]not bold[/bold]" in shown
    assert "\\x1b[2J" in shown
    assert "\u3000全形" in shown
    child.send("e")
    child.expect("ditor")
    child.send("u")
    child.expect("nothing to undo")
    child.send("q")
    child.expect("1 to look at")
