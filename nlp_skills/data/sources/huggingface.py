"""Rows of a Hugging Face Hub data set, at the commit that its revision stands for."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.sources import Fetching, cells
from nlp_skills.data.sources.settings import filled, line_of
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.source import HuggingFace
from nlp_skills.variables import Variables
from nlp_skills.workspace.folder import TaskFolder

VERSION = 1

_MOVING = re.compile(r"(?:main|master|refs/.*)\Z")
_TEXTUAL = ("Value", "ClassLabel", "List", "LargeList", "Sequence", "Translation", "TranslationVariableLanguages")


def fetch(source: HuggingFace, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The rows of a split, classes by their names. A preview, or `max_rows`, downloads no more than it needs.

    Raises:
        Invalid: no such data set, revision, subset or split; columns that are no text; no rows.
        Unavailable: the Hub cannot be reached or does not let us in; the extra is not installed.
    """
    extras.need("hub", "datasets", "huggingface_hub")
    found, secrets = filled(source, fetching.folder)
    asked = _Asked(found, fetching, secrets)
    with _quiet(), asked.in_words():
        commit = asked.commit()
        rows, features = asked.opened(commit)
        asked.check_columns(features)
        named = {name: _named(feature) for name, feature in features.items()}
        count = 0
        for count, row in enumerate(islice(rows, found.max_rows), 1):
            yield asked.plain({name: named[name](value) for name, value in row.items()}, count)
    if not count:
        raise asked.problem(
            "split", _("the split {name} has no rows", name=found.split), mend=_("choose another split:")
        )
    fetching.record["rows"] = count


def warnings(source: HuggingFace) -> list[str]:
    """A revision that moves; whether another name is a branch or a tag shows on fetching."""
    return [_moving(source)] if _MOVING.match(source.revision) else []


def _moving(source: HuggingFace, commit: str | None = None) -> str:
    told = _("source {name}: the revision {revision} moves", name=str(source.name), revision=source.revision)
    mend = _("pin it: revision: {commit}", commit=commit) if commit else _("pin it with a commit or a tag")
    return f"{told}; {mend}"


@dataclass
class _Asked:
    """One request to the Hub, and what is said when it fails."""

    source: HuggingFace
    fetching: Fetching
    secrets: Variables

    @property
    def folder(self) -> TaskFolder:
        return self.fetching.folder

    def commit(self) -> str:
        """The commit that the revision stands for; a branch is warned about, as it will stand for another one."""
        from huggingface_hub import HfApi

        api = HfApi(token=self.source.token)
        name, revision = self.source.dataset, self.source.revision
        commit = str(api.dataset_info(name, revision=revision, timeout=30).sha)
        kind = "commit" if self.source.pinned else self._kind(api)
        if kind == "branch" and not _MOVING.match(revision):
            self.fetching.warnings.append(_moving(self.source, commit))
        self.fetching.record.update(dataset=name, revision=revision, ref=kind, commit=commit)
        self.fetching.note(_("{name} at {commit}", name=name, commit=commit[:12]))
        return commit

    def _kind(self, api: Any) -> str:
        refs = api.list_repo_refs(self.source.dataset, repo_type="dataset")
        tags, branches = ({ref.name for ref in found} for found in (refs.tags, refs.branches))
        return "tag" if self.source.revision in tags else "branch" if self.source.revision in branches else "other"

    def opened(self, commit: str) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
        """The split's rows and its columns' types."""
        import datasets

        if Path(self.source.dataset).exists():
            raise self.problem(
                "dataset",
                _("a folder here is called {name} too, and would be read instead", name=self.source.dataset),
                mend=_("run this from another folder, such as that of the task"),
            )
        bounded = self.fetching.preview or self.source.max_rows is not None
        # A part of a split, such as train[:10%], is only known once all of it is there.
        streamed = bounded and "[" not in self.source.split
        data = datasets.load_dataset(
            self.source.dataset,
            self.source.subset,
            revision=commit,
            split=self.source.split,
            token=self.source.token,
            streaming=streamed,
        )
        features = data.features or datasets.Features(data._resolve_features().features)
        return iter(data), dict(features)

    def check_columns(self, features: dict[str, Any]) -> None:
        """Refuse pictures, sound and the like, by the name of their column.

        Raises:
            Invalid: there is one.
        """
        for name, feature in features.items():
            if wrong := next((kind for kind in _kinds(feature) if kind not in _TEXTUAL), None):
                raise self.problem(
                    "dataset",
                    _("the column {name} holds {kind}, which is no text", name=lines.shown_name(name), kind=wrong),
                    mend=_("choose a data set or a subset: of text"),
                )

    def plain(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        """A row as JSON can carry it."""
        try:
            return {name: cells.plain(value) for name, value in row.items()}
        except ValueError as error:
            cause = _("row {number}: {reason}", number=number, reason=str(error))
            message = _("a row cannot be written as JSON")
            raise self.problem("dataset", message, cause=cause, mend=_("choose another data set")) from error

    @contextlib.contextmanager
    def in_words(self) -> Iterator[None]:
        """The Hub's and the library's errors as ours."""
        import httpx2

        try:
            yield
        except Problem:
            raise
        except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
            raise self._explained(error) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("datasets", "huggingface_hub", "pyarrow"):
                raise
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Problem:
        from datasets import exceptions
        from huggingface_hub import errors

        said = self.secrets.hide(_said(error))
        name = self.source.dataset
        if isinstance(error, errors.GatedRepoError) or "gated" in said:
            page = _("ask for access on the page of the data set, then give token: ${HF_TOKEN}")
            return self._closed(_("the data set {name} is only for those let in", name=name), said, page)
        if isinstance(error, errors.RevisionNotFoundError):
            message = _("the data set {name} has no revision {revision}", name=name, revision=self.source.revision)
            return self.problem("revision", message, cause=said, mend=_("name a commit, or a tag of it"))
        if isinstance(error, errors.OfflineModeIsEnabled) or "offline" in said.lower():
            # The library, offline, takes whichever commit it has of a data set for the one that is asked for.
            mend = _("unset HF_HUB_OFFLINE and run this again; what was fetched before stays in data/raw")
            return self._closed(_("the Hub is switched off here"), said, mend)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.RepositoryNotFoundError | exceptions.DatasetNotFoundError):
            mend = _("correct dataset: (OWNER/NAME); a private one needs token: ${HF_TOKEN} with access to it")
            return self.problem("dataset", _("the Hub has no data set {name} for us", name=name), cause=said, mend=mend)
        if status in (401, 403):
            mend = _("check the token: it may have expired, or not cover this data set")
            return self._closed(_("the Hub refuses this token"), said, mend)
        return self._other(error, said)

    def _other(self, error: Exception, said: str) -> Problem:
        from datasets import exceptions

        if isinstance(error, ValueError) and re.search(r"BuilderConfig|Config name is missing", said):
            return self.problem("subset", _("which subset?"), cause=said, mend=_("name one of these: subset: NAME"))
        if isinstance(error, ValueError) and re.search(r"[Ss]plit", said):
            message = _("there is no split {name}", name=self.source.split)
            return self.problem("split", message, cause=said, mend=_("name one of these: split: NAME"))
        if isinstance(error, exceptions.DatasetsError | RuntimeError | ValueError):
            mend = _("look at the data set's files on the Hub; this reads CSV, JSON, Parquet and text, never scripts")
            return self.problem("dataset", _("the data set cannot be read"), cause=said, mend=mend)
        return self._closed(
            _("the Hub cannot be reached"),
            said,
            _("check the network, and HF_ENDPOINT where it is set; then try again"),
        )

    def _closed(self, message: str, cause: str, mend: str) -> Unavailable:
        line = line_of(self.source, self.folder, "dataset")
        return Unavailable(message, file=self.folder.sources_path, line=line, cause=cause, mend=mend)

    def problem(self, key: str, message: str, *, cause: str | None = None, mend: str) -> Invalid:
        """A setting of the source is to blame."""
        line = line_of(self.source, self.folder, key)
        return Invalid(message, file=self.folder.sources_path, line=line, cause=cause, mend=mend)


def _said(error: Exception) -> str:
    """The first line with words in it, of the error at the bottom where the library wraps one."""
    deepest: BaseException = error
    while type(deepest).__name__.startswith("DatasetGeneration") and deepest.__cause__ is not None:
        deepest = deepest.__cause__
    text = next((line.strip() for line in str(deepest).split("\n") if line.strip()), type(deepest).__name__)
    return lines.cut(text, 300)


def _kinds(feature: Any) -> Iterator[str]:
    """The names of all types within a column's type."""
    if isinstance(feature, dict):
        for inner in feature.values():
            yield from _kinds(inner)
        return
    if isinstance(feature, list):
        yield from _kinds(feature[0])
        return
    yield type(feature).__name__
    if (inner := getattr(feature, "feature", None)) is not None:
        yield from _kinds(inner)


def _named(feature: Any) -> Callable[[Any], Any]:
    """What turns a column's values into what they stand for: the number of a class into its name."""
    if type(feature).__name__ == "ClassLabel":
        return lambda value: feature.int2str(value) if isinstance(value, int) and value >= 0 else None
    if isinstance(feature, dict):
        parts = {name: _named(inner) for name, inner in feature.items()}
        return lambda value: value and {name: parts[name](item) for name, item in value.items()}
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is None:
        return lambda value: value
    each = _named(inner)
    return lambda value: value and [each(item) for item in value]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' progress bars and remarks would run through ours."""
    import datasets
    from huggingface_hub import utils as hub

    bars: list[Any] = [library for library in (datasets, hub) if not library.are_progress_bars_disabled()]
    level = datasets.logging.get_verbosity()
    for library in bars:
        library.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        for library in bars:
            library.enable_progress_bars()
