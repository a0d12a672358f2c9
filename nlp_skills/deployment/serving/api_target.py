"""The target: a gateway of its own on this machine, held against the version as it was evaluated before it counts."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.deployment import export as exporting
from nlp_skills.deployment import parity
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.serving import starting
from nlp_skills.deployment.serving.engines import choosing
from nlp_skills.deployment.serving.settings import EngineName, Settings
from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment, ParityCheck
from nlp_skills.workspace import deployments, lock
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_BATCH = 16
_PATIENCE = 60.0
_LOADING = 900.0
_LOOK_SECONDS = 0.2


def deploy(
    going: Going,
    *,
    port: int | None = None,
    host: str | None = None,
    engine: EngineName | None = None,
    quantization: str | None = None,
) -> list[Deployment]:
    """Serve a version behind an API that goes on when this command is over.

    One of this task that answers at the port is switched instead, where the version is the active one.

    Args:
        going: the version.
        port: where to listen; 8000 when left out.
        host: this machine alone when left out.
        engine: what answers; the fastest that is here when left out.
        quantization: of the GGUF file for llama.cpp; else `deploy.quantization`.

    Raises:
        Invalid: it does not answer as the version did; another version is served there.
        Unavailable: the port is taken, or it cannot be started.
    """
    extras.need("serve", "fastapi", "uvicorn")
    settings = Settings(
        host=host or "127.0.0.1",
        port=port or 8000,
        engine=engine or "auto",
        quantization=quantization,
        version=None if going.active else going.version.name,
    )
    chosen = parity.measured(going.folder, going.version)
    running = _running(going.folder, settings.address)
    if running is not None:
        return [_again(going, chosen, settings, running)]
    started = starting.start(going.folder, settings)
    try:
        forced = _held(going, chosen, settings, started.address)
    except BaseException:
        starting.stop(_entry(going, started.address, started.pid, _engine(settings)))
        raise
    return [_entry(going, started.address, started.pid, _engine(settings), forced=forced)]


def undeploy(_folder: TaskFolder, entry: Deployment) -> None:
    """End the gateway; fine where it is gone.

    Raises:
        Invalid: it is on another computer.
        Unavailable: it does not end.
    """
    starting.stop(entry)


def move(folder: TaskFolder, entry: Deployment, version: VersionFolder) -> bool:
    """Let a gateway that follows answer with another version: what is written down, it follows.

    Raises:
        Problem: another command holds the task for very long.
    """
    if _active(entry.name) is None:
        return False
    moved = entry.model_copy(update={"version": version.name, "since": files.now()})
    with lock.writing(folder, wait_seconds=_PATIENCE):
        deployments.put(folder, moved)
    until = time.monotonic() + _LOADING
    while time.monotonic() < until:
        if _active(entry.name) == version.name:
            return True
        written = [one for one in deployments.load(folder) if (one.target, one.name) == ("api", entry.name)]
        if not written or written[0].version != version.name:
            # It could not be loaded: the gateway wrote down what answers instead.
            progress.notice(_("{name} stays with {version}; its log says why", name=entry.name, version=entry.version))
            return False
        time.sleep(_LOOK_SECONDS)
    return False


def _again(going: Going, chosen: Subject, settings: Settings, entry: Deployment) -> Deployment:
    """The gateway that is there, with the version."""
    version = going.version
    if _active(entry.name) != version.name and not (entry.follows and move(going.folder, entry, version)):
        raise Invalid(
            _("{name} is served already, with version {version}", name=entry.name, version=str(_active(entry.name))),
            mend=_("choose another port: --port N; or end it: nlp-skills undeploy {task} {name}",
                   task=going.folder.root.name, name=entry.name),
        )  # fmt: skip
    forced = _held(going, chosen, replace(settings, engine=entry.where or settings.engine), entry.name)  # type: ignore[arg-type]
    now = files.now() if entry.version != version.name else entry.since
    return entry.model_copy(update={"version": version.name, "since": now, "forced": forced})


def _held(going: Going, chosen: Subject, settings: Settings, address: str) -> bool:
    """Hold what is served against the version; whether that had to be overruled.

    Raises:
        Invalid: it does not answer as the version did.
    """
    engine = _engine(settings)
    prompts, digest = None, model.fingerprint(going.folder.root, going.info)
    if engine == "llama.cpp":
        export = exporting.gguf(going.folder, going.version, settings.quantization or going.task.deploy.quantization)
        prompts, digest = parity.of_export(going.folder, going.version, export).prompts, export.sha256
    with starting.introduced(going.folder):
        given = [*_answers(chosen, address)]
    kept = parity.answers(chosen, given, going.task.deploy.max_drop)
    check = ParityCheck(
        subject=address,
        engine="api",
        sha256=digest,
        made=files.now(),
        prompts=prompts,
        answers=kept,
        verdict=parity.verdict(prompts, kept),
    )
    parity.record(going.version, check)
    if not going.forced:
        parity.refuse(check, going.version, overrule=_("--force deploys it all the same"))
    return check.verdict != "met"


def _answers(chosen: Subject, address: str) -> Iterator[Answer]:
    """The API's answers to the test rows, in their order."""
    name = chosen.version.name
    asked = [{field: row[field] for field in chosen.fields} for row in chosen.test]
    with progress.bar(_("asking {name}", name=address), len(asked)) as bar:
        for at in range(0, len(asked), _BATCH):
            part = asked[at : at + _BATCH]
            told = starting.post(address, f"/api/v1/predict?version={name}", part)
            for one in told["predictions"]:
                yield _answer(chosen, one)
            bar.advance(len(part))


def _answer(chosen: Subject, told: dict[str, Any]) -> Answer:
    """An answer of the API as an evaluation keeps it."""
    said = told["answer"]
    predicted = None if said is None else _predicted(chosen, said)
    return Answer(predicted, probability=told.get("probability"), probabilities=told.get("probabilities"))


def _predicted(chosen: Subject, said: dict[str, Any]) -> Any:
    from nlp_skills.evaluation import forms

    return forms.of(chosen.kind, chosen.info.output_format, said)


def _running(folder: TaskFolder, address: str) -> Deployment | None:
    """This task's gateway at an address, where it answers."""
    known = [one for one in deployments.load(folder) if (one.target, one.name) == ("api", address)]
    told = _told(address) if known else {}
    return known[0] if told.get("task") == folder.task().task_name else None


def _told(address: str) -> dict[str, Any]:
    """What a gateway says of itself to everybody; nothing where it does not answer."""
    try:
        told = starting.get(address, "/readyz")
    except Problem:
        return {}
    return told if isinstance(told, dict) else {}


def _active(address: str) -> str | None:
    return _told(address).get("version")


def _engine(settings: Settings) -> str:
    return choosing.fastest() if settings.engine == "auto" else settings.engine


def _entry(going: Going, address: str, pid: int, engine: str, *, forced: bool = False) -> Deployment:
    return Deployment(
        target="api",
        name=address,
        version=going.version.name,
        since=files.now(),
        follows=going.active,
        forced=forced,
        artefact=going.info.adapter_path or going.info.merged_path,
        where=engine,
        pid=pid,
        host=socket.gethostname(),
    )
