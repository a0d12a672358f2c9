"""The drawing for a terminal: a line a version, then the data and the deployments they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nlp_skills.evaluation import words
from nlp_skills.i18n import _
from nlp_skills.provenance import graph_model
from nlp_skills.provenance.graph_model import Graph, Row, Version, clean

_CHANGES = 56


def draw(graph: Graph) -> str:
    """Lines aligned by display width; Chinese takes two columns a character."""
    lines = [_("{task}: lineage", task=clean(graph.task)), ""]
    if not graph.versions:
        lines.append(_("no versions yet: nlp-skills generate makes the first"))
    else:
        lines += _versions(graph)
    for block in (_data(graph), _deployments(graph), _problems(graph)):
        if block:
            lines += ["", *block]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def cut(text: str, limit: int) -> str:
    """At most so many columns."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= limit else set_cell_size(text, limit - 1).rstrip() + "…"


def _versions(graph: Graph) -> Iterator[str]:
    head = ["", _("created"), words.metric(graph.metric), _("data"), _("what changed")]
    placed = graph_model.rows(graph)
    cells = [_cells(graph, row) for row in placed]
    lines = _aligned([head, *cells], right=2)
    yield lines[0]
    for index, (row, line) in enumerate(zip(placed, lines[1:], strict=True)):
        if index and row.lane == 0 and row.starts:
            yield ""
        yield line


def _cells(graph: Graph, row: Row) -> list[str]:
    version = graph.versions[row.name]
    data = graph.data.get(version.data or "")
    return [
        f"{_rails(row)}{_mark(version)} {_name(version)}",
        day(version),
        "-" if version.value is None else words.figure(graph.metric, version.value),
        data.short if data else "-",
        cut(about(version), _CHANGES),
    ]


def _rails(row: Row) -> str:
    rails = ["│ " if on else "  " for on in row.goes_on[: row.lane]]
    if row.lane and row.starts:
        rails[-1] = "├─" if row.goes_on[row.lane - 1] else "└─"
    return "".join(rails)


def _mark(version: Version) -> str:
    if version.gone:
        return "×"
    if version.active:
        return "●"
    return "◇" if version.experiment else "○"


def _name(version: Version) -> str:
    name = version.name
    if version.gone:
        return _("{name} (gone)", name=name)
    return f"{name} (*)" if version.active else name


def day(version: Version) -> str:
    """When it was made, on the clock here."""
    return f"{version.created.astimezone():%Y-%m-%d}" if version.created else "-"


def about(version: Version) -> str:
    """What there is to say of a version in one line: why it cannot be read, or what changed."""
    if version.problems:
        return _("cannot be read whole: {reason}", reason=clean(version.problems[0].message))
    said = [_("promoted from {name}", name=version.promoted_from)] if version.promoted_from else []
    return ", ".join([*said, *(clean(change) for change in version.changes)]) or "-"


def row_counts(counts: dict[str, int]) -> str:
    """Train 700 · valid 140 · test 160."""
    return " · ".join(f"{name} {count}" for name, count in counts.items())


def _data(graph: Graph) -> list[str]:
    cells = []
    for key, data in graph.data.items():
        names = [edge.end for edge in graph.of("data") if edge.start == key]
        title = data.short if data.known else _("{hash} (its source; the splits are not on record)", hash=data.short)
        cells.append([f"  {title}", row_counts(data.rows), cut(", ".join(names), _CHANGES)])
    return [_("data"), *_aligned(cells)] if cells else []


def _deployments(graph: Graph) -> list[str]:
    cells = [
        [f"  {entry.target}", entry.name, entry.version, f"{entry.since.astimezone():%Y-%m-%d}", follows(entry)]
        for entry in graph.deployments.values()
    ]
    return [_("deployments"), *_aligned(cells)] if cells else []


def follows(entry: object) -> str:
    """Whether a deployment stands for whatever version is active."""
    return _("follows the active version") if getattr(entry, "follows", False) else ""


def _problems(graph: Graph) -> list[str]:
    found = [f"  {name}: {graph.words(p)}" for name, version in graph.versions.items() for p in version.problems]
    found += [f"  {graph.words(problem)}" for problem in graph.problems]
    return [_("cannot be read whole"), *found] if found else []


def _aligned(rows: Sequence[Sequence[str]], right: int | None = None) -> list[str]:
    from rich.cells import cell_len

    if not rows:
        return []
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        parts = [gap + cell if n == right else cell + gap for n, (cell, gap) in enumerate(zip(row, gaps, strict=True))]
        lines.append("  ".join(parts).rstrip())
    return lines
