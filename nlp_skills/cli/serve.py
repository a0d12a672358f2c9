"""Serve a task's versions behind an API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.deployment.serving.settings import Settings
    from nlp_skills.workspace.folder import TaskFolder

_ENGINES = ("auto", "llama.cpp", "transformers", "vllm")
_KINDS = ("docker", "systemd")


@frame.command(
    "serve",
    help=N_(
        "Serve a task behind an API: its own calls, and OpenAI's chat completions. It follows the active version, and "
        "no request is lost when that changes; with --version it stays with one. Ctrl-C ends it."
    ),
    examples=[
        "nlp-skills serve reviews",
        "nlp-skills serve reviews --version v2 --port 8001",
        "nlp-skills serve reviews --engine transformers --detach",
        "nlp-skills serve reviews --emit docker",
        "nlp-skills serve reviews --emit systemd --out reviews/deploy/unit --port 8001",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option("--port", type=click.IntRange(0, 65535), default=8000, help=N_("The port; 0 takes one that is free."))
@frame.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", help=N_("Where to listen; only this machine otherwise.")
)
@frame.option("--engine", type=click.Choice(_ENGINES), default="auto", help=N_("What answers behind the API."))
@frame.option("--quantization", metavar="NAME", help=N_("Of the GGUF file for llama.cpp, as export makes it."))
@frame.option("--keep", type=click.IntRange(1, 64), default=2, help=N_("So many versions stay loaded."))
@frame.option("--grace", "grace_s", type=click.FloatRange(0, 3600), default=30.0, help=N_("Seconds to finish in."))
@frame.option(
    "--keys",
    "keys_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_("API keys, as hashes; the task's own otherwise."),
)
@frame.option("--cors", "cors_origins", metavar="ORIGIN", multiple=True, help=N_("Pages that may call it."))
@frame.option("--log-texts", is_flag=True, help=N_("Log the texts of requests too."))
@frame.option("--admin-anywhere", is_flag=True, help=N_("Serve administration elsewhere than on this machine too."))
@frame.option("--detach", is_flag=True, help=N_("Start it as a process of its own, and return when it answers."))
@frame.option(
    "--emit",
    "kind",
    type=click.Choice(_KINDS),
    help=N_("Serve nothing: write the files that run it elsewhere, in a container or by systemd."),
)
@frame.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help=N_("Where --emit writes, inside the task folder; deploy/docker or deploy/systemd otherwise."),
)
@frame.json_option
def serve(
    folder: TaskFolder,
    version_name: str | None,
    detach: bool,
    kind: Literal["docker", "systemd"] | None,
    out: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    from nlp_skills.deployment import gate
    from nlp_skills.deployment.serving import program, starting
    from nlp_skills.deployment.serving.service import Service
    from nlp_skills.deployment.serving.settings import Settings

    settings = Settings(version=version_name, **given)
    if out is not None and kind is None:
        raise click.UsageError(_("{option} needs {other}", option="--out", other="--emit"))
    if detach and kind is not None:
        raise click.UsageError(_("{option} and {other} exclude each other", option="--detach", other="--emit"))
    if kind is not None:
        _emit(folder, settings, kind, out, as_json)
        return
    if detach:
        started = starting.start(folder, settings)
        if as_json:
            frame.emit({"ok": True, "task": folder.root.name, **vars(started), "log": str(started.log)})
        else:
            frame.say(_("{address} answers with {version}", address=started.address, version=started.version))
            frame.say(_("log: {path}", path=frame.shown(started.log)))
        return

    def tell(service: Service) -> None:
        told = {"address": service.settings.address, "version": service.pool.active}
        if as_json:
            frame.emit({"ok": True, "task": folder.root.name, "engine": service.pool.maker.name, **told})
        else:
            frame.say(_("{address} answers with {version}", **told))
            frame.note(_("the calls: {address}/docs", address=told["address"]))

    frame.warn(
        [_("deploy would refuse this version: {reason}", reason=why) for why in gate.doubts(folder, version_name)]
    )
    code = program.serve(folder, settings, tell)
    if code:
        raise SystemExit(code)


def _emit(
    folder: TaskFolder, settings: Settings, kind: Literal["docker", "systemd"], out: Path | None, as_json: bool
) -> None:
    from nlp_skills.deployment.serving import emit

    done = emit.emit(folder, settings, kind, out)
    if as_json:
        told = {"versions": done.versions, "folder": str(done.place), "files": done.files, "kept": done.kept}
        frame.emit({"ok": True, "task": folder.root.name, "emit": kind, **told})
        return
    for name, state in done.files.items():
        frame.say(f"{state:10} {frame.shown(done.place / name)}")
    for name in done.kept:
        frame.note(_("{name} was changed by hand and stays; what is new is in {name}.new", name=name))
    frame.say(_("how to go on: {path}", path=frame.shown(done.place / "README.md")))
