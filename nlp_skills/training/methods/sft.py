"""Supervised fine-tuning: a prompt, and the one answer that the model should give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nlp_skills import files as disk
from nlp_skills.data.findings import Finding
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training import base_model, lengths, order, step
from nlp_skills.training.encode import Encoded, encode, keeps_loss, read_rows
from nlp_skills.training.packing import Pack
from nlp_skills.workspace.folder import TaskFolder


def files(folder: TaskFolder) -> dict[str, Path]:
    """data/train.jsonl and valid.jsonl, those of them that are there."""
    return {split: path for split in ("train", "valid") if (path := folder.split(split)).is_file()}


def check(folder: TaskFolder, task: Task, config: Config) -> list[Finding]:
    """Nothing besides what `validate` says."""
    return []


def read(folder: TaskFolder, split: str, renderer: Renderer, tokenizer: Any, config: Config) -> Read:
    """A split's rows as they would be trained, and what is wrong with them."""
    look = Look(folder.split(split), folder.root, renderer, tokenizer, config)
    rows = look.rows()
    look.collation(rows)
    return Read(_weighed(rows, config) if split == "train" else rows, look.findings())


def _weighed(rows: list[Encoded], config: Config) -> list[Encoded]:
    weights = order.weighed(rows, config)
    if weights is None:
        return rows
    return [replace(row, weight=weight) for row, weight in zip(rows, weights, strict=True)]


def trainer_class(config: Config) -> type[Any]:
    """TRL's SFTTrainer with our way through the model, where it is the cheaper one or the only one."""
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc]
        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            columns: list[str] = self._signature_columns
            if "weight" not in columns:
                columns.append("weight")

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            whole = num_items_in_batch is None or "position_ids" in inputs or self.accelerator.num_processes > 1
            total: Any = 0
            for piece in [inputs] if whole else step.pieces(inputs):
                total = total + super().training_step(model, piece, num_items_in_batch)
            return total

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # Of packed rows the model learns the ends from their positions, which is TRL's to pass on.
            packed = "position_ids" in inputs
            theirs = packed or self.args.loss_type != "nll" or self.aux_loss_enabled
            if theirs and "weight" in inputs:
                raise _no_weights()
            if return_outputs or theirs or not step.suits(model, inputs):
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            loss = step.loss(model, inputs, num_items_in_batch)
            # The tokens of all processes are counted, and their gradients averaged.
            return loss if num_items_in_batch is None else loss * self.accelerator.num_processes

    return Trainer


def _no_weights() -> Invalid:
    return Invalid(
        _("class weights do not go with this loss: the model's own, or the one that extra: loss_type names"),
        mend=_("repeat the rows of rare classes instead: class_balance: sampling"),
    )


def dataset(rows: Sequence[Encoded] | Sequence[Pack], config: Config) -> Any:
    """Encoded rows, or packs of them, as the columns that `collator` takes."""
    from datasets import Dataset

    columns: dict[str, list[Any]] = {
        "input_ids": [row.ids for row in rows],
        "labels": [row.labels for row in rows],
        "weight": [row.weight for row in rows if isinstance(row, Encoded) and row.weight is not None],
        "seq_lengths": [row.lengths for row in rows if isinstance(row, Pack)],
    }
    return Dataset.from_dict({name: column for name, column in columns.items() if column or name == "input_ids"})


def collator(tokenizer: Any, config: Config) -> Any:
    """TRL's, where rows have weights with these beside it, where they are packed laying them end to end."""
    if not (config.packing or config.class_balance):
        return None
    return _Weighing(_padding(tokenizer, config))


def _padding(tokenizer: Any, config: Config) -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(
        pad_token_id=tokenizer.pad_token_id, padding_free=bool(config.packing), pad_to_multiple_of=_multiple(config)
    )


def _multiple(config: Config) -> int | None:
    wanted = (config.extra or {}).get("pad_to_multiple_of")
    return wanted if isinstance(wanted, int) else None


@dataclass(frozen=True)
class _Weighing:
    """A collator that also carries each row's weight, where rows have one."""

    padded: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        batch = self.padded(rows)
        if "weight" in rows[0]:
            batch["weight"] = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
        return batch


@dataclass(frozen=True)
class Read:
    """One file's encoded rows and what was found."""

    rows: list[Encoded]
    findings: list[Finding]


@dataclass
class Look:
    """One pass over a file; what is found is counted per kind, with the first line of each."""

    path: Path
    root: Path
    renderer: Renderer
    tokenizer: Any
    config: Config
    seen: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, Invalid | None]] = field(default_factory=dict)
    limit: int = field(init=False)
    all_it_reads: bool = field(init=False)

    def __post_init__(self) -> None:
        base = base_model.locate(self.config.base_model, root=self.root)
        self.limit = lengths.limit(self.config, base)
        self.all_it_reads = self.limit == lengths.context(base)

    def rows(self) -> list[Encoded]:
        """The rows as they would be trained."""
        ends = self.ends()
        rows = []
        for line, row in read_rows(self.path):
            encoded = self._encode(line, row)
            if encoded is None:
                continue
            for code in self.faults(encoded, row, ends):
                self.note(code, line)
            rows.append(encoded.shortened(self.limit) if self.config.allow_truncation else encoded)
        return rows

    def collation(self, rows: Sequence[Encoded]) -> None:
        """A batch of the shortest and the longest row, through the collator that training uses."""
        if not rows:
            return
        pair = [min(rows, key=len), max(rows, key=len)]
        if not keeps_loss(_padding(self.tokenizer, self.config), pair):
            self.note("end_masked", pair[0].line)

    def findings(self) -> list[Finding]:
        """What was found, in words."""
        return [self._finding(code) for code in self.seen]

    def _encode(self, line: int, row: dict[str, Any]) -> Encoded | None:
        try:
            return encode(self.tokenizer, self.renderer, row, line)
        except Invalid as error:
            self.note("not_rendered", line, error)
            return None

    def faults(self, row: Encoded, raw: dict[str, Any], ends: set[int]) -> Iterator[str]:
        if not row.completion:
            yield "no_loss"
        elif row.completion[-1] not in ends:
            yield "no_end"
        if len(row.completion) >= self.limit:
            yield "answer_too_long"
        elif len(row) > self.limit:
            yield "cut" if self.config.allow_truncation else "too_long"
        bos = self.tokenizer.bos_token_id
        if bos is not None and row.prompt[:2] == [bos, bos]:
            yield "double_bos"
        if any(token in value for value in _texts(raw) for token in self.tokenizer.all_special_tokens):
            yield "special_tokens"

    def ends(self) -> set[int]:
        """Tokens at which generation stops, by the tokenizer and by the model's generation settings."""
        root = base_model.locate(self.config.base_model, root=self.root)
        settings = Path(root) / "generation_config.json"
        stops = disk.read_json(settings).get("eos_token_id") if settings.is_file() else None
        listed = stops if isinstance(stops, list) else [stops]
        return {end for end in [self.tokenizer.eos_token_id, *listed] if end is not None}

    def note(self, code: str, line: int, error: Invalid | None = None) -> None:
        self.seen[code] += 1
        self.first.setdefault(code, (line, error))

    def _finding(self, code: str) -> Finding:
        line, error = self.first[code]
        count = self.seen[code]
        if error is None:
            message, mend = _sentences(code, count, self.limit, all_it_reads=self.all_it_reads)
        else:
            message, mend = error.message, error.mend
        return Finding(
            "warning" if code in ("special_tokens", "cut") else "error",
            code,
            message,
            file=str(self.path),
            line=line,
            count=count,
            mend=mend,
            cause=None if error is None else error.cause,
        )


def _texts(row: dict[str, Any]) -> Iterable[str]:
    return (value for value in row.values() if isinstance(value, str))


def _sentences(code: str, count: int, limit: int, *, all_it_reads: bool) -> tuple[str, str | None]:
    """Message and mend of a finding. `all_it_reads`: the limit is the base model's own, and none can be set higher."""
    template = _("choose a base model whose chat template ends the assistant's turn, or set chat_template: plain")
    too_long = _("rows longer than max_length {limit}: {count}", limit=limit, count=count)
    longer = _("raise max_length, shorten the texts, or set allow_truncation: true to leave out their middle")
    never_cut = _("raise max_length; an answer is never cut")
    if all_it_reads:
        too_long = _("rows longer than the {limit} tokens that the base model reads: {count}", limit=limit, count=count)
        longer = _("shorten the texts, choose a base model that reads more, or set allow_truncation: true")
        never_cut = _("choose a base model that reads more; an answer is never cut")
    return {
        "no_loss": (_("rows without a token to learn: {count}", count=count), template),
        "no_end": (
            _("the answer does not end with a token that stops generation: {count} rows", count=count),
            template,
        ),
        "answer_too_long": (
            _("answers alone reach the limit of {limit} tokens: {count} rows", limit=limit, count=count),
            never_cut,
        ),
        "too_long": (too_long, longer),
        "cut": (
            _("rows whose middle is left out, being longer than {limit}: {count}", limit=limit, count=count),
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
