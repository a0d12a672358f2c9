"""Metrics of a task's own: `metrics/NAME.py` with `def NAME(gold, predicted, rows)`, as the task's scripts are its own.

The function gets the right answers, the given ones (None where one could not be read) and the rows of the test split.
A list with a figure for every row is averaged and has an interval like any other; a single figure is computed anew of
200 samples of the rows for its interval, and has none where that would take too long.
"""

from __future__ import annotations

import importlib.util
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores.sheet import Sheet
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats

FOLDER = "metrics"

Row = Mapping[str, Any]
Function = Callable[[Sequence[Any], Sequence[Any], Sequence[Row]], Any]


@dataclass(frozen=True)
class Own:
    """A metric of the task's own and the file it stands in."""

    name: str
    path: Path
    function: Function


def names(root: Path) -> list[str]:
    """The metrics that a task folder has of its own; what begins with an underscore is none."""
    return [path.stem for path in _paths(root)]


def load(root: Path) -> list[Own]:
    """The metrics of a task folder.

    Raises:
        Invalid: a file outside the folder, one that Python cannot run, or that lacks its function.
    """
    return [_load(root, path) for path in _paths(root)]


def _paths(root: Path) -> list[Path]:
    return sorted(path for path in (root / FOLDER).glob("[!_]*.py"))


def _load(root: Path, path: Path) -> Own:
    name, inside = path.stem, files.inside(root, f"{FOLDER}/{path.name}")
    if not name.isidentifier():
        raise Invalid(
            _("a metric's file is named as a function may be in Python: {name} is not", name=name),
            file=path,
            mend=_("rename the file"),
        )
    module = _module(name, inside)
    function = getattr(module, name, None)
    if not callable(function):
        raise Invalid(
            _("there is no function {name} in this file", name=name),
            file=path,
            mend=_("write it: {form}", form=f"def {name}(gold, predicted, rows): …"),
        )
    return Own(name, path, function)


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_metric_of_the_task_{name}", path)
    if spec is None or spec.loader is None:
        raise Invalid(_("this is no Python file"), file=path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _broken(_("the metric {name} cannot be loaded", name=name), path, error) from error
    return module


def added(
    sheet: Sheet, own: Sequence[Own], gold: Sequence[Any], predicted: Sequence[Any], rows: Sequence[Row]
) -> Sheet:
    """A sheet with the task's own metrics.

    Raises:
        Invalid: a function fails, or gives anything but a figure, or one for every row.
    """
    for one in own:
        sheet = _with(sheet, one, gold, predicted, rows)
    return sheet


def _with(sheet: Sheet, one: Own, gold: Sequence[Any], predicted: Sequence[Any], rows: Sequence[Row]) -> Sheet:
    found = _call(one, gold, predicted, rows)
    names = (*sheet.names, one.name)
    if isinstance(found, list):
        mean = _Mean.of(one, found, len(gold))
        return replace(sheet, names=names, ranked=(*sheet.ranked, mean))

    def alone(places: Counts) -> float:
        if len(places) == len(gold) and (places == range(len(gold))).all():
            return found
        chosen = ([side[place] for place in places] for side in (gold, predicted, rows))
        drawn = _call(one, *chosen)
        if isinstance(drawn, list):
            raise _strange(one, _("it gave one number for all rows, and a list for some of them"))
        return drawn

    return replace(sheet, names=names, alone={**sheet.alone, one.name: alone})


def _call(one: Own, gold: Sequence[Any], predicted: Sequence[Any], rows: Sequence[Row]) -> float | list[float]:
    try:
        # Lists of its own: what it does to them is nobody else's.
        found = one.function([*gold], [*predicted], [dict(row) for row in rows])
        found = found.tolist() if hasattr(found, "tolist") else found
        if isinstance(found, (list, tuple)):
            return [float(value) for value in found]
        value = float(found)
    except (Exception, SystemExit) as error:
        raise _broken(_("the metric {name} fails", name=one.name), one.path, error) from error
    if not math.isfinite(value):
        raise _strange(one, str(value))
    return value


@dataclass(frozen=True)
class _Mean:
    """The mean of a figure of every row."""

    names: tuple[str, ...]
    values: Floats

    @classmethod
    def of(cls, one: Own, values: list[float], rows: int) -> _Mean:
        import numpy as np

        if len(values) != rows:
            raise _strange(one, _("{values} figures of {rows} rows", values=len(values), rows=rows))
        found = np.asarray(values, dtype=np.float64)
        if not np.isfinite(found).all():
            raise _strange(one, str(found[~np.isfinite(found)][0]))
        return cls((one.name,), found)

    def figures(self, times: Floats) -> dict[str, Floats]:
        return {self.names[0]: metrics.divided(times @ self.values, times.sum(axis=-1))}


def _strange(one: Own, cause: str) -> Invalid:
    return Invalid(
        _("the metric {name} gives no figure", name=one.name),
        file=one.path,
        cause=cause,
        mend=_("give a number, or a list with one for every row"),
    )


def _broken(message: str, path: Path, error: BaseException) -> Invalid:
    """The line in the user's own file that fails, not the one of whatever it called."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    cause = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return Invalid(message, file=path, line=line, cause=cause, mend=_("put the function right, or remove the file"))
