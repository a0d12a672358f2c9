"""What comes in, read and refused: JSON, rows, model names. And what went wrong, in the form that its caller reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.deployment.asker import Row, refuse
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.i18n import _

_SHOWN = 8


@dataclass
class Refused(Exception):
    """A request that is answered with an error. `openai`: in the form of OpenAI's API."""

    status: int
    code: str
    message: str
    mend: str | None = None
    param: str | None = None

    def body(self, *, openai: bool) -> dict[str, Any]:
        """The error, as the caller's client reads it."""
        if openai:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
            told = ": ".join(part for part in (self.message, self.mend) if part)
            return {"error": {"message": told, "type": kind, "param": self.param, "code": self.code}}
        found = {"code": self.code, "message": self.message, "mend": self.mend}
        return {"error": {name: value for name, value in found.items() if value is not None}}


def of_problem(problem: Problem, status: int = 422, code: str = "invalid") -> Refused:
    """A problem as an error; files of the server are not told of."""
    told = problem.message + (f": {problem.cause}" if problem.cause else "")
    if isinstance(problem, Unavailable):
        return Refused(503, "unavailable", told, problem.mend)
    if isinstance(problem, Usage):
        return Refused(404 if status == 422 else status, code, told, problem.mend)
    return Refused(status, code, told, problem.mend)


def parsed(body: bytes) -> Any:
    """The JSON of a request.

    Raises:
        Refused: it is none.
    """
    try:
        return lines.parse(body)
    except (ValueError, RecursionError) as error:
        what = ": ".join(str(part) for part in lines.parse_fault(error))
        raise Refused(400, "not_json", _("the body is not JSON"), what) from error


def rows(body: Any, fields: Sequence[str], settings: Settings) -> list[Row]:
    """The rows of a request: one, or a list of them.

    Raises:
        Refused: they are none, or too many, or too long.
    """
    found = body if isinstance(body, list) else [body]
    if not found or len(found) > settings.max_batch:
        raise Refused(422, "rows", _("a request has from 1 to {most} rows", most=settings.max_batch))
    for number, one in enumerate(found):
        try:
            refuse(one, fields, number)
        except Invalid as problem:
            raise of_problem(problem, 422, "row") from problem
        extra = [name for name in one if name not in fields]
        if extra:
            names = ", ".join(lines.brief(name) for name in extra[:_SHOWN])
            raise Refused(
                422,
                "field",
                _("row {row} has fields that the prompt does not show: {names}", row=number + 1, names=names),
                _("the prompt shows: {fields}", fields=", ".join(fields)),
            )
        for name in fields:
            value = one[name]
            if len(value if isinstance(value, str) else json.dumps(value)) > settings.max_chars:
                told = {"row": number + 1, "name": name, "most": settings.max_chars}
                raise Refused(
                    422, "too_long", _("the field {name} of row {row} is longer than {most} characters", **told)
                )
    return found


def conversation(body: Any, task: str) -> tuple[dict[str, Any], str | None]:
    """A chat completion's body, and the version that its model names.

    Raises:
        Refused: it is none, or the model is not ours.
    """
    if not isinstance(body, dict):
        raise Refused(400, "body", _("the body is not an object"))
    name = body.get("model")
    if not isinstance(name, str):
        raise Refused(400, "model", _("the model is missing"), _("it is called {name}", name=task), "model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise Refused(400, "messages", _("messages is a list with at least one message"), param="messages")
    if not isinstance(body.get("stream"), bool | None):
        raise Refused(400, "stream", _("{name} is true or false", name="stream"), param="stream")
    given, at, version = name.partition("@")
    if given != task or (at and not version):
        raise unknown_model(name, task)
    return body, version or None


def unknown_model(name: str, task: str) -> Refused:
    """No such model here."""
    told = _("the model {name} does not exist here", name=lines.brief(name))
    return Refused(404, "model_not_found", told, _("it is called {name}", name=task), "model")
