"""What an Ollama server is told of a model: as a Modelfile for people, and as the fields of its API."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

# A value in three quotes ends at the first line that ends with three; nothing in it is escaped.
_ENDS = re.compile(r'"""[^\S\r\n]*[\r\n]')
Value = int | float | str


@dataclass(frozen=True)
class Modelfile:
    """A model at an Ollama server. `gguf` is the file's path as the Modelfile sees it."""

    gguf: str
    parameters: dict[str, Value] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    system: str | None = None
    template: str | None = None

    def text(self) -> str:
        """As a file.

        Raises:
            Invalid: a text cannot be written there.
        """
        lines = [f"FROM {self.gguf}"]
        lines += [f"PARAMETER {name} {_plain(value)}" for name, value in self.parameters.items()]
        lines += [f"PARAMETER stop {_quoted(text)}" for text in self.stop]
        for command, text in (("TEMPLATE", self.template), ("SYSTEM", self.system)):
            if text is not None:
                lines.append(f"{command} {_quoted(text)}")
        return "\n".join(lines) + "\n"

    def request(self) -> dict[str, Any]:
        """As the API's fields, without the file, which goes there by its hash."""
        parameters: dict[str, Any] = {**self.parameters}
        if self.stop:
            parameters["stop"] = list(self.stop)
        told = {"parameters": parameters, "system": self.system, "template": self.template}
        return {name: value for name, value in told.items() if value is not None}

    def same(self, shown: dict[str, Any]) -> bool:
        """Whether a server that shows this of a model was told the same; what it found besides by itself is its own."""
        parameters, stop = _read(str(shown.get("parameters") or ""))
        told = ((str(value), parameters.get(name, "")) for name, value in self.parameters.items())
        if set(self.stop) != stop or not all(_equal(*one) for one in told):
            return False
        if (self.system or "") != (shown.get("system") or ""):
            return False
        return self.template is None or self.template == shown.get("template")


def _plain(value: Value) -> str:
    return _quoted(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    if not any(sign in text for sign in '"\r\n'):
        return f'"{text}"'
    if _ENDS.search(text):
        raise Invalid(
            _("a Modelfile cannot hold this text"),
            cause=_('a line of it ends with """, which ends a text there'),
            mend=_("write it without them in training.system_prompt, and train again"),
        )
    return f'"""{text}"""'


def _equal(ours: str, theirs: str) -> bool:
    try:
        return math.isclose(float(ours), float(theirs), rel_tol=1e-6)
    except ValueError:
        return ours == _unquoted(theirs)


def _read(shown: str) -> tuple[dict[str, str], set[str]]:
    """Parameters as a server shows them: a name, spaces and a value a line, texts in quotes with escapes."""
    named = [line.partition(" ") for line in shown.splitlines()]
    values = [(name, value.strip()) for name, _space, value in named]
    return dict(values), {_unquoted(value) for name, value in values if name == "stop"}


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value))
    except ValueError:
        return value
