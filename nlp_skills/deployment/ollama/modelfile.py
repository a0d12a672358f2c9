"""What an Ollama server is told of a model: as a Modelfile for people, and as the fields of its API."""

from __future__ import annotations

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
        """Whether a server that shows this of a model was told the same. A template it found itself is its own."""
        parameters, stop = _read(str(shown.get("parameters") or ""))
        if {name: float(value) for name, value in self.parameters.items()} != parameters or set(self.stop) != stop:
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


def _read(shown: str) -> tuple[dict[str, float], set[str]]:
    """Parameters as a server shows them: a name, spaces and a value a line, texts in quotes with escapes."""
    numbers: dict[str, float] = {}
    stop: set[str] = set()
    for line in shown.splitlines():
        name, _space, value = line.partition(" ")
        value = value.strip()
        if name == "stop":
            stop.add(_unquoted(value))
            continue
        try:
            numbers[name] = float(value)
        except ValueError:
            # Not one of ours.
            numbers[name] = float("nan")
    return numbers, stop


def _unquoted(value: str) -> str:
    import json

    try:
        return str(json.loads(value))
    except ValueError:
        return value
