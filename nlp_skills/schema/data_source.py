"""data_source.yaml: where the rows come from and how they become train, valid and test."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.source import (
    Api,
    Count,
    Database,
    FileImport,
    HuggingFace,
    LlmGenerated,
    LlmSettings,
    Share,
    Source,
    WebScrape,
)

__all__ = [
    "Api",
    "Augmentation",
    "Checks",
    "DataSource",
    "Database",
    "Dedup",
    "EntitySwap",
    "FileImport",
    "HuggingFace",
    "LlmGenerated",
    "Oversample",
    "Paraphrase",
    "Regeneration",
    "Source",
    "Split",
    "WebScrape",
]


class Split(Model):
    """Shares of the three splits. `frozen`: once a version has a test set, new rows only reach train and valid;
    `growing`: they reach test too. Either way a row that was tested on is never trained on.

    Rows that agree in the column `group` (an author, a document) stay on one side. Shares hold for each value of
    the column `stratify`; the label, when left out.
    """

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    valid: Annotated[float, Field(ge=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int = 42
    test_rows: Literal["frozen", "growing"] = "frozen"
    group: str | None = None
    stratify: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Split:
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            total = self.train + self.valid + self.test
            raise ValueError(_("train, valid and test add up to {total:g}, not 1", total=total))
        return self


class Dedup(Model):
    """`near` is the Jaccard similarity of character 3-grams from which two texts count as near-identical.

    `drop` keeps one of such texts where their answers agree; `keep` keeps all, on one side of the split.
    """

    near: Share = 0.9
    near_duplicates: Literal["drop", "keep"] = "drop"


class Checks(Model):
    """What `validate` expects of texts, in characters, and of their languages (`en`, `zh-TW`, …)."""

    min_chars: Annotated[int, Field(ge=0)] = 1
    max_chars: Count | None = None
    languages: list[str] = Field(default_factory=list)


class Oversample(Model):
    """Repeat training rows of small classes until each has `to` times the rows of the largest."""

    method: Literal["oversample"]
    to: Share = 1.0


class EntitySwap(Model):
    """Write training rows anew with other entities of the same type in place of their own; for extraction."""

    method: Literal["entity_swap"]
    per_row: Count = 1


class Paraphrase(LlmSettings):
    """Have a language model say training rows in other words; `labels` limits it to these classes."""

    method: Literal["paraphrase"]
    per_row: Count = 1
    labels: list[str] = Field(default_factory=list)
    prompt_template: str | None = None


Augmentation = Annotated[Oversample | EntitySwap | Paraphrase, Field(discriminator="method")]


class Regeneration(Model):
    """How and when the data was last regenerated."""

    script: str = "scripts/01_regenerate_data.py"
    last_run: dt.datetime | None = None


class DataSource(Document):
    """data_source.yaml."""

    sources: list[Source] = Field(default_factory=list)
    dedup: Dedup = Field(default_factory=Dedup)
    split: Split = Field(default_factory=Split)
    augmentation: list[Augmentation] = Field(default_factory=list)
    checks: Checks = Field(default_factory=Checks)
    regeneration: Regeneration = Field(default_factory=Regeneration)

    @field_validator("sources", mode="before")
    @classmethod
    def _lift_config(cls, sources: Any) -> Any:
        """The long form keeps a source's settings under `config:`; they are lifted beside `type`."""
        if not isinstance(sources, list):
            return sources
        return [
            {**{k: v for k, v in source.items() if k != "config"}, **source["config"]}
            if isinstance(source, dict) and isinstance(source.get("config"), dict)
            else source
            for source in sources
        ]

    @model_validator(mode="after")
    def _names(self) -> DataSource:
        """A source without a name is called after its type; the second of a type gets -2, and so on."""
        taken = [source.name for source in self.sources if source.name]
        twice = {name for name in taken if taken.count(name) > 1}
        if twice:
            raise ValueError(_("two sources are called {name}", name=min(twice)))
        for source in self.sources:
            if source.name is None:
                base, number = source.type, 1
                while (name := base if number == 1 else f"{base}-{number}") in taken:
                    number += 1
                source.__dict__["name"] = name
                taken.append(name)
        return self
