"""Deploying to Ollama: its real client against a named fake that answers by a real llama.cpp on what was uploaded."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Ran
from fake_ollama import FakeOllama, Llamas, Model

from nlp_skills import files
from nlp_skills.deployment import parity
from nlp_skills.deployment.ollama.scorer import Ollama
from nlp_skills.deployment.ollama.server import Server
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering.scorer import Question
from nlp_skills.schema import yaml
from nlp_skills.schema.deployment import Export, Exports
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

sys.path.insert(0, str(Path(__file__).parent.parent / "evaluation"))

Cli = Callable[..., Ran]


def _with_gguf(folder: TaskFolder, name: str) -> None:
    """A version's model in 32 bits as GGUF, as if the exporter had made it."""
    from gguf_files import as_gguf

    version = folder.version(name)
    loaded = model.load(folder, name)
    whole = folder.root.parent / f"whole-{name}"
    loaded.model.merge_and_unload().save_pretrained(whole)
    loaded.tokenizer.save_pretrained(whole)
    path = f"models/gguf/sentiment-{name}-f32.gguf"
    made = folder.root / path
    made.parent.mkdir(parents=True, exist_ok=True)
    as_gguf(whole, made)
    export = Export(
        kind="gguf",
        quantization="f32",
        path=path,
        sha256=files.sha256_file(made),
        bytes=made.stat().st_size,
        source=model.fingerprint(folder.root, model.info(version)),
        made=files.now(),
    )
    Exports(version=name, exports=[export]).save(version.exports_path)
    parity.of_export(folder, version, export)


@pytest.fixture(scope="module")
def with_ggufs(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ollama") / "sentiment"
    shutil.copytree(two_versions, root, symlinks=True)
    yaml.change(root / "task.yaml", {("deploy",): {"quantization": "f32", "prompts": 8}})
    folder = TaskFolder.at(root)
    for name in ("v1", "v2"):
        _with_gguf(folder, name)
    return root


@pytest.fixture
def task(with_ggufs: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    return TaskFolder.at(Path(shutil.copytree(with_ggufs, project / "sentiment", symlinks=True)))


@pytest.fixture(scope="module")
def llamas() -> Iterator[Llamas]:
    found = Llamas()
    yield found
    found.close()


@pytest.fixture
def ollama(llamas: Llamas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama(tmp_path / "blobs", llamas) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


def names(folder: TaskFolder) -> dict[str, str]:
    return {entry.name: entry.version for entry in deployments.load(folder)}


def sha256(folder: TaskFolder, version: str) -> str:
    return folder.version(version).exports()[0].sha256


def test_a_version_is_created_checked_and_answers_as_latest(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    import ollama as client

    ran = cli("deploy", "sentiment", "--to", "ollama")

    assert ran.code == 0, ran.err
    assert "ollama: sentiment:v2 answers with v2" in ran.out
    assert ollama.names() == dict.fromkeys(("sentiment:v2", "sentiment:latest"), sha256(task, "v2"))
    first, latest = deployments.load(task)
    assert (first.name, first.follows, first.where) == ("sentiment:v2", False, ollama.address)
    assert (latest.name, latest.follows, latest.artefact) == (
        "sentiment:latest", True, "models/gguf/sentiment-v2-f32.gguf"
    )  # fmt: skip
    row = "Is this review positive, neutral or negative?\nOrder 7919: this camera is awful."
    told = client.Client(ollama.address).chat("sentiment", [{"role": "user", "content": row}])
    assert told.message.content == "negative"
    check = next(one for one in task.version("v2").parity() if one.engine == "ollama")
    assert (check.subject, check.verdict, check.sha256) == ("sentiment:v2", "met", sha256(task, "v2"))
    assert check.prompts is not None and (check.prompts.asked, check.prompts.equal_text) == (8, 8)
    assert check.answers is not None and check.answers.rows == 72
    assert all(chat["model"] == "sentiment:v2-unchecked" for chat in ollama.chats[:-1])


def test_again_nothing_is_sent(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    before = list(ollama.uploads), list(ollama.created), len(ollama.chats), task.deployments_path.read_bytes()
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    assert (list(ollama.uploads), list(ollama.created), len(ollama.chats), task.deployments_path.read_bytes()) == before
    assert len(ollama.uploads) == 1


def test_other_parameters_make_it_anew_without_sending_the_file(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    ollama.models["sentiment:v2"].told["parameters"]["num_ctx"] = 16
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    assert len(ollama.uploads) == 1 and len(ollama.created) == 2
    assert ollama.models["sentiment:v2"].told["parameters"]["num_ctx"] == 512


def test_a_name_that_is_anothers_is_refused(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    for name in ("sentiment:v2", "sentiment:latest"):
        ollama.models[name] = Model("sha256:" + "0" * 64, {})
        ran = cli("deploy", "sentiment", "--to", "ollama")
        assert ran.code == 1 and f"{name} is another model" in ran.err and f"ollama rm {name}" in ran.err
        assert ollama.models[name].digest == "sha256:" + "0" * 64
        assert cli("deploy", "sentiment", "--to", "ollama", "--force").code == 0
        assert ollama.models[name].digest == sha256(task, "v2")


def test_rollback_moves_latest(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    assert cli("deploy", "sentiment", "v1", "--to", "ollama", "--force").code == 0
    assert set(ollama.models) == {"sentiment:v1"}
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    moved = cli("rollback", "sentiment", "v1", "--json").json["moved"]
    assert moved == [{"target": "ollama", "name": "sentiment:latest"}]
    assert ollama.models["sentiment:latest"].digest == sha256(task, "v1")
    assert names(task)["sentiment:latest"] == "v1"


def test_rollback_says_what_the_server_has_not(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    ran = cli("rollback", "sentiment", "v1", "--json")
    assert ran.code == 0 and ran.json["moved"] == []
    assert ollama.models["sentiment:latest"].digest == sha256(task, "v2")
    assert names(task)["sentiment:latest"] == "v2"


def test_undeploy_removes_the_name(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    cli("deploy", "sentiment", "--to", "ollama")
    assert cli("undeploy", "sentiment", "sentiment:latest").code == 0
    assert set(ollama.models) == {"sentiment:v2"}
    ollama.models.clear()
    assert cli("undeploy", "sentiment", "sentiment:v2").code == 0
    assert not names(task)


def test_without_a_server_the_folder_is_ready(task: TaskFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    ran = cli("deploy", "sentiment", "--to", "ollama")
    assert ran.code == 0
    assert "no Ollama server answers at http://127.0.0.1:9" in ran.err
    assert "ollama create sentiment:v2 -f" in ran.err and "nothing is deployed by this" in ran.out
    folder = task.root / "models" / "ollama" / "sentiment-v2"
    lines = (folder / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines == [
        "FROM ../../gguf/sentiment-v2-f32.gguf",
        "PARAMETER num_ctx 512",
        "PARAMETER temperature 0",
        "PARAMETER top_p 1",
        'PARAMETER stop "<|im_end|>"',
    ]
    assert (folder / lines[0].removeprefix("FROM ")).is_file()
    assert "Is this review positive" in (folder / "README.md").read_text(encoding="utf-8")
    assert not names(task) and task.task().status == "evaluating"


def test_one_that_answers_worse_there_is_refused_and_leaves_no_name(
    task: TaskFolder, ollama: FakeOllama, cli: Cli
) -> None:
    ollama.faults.says = "positive"
    ran = cli("deploy", "sentiment", "--to", "ollama")
    assert ran.code == 1 and "sentiment:v2 does not answer as v2 did" in ran.err and "--force" in ran.err
    assert not ollama.models and not names(task)
    assert cli("deploy", "sentiment", "--to", "ollama", "--force").code == 0
    assert {entry.forced for entry in deployments.load(task)} == {True}
    assert len(ollama.uploads) == 1


def test_a_server_that_renders_another_prompt_is_refused(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    ollama.faults.before = "You are a helpful assistant. "
    ran = cli("deploy", "sentiment", "--to", "ollama")
    assert ran.code == 1 and "of 8 prompts 0 are the same in text" in ran.err
    assert not ollama.models


def test_an_older_server_that_shows_no_prompts_is_asked_for_answers_only(
    task: TaskFolder, ollama: FakeOllama, cli: Cli
) -> None:
    ollama.faults.shows_prompts = False
    ran = cli("deploy", "sentiment", "--to", "ollama")
    assert ran.code == 0 and "prompts were not compared" in ran.err
    check = next(one for one in task.version("v2").parity() if one.engine == "ollama")
    assert check.prompts is None and check.answers is not None


def test_push_sends_both_names_and_says_who_may_not(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    assert "says no owner" in cli("deploy", "sentiment", "--to", "ollama", "--push").err
    ollama.faults.push_error = "you are not authorized: unauthorized"
    ran = cli("deploy", "sentiment", "--to", "ollama", "--model", "org/reviews", "--push")
    assert ran.code == 1 and "org/reviews:v2 may not be pushed" in ran.err and "ollama signin" in ran.err
    ollama.faults.push_error = None
    ran = cli("deploy", "sentiment", "--to", "ollama", "--model", "org/reviews", "--push")
    assert ran.code == 0, ran.err
    assert ollama.pushed == ["org/reviews:v2", "org/reviews:latest"] and len(ollama.uploads) == 1


def test_a_connection_lost_on_the_way_is_told_and_the_next_run_completes(
    task: TaskFolder, ollama: FakeOllama, cli: Cli
) -> None:
    ollama.faults.cut_uploads = 1
    ran = cli("deploy", "sentiment", "--to", "ollama")
    assert ran.code == 3 and "was lost on the way" in ran.err and not names(task)
    assert cli("deploy", "sentiment", "--to", "ollama").code == 0
    assert set(ollama.models) == {"sentiment:v2", "sentiment:latest"}


@pytest.mark.parametrize(
    ("field", "error", "code", "said"),
    [
        ("upload_error", "write /blobs: no space left on device", 3, "disk of the Ollama server"),
        ("create_error", "unknown model architecture: 'qwen9'", 1, "refuses sentiment:v2"),
    ],
)
def test_what_the_server_refuses_is_said(
    task: TaskFolder, ollama: FakeOllama, cli: Cli, field: str, error: str, code: int, said: str
) -> None:
    setattr(ollama.faults, field, error)
    ran = cli("deploy", "sentiment", "--to", "ollama", "--json")
    assert ran.code == code and said in ran.json["error"]["message"]
    assert error in ran.json["error"]["cause"]
    assert not ollama.models and not names(task)


def test_a_task_whose_name_no_server_knows_asks_for_one(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    yaml.change(task.task_path, {("task_name",): "情感分析"})
    ran = cli("deploy", "sentiment", "--to", "ollama")
    assert ran.code == 1 and "情感分析" in ran.err and "deploy.model" in ran.err
    ran = cli("deploy", "sentiment", "--to", "ollama", "--model", "../etc")
    assert ran.code == 1 and not ollama.uploads


def test_json_is_asked_for_within_its_schema_and_without_thinking(task: TaskFolder, ollama: FakeOllama) -> None:
    output = OutputFormat.model_validate(
        {"type": "json", "schema": {"label": {"type": "string", "enum": ["positive", "negative"]}}}
    )
    server = Server(ollama.address)
    assert server.send(task.root / "models/gguf/sentiment-v2-f32.gguf", sha256(task, "v2"))
    assert not server.send(task.root / "models/gguf/sentiment-v2-f32.gguf", sha256(task, "v2"))
    server.create("other:v2", "m.gguf", sha256(task, "v2"), {"system": "Be brief."})
    scorer = Ollama(server, "other:v2", sha256(task, "v2"), output, think=False)
    assert scorer.ways == ("constrained", "free")
    asked = [Question(row, [{"role": "user", "content": f"Row {row}?"}]) for row in range(3)]
    said = {one.row: json.loads(one.text) for one in scorer.generate(asked, Sampling(max_new_tokens=40), output)}
    assert set(said) == {0, 1, 2} and all(one["label"] in ("positive", "negative") for one in said.values())
    assert {chat["think"] for chat in ollama.chats} == {False}
    shown = server.rendered("other:v2", asked[0].messages, think=False)
    assert shown is not None and shown.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    server.close()


def test_what_is_no_ollama_server_is_said(task: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
        ran = cli("deploy", "sentiment", "--to", "ollama", "--host", f"http://127.0.0.1:{other.server_address[1]}")
        other.shutdown()
    assert ran.code == 1 and "is no Ollama server" in ran.err and "--host" in ran.err


def test_one_that_was_never_evaluated_goes_out_by_force_only(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    task.version("v2").results_path.unlink()
    assert cli("deploy", "sentiment", "--to", "ollama").code == 1 and not ollama.uploads
    ran = cli("deploy", "sentiment", "--to", "ollama", "--force")
    assert ran.code == 0 and "not held against the version as it was evaluated" in ran.err
    assert set(ollama.models) == {"sentiment:v2", "sentiment:latest"} and not ollama.chats
    assert {entry.forced for entry in deployments.load(task)} == {True}


def test_an_older_server_is_told_a_template_that_says_the_same(task: TaskFolder, ollama: FakeOllama, cli: Cli) -> None:
    assert cli("deploy", "sentiment", "--to", "ollama", "--template").code == 0
    template = ollama.models["sentiment:v2"].told["template"]
    assert (
        template
        == "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    )
    text = (task.root / "models" / "ollama" / "sentiment-v2" / "Modelfile").read_text(encoding="utf-8")
    assert re.search(r'TEMPLATE """\{\{ range .*assistant\n"""', text, re.DOTALL)


def test_a_key_goes_to_no_server_that_a_file_names(
    task: TaskFolder, ollama: FakeOllama, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("deploy", "sentiment", "--to", "ollama", "--host", ollama.address).code == 0
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    ran = cli("undeploy", "sentiment", "sentiment:v2")
    assert ran.code == 3 and "set OLLAMA_HOST to" in ran.err
    assert "sentiment:v2" in names(task)
    monkeypatch.setenv("OLLAMA_HOST", ollama.address)
    assert cli("undeploy", "sentiment", "sentiment:v2").code == 0
