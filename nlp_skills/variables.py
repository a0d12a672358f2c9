"""`${VAR}` and `${VAR:-default}`: filled in from the environment and `.env`, and never shown again.

What a variable holds may be a secret whatever it is called, so every value that was filled in is taken out
of any text that goes to a person, a log, a record or a model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
HIDDEN = "***"
# To take every "1" out of a message because a variable holds it would hide nothing and spoil the message.
_SHORT = 4
_CONFIDENTIAL = re.compile(
    r"""passw|passphrase|pwd|secret|credential|cookie|authorization|apikey
    |(?:^|[-_.]|access|auth|session|bearer)token$   # and not max_tokens
    |(?:^|[-_.])(?:key|auth|sid|sig|signature|session(?:id)?|jwt)$  # and not keyword, author or monkey
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Where a secret may stand in a URL: before it, itself, and what follows it.
_PASSWORD = re.compile(r"(://(?:\$\{[^}]*\}|[^:/@?#\s])*:)((?:\$\{[^}]*\}|[^/\s])+)(@)")
_PARAMETER = re.compile(r"([?&]([^=&?\s]+)=)([^&#\s]*)")
# A connection is one URL and nothing else, so that its password may hold anything.
_WHOLE_URL = re.compile(r"(://(?:\$\{[^}]*\}|[^:/@])*:)(.*)(@)")


class Missing(Exception):
    """A variable that is set nowhere and has no default."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass
class Variables:
    """The environment, and below it the `.env` files of `folders`, the first one winning.

    `hide` puts the variable's name back for every value that `fill` put in, and `***` for every literal that
    `conceal` was told of.
    """

    folders: tuple[Path, ...] = ()
    _secrets: dict[str, str] = field(default_factory=dict)

    @cached_property
    def _written(self) -> Mapping[str, str]:
        from dotenv import dotenv_values

        found: dict[str, str] = {}
        for folder in reversed(self.folders):
            values = dotenv_values(folder / ".env", interpolate=False) if (folder / ".env").is_file() else {}
            found.update({name: value for name, value in values.items() if value is not None})
        return found

    def fill(self, text: str) -> str:
        """`text` with its variables' values; an empty value counts as none where there is a default.

        Raises:
            Missing: a variable is not set.
        """
        return VARIABLE.sub(self._value, text)

    def fill_all(self, value: Any) -> Any:
        """The same for every text in lists and mappings."""
        if isinstance(value, str):
            return self.fill(value)
        if isinstance(value, dict):
            return {name: self.fill_all(item) for name, item in value.items()}
        return [self.fill_all(item) for item in value] if isinstance(value, list) else value

    def get(self, name: str) -> str | None:
        """A variable's value, or None; it is hidden from now on."""
        value = os.environ.get(name) or self._written.get(name)
        self._conceal(value, name, f"${{{name}}}")
        return value

    def conceal(self, secret: str | None, *, name: str = "secret") -> None:
        """Hide this text from now on; a very short one only where its name says that it is a secret."""
        self._conceal(secret, name, HIDDEN)

    def hide(self, text: str) -> str:
        """`text` without anything secret."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, self._secrets[secret])
        return masked_text(text)

    def _conceal(self, secret: str | None, name: str, shown: str) -> None:
        if secret and (len(secret) >= _SHORT or is_confidential(name)):
            for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
                self._secrets.setdefault(spelling, shown)

    def _value(self, match: re.Match[str]) -> str:
        name, default = match.groups()
        value = os.environ.get(name) or self._written.get(name) or default
        if value is None:
            raise Missing(name)
        self._conceal(value, name, f"${{{name}}}")
        return str(value)


def is_confidential(name: str) -> bool:
    """Whether a setting or header of this name holds a secret."""
    return bool(_CONFIDENTIAL.search(name))


def masked(value: Any, name: str = "") -> Any:
    """Settings as they may be recorded: variables by name, literal secrets (by the key's name, in URLs) hidden."""
    if isinstance(value, dict):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if not isinstance(value, str):
        return HIDDEN if is_confidential(name) and isinstance(value, int | float) and value is not True else value
    if is_confidential(name):
        return _bare(value)
    return masked_text(_WHOLE_URL.sub(_without, value) if name == "connection" else value)


def masked_text(text: str) -> str:
    """A text whose URLs carry no literal password or token; `${VAR:-default}` there loses its default."""
    return _PARAMETER.sub(_without_parameter, _PASSWORD.sub(_without, text))


def literal_secrets(value: Any, name: str = "") -> bool:
    """Whether a secret stands in the settings as such rather than as `${VAR}`."""
    if isinstance(value, dict):
        return any(literal_secrets(item, str(key)) for key, item in value.items())
    if isinstance(value, list):
        return any(literal_secrets(item, name) for item in value)
    if not isinstance(value, str):
        return False
    if is_confidential(name):
        return bool(value) and not VARIABLE.search(value)
    found = [match[2] for match in _PASSWORD.finditer(value)]
    found += [match[3] for match in _PARAMETER.finditer(value) if is_confidential(match[2])]
    return any(text and not VARIABLE.search(text) for text in found)


def _without(match: re.Match[str]) -> str:
    return f"{match[1]}{_bare(match[2])}{match[3]}"


def _without_parameter(match: re.Match[str]) -> str:
    return f"{match[1]}{_bare(match[3])}" if is_confidential(match[2]) else match[0]


def _bare(secret: str) -> str:
    """What is left to see of a secret: the names of its variables, never a default, never a literal."""
    names = [match[1] for match in VARIABLE.finditer(secret)]
    rest = VARIABLE.sub("", secret)
    # `Bearer ${TOKEN}` may keep its scheme: a word that everyone knows is no secret.
    scheme = rest.strip() if rest.strip().lower() in ("bearer", "basic", "token") else ""
    shown = " ".join(filter(None, [scheme, *(f"${{{name}}}" for name in names)]))
    return shown or HIDDEN if not rest.strip() or scheme else HIDDEN
