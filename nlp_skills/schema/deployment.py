"""What leaves a version: exports.json, parity.json of a version, and versions/deployments.json of the task."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from nlp_skills.schema.document import Document, Model

Target = Literal["huggingface", "ollama", "api", "local"]


class Export(Model):
    """A form of a version's model that was made from what was trained. `path` is relative to the task folder.

    `source` hashes the model it was made from (weights, base model and prompt format), so that one that is out of date
    is known; `sha256` is of the file, or of the sorted list of `hashes` where it is a folder. `logit_gap` is the
    largest difference to the logits of the model as it was trained, measured on `gap_prompts` prompts.
    """

    kind: Literal["merged", "gguf"]
    quantization: str | None = None
    path: str
    sha256: str
    bytes: int
    hashes: dict[str, str] = Field(default_factory=dict)
    source: str
    made: dt.datetime
    tools: dict[str, str] = Field(default_factory=dict)
    logit_gap: float | None = None
    gap_prompts: int | None = None

    @property
    def name(self) -> str:
        """`merged`, or the quantisation of a GGUF file."""
        return self.quantization or self.kind


class Exports(Document):
    """versions/vN/exports.json: what was exported of a version, each with hash, size and source."""

    version: str
    exports: list[Export] = Field(default_factory=list)


class PromptDifference(Model):
    """The first prompt that is another one there: both around the place where they part, cut."""

    row: int
    ours: str
    theirs: str


class PromptParity(Model):
    """Test prompts rendered and tokenised by us and by the engine: how many were asked, and how many were equal."""

    asked: int
    equal_text: int
    equal_ids: int
    first: PromptDifference | None = None


class AnswerParity(Model):
    """The test rows answered before and after. `drop` is before minus after, `interval` its 95 % interval.

    `changed` counts the rows whose answer is another one.
    """

    rows: int
    metric: str
    before: float
    after: float
    drop: float
    interval: tuple[float, float] | None = None
    changed: int
    max_drop: float


class ParityCheck(Model):
    """One form of the version behind one engine, held against the version as it was evaluated.

    `subject` is `merged`, a quantisation (`q8_0`), or the deployment's name; `sha256` is of the export, or of the
    adapter's files where that is served.
    """

    subject: str
    engine: Literal["transformers", "llama.cpp", "vllm", "ollama", "api"]
    sha256: str
    made: dt.datetime
    prompts: PromptParity | None = None
    answers: AnswerParity | None = None
    verdict: Literal["met", "not_met"]


class Parity(Document):
    """versions/vN/parity.json: the newest check of each subject and engine."""

    version: str
    checks: list[ParityCheck] = Field(default_factory=list)


class Deployment(Model):
    """Where a version answers. `name` is what clients ask for: a repository, `task:latest`, an address, a path.

    A name that `follows` stands for whatever version is active; the others are one version's for ever. `link` is the
    path in the task folder that the serving side reads the active model through, where there is one. `artefact` is the
    path of what was put there, and `forced` whether a gate was overruled for it. `where` is the server or hub that was
    told; `pid` and `host` are the process that serves, where it is one of ours.
    """

    target: Target
    name: str
    version: str
    since: dt.datetime
    follows: bool = False
    link: str | None = None
    forced: bool = False
    artefact: str | None = None
    where: str | None = None
    pid: int | None = None
    host: str | None = None


class Deployments(Document):
    """versions/deployments.json: what runs where, by which version."""

    schema_version: int = 1
    deployments: list[Deployment] = Field(default_factory=list)
