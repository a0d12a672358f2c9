"""Publishing: the real client of the Hub against a loopback hub that takes commits, large files and tags."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import minihub
import pytest
from conftest import Ran

from nlp_skills import files
from nlp_skills.schema import yaml
from nlp_skills.workspace import deployments, lineage
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]

REPO = "anna/sentiment"
OTHERS = "hf_tokenOfAnotherAccount"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[minihub.Hub]:
    """The fake Hub, with the account `anna` logged in; offline is what the client read when it was imported."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with minihub.running() as found:
        found.accounts[OTHERS] = "bert"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # What the client waits before it asks a lost server again.
        monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda _seconds: None, time=lambda: 0.0))
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", minihub.TOKEN)
        yield found


def publish(cli: Cli, *arguments: object) -> Ran:
    return cli("deploy", "sentiment", *arguments, "--to", "huggingface")


def sent(hub: minihub.Hub) -> list[str]:
    """What was asked of the hub that changes it."""
    return [line for line in hub.asked if not line.startswith(("GET", "HEAD")) and "validate" not in line]


def snapshot(hub: minihub.Hub, revision: str, place: Path) -> dict[str, bytes]:
    """What somebody else is given for a revision."""
    from huggingface_hub import HfApi

    HfApi(endpoint=hub.url, token=minihub.TOKEN).snapshot_download(REPO, revision=revision, local_dir=place)
    found = [path for path in place.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in found}


def weights(folder: TaskFolder, version: str) -> bytes:
    return (folder.version(version).adapter / "adapter_model.safetensors").read_bytes()


def names(folder: TaskFolder) -> dict[str, str]:
    return {entry.name: entry.version for entry in deployments.load(folder)}


def test_each_version_is_a_tag_with_its_very_bytes_and_main_is_the_active_one(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, tmp_path: Path
) -> None:
    assert publish(cli, "v1", "--force").code == 0
    assert "adapter_model.safetensors" not in hub.repos[REPO].commits[hub.repos[REPO].heads["main"]]
    ran = publish(cli)
    assert ran.code == 0, ran.err
    assert "huggingface: anna/sentiment@v2 answers with v2" in ran.out
    assert "huggingface: anna/sentiment answers with v2, and follows the active version" in ran.out

    repo = hub.repos[REPO]
    assert repo.private and sorted(repo.tags) == ["v1", "v2"] and list(repo.heads) == ["main"]
    for revision, version in (("v1", "v1"), ("v2", "v2"), ("main", "v2")):
        given = snapshot(hub, revision, tmp_path / revision)
        assert given["adapter_model.safetensors"] == weights(released, version)
        assert json.loads(given["model_info.json"])["version"] == version
        assert f"sentiment {version}" in given["README.md"].decode()
        assert sorted(given) == [
            ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "config.yaml",
            "lineage.yaml", "model_info.json", "nlp-skills.json", "results.json",
        ]  # fmt: skip
    assert names(released) == {"anna/sentiment@v1": "v1", "anna/sentiment@v2": "v2", "anna/sentiment": "v2"}
    assert {entry.where for entry in deployments.load(released)} == {f"127.0.0.1:{hub.port}"}
    made = released.version("v2").lineage()
    assert made and made.model and made.model.hf_repo == REPO


def test_the_code_on_the_card_loads_the_version_and_has_its_answer(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(cli)
    card = snapshot(hub, "v2", tmp_path / "v2")["README.md"].decode()
    base = Path(str(released.task().training and released.task().training.base_model))
    # The client of this process knows another Hub since its import, and the base model is a folder.
    code = card.partition("```python\n")[2].partition("```")[0]
    assert '"anna/sentiment", revision="v2"' in code and f'"./{base.name}"' in code
    code = code.replace('"anna/sentiment", revision="v2"', repr(str(tmp_path / "v2")))
    code = code.replace(f'"./{base.name}"', repr(str(base)))
    capfd.readouterr()
    exec(code.replace('{"text": "…"}', '{"text": "Order 7919: this camera is awful."}'), {})
    assert capfd.readouterr().out.strip() == "negative"


def test_again_nothing_is_sent(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    publish(cli)
    before = released.deployments_path.read_bytes(), released.version("v2").lineage_path.read_bytes()
    hub.asked.clear()
    ran = publish(cli)
    assert ran.code == 0 and sent(hub) == []
    assert (released.deployments_path.read_bytes(), released.version("v2").lineage_path.read_bytes()) == before


def test_nothing_of_this_machine_goes_up(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    version = released.version("v2")
    info = version.model_info()
    assert info
    lineage.record(version, notes=f"made in {released.root}/data with hf_{'x' * 30} by {lineage.whoami()}")
    publish(cli)
    repo = hub.repos[REPO]
    private = [info.base_model, str(released.root), str(released.root.parent), str(Path.home()), lineage.whoami(),
               minihub.TOKEN, "hf_xxxx", "/tmp/"]  # fmt: skip
    for name, content in repo.commits[repo.tags["v2"]].items():
        if not name.endswith(".safetensors"):
            assert [word for word in private if word in content.decode()] == [], name
    rows = [row["text"] for row in map(json.loads, released.split("test").read_text().splitlines())]
    everything = b"".join(repo.commits[repo.tags["v2"]].values()).decode(errors="replace")
    assert not any(row in everything for row in rows)


def test_what_has_to_go_to_the_letter_and_says_too_much_is_refused(
    released: TaskFolder, hub: minihub.Hub, cli: Cli
) -> None:
    path = released.version("v2").model_info_path
    told = json.loads(path.read_text(encoding="utf-8"))
    files.write_json(path, {**told, "system_prompt": f"Your key is hf_{'y' * 30}."})
    ran = publish(cli, "--force")
    assert ran.code == 1 and "would publish something of this machine, or a secret" in ran.err
    assert "hf_yyy" not in ran.err and REPO not in hub.repos


@pytest.mark.parametrize("cut", ["file", "answer"])
def test_an_upload_that_was_cut_off_goes_on_where_it_was(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, tmp_path: Path, cut: str
) -> None:
    # The client asks again five times by itself.
    hub.cut_files, hub.cut_answers = (6, 0) if cut == "file" else (0, 1)
    ran = publish(cli)
    assert ran.code == 3 and "the connection to the Hub was lost" in ran.err and "what was sent is kept" in ran.err
    assert "v2" not in hub.repos[REPO].tags and not names(released)
    commits = len(hub.repos[REPO].commits)
    hub.asked.clear()
    assert publish(cli).code == 0
    assert snapshot(hub, "v2", tmp_path / "v2")["adapter_model.safetensors"] == weights(released, "v2")
    files_sent = [line for line in sent(hub) if line.startswith("PUT")]
    made = len(hub.repos[REPO].commits) - commits
    assert (len(files_sent), made) == ((1, 1) if cut == "file" else (0, 0))


def test_a_large_file_that_is_there_is_not_sent_twice(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    from huggingface_hub import HfApi

    publish(cli)
    HfApi(endpoint=hub.url, token=minihub.TOKEN).delete_tag(REPO, tag="v2")
    hub.repos[REPO].commit({".gitattributes": b""})
    hub.asked.clear()
    assert publish(cli).code == 0
    assert [line for line in sent(hub) if line.startswith("PUT")] == [] and "v2" in hub.repos[REPO].tags


def test_a_tag_with_other_files_is_refused_and_moved_only_on_purpose(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, tmp_path: Path
) -> None:
    publish(cli)
    place = released.version("v2").adapter / "adapter_config.json"
    settings = json.loads(place.read_text(encoding="utf-8"))
    files.write_json(place, {**settings, "lora_alpha": 17})
    before = dict(hub.repos[REPO].tags)
    ran = publish(cli, "--force")
    assert ran.code == 1 and "v2 is in anna/sentiment already, with other files" in ran.err
    assert "these differ: adapter_config.json" in ran.err and "--retag" in ran.err
    assert hub.repos[REPO].tags == before
    assert publish(cli, "--force", "--retag").code == 0
    for revision in ("v2", "main"):
        given = snapshot(hub, revision, tmp_path / revision)
        assert json.loads(given["adapter_config.json"])["lora_alpha"] == 17


def test_other_notes_on_the_same_model_are_said_and_left(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    publish(cli)
    yaml.change(released.task_path, {("goal",): "Which reviews need an answer"})
    before = dict(hub.repos[REPO].tags)
    ran = publish(cli)
    assert ran.code == 0 and "with other notes on it (README.md" in ran.err and "--retag renews them" in ran.err
    assert hub.repos[REPO].tags == before
    assert publish(cli, "--retag").code == 0 and hub.repos[REPO].tags != before


def test_rollback_makes_main_the_other_version_without_sending_it(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, tmp_path: Path
) -> None:
    publish(cli, "v1", "--force")
    publish(cli)
    hub.asked.clear()
    ran = cli("rollback", "sentiment", "v1", "--json")
    assert ran.json["moved"] == [{"target": "huggingface", "name": REPO}]
    assert snapshot(hub, "main", tmp_path / "main")["adapter_model.safetensors"] == weights(released, "v1")
    assert snapshot(hub, "main", tmp_path / "x") == snapshot(hub, "v1", tmp_path / "y")
    assert not any(line.startswith("PUT") for line in hub.asked)
    assert names(released)[REPO] == "v1"


def test_what_another_version_left_goes_and_what_people_added_stays(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, tmp_path: Path
) -> None:
    publish(cli, "v1", "--force")
    publish(cli)
    repo = hub.repos[REPO]
    main = repo.commits[repo.heads["main"]]
    told = json.loads(main["nlp-skills.json"])
    told["files"]["sentiment-v2-q8_0.gguf"] = "sha256:0"
    added = {"sentiment-v2-q8_0.gguf": b"ours", "theirs.gguf": b"a colleague's", "LICENSE": b"mine"}
    repo.commit({**main, "nlp-skills.json": json.dumps(told).encode(), **added})
    assert cli("rollback", "sentiment", "v1").code == 0
    found = snapshot(hub, "main", tmp_path / "main")
    assert {"theirs.gguf", "LICENSE"} <= set(found) and "sentiment-v2-q8_0.gguf" not in found


def test_a_repository_that_was_made_by_hand_and_is_empty_is_filled(
    released: TaskFolder, hub: minihub.Hub, cli: Cli
) -> None:
    hub.repo(REPO, private=True).commit({"README.md": b"mine", ".gitattributes": b""})
    assert publish(cli).code == 0 and "v2" in hub.repos[REPO].tags


def test_only_who_asks_for_it_is_seen_by_everyone(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    assert publish(cli, "--public").code == 0
    assert not hub.repos[REPO].private
    ran = publish(cli)
    assert ran.code == 1 and "is public, and this version is not to be" in ran.err


def test_two_who_publish_at_once_do_not_undo_each_other(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nlp_skills.deployment.huggingface.hub import Hub

    publish(cli, "v1", "--force")
    send = Hub._send

    def meanwhile(*arguments: object) -> None:
        send(*arguments)  # type: ignore[arg-type]
        hub.repos[REPO].commit({"theirs": b"1"})

    with monkeypatch.context() as patch:
        patch.setattr(Hub, "_send", meanwhile)
        ran = publish(cli)
    assert ran.code == 1 and "somebody else changed anna/sentiment meanwhile" in ran.err


def test_rollback_says_what_the_hub_has_not(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    publish(cli)
    ran = cli("rollback", "sentiment", "v1")
    assert ran.code == 0 and "anna/sentiment has no v1" in ran.err
    assert names(released)[REPO] == "v2"


def test_undeploy_removes_a_tag_and_never_a_repository(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    publish(cli)
    ran = cli("undeploy", "sentiment", REPO)
    assert ran.code == 1 and "is not removed from here" in ran.err and f"hf repos delete {REPO}" in ran.err
    ran = cli("undeploy", "sentiment", f"{REPO}@v2")
    assert ran.code == 0 and "has no tag v2 any more" in ran.err
    assert hub.repos[REPO].tags == {} and names(released) == {REPO: "v2"}
    del hub.repos[REPO]
    assert cli("undeploy", "sentiment", REPO).code == 0 and names(released) == {}


def test_a_token_is_only_for_the_hub_that_is_set(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    publish(cli)
    path = released.deployments_path
    path.write_text(path.read_text().replace(f"127.0.0.1:{hub.port}", "evil.example"), encoding="utf-8")
    ran = cli("undeploy", "sentiment", f"{REPO}@v2")
    assert ran.code == 3 and "is on another Hub" in ran.err and "v2" in hub.repos[REPO].tags


@pytest.mark.parametrize(
    ("spoil", "arguments", "code", "said"),
    [
        (lambda hub, env: env.delenv("HF_TOKEN"), (), 3, "no one is logged in here"),
        (lambda hub, env: env.setenv("HF_TOKEN", "hf_wrongTokenOfMine"), (), 3, "refuses this machine's token"),
        (lambda hub, env: hub.read_only.add("anna"), (), 3, "may not write to anna/sentiment"),
        (lambda hub, env: None, ("--repo", "bert/sentiment"), 3, "may not write to bert/sentiment"),
        (lambda hub, env: setattr(hub, "room", 10), (), 3, "the Hub has no room for anna/sentiment"),
        (lambda hub, env: env.setenv("HF_ENDPOINT", "http://127.0.0.1:9"), (), 3, "was lost, or never made"),
        (lambda hub, env: env.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True), (), 3, "HF_HUB_OFFLINE"),
        (lambda hub, env: None, ("--repo", "anna/a--b"), 1, "can be called anna/a--b"),
        (lambda hub, env: None, ("--repo", "../../etc"), 1, "can be called ../../etc"),
        (lambda hub, env: hub.repo(REPO).commit({"model.bin": b"x"}), ("--public",), 1, "not a repository of this"),
        (lambda hub, env: hub.repo(REPO).commit({}), (), 1, "is public, and this version is not to be"),
    ],
    ids=["no token", "wrong token", "no write right", "another's", "quota", "not reached", "offline", "dashes", "path",
         "other files", "public"],
)  # fmt: skip
def test_what_goes_wrong_has_its_words_and_a_mend(
    released: TaskFolder,
    hub: minihub.Hub,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[minihub.Hub, pytest.MonkeyPatch], object],
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    spoil(hub, monkeypatch)
    ran = publish(cli, *arguments, "--json")
    error = ran.json["error"]
    assert (ran.code, said in error["message"]) == (code, True), error
    assert error["cause"] and error["mend"]
    assert not re.search(r"hf_\w{8}", ran.out + ran.err)
    assert not names(released)


def test_a_repository_of_another_that_is_there_is_left_alone(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(cli)
    before = dict(hub.repos[REPO].heads)
    monkeypatch.setenv("HF_TOKEN", OTHERS)
    yaml.change(released.task_path, {("goal",): "other"})
    ran = publish(cli, "--repo", REPO, "--retag")
    assert ran.code == 3 and f"may not write to {REPO}" in ran.err
    assert hub.repos[REPO].heads == before


def test_a_dry_run_shows_files_and_card_and_asks_nobody(
    released: TaskFolder, hub: minihub.Hub, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ran = publish(cli, "--dry-run")
    assert ran.code == 0, ran.err
    assert "would go to OWNER/sentiment@v2 (private)" in ran.out
    assert "adapter_model.safetensors" in ran.out and "# sentiment v2" in ran.out
    told = publish(cli, "--dry-run", "--json", "--merged", "--gguf", "q4_k_m", "--repo", "org/x").json
    assert told["would_send"]["repo"] == "org/x" and told["would_send"]["not_made_yet"] == ["merged", "q4_k_m"]
    assert {one["path"] for one in told["would_send"]["files"]} >= {"README.md", "model_info.json"}
    assert hub.asked == [] and not names(released)


def test_a_task_by_date_has_a_repository_a_version(released: TaskFolder, hub: minihub.Hub, cli: Cli) -> None:
    from nlp_skills.deployment.huggingface import names as naming

    task = released.task()
    dated = task.model_copy(update={"versioning": task.versioning.model_copy(update={"strategy": "date"})})
    assert naming.of(dated, "2025-01-07", None, "anna") == ("anna/sentiment-2025-01-07", None)
    assert naming.of(dated, "2025-01-07", "org/reviews") == ("org/reviews", "2025-01-07")


def test_the_command_line_sends_a_whole_model_as_a_user_has_it_set_up(
    exported: TaskFolder, hub: minihub.Hub, tmp_path: Path
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    # The client's newer protocol is left on, as it is where nobody thought of it.
    variables = {**kept, "HF_ENDPOINT": hub.url, "HF_TOKEN": minihub.TOKEN, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "nlp_skills.cli.main", "deploy", str(exported.root), "--to", "huggingface"]
    command += ["--merged", "--gguf", "q8_0"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert minihub.TOKEN not in done.stdout + done.stderr
    files_there = hub.repos[REPO].commits[hub.repos[REPO].tags["v2"]]
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(files_there)
    assert "adapter_config.json" not in files_there
    gguf = exported.root / "models" / "gguf" / "sentiment-v2-q8_0.gguf"
    assert files_there[gguf.name] == gguf.read_bytes()
    info, card = json.loads(files_there["model_info.json"]), files_there["README.md"].decode()
    assert (info["merged_path"], "adapter_path" in info) == (".", False)
    assert "vllm serve anna/sentiment --revision v2" in card and "| merged | transformers |" in card
    assert r"| q8\_0 | llama.cpp |" in card and "ollama create sentiment-v2 -f Modelfile" in card
    (entry, _following) = deployments.load(exported)
    assert entry.artefact == "models/merged/v2"
    for name, content in files_there.items():
        if not name.endswith((".safetensors", ".gguf", "tokenizer.json")):
            assert str(exported.root) not in content.decode() and "/tmp/" not in content.decode(), name
