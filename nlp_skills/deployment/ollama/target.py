"""The target: what is put to an Ollama server, what is found there already, and what is somebody else's."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nlp_skills import extras, files, progress
from nlp_skills.deployment import export as exporting
from nlp_skills.deployment import parity
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.ollama import making, names
from nlp_skills.deployment.ollama import server as servers
from nlp_skills.deployment.ollama.checking import Checking
from nlp_skills.deployment.ollama.modelfile import Modelfile
from nlp_skills.deployment.ollama.server import Server
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation import subject
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment, Export, ParityCheck
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# A model that was not held against the version yet answers under another tag, so that nobody asks it by chance.
_UNCHECKED = "unchecked"


def deploy(
    going: Going,
    *,
    model: str | None = None,
    quantization: str | None = None,
    push: bool = False,
    template: bool = False,
    host: str | None = None,
) -> list[Deployment]:
    """Make a version a model at an Ollama server; nothing is deployed where none answers, and the folder stays.

    Args:
        going: the version.
        model: the name there without a tag; else `deploy.model` of task.yaml, else the task's.
        quantization: of the GGUF file; else `deploy.quantization`.
        push: also from the server to the registry.
        template: tell the server a prompt template, for one that does not use that of the GGUF file.
        host: the server's address; else what OLLAMA_HOST says, else this machine.

    Raises:
        Invalid: no name for a model; something else has the name; it does not answer as the version did; the server or
            the registry refuses.
        Unavailable: the server was lost on the way, its disk is full, or an extra is missing.
    """
    extras.need("ollama", "ollama")
    name = names.of(going.task, model)
    if push:
        names.refuse_push(name)
    chosen, measured = _chosen(going)
    export = exporting.gguf(going.folder, going.version, quantization or going.task.deploy.quantization)
    changed = _changed(going, export) if measured else True
    told = making.modelfile(going, chosen, export, template=template)
    own = names.tagged(name, going.version.name)
    folder = making.write(going, told, own)
    with _opened(host) as server:
        if server.version() is None:
            _say_how(server, folder, own, push=push)
            return []
        checking = Checking(chosen, export, server, own, own, making.thinks(going))
        return _Put(going, export, told, server, name, checking, measured, changed).all(push=push)


def _chosen(going: Going) -> tuple[Subject, bool]:
    """The version, and whether there are results to hold it against; forced, it goes out without."""
    try:
        return parity.measured(going.folder, going.version), True
    except Invalid as problem:
        if not going.forced:
            raise
        progress.notice(_("not held against the version as it was evaluated: {why}", why=problem.message))
        return subject.asked(going.folder, going.version.name), False


def _changed(going: Going, export: Export) -> bool:
    """Whether the file itself does not answer as the version did: held against it here, before it is sent."""
    if not extras.installed("xllamacpp"):
        return False
    return _judged(going, parity.of_export(going.folder, going.version, export))


def _judged(going: Going, check: ParityCheck) -> bool:
    """Whether what a check says has to be overruled; it is refused where nothing may be."""
    if not going.forced:
        parity.refuse(check, going.version, overrule=_("--force deploys it all the same"))
    return check.verdict != "met"


@dataclass(frozen=True)
class _Put:
    """A version at a server that answers. `changed`: its file is forced out already, or was not `measured`."""

    going: Going
    export: Export
    told: Modelfile
    server: Server
    name: str
    checking: Checking
    measured: bool
    changed: bool

    def all(self, *, push: bool) -> list[Deployment]:
        latest = names.tagged(self.name, names.LATEST)
        if self.going.active:
            self._refuse_other(latest, _ours(self.going.folder))
        forced = self._put() or self.changed
        entries = [self._entry(self.checking.name, forced)]
        if self.going.active:
            if not self._holds(latest):
                self.server.copy(self.checking.name, latest)
            entries.append(self._entry(latest, forced, follows=True))
        if push:
            for entry in entries:
                self.server.push(entry.name)
        return entries

    def _put(self) -> bool:
        """Whether it answers there in spite of what the check says."""
        own = self.checking.name
        if self._holds(own):
            return self._answers_worse(self.checking)
        self._refuse_other(own, _exported(self.going.version))
        aside = f"{own}-{_UNCHECKED}"
        path = files.inside(self.going.folder.root, self.export.path)
        self.server.send(path, self.export.sha256)
        try:
            self.server.create(aside, path.name, self.export.sha256, self.told.request())
            forced = self._answers_worse(replace(self.checking, asked=aside))
            self.server.copy(aside, own)
        finally:
            with contextlib.suppress(Exception):
                self.server.delete(aside)
        return forced

    def _answers_worse(self, checking: Checking) -> bool:
        """Whether it does and is forced; of one that was not measured nobody knows."""
        if not self.measured:
            return True
        known = checking.known() if checking.asked == checking.name else None
        return _judged(self.going, known or checking.check())

    def _holds(self, name: str) -> bool:
        shown = self.server.shown(name)
        return shown is not None and servers.digest(shown) == self.export.sha256 and self.told.same(shown)

    def _refuse_other(self, name: str, ours: set[str]) -> None:
        """A name that stands for something we did not make is left alone, unless forced."""
        shown = self.server.shown(name)
        if shown is None or servers.digest(shown) in ours or self.going.forced:
            return
        raise Invalid(
            _("{name} is another model at {host}", name=name, host=self.server.address),
            mend=_("choose another name: --model NAME; remove it there: {command}; or --force replaces it",
                   command=shlex.join(["ollama", "rm", name])),
        )  # fmt: skip

    def _entry(self, name: str, forced: bool, *, follows: bool = False) -> Deployment:
        return Deployment(
            target="ollama",
            name=name,
            version=self.going.version.name,
            since=files.now(),
            follows=follows,
            forced=forced,
            artefact=self.export.path,
            where=self.server.address,
        )


def undeploy(_folder: TaskFolder, entry: Deployment) -> None:
    """Remove the name at the server; fine where it is gone.

    Raises:
        Invalid: the server refuses.
        Unavailable: it cannot be reached, or is not to have this machine's key.
    """
    _refuse_other_server(entry)
    with _opened(entry.where) as server:
        server.delete(entry.name)


def move(_folder: TaskFolder, entry: Deployment, version: VersionFolder) -> bool:
    """Let `latest` stand for another version, where the server is reached and has that version's own model.

    Raises:
        Problem: it was lost on the way.
    """
    own = names.tagged(names.base(entry.name), version.name)
    _refuse_other_server(entry)
    with _opened(entry.where) as server:
        if server.version() is None:
            return False
        shown = server.shown(own)
        if shown is None or servers.digest(shown) not in _exported(version):
            return False
        server.copy(own, entry.name)
    return True


def _refuse_other_server(entry: Deployment) -> None:
    """A key is for the server that the user has set, and not for whatever a file of the task names."""
    if not os.environ.get("OLLAMA_API_KEY"):
        return
    with _opened(None) as server:
        if entry.where in (None, server.address):
            return
        raise Unavailable(
            _("{name} is on another Ollama server", name=entry.name),
            cause=_("it is on {where}, and this machine is set to {host}", where=entry.where, host=server.address),
            mend=_("set OLLAMA_HOST to {where}", where=entry.where),
        )


def _exported(version: VersionFolder) -> set[str]:
    """The hashes of a version's GGUF files."""
    return {one.sha256 for one in version.exports() if one.kind == "gguf"}


def _ours(folder: TaskFolder) -> set[str]:
    """Those of any version's of the task."""
    return {one for name in folder.version_names() for one in _exported(folder.version(name))}


@contextlib.contextmanager
def _opened(host: str | None) -> Iterator[Server]:
    server = Server(host)
    try:
        yield server
    finally:
        server.close()


def _say_how(server: Server, folder: object, name: str, *, push: bool) -> None:
    progress.notice(_("no Ollama server answers at {host}: the model is ready in {folder}; where one runs:",
                      host=server.address, folder=str(folder)))  # fmt: skip
    commands = [["ollama", "create", name, "-f", f"{folder}/Modelfile"], ["ollama", "run", name]]
    if push:
        commands.append(["ollama", "push", name])
    for command in commands:
        progress.notice(f"  {shlex.join(command)}")
