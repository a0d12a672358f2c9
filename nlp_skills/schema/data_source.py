"""data_source.yaml: where the rows come from and how they become train, valid and test."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema.document import Document, Model

SOURCE_NAME = re.compile(r"[^\W_][\w.-]*\Z")


class _Source(Model):
    """What every source has. `mapping` names a task field and the source's column for it."""

    name: str | None = None
    mapping: dict[str, str] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _safe_name(cls, name: str | None) -> str | None:
        if name is not None and (not SOURCE_NAME.match(name) or ".." in name):
            raise ValueError(_("a source name is letters, digits, '-', '_' and '.', starting with a letter or digit"))
        return name


class FileImport(_Source):
    """Rows in a file; `path` is relative to the task folder, or absolute."""

    type: Literal["file_import"]
    path: str
    format: Literal["csv", "tsv", "json", "jsonl"] | None = None
    encoding: str = "utf-8-sig"
    delimiter: str | None = None


class Database(_Source):
    """Rows of a query. `connection` is a SQLAlchemy URL; `${VAR}` in it is read from the environment."""

    type: Literal["database"]
    connection: str | None = None
    driver: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    user: str | None = None
    password: str | None = None
    query: str
    snapshot_date: dt.date | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Database:
        if (self.connection is None) == (self.driver is None):
            raise ValueError(_("give either connection: URL, or driver: with host, database and so on"))
        return self


class Api(_Source):
    """Rows of a web API."""

    type: Literal["api"]
    endpoint: str
    params: dict[str, Any] = Field(default_factory=dict)


class WebScrape(_Source):
    """Rows taken from web pages."""

    type: Literal["web_scrape"]
    urls: list[str]
    keywords: list[str] = Field(default_factory=list)


class LlmGenerated(_Source):
    """Rows a language model writes."""

    type: Literal["llm_generated"]
    prompt_template: str
    model: str
    count: Annotated[int, Field(ge=1)]


Source = Annotated[FileImport | Database | Api | WebScrape | LlmGenerated, Field(discriminator="type")]


class Split(Model):
    """Shares of the three splits. `frozen`: once a version has a test set, new rows only reach train and valid;
    `growing`: they reach test too. Either way a row that was tested on is never trained on.
    """

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    valid: Annotated[float, Field(ge=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int = 42
    test_rows: Literal["frozen", "growing"] = "frozen"

    @model_validator(mode="after")
    def _whole(self) -> Split:
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            total = self.train + self.valid + self.test
            raise ValueError(_("train, valid and test add up to {total:g}, not 1", total=total))
        return self


class Dedup(Model):
    """`near` is the Jaccard similarity of character 3-grams from which two texts count as near-identical."""

    near: Annotated[float, Field(gt=0, le=1)] = 0.9


class Regeneration(Model):
    """How and when the data was last regenerated."""

    script: str = "scripts/01_regenerate_data.py"
    last_run: dt.datetime | None = None


class DataSource(Document):
    """data_source.yaml."""

    sources: list[Source] = Field(default_factory=list)
    dedup: Dedup = Field(default_factory=Dedup)
    split: Split = Field(default_factory=Split)
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
