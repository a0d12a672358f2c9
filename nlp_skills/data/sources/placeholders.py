"""Addresses that were filled in from variables, turned back into what data_source.yaml says: `${SITE}/reviews`."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from nlp_skills.variables import VARIABLE, Variables, is_confidential

# A shorter value is too likely to stand in a text by chance.
_SHORT = 4


class Placeholders:
    """The variables of some texts, and what they hold."""

    def __init__(self, texts: Iterable[str], variables: Variables) -> None:
        found: dict[str, str] = {}
        for match in (match for text in texts for match in VARIABLE.finditer(text)):
            value = variables.fill(match[0])
            if len(value) >= _SHORT or is_confidential(match[1]):
                found[value] = match[1]
        self._variables = variables
        self._values = {value: found[value] for value in sorted(found, key=lambda value: (-len(value), value))}

    def named(self, address: str) -> str:
        """An address with its variables by name; what else of it is secret stays in it."""
        return self._replaced(address, self._values)

    def shown(self, address: str) -> str:
        """The same for people and rows: nothing in it is secret."""
        return self._variables.hide(self.named(address))

    def kept(self, text: str) -> str:
        """A page's text without the secrets that its address was filled with, should the server repeat them."""
        return self._replaced(text, {value: name for value, name in self._values.items() if is_confidential(name)})

    def filled(self, address: str) -> str:
        """An address as it is to be asked for."""
        for value, name in self._values.items():
            address = address.replace(f"${{{name}}}", value)
        return address

    @staticmethod
    def _replaced(text: str, values: dict[str, str]) -> str:
        for value, name in values.items():
            for form in dict.fromkeys((value, quote(value, safe="%/:=&?~#+!$,;'@()*[]"), quote(value, safe=""))):
                text = text.replace(form, f"${{{name}}}")
        return text
