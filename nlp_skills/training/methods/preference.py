"""Learning from preferences: DPO and ORPO from pairs of answers, KTO from answers judged good or bad.

TRL's trainers are given rows as token ids and take them as they are. What is ours: the reference is the model that
training begins with, whatever adapter or version that is; KTO's mismatched answers come from the batch itself, in
whatever order rows are learnt; ORPO's likelihood is that of the answer alone, as in supervised fine-tuning, and is
computed where an answer stands only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlp_skills.data import preferences, preferences_check
from nlp_skills.data.findings import Finding
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training.encode import Encoded, escaped, in_one_line
from nlp_skills.training.methods import reference
from nlp_skills.training.methods.sft import Look, Read
from nlp_skills.workspace.folder import TaskFolder

# What the paper on KTO finds good: the weights of good answers to bad ones, from as much to a third more.
_BALANCED = (0.99, 1.34)
# A mean log-probability of an answer is no nearer to 0 than this: ORPO divides by how unlikely it is.
_SURE = -1e-6


@dataclass(frozen=True)
class Compared:
    """Two answers to a prompt as token ids; it is as long as the longer of the two sequences.

    `left_out` is how many tokens of its prompt's middle are not there.
    """

    line: int
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def learnt(self) -> int:
        """Tokens the loss is on."""
        return len(self.chosen) + len(self.rejected)

    @property
    def each(self) -> list[Encoded]:
        """Each answer as a row of its own."""
        return [Encoded(self.line, self.prompt, answer) for answer in (self.chosen, self.rejected)]

    @property
    def columns(self) -> dict[str, Any]:
        """As TRL's collator takes it."""
        return {"prompt_ids": self.prompt, "chosen_ids": self.chosen, "rejected_ids": self.rejected}

    def marked(self, tokenizer: Any) -> str:
        """The row decoded on one line: prompt, ⟦the better answer⟧, ⟦not the worse⟧."""
        prompt, *answers = (escaped(tokenizer.decode(ids)) for ids in (self.prompt, self.chosen, self.rejected))
        return in_one_line(f"{prompt}⟦{answers[0]}⟧ ≻ ⟦{answers[1]}⟧")

    def shortened(self, max_length: int) -> Compared:
        """Within `max_length` by leaving out the middle of the prompt, which stays one for both answers."""
        longer = max(self.each, key=len).shortened(max_length)
        return replace(self, prompt=longer.prompt, left_out=longer.left_out)


@dataclass(frozen=True)
class Judged:
    """One answer to a prompt as token ids, and whether it is good; `left_out` as for pairs."""

    line: int
    prompt: list[int]
    completion: list[int]
    good: bool
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def learnt(self) -> int:
        """Tokens the loss is on."""
        return len(self.completion)

    @property
    def each(self) -> list[Encoded]:
        """The answer as a row."""
        return [Encoded(self.line, self.prompt, self.completion)]

    @property
    def columns(self) -> dict[str, Any]:
        """As TRL's collator takes it."""
        return {"prompt_ids": self.prompt, "completion_ids": self.completion, "label": self.good}

    def marked(self, tokenizer: Any) -> str:
        """The row decoded on one line: prompt, ⟦answer⟧, good or bad."""
        prompt, answer = (escaped(tokenizer.decode(ids)) for ids in (self.prompt, self.completion))
        return in_one_line(f"{prompt}⟦{answer}⟧ {'✓' if self.good else '✗'}")

    def shortened(self, max_length: int) -> Judged:
        """Within `max_length` by leaving out the middle of the prompt."""
        cut = self.each[0].shortened(max_length)
        return replace(self, prompt=cut.prompt, left_out=cut.left_out)


def files(folder: TaskFolder) -> dict[str, Path]:
    """data/preferences/train.jsonl and valid.jsonl, those of them that are there."""
    return {split: path for split in preferences.SPLITS if (path := folder.preferences(split)).is_file()}


def check(folder: TaskFolder, task: Task, config: Config) -> list[Finding]:
    """What is wrong with the files as they are, and with settings that do not suit them."""
    found = preferences_check.check(folder, task, config.method)
    found += _settings(folder, config)
    if config.method == "kto" and not any(finding.severity == "error" for finding in found):
        found += _balance(folder, config)
    return found


def read(folder: TaskFolder, split: str, renderer: Renderer, tokenizer: Any, config: Config) -> Read:
    """A file's rows as they would be trained, and what is wrong with them; for KTO a pair is two rows."""
    look = _Look(folder.preferences(split), folder.root, renderer, tokenizer, config)
    rows = look.rows()
    return Read(rows, look.findings())


def trainer_class(config: Config) -> type[Any]:
    """TRL's trainer of the method, its figures under names of their own."""
    if config.method == "orpo":
        return _clean(_orpo(), "_stored_metrics")
    from trl import DPOTrainer, KTOTrainer

    return _clean(reference.kept(DPOTrainer if config.method == "dpo" else KTOTrainer), "_metrics")


def dataset(rows: Sequence[Compared] | Sequence[Judged], config: Config) -> Any:
    """Encoded rows as the columns TRL's collators take."""
    from datasets import Dataset

    class Encoded(Dataset):  # type: ignore[misc]
        """Rows that are token ids already: nothing is to be made of them."""

        def map(self, *_arguments: Any, **_settings: Any) -> Any:
            return self

    columns = [row.columns for row in rows]
    return Encoded.from_dict({name: [row[name] for row in columns] for name in columns[0]})


def collator(tokenizer: Any, config: Config) -> Any:
    """TRL's; for KTO with the mismatched answers beside, for a model to be held against."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    multiple = (config.extra or {}).get("pad_to_multiple_of")
    settings: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id, "pad_to_multiple_of": multiple}
    if config.method != "kto":
        return DataCollatorForPreference(**settings)
    return _Mismatched(DataCollatorForUnpairedPreference(**settings))


@dataclass(frozen=True)
class _Mismatched:
    """A collator that also gives each prompt the answer of the row before it in the batch."""

    padded: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        others = [rows[place - 1]["completion_ids"] for place in range(len(rows))]
        return self.padded([{**row, "KL_completion_ids": other} for row, other in zip(rows, others, strict=True)])


class _Look(Look):
    """A pass over a file of preferences; each answer is looked at as a row of its own would be."""

    def rows(self) -> list[Any]:
        """The rows as they would be trained."""
        ends, found = self.ends(), []
        given = preferences.read(self.path)
        for row in preferences.judged(given) if self.config.method == "kto" else given:
            encoded = self._encoded(row)
            if encoded is None:
                continue
            told = {code: None for one in encoded.each for code in self.faults(one, vars(row), ends)}
            for code in told:
                self.note(code, row.line)
            found.append(encoded.shortened(self.limit) if self.config.allow_truncation else encoded)
        return found

    def _encoded(self, row: preferences.Pair | preferences.Judged) -> Compared | Judged | None:
        try:
            if isinstance(row, preferences.Judged):
                return Judged(row.line, *self.renderer.ids_after(self.tokenizer, row.prompt, row.answer), row.good)
            prompt, chosen = self.renderer.ids_after(self.tokenizer, row.prompt, row.chosen)
            _same, rejected = self.renderer.ids_after(self.tokenizer, row.prompt, row.rejected)
            return Compared(row.line, prompt, chosen, rejected)
        except Invalid as error:
            self.note("not_rendered", row.line, error)
            return None


def _settings(folder: TaskFolder, config: Config) -> Iterator[Finding]:
    extra, valid = config.extra or {}, folder.preferences("valid")
    if config.method == "kto" and config.batch_size < 2:
        yield Finding(
            "error",
            "batch_of_one",
            _("KTO holds the answers of a batch against each other, and batch_size is 1"),
            mend=_("set batch_size to at least 2, and gradient_accumulation as much lower"),
        )
    if config.method == "kto" and extra.get("precompute_ref_log_probs"):
        yield Finding(
            "error",
            "precomputed_mismatch",
            _("extra: precompute_ref_log_probs does not go with kto: its mismatched answers change with the batch"),
            mend=_("remove it"),
        )
    if config.early_stopping and not (valid.is_file() and valid.stat().st_size):
        yield Finding(
            "error",
            "no_valid",
            _("early_stopping looks at valid after every epoch, and there are no preferences in it"),
            file=str(valid),
            mend=_("make some: nlp-skills data preferences --margin 1; or remove early_stopping"),
        )
    if config.lora and config.lora.dropout and extra.get("disable_dropout", True):
        yield Finding(
            "warning",
            "no_dropout",
            _("{method} is trained without dropout; lora.dropout has no effect", method=config.method),
            mend=_("set it to 0, or extra: {{disable_dropout: false}}"),
        )
    if config.init_from is None and config.method != "orpo":
        yield Finding(
            "info",
            "no_start",
            _("{method} begins with the base model, which has not learnt the task", method=config.method),
            mend=_("go on from a version that has: nlp-skills new-version --method {method} --init-from v1",
                   method=config.method),
        )  # fmt: skip
    elif config.init_from and (asked := preferences.asked(folder)) and asked != config.init_from:
        yield Finding(
            "warning",
            "other_mistakes",
            _("the preferences are of {asked}'s mistakes, and training goes on from {start}",
              asked=asked, start=config.init_from),
            file=str(preferences.source_path(folder)),
            mend=_("ask the other one: nlp-skills data preferences --version {start}", start=config.init_from),
        )  # fmt: skip


def _balance(folder: TaskFolder, config: Config) -> Iterator[Finding]:
    """Whether good and bad answers weigh about the same, their numbers and their weights taken together."""
    kinds = [row.good for row in preferences.judged(preferences.read(folder.preferences("train")))]
    good, bad = kinds.count(True), kinds.count(False)
    extra = config.extra or {}
    weights = [float(extra.get(name, 1.0)) for name in ("desirable_weight", "undesirable_weight")]
    if _BALANCED[0] <= good * weights[0] / (bad * weights[1]) <= _BALANCED[1]:
        return
    better = {"undesirable_weight": good / bad} if good > bad else {"desirable_weight": bad / good}
    wanted = ", ".join(f"{name}: {value:.2f}" for name, value in better.items())
    yield Finding(
        "warning",
        "unbalanced",
        _("good answers: {good}, bad ones: {bad}; the more frequent kind decides", good=good, bad=bad),
        file=str(folder.preferences("train")),
        mend=_("weigh them: extra: {{{weights}}}", weights=wanted),
    )


# Of what TRL logs, what says something, by the name it gets.
_FIGURES = {
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "kl": "kl",
    "nll_loss": "nll_loss",
}


def _clean(base: type[Any], kept_in: str) -> type[Any]:
    """A trainer that logs what says something; until then it keeps its figures in the attribute `kept_in`."""

    class Trainer(base):  # type: ignore[misc]
        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            for figures in getattr(self, kept_in).values():
                for name in list(figures):
                    values, told = figures.pop(name), _FIGURES.get(name.removeprefix("eval_"))
                    if told:
                        figures["eval_" * name.startswith("eval_") + told] = values
            super().log(logs, start_time)

    return Trainer


def _orpo() -> type[Any]:
    from trl.experimental.orpo import ORPOTrainer

    class Trainer(ORPOTrainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self.use_dpo_data_collator = True

        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = ["prompt_ids", "chosen_ids", "rejected_ids"]

        def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
            logps, logits, wanted = _answers(model, batch)
            chosen = len(wanted) // 2
            likelihood = -(logps * wanted)[:chosen].sum() / wanted[:chosen].sum()
            means = ((logps * wanted).sum(1) / wanted.sum(1)).clamp(max=_SURE)
            return means[:chosen], means[chosen:], logits[:chosen], logits[chosen:], likelihood

    return Trainer


def _answers(model: Any, batch: Any) -> tuple[Any, Any, Any]:
    """Log-probabilities and logits at the places where any answer of a batch stands, and which of them are wanted."""
    mask, targets = batch["completion_mask"][:, 1:], batch["input_ids"][:, 1:]
    columns = mask.any(0).nonzero().squeeze(1)
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
        logits_to_keep=columns,
    ).logits.float()
    said = targets[:, columns].unsqueeze(2)
    return logits.log_softmax(-1).gather(2, said).squeeze(2), logits, mask[:, columns]
