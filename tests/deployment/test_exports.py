"""A version as one model: what is made, what it costs, and what a kill, a second process or bad input leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import DATA_SOURCE_YAML, TASK_YAML, Ran, reviews, write_rows
from fixtures_training import CONFIG

from nlp_skills import files
from nlp_skills.deployment import export
from nlp_skills.deployment.export import merge_program, program, records
from nlp_skills.deployment.export.merge_program import Gap, Way
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.provenance import verify
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder

TEMPLATE = "one.jinja"


def test_merged_is_the_version_in_one_folder_and_is_recorded(exported: TaskFolder) -> None:
    version = exported.version("v2")
    made = export.current(exported, version, "merged")

    assert made is not None
    assert made.path == "models/merged/v2"
    names = {path.name for path in version.merged.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert made.bytes == sum(path.stat().st_size for path in version.merged.iterdir())
    assert made.logit_gap is not None
    assert made.logit_gap < 1e-4
    assert made.gap_prompts == 16
    assert made.tools["dtype"] == "float32"
    assert made.tools["merged_onto"] == "base"
    section = lineage.existing(version).model
    assert section is not None
    assert section.merged_path == made.path
    assert section.gguf_path == "models/gguf/sentiment-v2-q4_k_m.gguf"
    assert section.adapter_path == "models/adapter/v2"
    assert made.hashes.items() <= section.exports.items()


def test_verify_hashes_exports_again_and_completing_keeps_them(exported: TaskFolder) -> None:
    before = verify.verify(exported, "v2")[0]
    assert before.verdict == "sound"

    lineage.complete(exported.version("v2"))
    after = verify.verify(exported, "v2")[0]
    assert (after.verdict, after.checked) == ("sound", before.checked)

    gguf = exported.root / "models/gguf/sentiment-v2-q8_0.gguf"
    _change_a_byte(gguf)
    (exported.root / "models/merged/v2/notes.txt").write_text("mine")
    found = {one.what: (one.state, one.mend) for one in verify.verify(exported, "v2")[0].findings}
    assert found["models/gguf/sentiment-v2-q8_0.gguf"] == (
        "changed",
        "nlp-skills export sentiment v2 --gguf q8_0 --again",
    )
    assert found["models/merged/v2/notes.txt"][0] == "extra"


def test_what_is_there_is_not_made_again(
    exported: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "run", _never)
    version = exported.version("v2")
    known = exported.version("v2").exports()

    ran = cli("export", "sentiment", "v2", "--merged", "--gguf", "q8_0", "--no-parity", "--json")

    assert ran.code == 0, ran.err
    assert [one["path"] for one in ran.json["exports"]] == ["models/merged/v2", "models/gguf/sentiment-v2-q8_0.gguf"]
    assert version.exports() == known


def test_an_export_counts_only_while_it_is_whole_and_of_this_model(exported: TaskFolder) -> None:
    version, gguf = exported.version("v2"), exported.root / "models/gguf/sentiment-v2-q8_0.gguf"
    # Touched, and the same bytes: still it.
    os.utime(gguf, (time.time() + 60, time.time() + 60))
    assert export.current(exported, version, "q8_0") is not None
    _change_a_byte(gguf)
    os.utime(gguf, (time.time() + 60, time.time() + 60))
    assert export.current(exported, version, "q8_0") is None
    assert export.current(exported, version, "q5_0") is None

    (version.merged / "tokenizer.json").unlink()
    assert export.current(exported, version, "merged") is None

    assert export.current(exported, version, "q4_k_m") is not None
    _change_a_byte(version.adapter / "adapter_model.safetensors")
    assert export.current(exported, version, "q4_k_m") is None


def test_the_adapter_needs_no_export(exported: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("export", "sentiment", "v2", "--adapter", "--json")

    assert ran.code == 0, ran.err
    assert ran.json["adapter"]["path"] == "models/adapter/v2"
    place = exported.version("v2").adapter
    assert ran.json["adapter"]["bytes"] == sum(path.stat().st_size for path in place.iterdir())
    assert ran.json["exports"] == []


def test_a_kill_leaves_nothing_half_in_place_and_the_next_run_goes_on(released: TaskFolder) -> None:
    place = released.root / "models" / "merged"
    command = [sys.executable, "-P", "-m", "nlp_skills.cli.main", "export", str(released.root), "v2", "--merged"]
    process = subprocess.Popen([*command, "--no-parity"], stderr=subprocess.DEVNULL)
    try:
        _until(lambda: any(place.glob(".v2.*/*")))
        children = _children(process.pid)
        assert children
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _until(lambda: not any(_runs(child) for child in children))
    assert not (place / "v2").exists()
    assert not released.version("v2").exports_path.exists()

    made = export.merged(released, released.version("v2"))

    assert [path.name for path in place.iterdir()] == ["v2"]
    assert made.name == "merged"


def test_two_at_once_do_not_meet(released: TaskFolder) -> None:
    with records.alone(released, released.version("v2")), pytest.raises(Invalid, match="another command is exporting"):
        export.gguf(released, released.version("v2"), "q8_0")


def test_what_cannot_be_exported_is_said(
    released: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "run", _never)
    unknown = cli("export", "sentiment", "v9", "--merged")
    assert unknown.code == 1
    assert "version v9 does not exist" in unknown.err

    odd = cli("export", "sentiment", "v2", "--gguf", "q1_0")
    assert odd.code == 2
    assert "q8_0" in odd.err

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
        full = cli("export", "sentiment", "v2", "--merged", "--no-parity")
    assert full.code == 3
    assert "not enough disk space" in full.err
    assert not released.version("v2").merged.exists()

    shutil.rmtree(released.version("v1").adapter)
    gone = cli("export", "sentiment", "v1", "--merged")
    assert gone.code == 1
    assert "the weights of version v1 are gone" in gone.err
    assert "train" in gone.err


def test_a_base_model_that_is_gone_is_named(released: TaskFolder, cli: Callable[..., Ran]) -> None:
    version = released.version("v2")
    info = version.model_info()
    assert info is not None
    info.model_copy(update={"base_model": "no/such-model"}).save(version.model_info_path)

    ran = cli("export", "sentiment", "v2", "--merged", "--no-parity")

    assert ran.code == 3
    assert "no/such-model" in ran.err
    assert "Traceback" not in ran.err
    assert not any((released.root / "models" / "merged").iterdir())


class Trained(NamedTuple):
    """A task with v1 on a base model in four bits, and v2 whose every weight was trained; both of a 16-bit base."""

    folder: TaskFolder
    template: str


@pytest.fixture(scope="module")
def others(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    import tiny
    import torch
    from transformers import AutoModelForCausalLM

    from nlp_skills.training.train import train

    root = tmp_path_factory.mktemp("others") / "sentiment"
    base = Path(shutil.copytree(tuned_base, root.parent / "base"))
    AutoModelForCausalLM.from_pretrained(tuned_base, dtype=torch.bfloat16).save_pretrained(base)
    template = "{# of our own #}" + tiny.CHATML
    write_rows(root / "reviews.jsonl", reviews(90))
    (root / TEMPLATE).write_text(template)
    (root / "task.yaml").write_text(TASK_YAML.format(name="sentiment", base_model=base))
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"))
    yaml.change(root / "task.yaml", {("status",): "configuring"})
    for split, rows in (("train", reviews(48)), ("valid", reviews(6, 48)), ("test", reviews(36, 54))):
        write_rows(root / "data" / f"{split}.jsonl", rows)
    folder = TaskFolder.at(root)
    settings: dict[str, Any] = {"base_model": str(base), **CONFIG, "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        Config.model_validate({**settings, "adapter": "qlora", "chat_template": TEMPLATE}).save(
            folder.version("v1").config_path
        )
        whole = {key: value for key, value in settings.items() if key != "lora"}
        Config.model_validate({**whole, "adapter": "full"}).save(folder.version("v2").config_path)
        for name in ("v1", "v2"):
            assert train(folder, name).state == "completed"
        yield Trained(folder, template)


def test_an_adapter_on_four_bits_is_merged_where_it_costs_least(others: Trained) -> None:
    folder = others.folder
    made = export.merged(folder, folder.version("v1"))

    # Written out in full, the four bits are what it was trained on; the base model's own weights are another model.
    assert made.tools["merged_onto"] == "nf4"
    gaps = {name.removeprefix("logit_gap_"): float(gap) for name, gap in made.tools.items() if "logit_gap" in name}
    assert made.logit_gap is not None
    assert gaps["base-bfloat16"] > made.logit_gap > 0
    # The precision of the base model on disk.
    settings = json.loads((folder.root / made.path / "config.json").read_text())
    assert settings["dtype"] == "bfloat16"
    assert "quantization_config" not in settings
    assert (folder.root / made.path / "chat_template.jinja").read_text() == others.template


def test_a_version_trained_whole_is_its_own_merged_model(others: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "run", _never)
    folder, version = others.folder, others.folder.version("v2")

    made = export.merged(folder, version)

    assert made.path == "models/merged/v2"
    assert made == export.current(folder, version, "merged")
    assert verify.verify(folder, "v2")[0].verdict == "sound"
    with pytest.raises(Invalid, match="has no adapter"):
        from nlp_skills.deployment.export import checked

        checked.adapter_of(folder, version)


def test_a_program_that_falls_says_its_last_words() -> None:
    with pytest.raises(Unavailable, match="merging failed") as raised:
        program.run("nlp_skills.deployment.export.merge_program", {}, what="merging", tell=lambda _step: None)
    assert "KeyError" in str(raised.value.cause)


class Pretended(merge_program._Merging):
    """A merging that is told what each way costs."""

    def __init__(self, into: Path, quantization: str | None, costs: dict[str, tuple[float, int]]) -> None:
        self.into, self.costs, self.measured = into, costs, []
        self.info = SimpleNamespace(quantization=quantization)  # type: ignore[assignment]
        self.tell = lambda _step: None

    def _base_folder(self) -> str:
        return ""

    def _write(self, way: Way, made: Path) -> None:
        made.mkdir()

    def _compared(self, way: Way, made: Path) -> Gap:
        return Gap(way, *self.costs[way.name])


@pytest.mark.parametrize(
    ("quantization", "costs", "kept"),
    [
        (None, {"base-bfloat16": (0.4, 0)}, "base-bfloat16"),
        (None, {"base-bfloat16": (0.4, 2), "base-float32": (0.01, 0)}, "base-float32"),
        # Another rounding than that of 16 bits turns them: the bytes would be for nothing.
        (None, {"base-bfloat16": (0.4, 2), "base-float32": (0.3, 2)}, "base-bfloat16"),
        ("nf4", {"base-bfloat16": (1.1, 0), "nf4-bfloat16": (0.1, 0)}, "nf4-bfloat16"),
        ("nf4", {"base-bfloat16": (0.1, 0), "nf4-bfloat16": (1.1, 0)}, "base-bfloat16"),
        ("nf4", {"base-bfloat16": (1.1, 3), "nf4-bfloat16": (0.1, 1), "nf4-float32": (0.0, 0)}, "nf4-float32"),
    ],
)
def test_the_nearest_way_is_kept_and_32_bits_only_where_they_help(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantization: str | None,
    costs: dict[str, tuple[float, int]],
    kept: str,
) -> None:
    monkeypatch.setattr(merge_program, "_checkpoint_dtype", lambda _base: "bfloat16")
    merging = Pretended(tmp_path / "into", quantization, costs)
    merging.into.mkdir()

    assert merging.best().way.name == kept

    assert [path.name for path in merging.into.iterdir()] == [kept]
    assert {gap.way.name for gap in merging.measured} == set(costs)


def _never(*_arguments: Any, **_named: Any) -> Any:
    raise AssertionError("nothing was to be made")


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    before = path.stat()
    path.write_bytes(content)
    assert path.stat().st_size == before.st_size
    assert files.sha256_bytes(bytes(content)) == files.sha256_file(path)


def _until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
