"""`estimate` as a person uses it, the gate before a run, and what runs teach the next estimate."""

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
from conftest import Ran, write_rows
from test_estimate_memory import LLAMA_8B

from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.training import run
from nlp_skills.training.estimate import gpus, measured
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
Cli = Callable[..., Ran]
# On an 8B model, what 16 GB surely do not hold.
WIDE = {"r": 64, "alpha": 64}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "NLP_SKILLS_MEMORY_GB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def large_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says it is an 8B model, with a tokenizer and without weights."""
    folder = tmp_path_factory.mktemp("models") / "large"
    shutil.copytree(tiny_base, folder)
    (folder / "model.safetensors").unlink()
    said = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8, "tie_word_embeddings": False}
    content = {**said, **LLAMA_8B, "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def own_gpus(text: str) -> Path:
    path = gpus.own_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_here_it_says_every_part_and_that_it_fits(cli: Cli, ready: Ready) -> None:
    ready()
    said = cli("estimate")
    assert said.code == 0 and said.err == ""
    for word in ("weights", "activations", "optimiser", "peak", "fits:", "tokens an epoch", "steps 12"):
        assert word in said.out
    found = cli("estimate", "--json").json
    assert found["ok"] and found["verdict"] == "fits" and found["machine"]["local"]
    assert found["parameters"]["all"] > found["parameters"]["trained"] > 0
    assert sum(found["memory_gb"].values()) == pytest.approx(found["peak_gb"], abs=0.01)
    assert found["peak_gb_between"][0] < found["peak_gb"] < found["peak_gb_between"][1]
    assert found["usd_between"] == [0.0, 0.0], "what is here already costs nothing"
    low, high = found["seconds_between"]
    assert 0 < low < high


def test_before_there_is_data_the_rows_are_as_long_as_they_may_be(cli: Cli, ready: Ready) -> None:
    folder = ready()
    shutil.rmtree(folder.root / "data")
    found = cli("estimate", "--gpu", "L4", "--json").json
    assert found["batch"]["tokens_a_row"] == 128 and found["tokens_an_epoch"] is None
    assert found["seconds_between"] is None and found["usd_between"] is None
    assert "not known without data" in cli("estimate", "--gpu", "L4").out


def test_wrong_data_are_told_as_they_are_before_a_training(cli: Cli, ready: Ready) -> None:
    folder = ready()
    folder.split("train").write_text('{"text": "no label"}\n')
    said = cli("estimate", "--gpu", "L4")
    assert said.code == 1 and "train.jsonl:1" in said.err and "label" in said.err
    preferences = folder.preferences("train")
    preferences.parent.mkdir()
    preferences.write_text('{"text": "no prompt", "chosen": "positive", "rejected": "negative"}\n')
    yaml.change(folder.version("v1").config_path, {("method",): "dpo"})
    said = cli("estimate", "--gpu", "L4")
    assert said.code == 1 and "train.jsonl:1" in said.err and "prompt" in said.err


def test_pairs_go_through_the_model_twice(cli: Cli, ready: Ready) -> None:
    folder = ready()
    plain = cli("estimate", "--gpu", "L4", "--json").json
    answers = {"chosen": "positive", "rejected": "negative"}
    rows = [{"prompt": f"{at}: is this review good?", **answers} for at in range(48)]
    write_rows(folder.preferences("train"), rows)
    yaml.change(folder.version("v1").config_path, {("method",): "dpo"})
    found = cli("estimate", "--gpu", "L4", "--json").json
    assert found["steps"] == plain["steps"] and found["memory_gb"]["reference"] == 0
    longest = found["batch"]["tokens_a_row"]
    assert 48 * 2 * (longest - 6) < found["tokens_an_epoch"] <= 48 * 2 * longest


def test_a_gpu_by_name_costs_what_the_table_says(cli: Cli, ready: Ready, large_base: Path) -> None:
    ready()
    found = cli("estimate", "--base", large_base, "--gpu", "a100 80", "--json").json
    assert found["machine"]["name"] == "A100 80GB" and found["verdict"] == "fits"
    assert found["parameters"] == {"all": 8030261248, "active": 7504924672, "quantised": 0, "trained": 20971520}
    hourly = gpus.table().named("A100 80GB").price
    assert hourly is not None
    assert found["usd_between"][1] == pytest.approx(found["seconds_between"][1] / 3600 * hourly.usd_per_hour, abs=1e-3)


def test_what_does_not_fit_is_said_with_changes_that_make_it_fit(cli: Cli, ready: Ready, large_base: Path) -> None:
    folder = ready(lora=WIDE)
    said = cli("estimate", "--base", large_base, "--gpu", "T4")
    assert said.code == 3 and "does not fit" in said.out and "adapter: qlora" in said.out
    found = cli("estimate", "--base", large_base, "--gpu", "T4", "--json").json
    assert not found["ok"] and found["verdict"] == "too big" and found["batch"]["activation_checkpointing"]
    assert 1 < len(found["changes"]) <= 3
    config = folder.version("v1").config_path
    for change in found["changes"]:
        assert change["verdict"] == "fits" and change["peak_gb"] < found["peak_gb"] + 5
        if change["settings"]:
            yaml.change(config, {tuple(name.split(".")): value for name, value in change["settings"].items()})
            again = cli("estimate", "--base", large_base, "--gpu", "T4", "--json")
            assert again.code == 0 and again.json["peak_gb"] == pytest.approx(change["peak_gb"], rel=0.01)
        else:
            assert cli("estimate", "--base", large_base, "--gpu", change["gpu"]).code == 0


def test_every_gpu_in_one_table_the_cheapest_that_fits_first(cli: Cli, ready: Ready, large_base: Path) -> None:
    ready(lora=WIDE)
    said = cli("estimate", "--base", large_base, "--list")
    assert said.code == 0 and "this machine" in said.out and "RunPod" in said.out
    machines = cli("estimate", "--base", large_base, "--list", "--json").json["machines"]
    here, *rented = machines
    assert here["machine"]["local"] and len(rented) == len(gpus.table().gpus)
    fitting = [one for one in rented if one["verdict"] != "too big"]
    costs = [one["usd_between"][1] for one in fitting if one["usd_between"]]
    assert costs == sorted(costs) and rented[: len(fitting)] == fitting
    assert {one["machine"]["name"] for one in rented if one["verdict"] == "too big"} >= {"T4"}
    assert all(one["machine"]["price"]["seen"] for one in rented if one["machine"]["usd_per_hour"])


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--gpu", "H300"], 2, "did you mean H"),
        (["--gpu", "Voodoo"], 2, "gpus.yaml"),
        (["--gpu", "A100"], 2, "A100 40GB, A100 80GB"),
        (["--gpu", "L4", "--list"], 2, "leave --gpu out"),
        (["--base", "./nowhere"], 3, "nowhere"),
        (["--base", "acme/unheard-of"], 3, "acme/unheard-of"),
        (["--version", "v9"], 1, "v9"),
    ],
)
def test_what_cannot_be_told_is_refused_in_words(
    cli: Cli, ready: Ready, arguments: list[str], code: int, word: str
) -> None:
    ready()
    said = cli("estimate", *arguments)
    assert said.code == code and word in said.err and "Traceback" not in said.err and said.out == ""
    assert cli("estimate", *arguments, "--json").json["exit_code"] == code


def test_a_user_s_own_prices_and_gpus_count(cli: Cli, ready: Ready) -> None:
    ready()
    own_gpus(
        "gpus:\n"
        "  - name: T4\n    price: {usd_per_hour: 9.5, seen: 2026-11-01, source: our cluster}\n"
        "  - name: Mine\n    memory_gb: 48\n    tflops: 100\n"
    )
    table = gpus.table()
    known = table.named("T4")
    assert known.price is not None and (known.price.usd_per_hour, known.memory_gb) == (9.5, 16)
    assert cli("estimate", "--gpu", "mine").code == 0
    assert len(table.gpus) == len(gpus.Table.load(gpus.PACKAGED).gpus) + 1


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("gpus:\n  - name: Mine\n    memory_gb: lots\n    tflops: 5\n", 3, "memory_gb"),
        ("gpus:\n  - name: Mine\n", 2, "memory_gb"),
        ("gpus:\n  - name: T4\n    prize: 3\n", 3, "prize"),
        ("gpus: T4\n", 1, "gpus"),
        ("mfu: [0.5, 2]\n", 1, "mfu"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(cli: Cli, ready: Ready, text: str, line: int, word: str) -> None:
    ready()
    path = own_gpus(text)
    said = cli("estimate", "--list")
    assert said.code == 1 and f"gpus.yaml:{line}" in said.err and word in said.err and path.name in said.err


def test_the_table_knows_what_drivers_call_its_gpus() -> None:
    table = gpus.Table.load(gpus.PACKAGED)
    for device, memory, name in [
        ("Tesla T4", 15.8e9, "T4"),
        ("NVIDIA A100-SXM4-80GB", 85.1e9, "A100 80GB"),
        ("NVIDIA A100-SXM4-40GB", 42.4e9, "A100 40GB"),
        ("NVIDIA GeForce RTX 4090", 25.4e9, "RTX 4090"),
        ("NVIDIA H100 80GB HBM3", 85.0e9, "H100"),
        ("NVIDIA H100 PCIe", 85.0e9, "H100 PCIe"),
        ("NVIDIA L40S", 47.7e9, "L40S"),
        ("NVIDIA L4", 23.6e9, "L4"),
    ]:
        found = table.of_device(device, memory)
        assert found is not None and found.name == name
    assert table.of_device("AMD Instinct MI300X", 192e9) is None


def test_a_run_that_will_not_fit_is_stopped_before_it_starts(
    cli: Cli, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ready()
    before = (folder.root / "task.yaml").read_text()
    monkeypatch.setenv("NLP_SKILLS_MEMORY_GB", "0.5")
    said = cli("train")
    assert said.code == 3 and "does not fit" in said.err and "0.5 GB are free" in said.err
    assert "libraries and work space 1.0 GB" in said.err and "NLP_SKILLS_MEMORY_GB" in said.err
    assert "nlp-skills estimate sentiment --gpu" in said.err, "a GPU that does it, ready to ask about"
    assert folder.version("v1").status() is None and (folder.root / "task.yaml").read_text() == before
    checked = cli("preflight")
    assert checked.code == 1 and "does not fit" in checked.err
    assert [finding["code"] for finding in cli("preflight", "--json").json["findings"]].count("memory") == 1
    monkeypatch.setenv("NLP_SKILLS_MEMORY_GB", "plenty")
    assert cli("train").code == 2


def test_where_only_trying_tells_it_is_tried(cli: Cli, ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(epochs=1)
    needed = cli("estimate", "--json").json["peak_gb"]
    monkeypatch.setenv("NLP_SKILLS_MEMORY_GB", str(round(needed * 1.02, 3)))
    told = cli("estimate", "--json").json
    assert told["verdict"] == "tight" and told["ok"]
    assert "memory may run out" in cli("preflight").out
    trained = cli("train")
    assert trained.code == 0 and "memory may run out" in trained.err


def test_activations_computed_twice_give_the_same_training(cli: Cli, ready: Ready) -> None:
    folder = ready(epochs=1)
    losses = []
    for extra in ({}, {"activation_checkpointing": True}):
        yaml.change(folder.version("v1").config_path, {("extra",): extra or None})
        assert cli("train", "--again").code == 0
        losses.append([line["loss"] for line in run.metrics(folder.version("v1")) if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_proposed_settings_start_the_next_version(cli: Cli, ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_skills.training.estimate import changes, gate

    folder = ready(batch_size=16, max_length=512, epochs=1)
    assert cli("train").code == 0
    version = folder.version("v1")
    here = gate.of_version(folder, version, gate.Asked())
    settings = {"batch_size": 4, "gradient_accumulation": 4, "allow_truncation": True, "extra.optim": "adamw_8bit"}
    command = changes.Change(settings, here, "slower").words(folder, version)
    assert command.startswith("nlp-skills new-version sentiment --set batch_size=4 ")
    made = cli(*command.partition("   (")[0].split()[1:], "--change", "fits into less memory", "--minor", "--json")
    assert made.code == 0
    config = folder.version(made.json["version"]).config()
    assert (config.batch_size, config.effective_batch, config.allow_truncation) == (4, 16, True)
    assert config.extra == {"optim": "adamw_8bit"}


def trained_apart(folder: TaskFolder) -> None:
    """Train in a process of its own, whose peak is the run's."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", "train", str(folder.root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_teaches_the_next_estimate(cli: Cli, ready: Ready) -> None:
    folder = ready()
    naive = cli("estimate", "--json").json
    assert naive["corrected_by_runs"] == 0
    trained_apart(folder)
    (kept,) = measured.runs()
    lineage = folder.version("v1").lineage()
    assert lineage is not None and lineage.run is not None
    assert kept.measured_gb == pytest.approx(lineage.run.peak_memory_gb, abs=0.02)
    assert kept.expected_gb == pytest.approx(naive["peak_gb"], rel=0.01) and kept.adapter == "lora"
    last = run.metrics(folder.version("v1"))[-1]
    assert (naive["steps"], naive["tokens_an_epoch"] * 2) == (last["step"], last["tokens"])
    info, counted = folder.version("v1").model_info(), naive["parameters"]
    assert info is not None and info.trainable_parameters == counted["trained"] and info.parameters == counted["all"]
    assert 0.7 < kept.measured_gb / kept.expected_gb < 1.4, "the formula is near what a CPU run really takes"
    taught = cli("estimate", "--json").json
    assert taught["corrected_by_runs"] == 1
    assert taught["peak_gb"] == pytest.approx(kept.measured_gb, rel=0.02)
    assert "corrected by 1 runs here" in cli("estimate").out
    other = cli("estimate", "--gpu", "L4", "--json").json
    assert other["corrected_by_runs"] == 0, "another machine is not corrected by this one"


def a_run(**figures: Any) -> measured.Run:
    told: dict[str, Any] = {
        "time": "2026-11-21T10:00:00+00:00", "device": "a CPU", "family": "llama", "parameters": 1_000_000,
        "method": "sft", "adapter": "lora", "micro_batch": 8, "length": 64, "checkpointing": False,
        "expected_gb": 2.0, "measured_gb": 2.4, "tokens_per_second": 100.0, "speed": 1e9,
    }  # fmt: skip
    return measured.Run(**{**told, **figures})


def test_only_runs_of_like_kind_correct() -> None:
    for run_of in (
        a_run(),
        a_run(measured_gb=2.2),
        a_run(measured_gb=2.6),
        a_run(measured_gb=40.0),
        a_run(device="another", measured_gb=4.0),
        a_run(parameters=9_000_000, measured_gb=4.0),
        a_run(adapter="full", measured_gb=4.0),
        a_run(method="dpo", measured_gb=4.0),
    ):
        measured.keep(run_of)
    found = measured.like("a CPU", 2_000_000, "lora", "sft")
    assert len(found) == 4
    assert measured.correction(found) == (pytest.approx(1.2), 3), "what is twenty times off was another kind of run"
    assert measured.speed(found) == ((0.8e9, 1.2e9), 4)
    assert measured.correction([]) == (1.0, 0) and measured.speed([]) == (None, 0)


def test_the_record_survives_rubbish_and_stays_short() -> None:
    measured.keep(a_run())
    with open(measured.path(), "a") as stream:
        stream.write('{"half a line\n[]\nnull\n{"time": 1}\n' + "\n")
    measured.keep(a_run(measured_gb=3.0))
    assert [one.measured_gb for one in measured.runs()] == [2.4, 3.0]
    whole = measured.path().read_text().splitlines()[0] + "\n"
    measured.path().write_text(whole * 1000)
    measured.keep(a_run(measured_gb=9.9))
    kept = list(measured.runs())
    assert len(kept) == 500 and kept[-1].measured_gb == 9.9


def test_a_record_that_cannot_be_written_is_no_matter(
    cli: Cli, ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(epochs=1)
    blocked = tmp_path / "no-folder"
    blocked.write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_DATA_HOME", str(blocked))
    assert cli("train").code == 0 and cli("estimate").code == 0


@pytest.fixture(scope="module")
def hub(tiny_base: Path) -> Iterator[minihub.Hub]:
    """A Hub with one model."""
    with minihub.running() as hub:
        hub.repo("acme/tiny").commit({path.name: path.read_bytes() for path in tiny_base.iterdir()})
        yield hub


def test_of_a_model_on_the_hub_no_weights_are_fetched(hub: minihub.Hub, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    around = {**kept, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    ask = "from nlp_skills.training.estimate.gate import *; print(small_files('acme/tiny', Path.cwd()))"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, env=around, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    there = {path.name for path in Path(done.stdout.strip()).iterdir()}
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= there and "model.safetensors" not in there
    assert not any("safetensors" in asked for asked in hub.asked)


def test_packs_and_repeats_are_counted_as_they_come(cli: Cli, ready: Ready) -> None:
    folder = ready(packing=True, max_length=256, batch_size=2)
    packed = cli("estimate", "--json").json
    assert packed["batch"]["tokens_a_row"] == 256
    assert packed["steps"] == 2 * -(-packed["tokens_an_epoch"] // 256 // 2)
    path = folder.version("v1").config_path
    config = Config.load(path).model_copy(update={"packing": None, "class_balance": "sampling"})
    path.write_text(yaml.dumps(config.dump()))
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    rare = [row for row in rows if row["label"] != "neutral"] + [row for row in rows if row["label"] == "neutral"][:4]
    folder.split("train").write_text("".join(json.dumps(row) + "\n" for row in rare))
    balanced = cli("estimate", "--json").json
    common = max(sum(row["label"] == label for row in rare) for label in ("positive", "neutral", "negative"))
    assert balanced["steps"] == 2 * -(-3 * common // 2)
