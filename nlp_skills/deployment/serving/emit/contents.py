"""What of a task folder a gateway needs, file by file: nothing else goes into an image."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import extras
from nlp_skills.deployment import export
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.evaluation import model, subject
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.training.pypi_model import PREFIX
from nlp_skills.workspace import rollback
from nlp_skills.workspace.folder import TaskFolder

_RECORDS = ("config.yaml", "model_info.json", "results.json", "lineage.yaml", "exports.json")
# Beside a GGUF file, the adapter is only looked at for what the file was made of.
_LOOKED_AT = ("*.safetensors", "*config.json")
# Names that mean the same in a Dockerfile, in its list of ignored files and in Compose.
_PLAIN = re.compile(r"[\w./+@=,-]([\w./+@=, -]*[\w./+@=,-])?\Z")


@dataclass(frozen=True)
class Contents:
    """What an image takes in. `paths` are relative to the task folder; `labels` are lines of data/train.jsonl."""

    engine: str
    quantization: str
    versions: tuple[str, ...]
    paths: tuple[str, ...]
    labels: str
    fetched: bool


def of(folder: TaskFolder, settings: Settings) -> Contents:
    """The version to stay with; or the active one, and with it the one that was active before, if that can be asked.

    Raises:
        Usage: an engine that no image can have.
        Invalid: the version cannot be asked, or something that it needs cannot be taken along.
    """
    engine = settings.engine
    if engine == "auto":
        engine = "llama.cpp" if extras.installed("xllamacpp") else "transformers"
    if engine == "vllm":
        raise Usage(_("no image is made for {engine}", engine=engine), mend="--engine llama.cpp")
    quantization = settings.quantization or folder.task().deploy.quantization
    chosen = [subject.asked(folder, settings.version)]
    paths = {"task.yaml": None, **dict.fromkeys(_of_version(chosen[0], engine, quantization))}
    if settings.version is None:
        with contextlib.suppress(Problem):
            before = subject.asked(folder, rollback.previous(folder))
            paths |= dict.fromkeys(_of_version(before, engine, quantization))
            chosen.append(before)
    for path in paths:
        refuse_odd(folder, path)
    return Contents(
        engine,
        quantization,
        tuple(one.version.name for one in chosen),
        tuple(paths),
        labels(chosen[0]),
        engine == "transformers" and any(one.info.adapter_path and not _own_base(one) for one in chosen),
    )


def refuse_odd(folder: TaskFolder, path: str) -> None:
    """Refuse what a Dockerfile cannot name, or a builder would not find.

    Raises:
        Invalid: such a name, or one behind a link.
    """
    if not _PLAIN.match(path):
        mend = _("rename it: letters, digits, spaces and . _ - + @ = ,")
        raise Invalid(_("an image cannot name {name}", name=ascii(path)), file=folder.root / path, mend=mend)
    if (folder.root / path).resolve() != folder.root.resolve() / path:
        mend = _("put the files themselves there")
        raise Invalid(_("what is behind a link cannot go into an image"), file=folder.root / path, mend=mend)


def _of_version(chosen: Subject, engine: str, quantization: str) -> Iterator[str]:
    folder, version = chosen.folder, chosen.version
    yield from (_within(folder, path) for name in _RECORDS if (path := version.root / name).is_file())
    trained = model.weights(folder.root, chosen.info)
    if engine == "llama.cpp":
        yield from _below(folder, trained, _LOOKED_AT)
        made = export.current(folder, version, quantization)
        if made is None:
            told = {"task": folder.root.name, "version": version.name, "name": quantization}
            raise Invalid(
                _("version {version} has no GGUF file {name}", **told),
                mend="nlp-skills export {task} {version} --gguf {name}".format(**told),
            )
        yield made.path
        return
    yield from _below(folder, trained, ("**/*",))
    if chosen.info.adapter_path and (base := _own_base(chosen)):
        yield from _below(folder, base, ("**/*",))


def _own_base(chosen: Subject) -> Path | None:
    """The base model's folder where the task folder has it; None where it is fetched by its name.

    Raises:
        Invalid: it is elsewhere on this machine.
    """
    name, root = chosen.info.base_model, chosen.folder.root
    if name.startswith(PREFIX):
        return None
    inside = root / name
    if not Path(name).is_absolute() and inside.is_dir() and inside.resolve().is_relative_to(root):
        return inside
    if inside.is_dir() or Path(name).expanduser().is_dir():
        raise Invalid(
            _("the base model is on this machine, outside of the task folder"),
            file=name,
            cause=_("an image takes only what is in the task folder"),
            mend=_("--engine llama.cpp needs no base model"),
        )
    return None


def _below(folder: TaskFolder, place: Path, patterns: Iterable[str]) -> Iterator[str]:
    found = {path for pattern in patterns for path in place.glob(pattern) if path.is_file()}
    yield from sorted(_within(folder, path) for path in found if not path.name.startswith("."))


def _within(folder: TaskFolder, path: Path) -> str:
    return path.relative_to(folder.root).as_posix()


def labels(chosen: Subject) -> str:
    """The different answers of the rows, without the rows: which lists of labels there are is asked of them."""
    if chosen.kind != "labels":
        return ""
    wanted = list(chosen.info.output_format.schema_)
    lines = (json.dumps({name: row[name] for name in wanted}, ensure_ascii=False) for row in chosen.learnt())
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))
