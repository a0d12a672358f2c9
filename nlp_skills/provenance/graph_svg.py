"""The drawing as SVG: versions from top to bottom, their data to the left, where they run to the right.

Lengths are pixels. Everything is a box and lines between boxes; the template only writes them down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nlp_skills import pages
from nlp_skills.evaluation import words
from nlp_skills.i18n import _
from nlp_skills.provenance import graph_model, graph_text
from nlp_skills.provenance.graph_model import Edge, Graph, Row, Version, clean

MARGIN, HEAD, GAP = 32, 112, 16
CARD, CARD_HEIGHT, GHOST_HEIGHT = 352, 56, 34
LANE, STEM = 40, 20
DATA, DATA_HEIGHT = 236, 52
PLACE, PLACE_HEIGHT = 288, 52
TRACK, BEND = 12, 7
COLOURS = 6
NARROWEST = 620

Point = tuple[float, float]
Name = TypeVar("Name", str, Edge)


@dataclass(frozen=True)
class Label:
    """A line of text, from `x` on, or ending there where it is to the right."""

    text: str
    x: float
    y: float
    style: str


@dataclass(frozen=True)
class Box:
    """A node: `title` is all that is known of it, for pointing at and for screen readers."""

    id: str
    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str
    labels: list[Label] = field(default_factory=list)
    colour: int = 0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        return self.x + self.width


@dataclass(frozen=True)
class Line:
    """An edge from one box's border to another's."""

    edge: Edge
    path: str
    colour: int = 0


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a piece of line and its meaning."""

    kind: str
    text: str
    x: float


def draw(graph: Graph) -> str:
    """The whole file; text of people's is escaped and cut to its box."""
    placed = graph_model.rows(graph)
    tracks = _tracks(graph, placed)
    left = MARGIN + (DATA + 36 + TRACK * max(tracks.values(), default=0) if graph.data else 0)
    versions = _version_boxes(graph, placed, left)
    floor = max((box.y + box.height for box in versions.values()), default=HEAD + 20)
    data = _data_boxes(graph, versions)
    edge = max((box.right for box in versions.values()), default=left)
    promotions = _promotions(graph, placed)
    outer = edge + 14 + TRACK * (max(promotions.values(), default=-1) + 1)
    places = _place_boxes(graph, versions, outer + 48)
    boxes = {**data, **versions, **places}
    lines = [
        *_data_lines(graph, boxes, tracks),
        *_parent_lines(graph, placed, versions),
        *_promotion_lines(graph, versions, promotions),
        *(_place_line(found, boxes, outer) for found in graph.of("deployment")),
    ]
    width = max([NARROWEST, *(box.right + MARGIN for box in boxes.values()), outer + MARGIN])
    height = max([floor, *(box.y + box.height for box in boxes.values())]) + MARGIN
    return pages.render(
        Path(__file__).parent / "templates",
        "lineage.svg.j2",
        {"title": _("Lineage of {task}", task=clean(graph.task))},
        {
            "width": width,
            "height": height,
            "description": " ".join(_sentences(graph, placed)),
            "subtitle": _subtitle(graph),
            "complaints": [fit(graph.words(problem), width - 2 * MARGIN, 12.5) for problem in graph.problems],
            "legend": list(_legend(graph)),
            "boxes": [*data.values(), *places.values(), *versions.values()],
            "lines": lines,
            "margin": MARGIN,
            "head": HEAD,
        },
    )


def _tracks(graph: Graph, placed: Sequence[Row]) -> dict[str, int]:
    """Each data set's own vertical line: the nearest to the versions that no other occupies at that height."""
    order = {row.name: index for index, row in enumerate(placed)}
    spans = {
        key: (min(uses), max(uses))
        for key in graph.data
        if (uses := [order[edge.end] for edge in graph.of("data") if edge.start == key])
    }
    # The box of a data set may stand a little off its rows: neighbours do not share a line.
    return _packed({key: (low - 1, high + 1) for key, (low, high) in spans.items()})


def _promotions(graph: Graph, placed: Sequence[Row]) -> dict[Edge, int]:
    order = {row.name: index for index, row in enumerate(placed)}
    ends = {edge: sorted((order[edge.start], order[edge.end])) for edge in graph.of("promoted")}
    return _packed({edge: (low, high) for edge, (low, high) in ends.items()})


def _packed(spans: Mapping[Name, tuple[int, int]]) -> dict[Name, int]:
    """The lowest free track for each span; shorter spans first, so that they lie inside."""
    taken: list[list[tuple[int, int]]] = []
    found = {}
    for key, (low, high) in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[1])):
        free = (n for n, others in enumerate(taken) if all(high < start or low > end for start, end in others))
        track = next(free, len(taken))
        if track == len(taken):
            taken.append([])
        taken[track].append((low, high))
        found[key] = track
    return found


def _version_boxes(graph: Graph, placed: Sequence[Row], left: float) -> dict[str, Box]:
    boxes, y = {}, float(HEAD)
    for row in placed:
        version = graph.versions[row.name]
        box = _ghost(version, left + LANE * row.lane, y) if version.gone else _card(graph, version, row, left, y)
        boxes[row.name] = box
        y += box.height + GAP
    return boxes


def _ghost(version: Version, x: float, y: float) -> Box:
    text = _("{name} (gone)", name=fit(version.name, 100, 13))
    return Box(version.name, "gone", x, y, 180, GHOST_HEIGHT, text, [Label(text, x + 16, y + 22, "soft")])


def _card(graph: Graph, version: Version, row: Row, left: float, y: float) -> Box:
    x = left + LANE * row.lane
    kinds = [
        "version",
        *(k for k in ("active", "experiment") if getattr(version, k)),
        *(["broken"] * bool(version.problems)),
    ]
    value = "" if version.value is None else words.figure(graph.metric, version.value)
    badge = _badge(version)
    name = fit(version.name, CARD / 2, 15, bold=True)
    room = CARD - 32 - measure(name, 15, bold=True) - 10 - measure(value, 15, bold=True) - 10
    labels = [
        Label(name, x + 16, y + 24, "name"),
        Label(fit(badge, room, 12, bold=True), x + 16 + measure(name, 15, bold=True) + 10, y + 24, "badge"),
        Label(value, x + CARD - 14, y + 24, "figure right"),
        Label(fit(_about(version), CARD - 30, 12.5), x + 16, y + 43, "broken" if version.problems else "soft"),
    ]
    title = _title(graph, version)
    return Box(version.name, " ".join(kinds), x, y, CARD, CARD_HEIGHT, title, [label for label in labels if label.text])


def _about(version: Version) -> str:
    if version.problems:
        return clean(version.problems[0].message)
    day = [graph_text.day(version)] if version.created else []
    return " · ".join([*day, *(clean(change) for change in version.changes)])


def _badge(version: Version) -> str:
    return " · ".join(
        text for text, due in ((_("active"), version.active), (_("experiment"), version.experiment)) if due
    )


def _title(graph: Graph, version: Version) -> str:
    parts = [version.name, _badge(version), graph_text.day(version) if version.created else ""]
    if version.value is not None:
        parts.append(f"{words.metric(graph.metric)} {words.figure(graph.metric, version.value)}")
    parts += [graph.words(problem) for problem in version.problems] or [clean(change) for change in version.changes]
    return " · ".join(part for part in parts if part)


def _data_boxes(graph: Graph, versions: Mapping[str, Box]) -> dict[str, Box]:
    """Each at the first version made with it, or below its neighbour where that is in the way."""
    first = {key: min(versions[edge.end].y for edge in graph.of("data") if edge.start == key) for key in graph.data}
    boxes, y = {}, float(HEAD)
    for index, key in enumerate(sorted(graph.data, key=lambda key: first[key])):
        data, y = graph.data[key], max(y, first[key])
        name = _("data {hash}", hash=data.short) if data.known else _("source {hash}", hash=data.short)
        counts = graph_text.row_counts(data.rows)
        labels = [
            Label(name, MARGIN + 16, y + 22, "mono"),
            Label(_short_counts(counts, data.rows), MARGIN + 16, y + 40, "soft"),
        ]
        title = " · ".join([name, counts, *(f"{split} {value}" for split, value in data.hashes.items())])
        boxes[key] = Box(key, "data", MARGIN, y, DATA, DATA_HEIGHT, title, labels, index % COLOURS)
        y += DATA_HEIGHT + GAP
    return boxes


def _short_counts(counts: str, rows: Mapping[str, int]) -> str:
    room = DATA - 28
    return counts if measure(counts, 12) <= room else fit(" / ".join(map(str, rows.values())), room, 12)


def _place_boxes(graph: Graph, versions: Mapping[str, Box], x: float) -> dict[str, Box]:
    boxes, y = {}, float(HEAD)
    for key in sorted(graph.deployments, key=lambda key: versions[graph.deployments[key].version].y):
        entry = graph.deployments[key]
        y = max(y, versions[entry.version].middle - PLACE_HEIGHT / 2)
        name = entry.name
        follows = [_("follows active")] if entry.follows else []
        about = " · ".join([entry.target, f"{entry.since.astimezone():%Y-%m-%d}", *follows])
        labels = [
            Label(fit(name, PLACE - 30, 13.5, bold=True), x + 16, y + 22, "place"),
            Label(fit(about, PLACE - 30, 12), x + 16, y + 40, "soft"),
        ]
        boxes[key] = Box(key, "deployment", x, y, PLACE, PLACE_HEIGHT, f"{name} · {about}", labels)
        y += PLACE_HEIGHT + GAP
    return boxes


def _data_lines(graph: Graph, boxes: Mapping[str, Box], tracks: Mapping[str, int]) -> Iterable[Line]:
    for edge in graph.of("data"):
        box, version = boxes[edge.start], boxes[edge.end]
        track = MARGIN + DATA + 16 + TRACK * tracks[edge.start]
        end = version.y + version.height * 0.72
        yield Line(
            edge, _bent([(box.right, box.middle), (track, box.middle), (track, end), (version.x, end)]), box.colour
        )


def _parent_lines(graph: Graph, placed: Sequence[Row], boxes: Mapping[str, Box]) -> Iterable[Line]:
    """Straight down to the child that goes on, round a corner to one that branches off."""
    branching = {row.name: row.starts for row in placed}
    for edge in graph.of("parent"):
        parent, child = boxes[edge.start], boxes[edge.end]
        stem, foot = parent.x + STEM, parent.y + parent.height
        if branching[edge.end]:
            middle = child.y + min(18, child.height / 2)
            yield Line(edge, _bent([(stem, foot), (stem, middle), (child.x, middle)]))
        else:
            yield Line(edge, _bent([(stem, foot), (stem, child.y)]))


def _promotion_lines(graph: Graph, boxes: Mapping[str, Box], tracks: Mapping[Edge, int]) -> Iterable[Line]:
    """Round the right side of all that stands between the two."""
    for found in graph.of("promoted"):
        start, end = boxes[found.start], boxes[found.end]
        low, high = sorted((start.y, end.y))
        track = max(box.right for box in boxes.values() if low <= box.y <= high) + 14 + TRACK * tracks[found]
        begin, arrive = start.y + start.height * 0.75, end.y + end.height * 0.25
        yield Line(found, _bent([(start.right, begin), (track, begin), (track, arrive), (end.right, arrive)]))


def _place_line(edge: Edge, boxes: Mapping[str, Box], outer: float) -> Line:
    version, place = boxes[edge.start], boxes[edge.end]
    bend = outer + 20
    return Line(
        edge,
        _bent([(version.right, version.middle), (bend, version.middle), (bend, place.middle), (place.x, place.middle)]),
    )


def _bent(points: Sequence[Point]) -> str:
    """A path along right angles with round corners."""
    corners = [points[0], *(p for p, q in zip(points[1:], points, strict=False) if p != q)]
    path = f"M{_at(corners[0])}"
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        bend = min(BEND, _length(before, corner) / 2, _length(corner, after) / 2)
        path += f"L{_at(_toward(corner, before, bend))}Q{_at(corner)} {_at(_toward(corner, after, bend))}"
    return f"{path}L{_at(corners[-1])}"


def _length(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _toward(point: Point, other: Point, distance: float) -> Point:
    length = _length(point, other) or 1
    return tuple(p + (q - p) * distance / length for p, q in zip(point, other, strict=True))  # type: ignore[return-value]


def _at(point: Point) -> str:
    return f"{point[0]:g} {point[1]:g}"


def _subtitle(graph: Graph) -> str:
    here = sum(not version.gone for version in graph.versions.values())
    if not here:
        return _("no versions yet: nlp-skills generate makes the first")
    parts = [_("versions: {count}", count=here), _("active: {version}", version=graph.active)]
    return " · ".join([*parts, words.metric(graph.metric)])


def _legend(graph: Graph) -> Iterable[Key]:
    meanings = {
        "parent": _("came from"),
        "promoted": _("promoted"),
        "data": _("made with"),
        "deployment": _("runs at"),
    }
    x = float(MARGIN)
    for kind, text in meanings.items():
        if graph.of(kind):  # type: ignore[arg-type]
            yield Key(kind, text, x)
            x += 36 + measure(text, 12.5) + 24


def _sentences(graph: Graph, placed: Sequence[Row]) -> Iterable[str]:
    """The drawing in words, for who does not see it."""
    yield _subtitle(graph) + "."
    for row in placed:
        version = graph.versions[row.name]
        if version.gone:
            yield _("{name} (gone)", name=row.name) + "."
            continue
        came = _("{name}, from {parent}", name=row.name, parent=version.parent) if version.parent else row.name
        yield f"{came}: {_title(graph, version).partition(' · ')[2] or '-'}."


def measure(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a text is in the fonts that screens have; rather too much than too little."""
    return sum(_advance(character) for character in text) * size * (1.1 if bold else 1)


def _advance(character: str) -> float:
    from rich.cells import cell_len

    if cell_len(character) == 2:
        return 1.02
    if character in "iljtfrI.,:;!'|()[] ·-":
        return 0.37
    if character in "mwMW@%→…":
        return 0.9
    return 0.7 if character.isupper() else 0.63


def fit(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """At most so wide, with an ellipsis where something is left out."""
    if measure(text, size, bold=bold) <= width:
        return text
    kept = ""
    for character in text:
        if measure(f"{kept}{character}…", size, bold=bold) > width:
            break
        kept += character
    return f"{kept.rstrip()}…" if kept.strip() else ""
