"""What is in a JSON answer: the value at a JMESPath, and the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.errors import Problem
from nlp_skills.i18n import _

Wrong = Callable[..., Problem]

# How deep in an answer a list of rows is looked for where `records` does not say.
_DEPTH = 4
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


class Path:
    """A JMESPath expression. `wrong` makes the problem of the setting that it stands in."""

    def __init__(self, expression: str, wrong: Wrong) -> None:
        import jmespath
        from jmespath.exceptions import JMESPathError

        self.expression = expression
        self.wrong = wrong
        try:
            self._compiled = jmespath.compile(expression)
        except JMESPathError as error:
            raise self._refusal(error) from error

    def find(self, answer: Any) -> Any:
        """The value in `answer`, None where there is none.

        Raises:
            Invalid: a function of the expression does not take what it finds.
        """
        from jmespath.exceptions import JMESPathError

        try:
            return self._compiled.search(answer)
        except JMESPathError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> Problem:
        return self.wrong(
            _("the JMESPath {expression} is wrong", expression=lines.shown(self.expression)),
            cause=lines.cut(str(error).strip().split("\n")[0].removeprefix("Invalid jmespath expression: "), 200),
            mend=_("write it as on jmespath.org, such as: data.items"),
        )


class Records:
    """Finds the rows of an answer: at the JMESPath `expression`, or in the only list of objects there is.

    Once found, the place stays: a last page may have an empty list there and other lists elsewhere.
    """

    def __init__(self, expression: str | None, wrong: Wrong) -> None:
        self.wrong = wrong
        self._given = expression is not None
        self._path = Path(expression, wrong) if expression is not None else None
        self._seen = False

    def rows(self, answer: Any) -> list[dict[str, Any]]:
        """The rows, in order.

        Raises:
            Invalid: there is no list, there are several, or it has other things than objects.
        """
        if self._path is None:
            self._path = Path(self._only_list(answer), self.wrong)
        found = self._path.find(answer)
        if found is None and self._seen:
            # Some servers write null for a list that is empty.
            found = []
        if not isinstance(found, list):
            raise self._no_list(found, answer)
        other = next((item for item in found if not isinstance(item, dict)), None)
        if len(found) != sum(isinstance(item, dict) for item in found):
            raise self.wrong(
                _("the records are not objects"),
                cause=_("the first other one: {value}", value=lines.shown(other)),
                mend=_("make objects of them in records:, such as: items[].{text: @}"),
            )
        self._seen = True
        return found

    @property
    def path(self) -> str | None:
        """Where the rows are, once that is known."""
        return self._path.expression if self._path else None

    def settle(self, path: str) -> None:
        """The rows were at `path` in an earlier answer."""
        self._path, self._seen = Path(path, self.wrong), True

    def _only_list(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "@"
        found = list(_lists(answer, (), _DEPTH))
        paths = [path for path, items in found if items] or [path for path, _items in found]
        if len(paths) == 1:
            return paths[0]
        raise self.wrong(
            _("which part of the answer is the rows cannot be told"),
            cause=_("lists of objects in it: {paths}", paths=lines.cut(", ".join(paths), 200))
            if paths
            else _("it holds no list of objects: {answer}", answer=lines.shown(answer)),
            mend=_("write records: PATH, a JMESPath such as data.items"),
        )

    def _no_list(self, found: Any, answer: Any) -> Problem:
        keys = ", ".join(lines.shown_name(str(key)) for key in answer) if isinstance(answer, dict) else ""
        what = _("the answer has: {keys}", keys=lines.cut(keys, 200)) if keys else lines.shown(answer)
        return self.wrong(
            _("records: finds no list in the answer")
            if self._given
            else _("the rows are gone from where they were in the answer"),
            cause=what if found is None else _("it finds {value}", value=lines.shown(found)),
            mend=_("write records: PATH, a JMESPath such as data.items"),
        )


def _lists(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, list[Any]]]:
    """Every list of nothing but objects, with its JMESPath; lists inside rows are not looked for."""
    if not isinstance(value, dict) or not depth:
        return
    for key, item in value.items():
        here = (*path, key if _PLAIN_KEY.match(key) else json.dumps(key))
        if isinstance(item, list) and all(isinstance(entry, dict) for entry in item):
            yield ".".join(here), item
        yield from _lists(item, here, depth - 1)
