"""An image for containers: what builds it, what starts it, and how it is used. No key is in any of them."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from nlp_skills.deployment.serving import starting
from nlp_skills.deployment.serving.emit import contents, text
from nlp_skills.deployment.serving.emit.contents import Contents
from nlp_skills.deployment.serving.keys import VARIABLE
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.scaffold import project, wheel
from nlp_skills.workspace.folder import TaskFolder

# BuildKit reads it instead of the .dockerignore of the whole task folder.
IGNORED, LABELS = "Dockerfile.dockerignore", "labels.jsonl"
_PLACE, _PROGRAM, _CACHE = "/srv/task", "/opt/nlp-skills", "/var/cache/nlp-skills"
_USER = 10001
_MORE_SECONDS = 15


def wanted(folder: TaskFolder, settings: Settings, within: str) -> tuple[list[str], dict[str, bytes]]:
    """The versions inside, and the files; `within` is their folder, relative to the task's, which is what is built.

    Raises:
        Usage: a setting that no container can have.
        Invalid: a version that cannot go into an image.
        Unavailable: this nlp-skills cannot be packed.
    """
    _refuse_keys_file(settings)
    contents.refuse_odd(folder, within)
    found, packed = contents.of(folder, settings), wheel.build()
    name = project.project_name(folder.task().task_name)
    own = ["requirements.txt", packed.name]
    own += [LABELS] if found.labels else []
    values = {
        "name": f"{name}-api",
        "task": folder.task().task_name,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "within": within,
        "context": os.path.relpath(folder.root, folder.root / within),
        "place": _PLACE,
        "program": _PROGRAM,
        "cache": _CACHE if found.fetched else None,
        "user": _USER,
        "port": settings.port,
        "published": f"{_published(settings.host)}:{settings.port}:{settings.port}",
        "stop_seconds": int(settings.grace_s) + _MORE_SECONDS,
        "entrypoint": _entrypoint(settings, found),
        "program_files": [f"{within}/{one}" for one in own[:2]],
        "labels": f"{within}/{LABELS}" if found.labels else None,
        "folders": _by_folder(found.paths),
        "allowed": [*(f"{within}/{one}" for one in own), *found.paths],
        "versions": found.versions,
        "pinned": settings.version is not None,
        "variable": VARIABLE,
        "address": replace(settings, host=_published(settings.host).strip("[]")).address,
    }  # fmt: skip
    made = {
        "Dockerfile": text.of("Dockerfile.j2", **values),
        IGNORED: text.of("ignored.j2", **values),
        "compose.yaml": text.of("compose.j2", **values),
        "README.md": text.of("docker.md.j2", **values),
        "requirements.txt": _requirements(packed.name, found).encode(),
        ".gitignore": b"keys.env\n*.whl\n",
        packed.name: packed.content,
    }
    return [*found.versions], {**made, **({LABELS: found.labels.encode()} if found.labels else {})}


def _refuse_keys_file(settings: Settings) -> None:
    if settings.keys_file is not None:
        mend = _("leave --keys out, and set {variable} where the container runs", variable=VARIABLE)
        raise Usage(_("no keys go into an image"), mend=mend)


def _entrypoint(settings: Settings, found: Contents) -> list[str]:
    """The gateway in its folder, on every address of the container: which of them is reached is for Compose to say."""
    quantization = found.quantization if found.engine == "llama.cpp" else None
    inside = replace(settings, host="0.0.0.0", engine=found.engine, quantization=quantization)  # type: ignore[arg-type]  # noqa: S104
    return ["python", "-P", "-m", "nlp_skills.cli.main", *starting.arguments(".", inside)]


def _published(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        mend = _("give --host an address such as 127.0.0.1 or 0.0.0.0")
        raise Usage(_("a container's port cannot be published at {host}", host=host), mend=mend) from error
    return f"[{address}]" if address.version == 6 else str(address)


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        parent = PurePosixPath(path).parent.as_posix()
        found["" if parent == "." else f"{parent}/"].append(path)
    return dict(found)


def _requirements(packed: str, found: Contents) -> str:
    extras = {"serve", "llamacpp" if found.engine == "llama.cpp" else "train"}
    # Base models that are packages are read by what reads GGUF files.
    named = tuple(sorted(extras | ({"gguf"} if found.fetched else set())))
    return "\n".join([f"./{packed}[{','.join(named)}]", *project.closure("nlp-skills", named), ""])
