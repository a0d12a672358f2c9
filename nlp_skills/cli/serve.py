"""Serve a task's versions behind an API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder

_ENGINES = ("auto", "llama.cpp", "transformers", "vllm")


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
@frame.json_option
def serve(folder: TaskFolder, version_name: str | None, detach: bool, as_json: bool, **given: Any) -> None:
    from nlp_skills.deployment.serving import program, starting
    from nlp_skills.deployment.serving.service import Service
    from nlp_skills.deployment.serving.settings import Settings

    settings = Settings(version=version_name, **given)
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

    code = program.serve(folder, settings, tell)
    if code:
        raise SystemExit(code)
