"""The Hub, spoken to through its own client: repositories, their trees, commits and tags."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nlp_skills import extras, files, progress
from nlp_skills.deployment.huggingface import refusals
from nlp_skills.deployment.huggingface.contents import MANIFEST, Piece
from nlp_skills.errors import Problem
from nlp_skills.i18n import _

_OFFICIAL = ("huggingface.co", "hf.co")
# Made by the Hub itself.
_ATTRIBUTES = ".gitattributes"


@dataclass(frozen=True)
class Held:
    """A file in a repository, by the hash that the Hub tells of it: of its bytes where it is large, else git's."""

    large: bool
    digest: str

    def same(self, piece: Piece) -> bool:
        """Whether it has the same bytes."""
        return self.digest == (piece.sha256 if self.large else piece.git_hash())


Tree = Mapping[str, Held]


@dataclass(frozen=True)
class Hub:
    """The Hub with the account that is logged in here."""

    api: Any
    endpoint: str
    token: str

    @property
    def host(self) -> str:
        """Its name, without anything that stands before or after it in its address."""
        return host_of(self.endpoint)

    @cached_property
    def account(self) -> str:
        """Whose token it is.

        Raises:
            Unavailable: the token is refused, or the Hub is not reached.
        """
        with refusals.explained(self.host, self.host):
            return str(self.api.whoami(token=self.token)["name"])

    def private(self, repo: str) -> bool | None:
        """Whether only the account sees it; None where there is no such repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with refusals.explained(repo, self.host):
            try:
                return bool(self.api.repo_info(repo, token=self.token).private)
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    return None
                raise

    def create(self, repo: str, *, private: bool) -> None:
        """Make it; fine where it is there."""
        with refusals.explained(repo, self.host):
            self.api.create_repo(repo, private=private, exist_ok=True, token=self.token)

    def refs(self, repo: str) -> tuple[dict[str, str], dict[str, str]]:
        """The commits of its branches and of its tags."""
        with refusals.explained(repo, self.host):
            found = self.api.list_repo_refs(repo, token=self.token)
        return tuple({one.name: one.target_commit for one in part} for part in (found.branches, found.tags))  # type: ignore[return-value]

    def tree(self, repo: str, revision: str) -> dict[str, Held]:
        """Its files at a revision, but for the one that the Hub makes itself."""
        with refusals.explained(repo, self.host):
            listed = list(self.api.list_repo_tree(repo, recursive=True, revision=revision, token=self.token))
        found = {entry.path: entry for entry in listed if hasattr(entry, "blob_id") and entry.path != _ATTRIBUTES}
        return {
            path: Held(True, entry.lfs.sha256) if entry.lfs else Held(False, entry.blob_id)
            for path, entry in found.items()
        }

    def manifest(self, repo: str, revision: str, tree: Tree) -> dict[str, Any]:
        """Which files there are ours; empty where none are."""
        if MANIFEST not in tree:
            return {}
        with tempfile.TemporaryDirectory() as place, refusals.explained(repo, self.host):
            path = self.api.hf_hub_download(repo, MANIFEST, revision=revision, local_dir=place, token=self.token)
            with contextlib.suppress(Problem):
                told = files.read_json(Path(path))
                return told if isinstance(told, dict) else {}
        return {}

    def commit(
        self, repo: str, branch: str, pieces: Sequence[Piece], gone: Sequence[str], *, parent: str, message: str
    ) -> str:
        """One commit that puts these files there and takes `gone` away; its sha.

        Large files go first, each once: those that the Hub has already are not sent.

        Raises:
            Invalid: somebody else committed since `parent`.
            Unavailable: as `refusals.explained`; what was sent is kept there.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        sources = [piece.source if isinstance(piece.source, bytes) else str(piece.source) for piece in pieces]
        added = [CommitOperationAdd(piece.name, source) for piece, source in zip(pieces, sources, strict=True)]
        with refusals.explained(repo, self.host):
            self._send(repo, branch, pieces, added)
            made = self.api.create_commit(
                repo,
                [*added, *(CommitOperationDelete(name) for name in gone)],
                commit_message=message,
                revision=branch,
                parent_commit=parent,
                token=self.token,
            )
        return str(made.oid)

    def _send(self, repo: str, branch: str, pieces: Sequence[Piece], added: Sequence[Any]) -> None:
        with _bar(_("sending {repo}", repo=repo), len(added)) as bar:
            for piece, operation in sorted(zip(pieces, added, strict=True), key=lambda pair: pair[0].size):
                bar.advance(0, f"{piece.name}, {size(piece.size)}")
                self.api.preupload_lfs_files(repo, [operation], revision=branch, token=self.token, free_memory=False)
                bar.advance(1, piece.name)

    def copy(
        self, repo: str, source: str, names: Sequence[str], gone: Sequence[str], *, parent: str, message: str
    ) -> str:
        """One commit to the main branch that makes files those of another revision, without sending them again."""
        from huggingface_hub import CommitOperationCopy, CommitOperationDelete

        copies = [CommitOperationCopy(name, name, src_revision=source) for name in names]
        with refusals.explained(repo, self.host):
            made = self.api.create_commit(
                repo,
                [*copies, *(CommitOperationDelete(name) for name in gone)],
                commit_message=message,
                revision="main",
                parent_commit=parent,
                token=self.token,
            )
        return str(made.oid)

    def branch(self, repo: str, name: str) -> None:
        """A branch that begins where main is; fine where it is there."""
        with refusals.explained(repo, self.host):
            self.api.create_branch(repo, branch=name, exist_ok=True, token=self.token)

    def remove_branch(self, repo: str, name: str) -> None:
        """Remove a branch; its commits stay as far as a tag holds them."""
        with refusals.explained(repo, self.host):
            self.api.delete_branch(repo, branch=name, token=self.token)

    def tag(self, repo: str, name: str, commit: str, message: str) -> None:
        """Let a tag stand for a commit."""
        with refusals.explained(repo, self.host):
            self.api.create_tag(repo, tag=name, revision=commit, tag_message=message, token=self.token)

    def remove_tag(self, repo: str, name: str) -> None:
        """Remove a tag."""
        with refusals.explained(repo, self.host):
            self.api.delete_tag(repo, tag=name, token=self.token)


@contextlib.contextmanager
def opened() -> Iterator[Hub]:
    """The Hub that this machine is set to, with the token from where its client has it.

    Raises:
        Unavailable: the extra is missing, HF_HUB_OFFLINE is set, or no one is logged in.
    """
    extras.need("hub", "huggingface_hub")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, constants, get_token

    if constants.is_offline_mode():
        raise refusals.offline()
    token = get_token()
    if token is None:
        raise refusals.no_token()
    endpoint = current()
    with _as_it_should_be(endpoint):
        yield Hub(HfApi(endpoint=endpoint, token=token, library_name="nlp-skills"), endpoint, token)


def current() -> str:
    """The address of the Hub that this machine is set to."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def host_of(endpoint: str) -> str:
    """The host of an address, with its port where one is told."""
    return urlsplit(endpoint).netloc.rpartition("@")[2] or endpoint


def size(count: int) -> str:
    """A number of bytes as people read it."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


@contextlib.contextmanager
def _bar(label: str, total: int) -> Iterator[progress.Bar]:
    """Ours counts files; in a terminal the client draws the bytes of each, and two would fight over the line."""
    if sys.stderr.isatty():
        yield progress.Hidden(label, total)
        return
    with progress.bar(label, total) as bar:
        yield bar


@contextlib.contextmanager
def _as_it_should_be(endpoint: str) -> Iterator[None]:
    """The client's bars only where a person sees them move, and its newer protocol only where it is known to be spoken.

    A hub of one's own may answer what that protocol begins with, and the client would ask it for ever.
    """
    from huggingface_hub import constants

    utils: Any = importlib.import_module("huggingface_hub.utils")

    xet, bars = constants.HF_HUB_DISABLE_XET, utils.are_progress_bars_disabled()
    official = (urlsplit(endpoint).hostname or "").endswith(_OFFICIAL)
    try:
        constants.HF_HUB_DISABLE_XET = xet or not official
        if not sys.stderr.isatty():
            utils.disable_progress_bars()
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = xet
        if not bars:
            utils.enable_progress_bars()
