"""`nlp-skills knowledge`: searching, one model, many, documents; and what doctor says of old facts."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import minihub
import pytest
from conftest import Ran

from nlp_skills.knowledge import catalogue, tables, write
from nlp_skills.schema import yaml

REFERENCES = Path(__file__).parents[2] / "skills" / "llm-knowledge" / "references"


def test_the_tables_in_the_documents_are_up_to_date() -> None:
    for path, text in write.topics():
        assert path.read_text(encoding="utf-8") == text, "run: make knowledge"


def test_the_skills_references_are_the_english_documents() -> None:
    wanted = dict(write.references())
    assert {path.name: path.read_text(encoding="utf-8") for path in REFERENCES.glob("*.md")} == wanted
    assert not any("<!--" in text for text in wanted.values())


def test_each_document_stands_in_both_languages_with_the_same_sections() -> None:
    from nlp_skills.knowledge import search

    english, chinese = search.topics("en"), search.topics("zh-TW")
    assert list(english) == ["architectures", "methods", "models", "tasks", "test-rows", "troubleshooting"]
    for name, text in english.items():
        ours, theirs = (list(search.sections(name, one)) for one in (text, chinese[name]))
        assert len(ours) == len(theirs)
        assert chinese[name] != text


def test_a_marker_that_names_no_table_or_has_no_end_is_refused() -> None:
    with pytest.raises(ValueError, match="no table is called nonsense"):
        tables.fill("<!-- generated: nonsense -->\n<!-- end -->", "en")
    with pytest.raises(ValueError, match="no end"):
        tables.fill("<!-- generated: models -->\n", "en")


def test_intervals_and_rows_are_the_textbooks() -> None:
    # Newcombe (1998), table I: 81 of 263.
    assert tables.interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert tables.rows_to_tell(0.05, 0.2) == 626


@pytest.mark.parametrize(
    ("terms", "at"),
    [
        (["過擬合"], "troubleshooting#1"),
        (["記憶體不足"], "troubleshooting#5"),
        (["F1", "上不去"], "troubleshooting#4"),
        (["overfitting"], "troubleshooting#1"),
        (["grpo"], "methods#9"),
        (["LoRA", "rank"], "methods#2"),
        (["mixture", "of", "experts"], "architectures#2"),
        (["qwen3", "8b"], "Qwen/Qwen3-8B"),
        (["taiwan"], "yentinglin/Llama-3-Taiwan-8B-Instruct"),
        (["實體情感"], "tasks#2"),
    ],
)
def test_what_is_looked_for_comes_first(terms: list[str], at: str, cli: Callable[..., Ran]) -> None:
    found = cli("knowledge", "search", *terms, "--json")
    assert found.code == 0
    assert found.json["hits"][0]["at"] == at
    assert all(len(hit["excerpt"]) <= 160 for hit in found.json["hits"])


def test_a_section_is_given_once_and_in_the_users_language(cli: Callable[..., Ran]) -> None:
    hits = cli("knowledge", "search", "grpo", "--json").json["hits"]
    places = [hit["at"] for hit in hits]
    assert len(places) == len(set(places))
    assert hits[0]["language"] == "en"
    assert cli("knowledge", "search", "grpo", "--json", "--lang", "zh-TW").json["hits"][0]["language"] == "zh-TW"


def test_the_command_beside_a_hit_shows_the_section(cli: Callable[..., Ran]) -> None:
    said = cli("knowledge", "search", "過擬合").out.splitlines()[0]
    assert said.endswith("nlp-skills knowledge topic troubleshooting --section 1 --lang zh-TW")
    section = cli(*said.split("nlp-skills ")[1].split())
    assert section.code == 0
    assert section.out.startswith("過擬合")
    assert "early_stopping" in section.out


def test_nothing_found_names_what_is_near(cli: Callable[..., Ran]) -> None:
    nothing = cli("knowledge", "search", "overfiting")
    assert (nothing.code, nothing.out) == (1, "")
    assert "near: overfitting" in nothing.err
    assert cli("knowledge", "search", "過凝合", "--json").json["near"]
    silent = cli("knowledge", "search", "%%%")
    assert (silent.code, "knowledge topic" in silent.err) == (1, True)


def test_a_model_is_shown_with_every_fact_its_source_and_age(cli: Callable[..., Ran]) -> None:
    shown = cli("knowledge", "model", "qwen3-8b")
    assert shown.code == 0
    for fact in ("8,190,735,360", "43,646,976", "Apache-2.0", "enable_thinking", "151,936", "zh-TW", "last checked on",
                 "https://huggingface.co/Qwen/Qwen3-8B"):  # fmt: skip
        assert fact in shown.out
    said = cli("knowledge", "model", "Qwen/Qwen3-8B", "--json").json["model"]
    assert said["parameters"] == 8_190_735_360
    assert said["cache_bytes_per_token"] == 36 * 8 * 128 * 2 * 2
    assert "stale" in said


def test_a_part_that_several_have_is_a_question_back(cli: Callable[..., Ran]) -> None:
    several = cli("knowledge", "model", "gpt-oss")
    assert several.code == 2
    assert "openai/gpt-oss-120b" in several.err
    assert "did you mean Qwen/Qwen3-8B?" in cli("knowledge", "model", "Qwne3-8B").err


def test_an_old_entry_is_flagged_and_doctor_counts_it(
    cli: Callable[..., Ran], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "model catalogue" not in cli("doctor").out
    own = catalogue.own_path()
    own.parent.mkdir(parents=True)
    own.write_text("models:\n  - name: Qwen/Qwen3-8B\n    as_of: 2025-05-01\n", encoding="utf-8")

    shown = cli("knowledge", "model", "qwen3-8b")
    assert "over six months" in shown.out
    assert "--refresh" in shown.err
    looked = cli("doctor")
    assert looked.code == 0
    assert "last checked over six months ago: 1, Qwen/Qwen3-8B first" in looked.out
    assert "nlp-skills knowledge model Qwen/Qwen3-8B --refresh" in looked.out


def test_models_by_need_language_and_size(cli: Callable[..., Ran]) -> None:
    found = cli("knowledge", "models", "--need", "chinese", "--max-parameters", "9e9", "--json").json["models"]
    names = [model["name"] for model in found]
    assert "Qwen/Qwen3-4B" in names
    assert "Qwen/Qwen3-14B" not in names
    assert all(model["parameters"] <= 9e9 and "zh-TW" in model["languages"] for model in found)
    table = cli("knowledge", "models", "--language", "th")
    assert "microsoft/Phi-4-mini-instruct" in table.out
    assert "HuggingFaceTB" not in table.out
    assert cli("knowledge", "models", "--language", "xx").code == 1


def test_topics_are_listed_printed_and_refused(cli: Callable[..., Ran]) -> None:
    assert "test-rows: " in cli("knowledge", "topic").out
    assert cli("knowledge", "topic", "methods").out.startswith("# Methods")
    assert "did you mean troubleshooting?" in cli("knowledge", "topic", "trubleshooting").err
    assert "its last one is" in cli("knowledge", "topic", "methods", "--section", "99").err


CARD = "---\nlicense: mit\nlanguage: [zh]\n---\n# A card\n"


def config(**changed: object) -> bytes:
    model = catalogue.named("Qwen/Qwen3-0.6B")
    said = {
        "model_type": "qwen3",
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocabulary,
        "tie_word_embeddings": True,
        "max_position_embeddings": model.context,
    }
    return json.dumps({**said, **changed}).encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[minihub.Hub]:
    with minihub.running() as found:
        repo = found.repo("Qwen/Qwen3-0.6B")
        # Nothing that a terminal would act on is taken over.
        repo.commit(
            {"config.json": config(model_type="\x1b[31mqwen3"), "README.md": CARD.replace("mit", "apache-2.0").encode()}
        )
        found.repo("Qwen/Qwen3-1.7B").commit({"config.json": config(num_hidden_layers=29), "README.md": CARD.encode()})
        found.repo("Qwen/Qwen3-4B").commit({"config.json": config(num_hidden_layers=10**9), "README.md": b"no card"})
        found.repo("meta-llama/Llama-3.2-1B-Instruct", gated=True).commit({"config.json": b"{}"})
        yield found


def refreshed(name: str, home: Path, endpoint: str, **more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its environment once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    online = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-m", "nlp_skills.cli.main", "knowledge", "model", name, "--refresh", "--json"],
        env={**kept, **online, "HF_HOME": str(home / "hf"), "XDG_CONFIG_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_hub_is_asked_and_what_differs_is_the_users_own(
    hub: minihub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    packaged = catalogue.PACKAGED.read_bytes()
    own = catalogue.own_path()
    own.parent.mkdir()
    own.write_text("# mine\nmodels:\n  - name: Qwen/Qwen3-1.7B\n    context: 1234  # what I use\n", encoding="utf-8")

    same = json.loads(refreshed("qwen3-0.6b", tmp_path, hub.url).stdout)
    assert same["refreshed"]["changes"] == []
    assert same["refreshed"]["revision"] == hub.repos["Qwen/Qwen3-0.6B"].heads["main"]
    assert same["refreshed"]["modified"].startswith("2026-01-02")
    assert same["model"]["checked"] == ["arithmetic", "hub"]
    assert same["model"]["as_of"] == dt.datetime.now(tz=dt.UTC).date().isoformat()

    other = json.loads(refreshed("qwen3-1.7b", tmp_path, hub.url).stdout)
    changed = {change["field"]: (change["before"], change["now"]) for change in other["refreshed"]["changes"]}
    assert changed == {
        "layers": (28, 29), "hidden": (2048, 1024), "intermediate": (6144, 3072), "context": (1234, 40960),
        "licence": ("Apache-2.0", "MIT"),
    }  # fmt: skip
    # What follows from the dimensions follows them: one more layer of the smaller model.
    assert catalogue.named("qwen3-1.7b").parameters == 596_049_920 + 15_730_944
    assert own.read_text(encoding="utf-8").startswith("# mine\n")
    assert "# what I use" in own.read_text(encoding="utf-8")
    assert [entry["name"] for entry in yaml.read(own).data["models"]] == ["Qwen/Qwen3-1.7B", "Qwen/Qwen3-0.6B"]
    assert catalogue.PACKAGED.read_bytes() == packaged


def test_nonsense_a_gate_and_no_network_leave_the_table_alone(hub: minihub.Hub, tmp_path: Path) -> None:
    nonsense = refreshed("Qwen/Qwen3-4B", tmp_path, hub.url)
    assert (nonsense.returncode, "makes no sense" in nonsense.stdout) == (1, True)
    gated = refreshed("llama3.2:1b", tmp_path, hub.url)
    assert (gated.returncode, "accept the licence" in gated.stdout) == (3, True)
    closed = refreshed("qwen3-8b", tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert closed.returncode == 3
    assert "HF_HUB_OFFLINE" in json.loads(closed.stdout)["error"]["mend"]
    assert not (tmp_path / "nlp-skills" / "models.yaml").exists()
