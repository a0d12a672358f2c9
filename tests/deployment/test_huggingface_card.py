"""The model card, and what is told of a version beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from nlp_skills import files
from nlp_skills.deployment.deploy import deploy
from nlp_skills.deployment.huggingface import Plan
from nlp_skills.schema import yaml
from nlp_skills.schema.deployment import AnswerParity, Export, Exports, Parity, ParityCheck, PromptParity
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder


def planned(folder: TaskFolder, version: str = "v2", **options: Any) -> Plan:
    done = deploy(folder, version, "huggingface", dry_run=True, repo="org/reviews", **options)
    assert done.plan and not done.entries
    return done.plan


def records(plan: Plan) -> dict[str, str]:
    return {piece.name: piece.text for piece in plan.pieces if piece.text is not None}


def test_the_front_matter_says_what_the_hub_s_pages_show(released: TaskFolder) -> None:
    data = ModelCard(planned(released).card).data
    assert (data.library_name, data.pipeline_tag, data.language) == ("peft", "text-generation", "en")
    assert {"nlp-skills", "text-classification", "lora", "retail"} <= set(data.tags)
    results = released.version("v2").results()
    assert results and data.eval_results
    figures = {one.metric_name: one.metric_value for one in data.eval_results}
    assert figures["Macro-F1"] == round(results.metrics["macro_f1"], 6)
    assert {one.metric_type for one in data.eval_results} >= {"f1", "accuracy"}


def test_figures_stand_there_with_their_intervals_beside_baselines_and_classes(released: TaskFolder) -> None:
    card, results = planned(released).card, released.version("v2").results()
    assert results
    low, high = (f"{end * 100:.1f}%" for end in results.intervals["macro_f1"])
    value = f"{results.metrics['macro_f1'] * 100:.1f}%"
    assert f"v2 meets its success criteria** – Macro-F1 {value} ({low}–{high}), on 72 test rows" in card
    assert f"| Macro-F1 | {value} | {low}–{high} |" in card
    baseline = results.baselines["majority"]["macro_f1"]
    assert f"| Always the commonest class | {baseline * 100:.1f}% |" in card
    for label, one in results.per_class.items():
        assert f"| {label} | {one.f1 * 100:.1f}% |" in card
    assert "| train | 96 | 32 | 32 | 32 |" in card
    assert "labels put right" in card and "made from: v1" in card


def test_one_that_missed_its_criteria_says_so_first(released: TaskFolder) -> None:
    card = planned(released, "v1").card
    said = "Published although it was refused by the checks before a deployment:"
    assert card.index(said) < card.index("## ")
    assert "v1 does not meet its success criteria" in card and "Macro-F1: 16.7% is under 60.0%" in card


def test_one_that_was_not_evaluated_has_no_figures(released: TaskFolder) -> None:
    version = released.version("v2")
    version.results_path.unlink()
    told = records(planned(released))
    assert "It was not evaluated as it is" in told["README.md"] and "How good it is" not in told["README.md"]
    assert "results.json" not in told and "macro_f1" not in told["lineage.yaml"]


def test_text_of_people_cannot_become_marks_of_the_card(released: TaskFolder) -> None:
    yaml.change(released.task_path, {("goal",): "# Owned\n<script>x</script> [a](http://b) | c"})
    path = released.version("v2").model_info_path
    told = json.loads(path.read_text(encoding="utf-8"))
    files.write_json(path, {**told, "system_prompt": "Answer:\n```\n# Not a heading\n```"})
    lines = planned(released).card.splitlines()
    assert r"\# Owned \<script\>x\</script\> \[a\](http://b) \| c" in lines
    at = lines.index("# Not a heading")
    fences = [line for line in lines[:at] if line.startswith("````")]
    assert len(fences) == 1 and "````" in lines[at:]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("license: apache-2.0", {"license": "apache-2.0"}),
        ('license: "Our Own"', {}),
        ("license: qwen-research", {"license": "other", "license_name": "qwen-research"}),
    ],
)
def test_the_licence_is_the_base_model_s_where_it_is_known(
    released: TaskFolder, tmp_path: Path, said: str, written: dict[str, str]
) -> None:
    base = tmp_path / "our-base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "README.md").write_text(f"---\nlanguage: en\n{said}\n---\n# A model\n")
    path = released.version("v2").model_info_path
    files.write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "base_model": str(base)})
    card = ModelCard(planned(released).card)
    assert {key: value for key, value in card.data.to_dict().items() if key.startswith("license")} == written
    assert ("The licence of the base model is not known here" in card.text) == (not written)
    assert card.data.base_model is None and str(tmp_path) not in str(card)


def test_a_base_model_of_the_hub_is_linked_and_pinned(released: TaskFolder) -> None:
    path = released.version("v2").model_info_path
    told = {"base_model": "acme/tiny-chat", "base_model_revision": "a" * 40, "quantization": "nf4",
            "chat_template_kwargs": {"enable_thinking": False}, "chat_template": "{{ messages }}"}  # fmt: skip
    files.write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **told})
    plan = planned(released)
    data = ModelCard(plan.card).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ("acme/tiny-chat", "adapter")
    code = plan.card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert f'"acme/tiny-chat", revision="{"a" * 40}"' in code and "load_in_4bit=True" in code
    assert "**{'enable_thinking': False}" in code and '"enable_thinking": false' in plan.card
    assert "--chat-template ./model/chat_template.jinja" in plan.card
    assert records(plan)["chat_template.jinja"] == "{{ messages }}"


def test_a_gguf_file_goes_beside_with_its_check_and_its_commands(released: TaskFolder) -> None:
    from nlp_skills.evaluation import model

    version = released.version("v2")
    path = "models/gguf/sentiment-v2-q8_0.gguf"
    files.write_bytes(released.root / path, b"GGUF")
    digest = files.sha256_bytes(b"GGUF")
    source = model.fingerprint(released.root, model.info(version))
    export = Export(kind="gguf", quantization="q8_0", path=path, sha256=digest, bytes=4, source=source,
                    made=files.now())  # fmt: skip
    Exports(version="v2", exports=[export]).save(version.exports_path)
    answers = AnswerParity(rows=72, metric="macro_f1", before=1.0, after=0.99, drop=0.01, changed=1, max_drop=0.02)
    check = ParityCheck(
        subject="q8_0", engine="llama.cpp", sha256=digest, made=files.now(), verdict="met", answers=answers,
        prompts=PromptParity(asked=8, equal_text=8, equal_ids=8),
    )  # fmt: skip
    Parity(version="v2", checks=[check]).save(version.parity_path)
    plan = planned(released, gguf=("q8_0",))
    assert "sentiment-v2-q8_0.gguf" in [piece.name for piece in plan.pieces] and plan.missing == []
    assert r"| q8\_0 | llama.cpp | 8 / 8 | 100.0% | 99.0% | answers alike |" in plan.card
    assert "hf download org/reviews sentiment-v2-q8_0.gguf --revision v2" in plan.card
    assert "ollama create sentiment-v2 -f Modelfile" in plan.card


def test_the_records_are_still_documents_of_ours_and_say_nothing_of_who_and_where(released: TaskFolder) -> None:
    from nlp_skills.schema.training import Config
    from nlp_skills.schema.version import Lineage, ModelInfo, Results

    version = released.version("v2")
    made = version.lineage()
    assert made and made.run and made.run.by
    lineage.record(version, run=made.run.model_copy(update={"place": "gpu.internal", "cost_usd": 4.2}))
    told = records(planned(released))
    place = released.root.parent
    for name, kind in {"model_info.json": ModelInfo, "results.json": Results, "config.yaml": Config,
                       "lineage.yaml": Lineage}.items():  # fmt: skip
        files.write_text(place / name, told[name])
        kind.load(place / name)
    found = Lineage.load(place / "lineage.yaml")
    assert found.run and (found.run.by, found.run.place, found.run.cost_usd) == (None, None, None)
    assert found.events == [] and found.parent == "v1" and found.run.seed == 3
    assert all("gpu.internal" not in text for text in told.values())


def test_the_card_is_in_the_language_in_force(released: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_LANG", "zh_TW")
    monkeypatch.setattr("nlp_skills.i18n._chosen", None)
    assert "## 指標" in planned(released).card or "| 指標 |" in planned(released).card
