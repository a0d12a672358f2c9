"""A lineage is read whatever happened to its file, put right from what is on disk, and never lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import made_versions
import pytest
from conftest import Ran

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.workspace import lineage, sections
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

OWN = "# a comment of a person's\n"
CHANGES = ["LoRA rank 8 → 16", "新增中立樣本 200 筆", "learning rate: as before"]
NOTES = "v2 是為了中立類別。\nIts rows were few."


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    """Two finished versions; a person has written into the lineage of the second."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    v2 = folder.version("v2")
    v2.root.mkdir()
    v2.config_path.write_text(made_versions.CONFIG, encoding="utf-8")
    lineage.start(v2, name="v2", parent="v1", changes=CHANGES)
    made_versions.finish(folder, "v2")
    lineage.complete(v2)
    lineage.note(v2, "activated", other="v1", reason="好多了")
    yaml.change(v2.lineage_path, {("notes",): NOTES, ("team",): {"lead": "林"}})
    text = v2.lineage_path.read_text(encoding="utf-8")
    v2.lineage_path.write_text(OWN + text.replace("\ndata:", "\n# what it learnt from\ndata:"), encoding="utf-8")
    return folder


@pytest.fixture
def v2(folder: TaskFolder) -> VersionFolder:
    return folder.version("v2")


def backups(version: VersionFolder) -> list[Path]:
    return sorted(version.root.glob("lineage.yaml.bak-*"))


def complete(cli: Callable[..., Ran], version: VersionFolder) -> Any:
    ran = cli("lineage", version.task_root, version.name, "--complete", "--json")
    assert ran.code == 0, ran.err + ran.out
    return ran.json


def rebuilt(version: VersionFolder) -> dict[str, Any]:
    """What every lineage of these files must say."""
    return sections.on_disk(version)


def test_a_lineage_cut_off_anywhere_comes_back(folder: TaskFolder, v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    whole, full = v2.lineage_path.read_bytes(), v2.lineage()
    assert full is not None
    truth = rebuilt(v2)
    for end in sorted({*range(0, len(whole), 7), *range(len(whole) - 12, len(whole))}):
        for left in backups(v2):
            left.unlink()
        v2.lineage_path.write_bytes(whole[:end])
        listed = cli("history", folder.root, "--json").json["versions"]
        assert [row["version"] for row in listed] == ["v2", "v1"], end
        assert v2.lineage_path.read_bytes() == whole[:end] and not backups(v2)
        lineage.complete(v2)
        after = v2.lineage()
        assert after is not None and after.version == "v2"
        said = after.dump()
        assert {name: said[name] for name in ("data", "config", "model", "results")} == {
            name: truth[name] for name in ("data", "config", "model", "results")
        }, end
        assert said["run"].items() >= {"state": "completed", "steps": 4, "seed": 42}.items()
        before = whole[:end].decode(errors="ignore").rpartition("\n")[0]
        for change in CHANGES:
            assert change in after.changes or change not in before, end
        for line in NOTES.splitlines():
            assert line in (after.notes or "") or line not in before, end
        assert after.parent == "v1" or "parent: v1" not in before
        assert (after.model_extra or {}).get("team") == {"lead": "林"} or "lead: 林" not in before


def test_a_repair_keeps_the_earlier_file_and_says_so(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    broken = v2.lineage_path.read_bytes()[:-90]
    broken = broken[: broken.rindex(b"\n  - time") + 12]
    v2.lineage_path.write_bytes(broken)
    done = complete(cli, v2)
    (backup,) = backups(v2)
    assert re.fullmatch(r"lineage\.yaml\.bak-\d{8}T\d{6}", backup.name) and backup.read_bytes() == broken
    assert done["backup"] == backup.name
    event = v2.lineage().events[-1]
    assert event.event == "repaired" and backup.name in event.reason and "@" in event.by
    assert complete(cli, v2)["mended"] == [] and backups(v2) == [backup]


def test_a_kill_at_any_write_of_a_repair_loses_nothing(v2: VersionFolder) -> None:
    broken = v2.lineage_path.read_bytes()[:-40] + b"\n  [broken"
    for number in range(60):
        for left in backups(v2):
            left.unlink()
        v2.lineage_path.write_bytes(broken)
        code = killing.run_until(number, v2.task_root, ["lineage", str(v2.task_root), "v2", "--complete"])
        kept = [v2.lineage_path, *backups(v2)]
        assert broken in [path.read_bytes() for path in kept], number
        lineage.complete(v2)
        found = v2.lineage()
        assert found is not None and found.changes == CHANGES and found.results is not None
        if code == 0:
            break
    assert code == 0 and number > 4


def test_a_second_repair_in_one_second_takes_no_backup_away(v2: VersionFolder) -> None:
    kept = set()
    for number in range(3):
        v2.lineage_path.write_text(f"broken: [{number}", encoding="utf-8")
        kept.add(lineage.repair(v2).backup)
    assert len(kept) == 3
    assert sorted(path.read_text(encoding="utf-8") for path in backups(v2)) == [f"broken: [{n}" for n in range(3)]


HAND_EDITS = {
    "a sentence": ("changes:\n", 'changes: only one sentence\nold:\n', "only one sentence"),
    "a tab": ("  train_count", "\ttrain_count", CHANGES[0]),
    "a key twice": ("parent: v1\n", "parent: v1\nparent: v1\n", CHANGES[0]),
    "a section twice": ("environment:", "environment:", CHANGES[0]),
    "a merge conflict": ("changes:\n", "<<<<<<< HEAD\nchanges:\n  - mine: all\n=======\nchanges:\n", "mine: all"),
    "an open quote": ("changes:\n", 'changes:\n  - "unfinished\n', CHANGES[1]),
    "a colon too many": ("changes:\n", "changes:\n  - ratio: 1: 2\n", "ratio: 1: 2"),
    "text for a number": ("train_count: 24", "train_count: many", CHANGES[0]),
    "a strange event": ("events:\n", "events:\n  - event: exploded\n    time: yesterday\n", CHANGES[2]),
    "a list for a mapping": ("\nmodel:\n", "\nmodel: [a, b]\nolder_model:\n", CHANGES[0]),
    "not one letter of ours": ("schema_version", "\x00\x01schema_version", CHANGES[0]),
}  # fmt: skip


@pytest.mark.parametrize("edit", HAND_EDITS)
def test_a_hand_edit_is_read_and_put_right(v2: VersionFolder, cli: Callable[..., Ran], edit: str) -> None:
    before, after, survives = HAND_EDITS[edit]
    text = v2.lineage_path.read_text(encoding="utf-8")
    assert before in text or edit == "a section twice"
    changed = text.replace(before, after, 1) if edit != "a section twice" else text + "data:\n  train_count: 7\n"
    v2.lineage_path.write_text(changed, encoding="utf-8")
    seen, _problems = lineage.read(v2)
    assert seen is not None and survives in seen.changes and seen.notes.splitlines() == NOTES.splitlines()
    assert v2.lineage_path.read_text(encoding="utf-8") == changed
    complete(cli, v2)
    found = v2.lineage()
    assert survives in found.changes and found.parent == "v1" and found.notes.splitlines() == NOTES.splitlines()
    assert found.dump()["data"] == rebuilt(v2)["data"]
    assert found.dump()["model"] == rebuilt(v2)["model"]
    assert cli("lineage", v2.task_root, "v2").code == 0


def test_numbers_as_text_are_numbers_and_nothing_is_rewritten_for_them(v2: VersionFolder) -> None:
    text = v2.lineage_path.read_text(encoding="utf-8").replace("train_count: 24", 'train_count: "24"')
    v2.lineage_path.write_text(text, encoding="utf-8")
    seen, problems = lineage.read(v2)
    assert problems == [] and seen.data.train_count == 24 and not backups(v2)


def test_keys_of_a_person_stay_in_sections_that_are_written_again(v2: VersionFolder) -> None:
    yaml.change(v2.lineage_path, {("data", "where_from"): "倉庫", ("run", "room"): "cellar"})
    lineage.record(v2, data=lineage.data_section(v2.snapshot()))
    found = yaml.read(v2.lineage_path).data
    assert (found["data"]["where_from"], found["run"]["room"]) == ("倉庫", "cellar")
    assert OWN in v2.lineage_path.read_text(encoding="utf-8")


def test_comments_stay_where_the_file_parses(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    text = v2.lineage_path.read_text(encoding="utf-8").replace("train_count: 24", "train_count: [24]")
    v2.lineage_path.write_text(text, encoding="utf-8")
    assert complete(cli, v2)["backup"]
    after = v2.lineage_path.read_text(encoding="utf-8")
    assert after.startswith(OWN) and "# what it learnt from\n" in after and "train_count: 24\n" in after


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing but words\n",
        b"\xef\xbb\xbf",
        b"[1, 2]\n",
        b"just words\n",
        b"\x00" * 300,
        b"{" * 400,
        b"[" * 700 + b"]" * 700,
        b"---\n",
    ],
)
def test_where_nothing_can_be_read_all_comes_from_disk(
    v2: VersionFolder, cli: Callable[..., Ran], content: bytes
) -> None:
    v2.lineage_path.write_bytes(content)
    ran = cli("lineage", v2.task_root, "v2", "--json")
    assert ran.code == 1 and ran.json["problems"] and v2.lineage_path.read_bytes() == content
    assert set(complete(cli, v2)["mended"]) == {"data", "config", "model", "results", "run"}
    assert backups(v2)[0].read_bytes() == content
    found = v2.lineage()
    assert found.version == "v2" and found.created.year >= 2026
    assert {name: found.dump()[name] for name in rebuilt(v2)} == rebuilt(v2)


def test_a_folder_in_its_place_is_set_aside(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    v2.lineage_path.unlink()
    v2.lineage_path.mkdir()
    (v2.lineage_path / "inside.txt").write_text("kept", encoding="utf-8")
    assert cli("history", v2.task_root, "--json").code == 0
    complete(cli, v2)
    assert (backups(v2)[0] / "inside.txt").read_text(encoding="utf-8") == "kept"
    assert v2.lineage().results is not None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp950"])
def test_other_encodings_and_line_ends(v2: VersionFolder, cli: Callable[..., Ran], encoding: str) -> None:
    text = v2.lineage_path.read_text(encoding="utf-8").replace("\n", "\r\n")
    v2.lineage_path.write_bytes(text.encode(encoding))
    complete(cli, v2)
    lineage.note(v2, "deployed")
    found = v2.lineage()
    assert found.changes == CHANGES and found.notes.splitlines() == NOTES.splitlines()
    assert bool(backups(v2)) == (encoding != "utf-8-sig")


def test_what_a_newer_release_wrote_is_read_and_never_written(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    text = v2.lineage_path.read_text(encoding="utf-8").replace("schema_version: 2", "schema_version: 3")
    v2.lineage_path.write_text(text.replace("changes:", "signed: [by, many]\nchanges:"), encoding="utf-8")
    before = v2.lineage_path.read_bytes()
    seen, problems = lineage.read(v2)
    assert seen.changes == CHANGES and problems[0].mend == "update nlp-skills"
    for write in (
        lambda: lineage.record(v2, results=None),
        lambda: lineage.note(v2, "deployed"),
        lambda: lineage.repair(v2),
        lambda: lineage.ensure(v2),
    ):
        with pytest.raises(Invalid, match="newer"):
            write()
    refused = cli("lineage", v2.task_root, "v2", "--complete")
    assert refused.code == 1 and "update nlp-skills" in refused.err
    assert v2.lineage_path.read_bytes() == before and not backups(v2)


SEED = """\
# versions/v2/lineage.yaml
version: v2
created: 2026-01-06T14:00:00
parent: v1
data:
  source_hash: abc123
  train_count: 500
config:
  base_model: Qwen/Qwen3-4B
  method: sft
  lora_r: 64
  epochs: 6
results:
  macro_f1: 0.815
  accuracy: 0.82
changes:
  - "增加 LoRA rank 32 → 64"  # 一半
  - "新增中立樣本 200 筆"
"""


@pytest.fixture
def seed(folder: TaskFolder) -> VersionFolder:
    """A version of which nothing but config.yaml and a lineage of the first form is there."""
    version = folder.version("v3")
    version.root.mkdir()
    version.config_path.write_text("base_model: Qwen/Qwen3-4B\nmethod: sft\nlora: {r: 64}\nepochs: 6\n", "utf-8")
    version.lineage_path.write_text(SEED.replace("version: v2", "version: v3"), encoding="utf-8")
    return version


def test_the_first_form_is_read_as_it_is_and_brought_over_by_the_first_write(seed: VersionFolder) -> None:
    text = seed.lineage_path.read_text(encoding="utf-8")
    before, problems = lineage.read(seed)
    assert problems == [] and before.config.lora.r == 64 and before.config.lora.alpha is None
    assert seed.lineage_path.read_text(encoding="utf-8") == text
    lineage.note(seed, "deployed", reason="shop")
    (backup,) = backups(seed)
    assert backup.read_text(encoding="utf-8") == text
    after = yaml.read(seed.lineage_path).data
    assert next(iter(after)) == "schema_version" and after["schema_version"] == 2
    assert after["config"] == {"base_model": "Qwen/Qwen3-4B", "method": "sft", "epochs": 6, "lora": {"r": 64}}
    assert {name: after[name] for name in ("created", "parent", "data", "results", "changes")} == {
        name: yaml.loads(text, backup).data[name] for name in ("created", "parent", "data", "results", "changes")
    }
    assert "# 一半" in seed.lineage_path.read_text(encoding="utf-8")
    assert [entry.event for entry in seed.lineage().events] == ["deployed"]
    lineage.note(seed, "undeployed")
    assert backups(seed) == [backup]


def test_a_lineage_that_lost_its_line_ends_is_read(seed: VersionFolder) -> None:
    flat = SEED.replace("  # 一半", "").replace("version: v2", "version: v3")
    seed.lineage_path.write_text(" ".join(flat.split()), encoding="utf-8")
    seen, problems = lineage.read(seed)
    assert problems and seen.parent == "v1" and seen.changes == ["增加 LoRA rank 32 → 64", "新增中立樣本 200 筆"]
    assert seen.data.train_count == 500 and seen.config.lora.r == 64
    assert (seen.results.model_extra or {})["macro_f1"] == 0.815


def test_completing_never_writes_over_the_only_trace_of_what_was(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    """A file that is no longer the recorded one is a finding, not the new truth."""
    before = v2.lineage()
    results = v2.results_path.read_text(encoding="utf-8")
    v2.results_path.write_text(re.sub(r'"macro_f1": [\d.]+', '"macro_f1": 0.999', results), encoding="utf-8")
    yaml.change(v2.config_path, {("epochs",): 9})
    done = complete(cli, v2)
    assert done["mended"] == [] and done["contradicted"] == {"results": "results.json", "config": "config.yaml"}
    assert v2.lineage() == before


def test_hashes_taken_afterwards_are_told_from_those_of_the_step(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    for section in ("model", "results"):
        yaml.change(v2.lineage_path, {(section, "hashes"): None})
    assert complete(cli, v2)["mended"] == ["model", "results"]
    found = v2.lineage()
    assert found.model.hashes.keys() == {
        "models/adapter/v2/adapter_config.json",
        "models/adapter/v2/adapter_model.safetensors",
    }
    assert found.results.hashes.keys() == {"results.json", "predictions.jsonl"}
    assert found.events[-1].event == "repaired" and "model, results" in found.events[-1].reason


def test_a_run_that_died_before_its_last_word_is_completed(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(v2.lineage_path, {("run",): None})
    assert complete(cli, v2)["mended"] == ["run"]
    assert v2.lineage().events[-1].reason.endswith("config")
    run = v2.lineage().run
    assert (run.state, run.steps, run.tokens, run.seconds, run.seed) == ("completed", 4, 4, 4.0, 42)
    assert run.config_hash == lineage.config_hash(v2.config_path)


def test_what_an_export_added_to_the_model_stays(v2: VersionFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(v2.lineage_path, {("model", "gguf_path"): "models/gguf/v2-q8_0.gguf", ("model", "hf_repo"): "org/x"})
    assert complete(cli, v2)["mended"] == []
    assert v2.lineage().model.gguf_path == "models/gguf/v2-q8_0.gguf"


def test_hashes_are_of_regular_files_and_follow_no_link(tmp_path: Path) -> None:
    root = tmp_path / "task"
    (root / "models" / "adapter" / "v1" / "deep").mkdir(parents=True)
    place = root / "models" / "adapter" / "v1"
    (place / "b.json").write_text("{}")
    (place / "deep" / "a.bin").write_bytes(b"\0")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (place / "link").symlink_to(outside / "secret")
    (place / "folder").symlink_to(outside)
    found = lineage.file_hashes(place, root)
    assert list(found) == ["models/adapter/v1/b.json", "models/adapter/v1/deep/a.bin"]
    assert found["models/adapter/v1/b.json"].startswith("sha256:44136fa355b3678a")


def test_the_commands_words(folder: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.root)
    assert cli("lineage", "--json").json["version"] == "v1"
    assert cli("lineage", "v2", "--json").json["version"] == "v2"
    assert "parent: v1" in cli("lineage", "v2").out
    assert cli("lineage", "--lang", "en", folder.root, "v2", "--json").json["version"] == "v2"
    for words in (["lineage"], ["lineage", "v1"], ["lineage", "verify"], ["lineage", "graph"]):
        said = cli(*words, "--help")
        assert said.code == 0 and "nlp-skills lineage" in said.out and "Examples" in said.out, words
    top = cli("lineage", "--help").out
    assert "--complete" in top and "verify" in top and "graph" in top and "[TASK] [VERSION]" in top
    unknown = cli("lineage", "--nonsense")
    assert unknown.code == 2 and "nlp-skills lineage --help" in unknown.err
    assert cli("lineage", "v1", "--help").out == cli("lineage", "v2", "--help").out
    wrong = cli("lineage", "v1", "v2")
    assert wrong.code == 2 and "too many names" in wrong.err


def test_a_task_called_verify_is_reached_by_its_path(make_task: Callable[..., Path], cli: Callable[..., Ran]) -> None:
    folder = made_versions.first_version(make_task("verify"))
    assert cli("lineage", "./verify", "v1", "--json").json["task"] == "verify"
    assert cli("lineage", "verify", "./verify", "--json").json["task"] == folder.root.name
