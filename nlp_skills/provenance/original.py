"""What a version was made from, as its records say, once all of it is known to be here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import SPLITS, DataSnapshot, Lineage, LineageRun, ModelInfo
from nlp_skills.training import base_model, identity
from nlp_skills.workspace import lineage, store
from nlp_skills.workspace.compare import flat
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Original:
    """A trained version and its records."""

    folder: TaskFolder
    version: VersionFolder
    lineage: Lineage
    run: LineageRun
    info: ModelInfo

    @property
    def base_revision(self) -> str | None:
        return self.run.base_model_revision or self.info.base_model_revision

    @property
    def base_hash(self) -> str | None:
        return self.run.base_model_hash or self.info.base_model_hash

    @property
    def evaluated(self) -> bool:
        """Whether there are figures to compare with."""
        return self.lineage.results is not None or self.version.results_path.is_file()

    def snapshot(self) -> DataSnapshot:
        """Which data it was made with; there is one where `missing` found nothing."""
        found = self.version.snapshot()
        assert found is not None
        return found

    def base(self) -> Path:
        """The folder of the base model, of the recorded commit where it is one of the Hub's."""
        return Path(base_model.locate(self.info.base_model, root=self.folder.root, revision=self.base_revision))


def read(folder: TaskFolder, name: str | None = None) -> Original:
    """A version's records.

    Raises:
        Invalid: there is no such version, or it was never trained to its end.
    """
    version = folder.existing_version(name)
    record, info = lineage.existing(version), version.model_info()
    if record.run is None or record.run.state != "completed" or info is None:
        raise Invalid(
            _("version {name} was not trained to its end, so there is nothing to do again", name=version.name),
            file=version.lineage_path,
            mend=_(
                "train it: nlp-skills train {task} --version {version}",
                task=folder.root.name,
                version=version.name,
            ),
        )
    return Original(folder, version, record, record.run, info)


def missing(original: Original) -> list[Problem]:
    """Everything that training it again needs and that is not here, or is no longer what it was.

    A base model that can be fetched is, unless something else is missing already.
    """
    found = [*_config(original), *_data(original), *_start(original)]
    return [*found, *_base(original, fetch=not found)]


def _config(original: Original) -> Iterator[Problem]:
    version, path = original.version, original.version.config_path
    try:
        now, config = lineage.config_hash(path), version.config()
    except Problem as problem:
        yield problem
        return
    changed = _changed(original, config)
    wanted = original.run.config_hash
    if (wanted and wanted != now) or (not wanted and changed):
        yield Invalid(
            _("config.yaml is not what version {name} was trained with", name=version.name),
            file=path,
            cause=", ".join(changed) or _("recorded: {hash}", hash=wanted),
            mend=_("put it back as it was; lineage.yaml has all of it under config"),
        )


def _changed(original: Original, config: Config) -> list[str]:
    """What was recorded, for every setting that the file has otherwise."""
    section = original.lineage.config
    before = dict(flat(section.model_dump(mode="json", exclude_none=True))) if section else {}
    now = dict(flat(lineage.config_section(config).model_dump(mode="json", exclude_none=True)))
    return [
        _("{name}: recorded {before}, now {now}", name=name, before=value, now=now.get(name, "–"))
        for name, value in before.items()
        if now.get(name) != value
    ]


def _data(original: Original) -> Iterator[Problem]:
    folder, version = original.folder, original.version
    try:
        snapshot = version.snapshot()
    except Problem as problem:
        yield problem
        return
    if snapshot is None or not snapshot.files:
        yield Invalid(
            _("the data of version {name} was never kept", name=version.name),
            file=version.snapshot_path,
            mend=_("make it anew from the sources and compare the hashes: nlp-skills regenerate --all"),
        )
        return
    yield from _other_data(original, snapshot)
    wanted = {**snapshot.files, **({"data_source.yaml": snapshot.config} if snapshot.config else {})}
    for path, sha256 in wanted.items():
        try:
            files.inside(folder.root, path)
            store.check(folder, sha256)
        except Problem as problem:
            problem.message = _("{path} of version {name}: {why}", path=path, name=version.name, why=problem.message)
            yield problem


def _other_data(original: Original, snapshot: DataSnapshot) -> Iterator[Problem]:
    """A snapshot that speaks of other rows than the lineage does."""
    recorded = original.lineage.data.hashes if original.lineage.data else {}
    for split in SPLITS:
        kept = snapshot.files.get(f"data/{split}.jsonl")
        if recorded.get(split) and kept != recorded[split]:
            yield Invalid(
                _("data_snapshot.json has other {split} rows than version {name} was trained with",
                  split=split, name=original.version.name),
                file=original.version.snapshot_path,
                cause=_("recorded: {hash}", hash=recorded[split]),
                mend=_("bring the file back as it was"),
            )  # fmt: skip


def _start(original: Original) -> Iterator[Problem]:
    """The weights it went on from, where they were another version's: there, and still the same."""
    config = original.version.config()
    if config.init_from is None:
        return
    start = original.folder.version(config.init_from)
    here = identity.start(original.folder, config)
    with contextlib.suppress(Problem):
        before = files.read_json(identity.path(original.version))
        if here and all(before.get(name) == digest for name, digest in here.items()):
            return
    gone = not here or not start.model_info_path.is_file()
    yield Invalid(
        _("version {name} went on from the weights of {start}, and they are gone",
          name=original.version.name, start=start.name)
        if gone
        else _("version {name} went on from the weights of {start}, and they are not what they were",
               name=original.version.name, start=start.name),
        file=start.root,
        mend=_("train {start} again first: nlp-skills train --version {start} --again", start=start.name),
    )  # fmt: skip


def _base(original: Original, *, fetch: bool) -> Iterator[Problem]:
    name, where = original.info.base_model, {"root": original.folder.root, "revision": original.base_revision}
    try:
        place = base_model.locate(name, **where, fetch=fetch)  # type: ignore[arg-type]
        same = original.base_hash in (None, base_model.fingerprint(name, **where))  # type: ignore[arg-type]
    except Problem as problem:
        yield problem
        return
    if not same:
        yield Invalid(
            _("the base model {name} is not the one version {version} was trained on",
              name=name, version=original.version.name),
            file=place,
            cause=_("its weights or its tokenizer have changed"),
            mend=_("bring the earlier base model back"),
        )  # fmt: skip
