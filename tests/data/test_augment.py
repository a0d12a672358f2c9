"""Rows made from training rows: they are good rows, they stay in train, and they are the same every time."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Ran, reviews, write_rows
from fixtures_llm import Door, FakeChat, Said

from nlp_skills.data import augment, augmentation, entities, near
from nlp_skills.data.sources import Fetching
from nlp_skills.errors import Usage
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
Row = dict[str, Any]
SPLITS = ("train", "valid", "test")

NER_YAML = """\
task_name: ner
version: v1
task_type: extraction
input_template: "Name the companies and people: {text}"
output_format:
  type: json
  schema:
    summary: {type: string}
    entities:
      type: array
      items:
        type: object
        properties: {text: {type: string}, type: {type: string}, start: {type: integer}, end: {type: integer}}
"""
NER_SOURCES = """\
# of mine
sources:
  - {type: file_import, name: news, path: news.jsonl}
split: {train: 0.6, valid: 0.2, test: 0.2, seed: 3}
"""
COMPANIES = ["台積電", "聯發科", "鴻海", "Delta", "廣達", "Ann Inc"]
PEOPLE = ["王小明", "陳美麗", "Ann", "林志豪"]


def news(count: int, *, offsets: bool = True) -> list[Row]:
    """Sentences of a person and a company, the company twice."""
    draw = random.Random(1)
    rows = []
    for number in range(count):
        person, company = draw.choice(PEOPLE), draw.choice(COMPANIES)
        text = (
            f"{person} 在第{number * 7919 % 1009}次會議上說 {company} 營收成長{number % 37}%，{company} 未回應。Annual!"
        )
        found = [(person, "person", text.index(person))]
        found += [(company, "company", at) for at in entities.places(text, company)]
        listed = [
            {"text": name, "type": kind, **({"start": at, "end": at + len(name)} if offsets else {})}
            for name, kind, at in found
        ]
        rows.append({"text": text, "summary": f"{company} grew", "entities": listed, "id": number})
    return rows


@pytest.fixture
def ner(project: Path) -> Path:
    root = project / "ner"
    root.mkdir()
    (root / "task.yaml").write_text(NER_YAML, encoding="utf-8")
    (root / "data_source.yaml").write_text(NER_SOURCES, encoding="utf-8")
    write_rows(root / "news.jsonl", news(120))
    return root


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    """Reviews of which few are negative."""
    root = make_task()
    kept = [row for number, row in enumerate(reviews(240)) if row["label"] != "negative" or number % 4 == 0]
    write_rows(root / "reviews.jsonl", kept)
    return root


def read(root: Path, split: str) -> list[Row]:
    return [json.loads(line) for line in (root / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def contents(root: Path) -> dict[str, bytes]:
    return {name: (root / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS}


def made(root: Path) -> list[Row]:
    return [row for row in read(root, "train") if "_augmented" in row]


def held_out_is_safe(root: Path, threshold: float = 0.9) -> None:
    """Every augmented row against every row of valid and test, one by one."""
    held = [near.normalised(row, ["text"]) for name in ("valid", "test") for row in read(root, name)]
    for row in made(root):
        text = near.normalised(row, ["text"])
        assert text not in held
        assert all(near.similarity(near.grams(text), near.grams(other)) < threshold for other in held)
    assert not any("_augmented" in row for name in ("valid", "test") for row in read(root, name))


def test_small_classes_are_repeated(task: Path, cli: Cli) -> None:
    cli("regenerate")
    before, originals = contents(task), read(task, "train")
    ran = cli("augment", "--method", "oversample", "--to", "0.75", "--json")
    assert ran.code == 0, ran
    counts = Counter(row["label"] for row in read(task, "train"))
    largest = max(Counter(row["label"] for row in originals).values())
    assert counts["negative"] == round(0.75 * largest) > Counter(row["label"] for row in originals)["negative"]
    assert ran.json["augmented"] == len(made(task)) == len(read(task, "train")) - len(originals)
    after = contents(task)
    assert (after["valid"], after["test"]) == (before["valid"], before["test"])
    assert [row for row in read(task, "train") if "_augmented" not in row] == originals
    by_key = {near.row_key(row, ["text"]): row for row in originals}
    for row in made(task):
        mark = row.pop("_augmented")
        assert mark["method"] == "oversample"
        assert row == by_key[mark["of"]]
    assert "  - method: oversample\n    to: 0.75\n" in (task / "data_source.yaml").read_text(encoding="utf-8")


def test_each_row_is_repeated_once_before_one_is_repeated_twice(task: Path, cli: Cli) -> None:
    cli("augment", "--method", "oversample")
    repeats = Counter(row["_augmented"]["of"] for row in made(task) if row["label"] == "negative")
    assert max(repeats.values()) - min(repeats.values()) <= 1
    assert len({json.dumps(row) for row in made(task)}) == len(made(task))


@pytest.mark.parametrize("options", [["oversample"], ["entity_swap", "--per-row", "2"]])
def test_twice_the_same_bytes_whatever_the_rows_order(
    options: list[str], task: Path, ner: Path, cli: Cli, project: Path
) -> None:
    root = task if options == ["oversample"] else ner
    assert cli("augment", root, "--method", *options).code == 0
    first = contents(root)
    assert made(root)
    source = root / ("reviews.jsonl" if root == task else "news.jsonl")
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    random.Random(9).shuffle(rows)
    write_rows(source, rows)
    assert cli("regenerate", root, "--all").code == 0
    assert contents(root) == first


def test_entities_are_exchanged_and_everything_follows(ner: Path, cli: Cli) -> None:
    cli("regenerate", "ner")
    before, originals = contents(ner), {near.row_key(row, ["text"]): row for row in read(ner, "train")}
    ran = cli("augment", "ner", "--method", "entity_swap", "--per-row", "2")
    assert ran.code == 0, ran
    rows = made(ner)
    assert len(rows) > len(originals)
    folder = TaskFolder.at(ner)
    for row in rows:
        original = originals[row["_augmented"]["of"]]
        assert entities.misplaced(row, folder.task()) == []
        assert all(row["text"][e["start"] : e["end"]] == e["text"] for e in row["entities"])
        assert [e["type"] for e in row["entities"]] == [e["type"] for e in original["entities"]]
        pairs = dict(zip((e["text"] for e in original["entities"]), (e["text"] for e in row["entities"]), strict=True))
        assert all(new in (COMPANIES if new not in PEOPLE else PEOPLE) for new in pairs.values())
        company = original["entities"][-1]["text"]
        assert row["summary"] == f"{pairs[company]} grew"
        assert row["text"].endswith("Annual!")
        assert (row["id"], row["_source"]) == (original["id"], original["_source"])
        if pairs[company] != company:
            assert row["text"].count(pairs[company]) == 2
    after = contents(ner)
    assert (after["valid"], after["test"]) == (before["valid"], before["test"])
    held_out_is_safe(ner)
    assert cli("validate", "ner").code == 0


def test_entities_without_offsets_are_exchanged_too(ner: Path, cli: Cli) -> None:
    write_rows(ner / "news.jsonl", news(60, offsets=False))
    assert cli("augment", "ner", "--method", "entity_swap").code == 0
    assert len(made(ner)) > 20
    for row in made(ner):
        assert all(e["text"] in row["text"] and set(e) == {"text", "type"} for e in row["entities"])
        assert row["text"].endswith("Annual!")


def tried(root: Path, rows: list[Row], held: list[Row], method: Row) -> tuple[list[Row], Fetching]:
    """What `apply` makes of these training rows beside these held-out ones."""
    folder = TaskFolder.at(root)
    train = write_rows(root / "work" / "train.jsonl", rows)
    write_rows(root / "work" / "valid.jsonl", held)
    config = folder.sources().model_copy(update={"augmentation": []})
    config = type(config).model_validate({**config.model_dump(), "augmentation": [method]})
    fetching = Fetching(folder)
    keys = {near.row_key(row, ["text"]) for row in held}
    return list(augment.apply(train, config, folder.task(), folder, keys, fetching)), fetching


def about(person: str, company: str, tail: str = "") -> Row:
    text = f"{person} praised the quarterly figures of {company} at length on Monday{tail}"
    listed = [{"text": t, "type": k} for t, k in ((person, "person"), (company, "company"))]
    return {"text": text, "summary": company, "entities": listed}


def test_a_row_that_would_say_what_a_held_out_row_says_is_not_made(ner: Path) -> None:
    # Two people, one company: the only row to be made from the first is the held-out one, or nearly that.
    train = [about("Ann", "Delta"), {**about("Bob", "Delta"), "text": "Bob and Delta: something else entirely"}]
    free, _fetching = tried(ner, train[:1] + train[1:], [], {"method": "entity_swap"})
    assert any(row["text"] == about("Bob", "Delta")["text"] for row in free)
    rows, fetching = tried(ner, train, [about("Bob", "Delta")], {"method": "entity_swap"})
    assert not any(row["text"] == about("Bob", "Delta")["text"] for row in rows)
    assert fetching.record["augmentation"][0]["refused"]["held_out"] == 1
    rows, fetching = tried(ner, train, [about("Bob", "Delta", "!")], {"method": "entity_swap"})
    assert not any("praised" in row["text"] for row in rows)
    assert fetching.record["augmentation"][0]["refused"]["near_held_out"] == 1


def test_rows_that_cannot_be_rewritten_are_left_alone_and_counted(ner: Path) -> None:
    whole = about("Ann", "Delta")
    wrong = {**whole, "text": "Delta alone"}
    twice = {**whole, "text": "Ann Ann Delta", "entities": [{"text": "Ann", "type": "person"},
                                                          {"text": "Ann", "type": "company"}]}  # fmt: skip
    over = {**whole, "text": "Ann Inc of Bob", "entities": [
        {"text": "Ann Inc", "type": "company", "start": 0, "end": 7},
        {"text": "Ann", "type": "person", "start": 0, "end": 3}]}  # fmt: skip
    none = {**whole, "text": "nobody", "entities": []}
    _rows, fetching = tried(ner, [wrong, twice, over, none, about("Bob", "Acer")], [], {"method": "entity_swap"})
    refused = fetching.record["augmentation"][0]["refused"]
    assert refused == {"misplaced": 1, "no_entities": 1, "overlapping": 1, "two_types": 1}
    assert any("refused" in text for text in fetching.warnings)
    _rows, fetching = tried(ner, [about("Bob", "Acer")], [], {"method": "entity_swap"})
    assert fetching.record["augmentation"][0]["refused"] == {"no_other": 1}


def rewording(body: dict[str, Any]) -> Said:
    """A fake's answers: good ones, and by what the text says each thing a model may do wrong."""
    asked = json.loads("{" + body["messages"][-1]["content"].split("{")[-1])
    text = asked["text"]
    order = text.split(":")[0]
    words = {"great": Said(json.dumps({"text": text})), "lovely": Said("Sure, here you are!"),
             "plain": Said(json.dumps({"text": "  "})), "ordinary": Said('{"text": "cut', finish="length"),
             "usual": Said(json.dumps({"text": text[:-1] + "!"}))}  # fmt: skip
    wrong = next((said for word, said in words.items() if word in text), None)
    return wrong or Said(
        json.dumps({"text": f"Concerning {order.lower()}, what was sent turned out {text.split()[-1]}"})
    )


def paraphrase(fake: FakeChat | Door) -> list[str]:
    base = f"{fake.url}/v1"
    return ["--method", "paraphrase", "--model", "fake-small", "--base-url", base]


def test_paraphrases_are_checked_recorded_and_replayed(
    task: Path, cli: Cli, fake_chat: Callable[..., FakeChat], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("regenerate")
    before, originals = contents(task), {near.row_key(row, ["text"]): row for row in read(task, "train")}
    fake = fake_chat(rewording)
    ran = cli("augment", *paraphrase(fake), "--json")
    assert ran.code == 0, ran
    rows = made(task)
    assert rows and fake.questions == len(originals)
    bad = ("great", "lovely", "plain", "ordinary", "usual")
    good = [row for row in originals.values() if not any(word in row["text"] for word in bad)]
    assert len(rows) == len(good)
    for row in rows:
        original = originals[row["_augmented"]["of"]]
        assert row["text"].startswith("Concerning order ")
        assert row["label"] == original["label"]
    after = contents(task)
    assert (after["valid"], after["test"]) == (before["valid"], before["test"])
    held_out_is_safe(task)
    (warning,) = [text for text in ran.json["warnings"] if "paraphrase" in text]
    for reason in ("near_original", "empty", "cut_off", "prose", "same"):
        assert reason in warning
    fake.close()
    assert cli("regenerate", "--all").code == 0
    assert contents(task) == after
    assert len((task / "data/raw/recorded/_augmentation.jsonl").read_text().splitlines()) == len(originals)


def test_only_the_wanted_classes_are_said_anew(task: Path, cli: Cli, fake_chat: Callable[..., FakeChat]) -> None:
    fake = fake_chat(rewording)
    assert cli("augment", *paraphrase(fake), "--label", "negative", "--per-row", "2").code == 0
    assert {row["label"] for row in made(task)} == {"negative"}
    negative = sum(row["label"] == "negative" for row in read(task, "train") if "_augmented" not in row)
    assert fake.questions == 2 * negative


def test_a_paraphrase_keeps_its_entities(ner: Path, cli: Cli, fake_chat: Callable[..., FakeChat]) -> None:
    def reorder(body: dict[str, Any]) -> Said:
        text = json.loads("{" + body["messages"][-1]["content"].split("{")[-1])["text"]
        person, company = text.split(" ")[0], next(name for name in COMPANIES if name in text)
        if company == "鴻海":
            company = "某公司"
        return Said(
            json.dumps({"text": f"關於{company}的成績與前景，{company}不願多談，但{person}在會中{text[8:20]}說了"})
        )

    fake = fake_chat(reorder)
    ran = cli("augment", "ner", *paraphrase(fake))
    assert ran.code == 0, ran
    rows = made(ner)
    assert rows
    folder = TaskFolder.at(ner)
    for row in rows:
        assert entities.misplaced(row, folder.task()) == []
        assert "鴻海" not in row["text"]
        assert row["text"].startswith("關於")
    asked = [body["messages"][-1]["content"] for _path, _headers, body in fake.requests]
    assert all('Keep these exactly as they are written: "' in text for text in asked)


def test_a_template_of_ones_own(task: Path, cli: Cli, fake_chat: Callable[..., FakeChat]) -> None:
    fake = fake_chat(lambda body: Said('{"text": "x"}'))
    base = f"{fake.url}/v1"
    entry = f"augmentation:\n  - method: paraphrase\n    model: m\n    base_url: {base}\n"
    path = task / "data_source.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + entry + '    prompt_template: "Reword {text} ({lable})"\n', encoding="utf-8")
    ran = cli("regenerate")
    assert ran.code == 1
    assert "data_source.yaml:11" in ran.err and "{lable}" in ran.err and "{answer}" in ran.err
    path.write_text(before + entry + '    prompt_template: "Reword {text} {answer} {number}"\n', encoding="utf-8")
    assert cli("regenerate").code == 0
    asked = fake.requests[0][2]["messages"][-1]["content"]
    assert asked.startswith("Reword Order ") and asked.endswith('"} 1')


def test_a_server_that_is_not_there_changes_nothing(task: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_skills.data.llm_providers.RETRIES", 0)
    cli("regenerate")
    before, document = contents(task), (task / "data_source.yaml").read_bytes()
    ran = cli("augment", "--method", "paraphrase", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert ran.code == 3
    assert "127.0.0.1:9" in ran.err and "mend:" in ran.err
    assert contents(task) == before
    assert (task / "data_source.yaml").read_bytes() == document


def test_a_real_model_says_things_anew(task: Path, cli: Cli, door: Door) -> None:
    write_rows(task / "reviews.jsonl", reviews(24))
    entry = f"augmentation:\n  - {{method: paraphrase, model: smollm2, base_url: '{door.url}/v1', max_tokens: 48, "
    path = task / "data_source.yaml"
    path.write_text(path.read_text(encoding="utf-8") + entry + "labels: [neutral]}\n", encoding="utf-8")
    ran = cli("regenerate", "--json")
    assert ran.code == 0, ran
    wanted = sum(row["label"] == "neutral" for row in read(task, "train") if "_augmented" not in row)
    assert door.questions == wanted
    assert all(row["label"] == "neutral" for row in made(task))
    held_out_is_safe(task)
    first = contents(task)
    assert cli("regenerate", "--all").code == 0
    assert contents(task) == first
    assert door.questions == wanted


def test_a_dry_run_writes_nothing_and_shows_three(task: Path, ner: Path, cli: Cli) -> None:
    cli("regenerate", "sentiment")
    cli("regenerate", "ner")
    for root, method in ((task, "oversample"), (ner, "entity_swap")):
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        plan = cli("augment", root, "--method", method, "--dry-run", "--json").json
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
        assert plan["rows"] > 0 and not plan["at_most"] and len(plan["examples"]) == 3
        assert cli("augment", root, "--method", method, "--json").json["augmented"] == plan["rows"]


def test_a_dry_run_asks_a_model_for_the_examples_only(task: Path, cli: Cli, fake_chat: Callable[..., FakeChat]) -> None:
    cli("regenerate")
    fake = fake_chat(lambda body: Said(json.dumps({"text": f"\x1b[31mAll in other words, {random.random()}"})))
    ran = cli("augment", *paraphrase(fake), "--dry-run")
    assert ran.code == 0 and fake.questions == 3
    assert f"at most {len(read(task, 'train'))} rows" in ran.out
    assert "\x1b" not in ran.out and "\\x1b[31mAll in other words" in ran.out
    assert not (task / "data/raw/recorded/_augmentation.jsonl").exists()


def test_an_entry_is_changed_where_it_stands_and_comments_stay(ner: Path, cli: Cli) -> None:
    path = ner / "data_source.yaml"
    path.write_text(NER_SOURCES + "augmentation:  # more\n  - method: entity_swap  # names\n    per_row: 1\n", "utf-8")
    assert cli("augment", "ner", "--method", "entity_swap", "--per-row", "3").code == 0
    text = path.read_text(encoding="utf-8")
    assert "augmentation:  # more\n  - method: entity_swap  # names\n    per_row: 3\n" in text
    assert text.startswith("# of mine\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["entity_swap"], ["entities", "paraphrase"]),
        (["paraphrase"], ["model", "--model"]),
        (["paraphrase", "--model", "m", "--label", "great"], ["no class great", "positive"]),
        (["paraphrase", "--model", "m", "--api-key", "sk-planted"], ["secret", "${NAME}"]),
        (["oversample", "--model", "m"], ["no setting model"]),
        (["oversample", "--to", "2"], ["--to"]),
        (["mixup"], ["mixup", "oversample"]),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    task: Path, cli: Cli, options: list[str], words: list[str]
) -> None:
    before = (task / "data_source.yaml").read_bytes()
    ran = cli("augment", "--method", *options)
    assert ran.code == 2
    assert all(word in ran.err for word in words), ran.err
    assert "Traceback" not in ran.err and "sk-planted" not in ran.err
    assert (task / "data_source.yaml").read_bytes() == before


def test_several_labels_cannot_be_oversampled(task: Path, cli: Cli) -> None:
    text = (task / "task.yaml").read_text(encoding="utf-8").replace("type: text", "type: json")
    text = text.replace("type: string\n      enum: [positive, neutral, negative]",
                        "type: array\n      items: {type: string, enum: [positive, neutral, negative]}")  # fmt: skip
    (task / "task.yaml").write_text(text, encoding="utf-8")
    ran = cli("augment", "--method", "oversample")
    assert ran.code == 2
    assert "several labels" in ran.err
    (task / "data_source.yaml").write_text(
        (task / "data_source.yaml").read_text(encoding="utf-8") + "augmentation: [{method: oversample}]\n", "utf-8"
    )
    write_rows(task / "reviews.jsonl", [{**row, "label": [row["label"]]} for row in reviews(60)])
    ran = cli("regenerate")
    assert ran.code == 1
    assert "data_source.yaml:10" in ran.err and "several labels" in ran.err


def test_a_dry_run_without_data_says_what_to_do(task: Path, cli: Cli) -> None:
    ran = cli("augment", "--method", "oversample", "--dry-run")
    assert ran.code == 1
    assert "train.jsonl" in ran.err and "nlp-skills regenerate" in ran.err


def test_pinned_rows_and_the_audit_and_training_rows_cope(task: Path, cli: Cli) -> None:
    pytest.importorskip("cleanlab")
    cli("regenerate")
    plain = cli("audit", "--json").json
    assert cli("augment", "--method", "oversample").code == 0
    assert cli("validate").code == 0
    found = cli("audit", "--json").json
    count = len(made(task))
    assert found["figures"]["splits"]["train"]["augmented"] == {"oversample": count}
    for name in ("rows", "count", "found"):
        assert len(str(found["label_errors"][name])) and found["label_errors"]["rows"] == plain["label_errors"]["rows"]
    assert found["conflicts"]["count"] == plain["conflicts"]["count"] == 0
    done = cli("convert", "--json").json
    assert done["rows"]["train"] == len(read(task, "train"))
    assert set(LABELS) == {row["label"] for row in made(task)} | {row["label"] for row in read(task, "test")}


def test_a_snapshot_pins_the_same_test_rows(task: Path, cli: Cli) -> None:
    from nlp_skills.data import snapshot

    cli("regenerate")
    folder = TaskFolder.at(task)
    before = snapshot.take(folder)
    assert cli("augment", "--method", "oversample").code == 0
    after = snapshot.take(folder)
    assert after.test_keys == before.test_keys
    assert after.splits["test"] == before.splits["test"]
    assert after.splits["train"] != before.splits["train"]


def test_settings_are_checked_from_python_too(task: Path) -> None:
    with pytest.raises(Usage):
        augmentation.add(TaskFolder.at(task), {"method": "entity_swap"})


def test_augmented_rows_are_trained_on_as_any_other(task: Path, cli: Cli, tiny_base: Path) -> None:
    from transformers import AutoTokenizer

    from nlp_skills.data.render import Renderer

    cli("augment", "--method", "oversample")
    folder = TaskFolder.at(task)
    training = folder.task().training
    assert training is not None
    renderer, tokenizer = Renderer.of(folder.task(), training), AutoTokenizer.from_pretrained(tiny_base)
    by_key = {near.row_key(row, ["text"]): row for row in read(task, "train") if "_augmented" not in row}
    for row in made(task)[:10]:
        assert renderer.ids(tokenizer, row) == renderer.ids(tokenizer, by_key[row["_augmented"]["of"]])
