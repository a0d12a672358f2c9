"""data.lock.yaml: what the splits were made of, and what came out, by hash."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from pydantic import Field

from nlp_skills.schema.document import Document, Model


class LockedSource(Model):
    """A source's rows that the splits were made of. `config_hash` is of the settings that decide what is fetched;
    `inputs` are the local files it read; `fetched` is since when its raw file is as it is.
    """

    type: str
    config_hash: str
    code_version: int
    inputs: dict[str, str] = Field(default_factory=dict)
    fetched: dt.datetime
    rows: int
    sha256: str


class LockedPipeline(Model):
    """What happened between the raw files and the splits. `settings`: every setting that has a part in it, by its
    dotted key; `pinned_hash` is of the keys of the rows that other versions were tested on.
    """

    config_hash: str
    code_version: int
    pinned_hash: str
    settings: dict[str, Any] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)


class LockedOutput(Model):
    """A file that was made, such as data/train.jsonl."""

    rows: int
    sha256: str
    class_distribution: dict[str, int] = Field(default_factory=dict)


class DataLock(Document):
    """data/data.lock.yaml."""

    schema_version: Literal[1] = 1
    made: dt.datetime
    sources: dict[str, LockedSource]
    pipeline: LockedPipeline
    outputs: dict[str, LockedOutput]
