"""What is checked before the first step: is what will be trained what is meant?

Every refusal here stands for a run that ends well and a model that does not work.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import extras, files
from nlp_skills.data import validate
from nlp_skills.data.findings import Finding, passed
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training import base_model
from nlp_skills.training.encode import Encoded, encode, keeps_loss, marked, read_rows
from nlp_skills.workspace import lifecycle
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Preflight:
    """The answer: findings (any error means no), one example with the loss span marked, token counts per split.

    `lengths[split]` has rows, tokens, loss_tokens, min, median, p95 and max (tokens in a row).
    """

    version: str
    findings: list[Finding]
    example: str | None = None
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    encoded: dict[str, list[Encoded]] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether training may start."""
        return passed(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; the encoded rows stay out."""
        return {
            "ok": self.ok,
            "version": self.version,
            "findings": [finding.as_dict() for finding in self.findings],
            "example": self.example,
            "lengths": self.lengths,
        }

    def problem(self) -> Invalid:
        """The refusal, every error in it."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        first, *rest = [Invalid(e.message, file=e.file, line=e.line, cause=e.cause, mend=e.mend) for e in errors]
        first.also.extend(rest)
        return first


def configured(folder: TaskFolder, version: str | None = None) -> VersionFolder:
    """The version to train.

    Raises:
        Invalid: it has no config.yaml yet, or the task is archived.
    """
    lifecycle.refuse_archived(folder, folder.task())
    found = folder.version(version)
    if not folder.version_names():
        raise Invalid(
            _("version {name} has no configuration yet", name=found.name),
            file=found.config_path,
            mend=_("make it with: nlp-skills generate {task}", task=folder.root.name),
        )
    return folder.existing_version(version)


def refuse_unavailable(task: Task, config: Config, version: VersionFolder) -> None:
    """Refuse what this release cannot do yet.

    Raises:
        Unavailable: another method than sft, or another machine than this one.
    """
    if config.method != "sft":
        raise Unavailable(
            _("the method {method} is not available in this release", method=config.method),
            file=version.config_path,
            mend=_("set method: sft"),
        )
    if task.execution.type != "local":
        raise Unavailable(
            _("training on {where} is not available in this release", where=task.execution.type),
            file=version.task_root / "task.yaml",
            mend=_("set execution: {{type: local}}, or copy the task folder to that machine and train there"),
        )


def check(folder: TaskFolder, version: str | None = None) -> Preflight:
    """Check data, rendering, tokens and loss of what `train` would train.

    Raises:
        Invalid: the version has no configuration, or the data files are not there.
        Unavailable: the base model or a package is missing, or the method is not available.
    """
    found = configured(folder, version)
    task, config = folder.task(), found.config()
    refuse_unavailable(task, config, found)
    report = validate.validate(folder)
    if not report.ok:
        return Preflight(found.name, list(report.findings))
    extras.need("train", "torch", "transformers", "trl")
    tokenizer = base_model.load_tokenizer(config.base_model, root=folder.root)
    look = _Look(folder, Renderer.of(task, config), tokenizer, config)
    encoded = {split: rows for split in SPLITS if (rows := look.split(split)) is not None}
    look.collation(encoded.get("train", []))
    example = marked(tokenizer, encoded["train"][0]) if encoded.get("train") else None
    lengths = {split: _lengths(rows) for split, rows in encoded.items() if rows}
    return Preflight(found.name, [*report.findings, *look.findings()], example, lengths, encoded)


@dataclass
class _Look:
    """One pass over the splits; what is found is counted per split and kind, with the first line of each."""

    folder: TaskFolder
    renderer: Renderer
    tokenizer: Any
    config: Config
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], tuple[int, Invalid | None]] = field(default_factory=dict)

    def split(self, name: str) -> list[Encoded] | None:
        """The split's rows as they would be trained; None when there is no such split."""
        path = self.folder.split(name)
        if not path.is_file():
            return None
        ends = self._ends()
        rows = []
        for line, row in read_rows(path):
            encoded = self._encode(name, line, row)
            if encoded is None:
                continue
            for code in self._row(encoded, row, ends):
                self._note(name, code, line)
            rows.append(encoded.shortened(self.config.max_length) if self.config.allow_truncation else encoded)
        return rows

    def collation(self, rows: Sequence[Encoded]) -> None:
        """A batch of the shortest and the longest row, through the collator that training uses."""
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        if not rows:
            return
        pair = [min(rows, key=len), max(rows, key=len)]
        if not keeps_loss(DataCollatorForLanguageModeling(pad_token_id=self.tokenizer.pad_token_id), pair):
            self._note("train", "end_masked", pair[0].line)

    def findings(self) -> list[Finding]:
        """What was found, in words."""
        return [self._finding(split, code) for split, code in self.seen]

    def _encode(self, split: str, line: int, row: dict[str, Any]) -> Encoded | None:
        try:
            return encode(self.tokenizer, self.renderer, row, line)
        except Invalid as error:
            self._note(split, "not_rendered", line, error)
            return None

    def _row(self, row: Encoded, raw: dict[str, Any], ends: set[int]) -> Iterator[str]:
        if not row.completion:
            yield "no_loss"
        elif row.completion[-1] not in ends:
            yield "no_end"
        if len(row.completion) >= self.config.max_length:
            yield "answer_too_long"
        elif len(row) > self.config.max_length:
            yield "cut" if self.config.allow_truncation else "too_long"
        bos = self.tokenizer.bos_token_id
        if bos is not None and row.prompt[:2] == [bos, bos]:
            yield "double_bos"
        if any(token in value for value in _texts(raw) for token in self.tokenizer.all_special_tokens):
            yield "special_tokens"

    def _ends(self) -> set[int]:
        """Tokens at which generation stops, by the tokenizer and by the model's generation settings."""
        root = base_model.locate(self.config.base_model, root=self.folder.root)
        settings = Path(root) / "generation_config.json"
        stops = files.read_json(settings).get("eos_token_id") if settings.is_file() else None
        listed = stops if isinstance(stops, list) else [stops]
        return {end for end in [self.tokenizer.eos_token_id, *listed] if end is not None}

    def _note(self, split: str, code: str, line: int, error: Invalid | None = None) -> None:
        self.seen[split, code] += 1
        self.first.setdefault((split, code), (line, error))

    def _finding(self, split: str, code: str) -> Finding:
        line, error = self.first[split, code]
        count = self.seen[split, code]
        message, mend = (
            _sentences(code, count, self.config.max_length) if error is None else (error.message, error.mend)
        )
        return Finding(
            "warning" if code in ("special_tokens", "cut") else "error",
            code,
            message,
            file=str(self.folder.split(split)),
            line=line,
            count=count,
            mend=mend,
            cause=None if error is None else error.cause,
        )


def _texts(row: dict[str, Any]) -> Iterable[str]:
    return (value for value in row.values() if isinstance(value, str))


def _sentences(code: str, count: int, max_length: int) -> tuple[str, str | None]:
    """Message and mend of a finding."""
    template = _("choose an instruction-tuned base model, or one whose chat template ends the assistant's turn")
    longer = _("raise max_length, shorten the texts, or set allow_truncation: true to leave out their middle")
    return {
        "no_loss": (_("rows without a token to learn: {count}", count=count), template),
        "no_end": (
            _("the answer does not end with a token that stops generation: {count} rows", count=count),
            template,
        ),
        "answer_too_long": (
            _("answers alone reach max_length {limit}: {count} rows", limit=max_length, count=count),
            _("raise max_length; an answer is never cut"),
        ),
        "too_long": (_("rows longer than max_length {limit}: {count}", limit=max_length, count=count), longer),
        "cut": (
            _("rows whose middle is left out, being longer than {limit}: {count}", limit=max_length, count=count),
            None,
        ),
        "double_bos": (
            _("prompts begin with two begin-of-text tokens: {count} rows", count=count),
            _("remove the token from the system prompt, or choose a base model whose chat template writes it once"),
        ),
        "special_tokens": (
            _("texts contain the model's own turn marks and would be read as such: {count} rows", count=count),
            _("remove these marks from the texts"),
        ),
        "end_masked": (
            _("padding takes the end-of-turn token out of the loss; the model would not learn to stop"),
            _("choose a base model whose tokenizer has a pad token of its own"),
        ),
    }[code]


def _lengths(rows: Sequence[Encoded]) -> dict[str, int]:
    sizes = sorted(len(row) for row in rows)
    return {
        "rows": len(rows),
        "tokens": sum(sizes),
        "loss_tokens": sum(len(row.completion) for row in rows),
        "min": sizes[0],
        "median": round(statistics.median(sizes)),
        "p95": sizes[(len(sizes) - 1) * 95 // 100],
        "max": sizes[-1],
    }
