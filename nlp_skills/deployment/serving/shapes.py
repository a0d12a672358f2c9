"""The bodies of requests and answers, as the OpenAPI document shows them; a row's fields are those of the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from nlp_skills.deployment.serving.settings import Settings


class Fault(BaseModel):
    """What went wrong; `mend` says what to do."""

    code: str
    message: str
    mend: str | None = None


class Failed(BaseModel):
    """An error of the task's own calls."""

    error: Fault


class Given(BaseModel):
    """The answer to one row. `answer` is null where what the model said is none."""

    answer: dict[str, JsonValue] | None
    probability: float | None = None
    probabilities: dict[str, float] | None = None


class One(Given):
    """The answer to a request with one row."""

    version: str
    latency_ms: float


class Many(BaseModel):
    """The answer to a request with several rows, in their order."""

    version: str
    predictions: list[Given]
    latency_ms: float


class VersionTold(BaseModel):
    """How a version stands here."""

    version: str
    model: str
    state: str
    loaded: bool
    active: bool
    metric: dict[str, float] | None = None
    created: str
    deployed: str | None = None


class VersionsTold(BaseModel):
    """All versions that can be asked. `refused` is the last switch that could not be made."""

    task: str
    active: str
    engine: str
    versions: list[VersionTold]
    refused: dict[str, str] | None = None


class SwitchTold(BaseModel):
    """A switch: requests are answered by `after` from now on. `left` are names elsewhere that did not follow."""

    before: str
    after: str
    left: list[str] = Field(default_factory=list)


class Health(BaseModel):
    """Whether it is there, or ready."""

    status: str
    task: str | None = None
    version: str | None = None


class ModelTold(BaseModel):
    """A model, as OpenAI's clients list it."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "nlp-skills"


class ModelsTold(BaseModel):
    """All models."""

    object: str = "list"
    data: list[ModelTold]


class OpenAIFault(BaseModel):
    """An error, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class OpenAIFailed(BaseModel):
    """An error under /v1."""

    error: OpenAIFault


def row(fields: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The JSON Schema of a row: a text in each field of the prompt, or any other value as data shows it."""
    value = {"anyOf": [{"type": "string", "maxLength": settings.max_chars}, {"not": {"type": "string"}}]}
    return {
        "title": "Row",
        "type": "object",
        "description": "The fields that the prompt shows, and no others.",
        "properties": dict.fromkeys(fields, value),
        "required": [*fields],
        "additionalProperties": False,
        "example": dict.fromkeys(fields, "text"),
    }


def rows(fields: Sequence[str], settings: Settings) -> dict[str, Any]:
    """A row, or a list of rows."""
    one = row(fields, settings)
    return {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": settings.max_batch}]}


CONVERSATION: dict[str, Any] = {
    "title": "Conversation",
    "type": "object",
    "description": "As OpenAI's clients ask; what is not named here is passed on to the engine.",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "description": "The task, or task@version."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"type": "string", "enum": ["system", "user", "assistant"]},
                    "content": {"type": "string"},
                },
            },
        },
        "stream": {"type": "boolean"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "max_tokens": {"type": "integer", "minimum": 1},
    },
    "example": {"model": "task", "messages": [{"role": "user", "content": "text"}], "max_tokens": 64},
}
