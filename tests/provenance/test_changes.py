"""What differs between a version and the next one, in words; and which words say nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Ran, reviews, write_rows
from hypothesis import given
from hypothesis import strategies as st

from nlp_skills.data import snapshot
from nlp_skills.data.regenerate import regenerate
from nlp_skills.provenance import changes
from nlp_skills.provenance.vague import vague
from nlp_skills.schema import yaml
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]

CONFIG = """\
base_model: none/none
lora: {r: 32, alpha: 64}
epochs: 8
learning_rate: 1e-5
batch_size: 4
"""


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    """v1 with data that was regenerated and is recorded as its own."""
    folder = TaskFolder.at(make_task())
    v1 = folder.version("v1")
    v1.root.mkdir(parents=True)
    v1.config_path.write_text(CONFIG, encoding="utf-8")
    regenerate(folder)
    snapshot.write(folder, v1)
    return folder


def computed(folder: TaskFolder, config: dict[str, Any] | None = None) -> list[str]:
    return [change.sentence for change in found(folder, config)]


def found(folder: TaskFolder, config: dict[str, Any] | None = None) -> list[changes.Change]:
    v1 = folder.version("v1")
    now = v1.config().model_copy(update=config or {})
    return changes.between(folder, v1, type(now).model_validate(now.model_dump()))


@pytest.mark.parametrize(
    ("settings", "sentences", "proposal"),
    [
        (["lora.r=64", "epochs=6", "learning_rate=5e-6"],
         ["LoRA rank 32 → 64", "epochs 8 → 6", "learning_rate 1e-5 → 5e-6"], "minor"),
        (["lora.alpha=128", "lora.dropout=0.05"], ["LoRA alpha 64 → 128", "LoRA dropout 0 → 0.05"], "minor"),
        (["epochs=2.5", "allow_truncation=true", "seed=7"],
         ["epochs 8 → 2.5", "allow_truncation false → true", "seed 42 → 7"], "minor"),
        (["lora.target_modules=[q_proj, v_proj]"], ["LoRA target modules all-linear → q_proj, v_proj"], "major"),
        (["base_model=Qwen/Qwen3-4B"], ["base_model none/none → Qwen/Qwen3-4B"], "major"),
        (["system_prompt=Answer briefly."], ['system_prompt - → "Answer briefly."'], "major"),
        (["chat_template_kwargs.enable_thinking=false"], ["chat_template_kwargs.enable_thinking - → false"], "major"),
        (["adapter=full", "lora=null"], ["adapter lora → full"], "major"),
        (["epochs=9", "base_model=b"], ["base_model none/none → b", "epochs 8 → 9"], "major"),
        (["seed=42", "scheduler=cosine", "epochs=8.0"], [], None),
    ],
)  # fmt: skip
def test_settings_in_the_fields_own_words(
    task: TaskFolder, cli: Cli, settings: list[str], sentences: list[str], proposal: str | None
) -> None:
    ran = cli("new-version", *(part for setting in settings for part in ("--set", setting)), "--json")
    if proposal is None:
        assert ran.code == 2 and ran.json["error"]["message"] == "nothing says what changes"
        return
    assert ran.code == 0, ran.out
    assert ran.json["changes"] == ran.json["computed"] == sentences
    assert ran.json["proposal"] == proposal


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-5, "1e-5"), (5e-6, "5e-6"), (2e-4, "2e-4"), (0.00015, "1.5e-4"), (0.05, "0.05"), (0.5, "0.5"), (3.0, "3"),
     (2.5, "2.5"), (16, "16"), (0.0, "0"), (100.0, "100"), (100000.0, "1e5"), (0.1, "0.1"), (-1e-7, "-1e-7"),
     (1.2345e-8, "1.2345e-8")],
)  # fmt: skip
def test_numbers_as_people_write_them(value: float, shown: str) -> None:
    assert changes.number(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_reads_back_as_itself(value: float) -> None:
    shown = changes.number(value)
    assert float(shown) == value
    assert len(shown) <= len(repr(value))


def test_nothing_differs_where_nothing_changed(task: TaskFolder) -> None:
    assert computed(task) == []


def more_neutral(task: TaskFolder) -> None:
    neutral = [row for row in reviews(900, start=120) if row["label"] == "neutral"][:60]
    write_rows(task.root / "reviews.jsonl", [*reviews(120), *neutral])
    regenerate(task)


def test_more_rows_of_one_class(task: TaskFolder) -> None:
    """The splits were made anew, but will be once more: v1's test rows stay where they were tested."""
    more_neutral(task)
    assert computed(task) == ["all rows 120 → 180 (+60)", "neutral: +60 rows"]
    assert {change.part for change in found(task)} == {"data"}
    assert changes.proposal(found(task, {"epochs": 3})) == "major"


def test_splits_that_hold_are_counted_one_by_one(task: TaskFolder, cli: Cli) -> None:
    assert cli("new-version", "--change", "60 more neutral rows").code == 0
    before = {name: len(task.split(name).read_text().splitlines()) for name in ("train", "valid", "test")}
    more_neutral(task)
    now = {name: len(task.split(name).read_text().splitlines()) for name in before}
    assert now["test"] == before["test"]
    assert computed(task) == [
        f"train rows {before['train']} → {now['train']} ({now['train'] - before['train']:+d})",
        f"valid rows {before['valid']} → {now['valid']} ({now['valid'] - before['valid']:+d})",
        "neutral: +60 rows",
    ]


def test_rows_edited_by_hand_are_counted_anew(task: TaskFolder) -> None:
    """The lock no longer knows the file: its rows and classes are those in it."""
    path = task.split("train")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    gone = next(row for row in rows if row["label"] == "positive")
    write_rows(path, [row for row in rows if row is not gone])
    assert computed(task) == [f"train rows {len(rows)} → {len(rows) - 1} (-1)", "positive: -1 rows"]


def test_other_labels_on_as_many_rows(task: TaskFolder) -> None:
    path = task.split("train")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    relabelled = [row["label"] == "neutral" for row in rows].index(True)
    rows[relabelled]["label"] = "negative"
    write_rows(path, rows)
    assert sorted(computed(task)) == ["negative: +1 rows", "neutral: -1 rows"]


def test_other_texts_on_as_many_rows(task: TaskFolder) -> None:
    path = task.split("train")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["text"] += " Indeed."
    write_rows(path, rows)
    assert computed(task) == [f"train rows changed, as many as before: {len(rows)}"]


def test_of_many_classes_those_that_differ_most_are_named(make_task: Callable[..., Path]) -> None:
    root = make_task()
    names = [f"class{number:02d}" for number in range(20)]
    text = (root / "task.yaml").read_text()
    (root / "task.yaml").write_text(text.replace("[positive, neutral, negative]", json.dumps(names)))
    folder = TaskFolder.at(root)
    folder.version("v1").root.mkdir(parents=True)
    folder.version("v1").config_path.write_text(CONFIG)

    def fill(each: dict[str, int]) -> None:
        for split in ("train", "valid", "test"):
            wanted = each if split == "train" else dict.fromkeys(names, 1)
            rows = [{"text": f"{split} {name} {n}", "label": name} for name in names for n in range(wanted[name])]
            write_rows(folder.split(split), rows)

    fill(dict.fromkeys(names, 2))
    snapshot.write(folder, "v1")
    fill({name: 3 + number for number, name in enumerate(names)})
    sentences = computed(folder)
    assert sentences[:3] == ["train rows 40 → 250 (+210)", "class19: +20 rows", "class18: +19 rows"]
    assert sentences[-1] == "further classes whose rows differ: 14"
    assert len(sentences) == 8


def edit_sources(task: TaskFolder, changes_to_make: dict[tuple[str | int, ...], Any]) -> None:
    yaml.change(task.sources_path, changes_to_make)


def test_sources_and_their_settings(task: TaskFolder) -> None:
    other = {"type": "database", "name": "標註庫", "connection": "postgresql://u:${PW}@h/db", "query": "SELECT 1"}
    edit_sources(task, {("sources", 1): other})
    assert computed(task) == ["source 標註庫 added"]
    edit_sources(task, {("sources", 0, "path"): "other.jsonl"})
    assert computed(task) == ["source 標註庫 added", "source reviews changed: path"]
    edit_sources(task, {("sources", 0, "name"): "評論"})
    assert computed(task) == ["source 評論 added", "source 標註庫 added", "source reviews removed"]


def test_where_the_settings_were_not_kept_hashes_tell_which_source_changed(task: TaskFolder) -> None:
    """A data_source.yaml with a password in it is not kept, and no sentence has it."""
    path = task.version("v1").snapshot_path
    content = json.loads(path.read_text())
    assert content.pop("config")
    path.write_text(json.dumps(content))
    secret = {"type": "database", "name": "db", "connection": "postgresql://u:hunter2@h/db", "query": "SELECT 2"}
    edit_sources(task, {("sources", 0, "path"): "other.jsonl", ("sources", 1): secret})
    assert computed(task) == ["source db added", "source reviews changed"]


def test_split_duplicates_and_augmentation(task: TaskFolder) -> None:
    edit_sources(task, {("split", "seed"): 8, ("split", "group"): "author", ("dedup",): {"near": 0.8}})
    assert computed(task) == ["split.seed 7 → 8", "split.group - → author", "dedup.near 0.9 → 0.8"]
    edit_sources(task, {("augmentation",): [{"method": "oversample", "to": 0.5}], ("split", "seed"): 7})
    assert computed(task)[-1] == "augmentation - → oversample"
    snapshot.write(task, "v1")
    assert computed(task) == []
    edit_sources(task, {("augmentation", 0, "to"): 1.0})
    assert computed(task) == ["augmentation changed: oversample"]


def test_a_snapshot_of_the_first_release_knows_less(task: TaskFolder) -> None:
    """It kept neither the sources nor the settings, only one hash of them."""
    path = task.version("v1").snapshot_path
    content = json.loads(path.read_text())
    for key in ("sources", "files", "config"):
        content.pop(key, None)
    path.write_text(json.dumps(content))
    assert computed(task) == []
    edit_sources(task, {("split", "seed"): 8})
    assert computed(task) == ["data_source.yaml changed"]


@pytest.mark.parametrize("lost", ["data", "data_source.yaml", "versions/v1/data_snapshot.json"])
def test_what_is_not_known_is_not_mentioned(task: TaskFolder, lost: str) -> None:
    path = task.root / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert computed(task, {"epochs": 6}) == ["epochs 8 → 6"]


@pytest.mark.parametrize("broken", ["data_source.yaml", "versions/v1/data_snapshot.json", "data/data.lock.yaml"])
def test_a_broken_document_does_not_stop_a_new_version(task: TaskFolder, cli: Cli, broken: str) -> None:
    (task.root / broken).write_text("{", encoding="utf-8")
    ran = cli("new-version", "--set", "epochs=6", "--json")
    assert ran.code == 0, ran.out
    assert ran.json["changes"] == ["epochs 8 → 6"]


def trained(task: TaskFolder) -> None:
    now = task.task()
    ModelInfo(
        version="v1", base_model="none/none", adapter_path="models/adapter/v1", dtype="float32", parameters=10,
        trainable_parameters=1, input_template=now.input_template, output_format=now.output_format,
        created="2026-01-05T10:00:00+08:00",  # type: ignore[arg-type]
    ).save(task.version("v1").model_info_path)  # fmt: skip


def test_the_prompt_the_model_was_trained_on(task: TaskFolder) -> None:
    assert computed(task) == []
    trained(task)
    assert computed(task) == []
    yaml.change(task.task_path, {("input_template",): "Is this review good?\n{text}\n"})
    prompt = 'input_template "Is this review positive, neutral or neg…" → "Is this review good?"'
    assert computed(task) == [prompt]
    assert changes.proposal(found(task)) == "major"


def test_labels_and_the_form_of_the_answer(task: TaskFolder) -> None:
    trained(task)
    at = ("output_format", "schema", "label")
    yaml.change(task.task_path, {(*at, "enum"): ["positive", "neutral", "mixed", "unclear"]})
    assert [c.sentence for c in found(task) if c.part == "prompt"] == [
        "labels added: mixed, unclear", "labels removed: negative",
    ]  # fmt: skip
    yaml.change(task.task_path, {(*at, "enum"): list(LABELS), ("output_format", "type"): "json"})
    assert computed(task) == ["output_format.type text → json"]


SAYING_NOTHING = [
    "調整參數", "增加資料", "調整了一些參數", "修改模型設定", "更新資料集", "優化模型", "改善效果", "改進品質",
    "微調一下", "更多資料", "新增一些樣本", "提升準確率", "重新訓練", "再試一次", "超參數調整", "參數微調", "小改",
    "換模型", "調參", "資料清理", "修正資料", "更新到 v2", "修改 3 個參數", "進行 2 次調整", "v2 的調整", "测试",
    "调整参数", "增加数据", "优化超参数", "更新模型配置", "修改了一些设置", "调整 params", "改 config",
    "tweak params", "more data", "Tweaked some parameters.", "adjusting settings", "changes", "Changed things",
    "update the model", "improvements", "improve accuracy", "Optimised hyper-parameters", "hyperparameter tuning",
    "fine-tuning", "some more training data", "new version", "better performance", "modified the config a bit",
    "various tweaks and fixes", "retrain with different settings", "tried other values", "misc", "wip", "TODO",
    "changed 2 parameters", "v2", "v3-exp again", "small changes to stuff", "added samples", "bigger model", "", " ",
    "...", "→", "123", "!!", "😀",
]  # fmt: skip
SAYING_SOMETHING = [
    "LoRA rank 32 → 64", "新增中立樣本 200 筆", "learning_rate 1e-5 → 5e-6", "清理標註不一致的樣本",
    "訓練輪數 8 → 6(防止過擬合)", "增加 LoRA rank 32 → 64", "移除重複的新聞標題", "改用 Qwen3-8B", "負面樣本過採樣",
    "新增 200 筆資料", "學習率調低", "調整學習率", "提示詞改為先列出實體", "修正繁簡混用", "改寫標註準則",
    "中立樣本 +200", "新增兩百筆", "加入 PTT 語料", "资料来源改为数据库", "清理标注不一致的样本",
    "新增中立样本 200 笔", "batch_size 4 → 8", "cleaned contradictory labels", "200 more rows",
    "240 more annotated rows", "more neutral rows", "epochs 8 → 6", "train rows 500 → 700 (+200)", "中立: +200 rows",
    "source web added", "split.seed 7 → 8", "use Qwen3-8B instead", "base model that is not there",
    "labels: mixed joins neutral", "deduplicated headlines", "lower learning rate", "system prompt in Chinese",
    "oversample the negative class", "dropout 0.1", "removed the user names", "longer contexts: max_length 512",
    "seed 7", "adapter lora → full", "rank 64", "epochs 3", "first", "initial version", "初始版本",
    "trained on GPU 2",
]  # fmt: skip


@pytest.mark.parametrize("text", SAYING_NOTHING)
def test_words_that_fit_any_version_say_nothing(text: str) -> None:
    assert vague(text)


@pytest.mark.parametrize("text", SAYING_SOMETHING)
def test_words_that_name_something_say_something(text: str) -> None:
    assert not vague(text)


def test_a_vague_change_is_sent_back_with_what_differs(task: TaskFolder, cli: Cli) -> None:
    before = sorted(task.root.rglob("*"))
    ran = cli("new-version", "--change", "調整參數", "--set", "lora.r=64", "--set", "epochs=6")
    assert ran.code == 2
    assert 'the change "調整參數" says nothing' in ran.err
    assert "it differs from v1 in: LoRA rank 32 → 64; epochs 8 → 6" in ran.err
    assert "--change 'LoRA rank 32 → 64' --change 'epochs 8 → 6'" in ran.err
    assert sorted(task.root.rglob("*")) == before
    mended = cli(
        "new-version", "--change", "LoRA rank 32 → 64", "--change", "epochs 8 → 6", "--set", "lora.r=64",
        "--set", "epochs=6",
    )  # fmt: skip
    assert mended.code == 0, mended.err
    assert "also differs" not in mended.out


def test_a_vague_change_where_nothing_differs(task: TaskFolder, cli: Cli) -> None:
    ran = cli("new-version", "--change", "LoRA rank 32 → 64", "--change", "tweak params", "--json")
    assert ran.code == 2
    error = ran.json["error"]
    assert error["message"] == 'the change "tweak params" says nothing'
    assert error["cause"] == "nothing differs from v1 yet"
    assert task.version_names() == ["v1"]


def test_what_nobody_said_is_offered(task: TaskFolder, cli: Cli) -> None:
    options = ("--change", "less overfitting on short texts", "--set", "epochs=6", "--set", "lora.dropout=0.1")
    ran = cli("new-version", *options)
    assert ran.code == 0, ran.err
    assert "  - less overfitting on short texts" in ran.out
    assert "also differs: LoRA dropout 0 → 0.1" in ran.out and "also differs: epochs 8 → 6" in ran.out
    lineage = task.version("v2").lineage()
    assert lineage is not None and lineage.changes == ["less overfitting on short texts"]


def test_sentences_are_written_in_the_language_of_the_command(task: TaskFolder, cli: Cli) -> None:
    """Whatever is translated keeps the figures."""
    path = task.split("train")
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:-1]) + "\n")
    ran = cli("new-version", "--set", "epochs=6", "--json", "--lang", "zh-TW")
    assert ran.code == 0, ran.out
    assert "epochs 8 → 6" in ran.json["changes"]
    assert any(str(len(rows)) in change and str(len(rows) - 1) in change for change in ran.json["changes"])
