"""Drawings of a lineage: everything is in them, nothing overlaps, nothing in them runs, and a browser agrees."""

from __future__ import annotations

import html
import itertools
import json
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import TASK_YAML, Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from nlp_skills.provenance import graph, graph_model
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
SVG = "{http://www.w3.org/2000/svg}"


def make(root: Path, active: str = "v1") -> TaskFolder:
    root.mkdir(parents=True, exist_ok=True)
    text = TASK_YAML.format(name=root.name, base_model="none/none").replace("version: v1", f"version: {active}")
    (root / "task.yaml").write_text(text, encoding="utf-8")
    return TaskFolder.at(root)


def add(folder: TaskFolder, name: str, parent: str | None = None, *, data: str = "", value: float | None = None,
        changes: Sequence[str] = (), promoted: str | None = None) -> None:  # fmt: skip
    """A version with the lineage that the steps leave."""
    content: dict[str, Any] = {"version": name, "created": "2026-01-06T14:00:00+08:00", "changes": list(changes)}
    content |= {"parent": parent} if parent else {}
    content |= {"promoted_from": promoted} if promoted else {}
    content |= {"results": {"macro_f1": value}} if value is not None else {}
    if data:
        hashes = {split: f"sha256:{data}-{split}" for split in ("train", "valid", "test")}
        content["data"] = {"train_count": 700, "valid_count": 140, "test_count": 160, "hashes": hashes}
    path = folder.version(name).lineage_path
    path.parent.mkdir(parents=True)
    path.write_text(yaml.dumps(content), encoding="utf-8")


def deploy(folder: TaskFolder, *entries: dict[str, Any]) -> None:
    since = {"since": "2026-01-07T10:00:00+08:00"}
    content = {"schema_version": 1, "deployments": [{"target": "ollama", **since, **entry} for entry in entries]}
    folder.deployments_path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def task(project: Path) -> TaskFolder:
    """v1 is purged; v2-exp became v3; v4 is active and deployed; v5 cannot be read."""
    folder = make(project / "reviews", "v4")
    add(folder, "v2", "v1", data="a", value=0.72, changes=["初始版本之後"])
    add(folder, "v2-exp", "v2", data="a", value=0.7612)
    add(folder, "v2.1", "v2", data="a")
    add(folder, "v3", "v2", data="a", value=0.77, changes=["Focal loss"], promoted="v2-exp")
    add(folder, "v4", "v3", data="b", value=0.815, changes=["新增中立樣本 200 筆", "LoRA rank 32 → 64"])
    broken = folder.version("v5").lineage_path
    broken.parent.mkdir()
    broken.write_text("version: v5\ncreated: 2026-01-06T14:00:00Z\nparent: v4\nresults: {macro_f1: lots}\n")
    deploy(folder, {"name": "reviews:latest", "version": "v4", "follows": True}, {"name": "old", "version": "v2"})
    return folder


def fifty(root: Path) -> TaskFolder:
    """Fifty versions with branches and six data sets."""
    folder = make(root, "v30")
    names = ["v1"]
    add(folder, "v1", data="0", value=0.5)
    for number in range(2, 37):
        parent = names[-1] if number % 9 else names[-3]
        if number % 3 == 0:
            add(
                folder, f"{parent}-exp", parent, data=str(number // 7), value=0.5, changes=["learning_rate 1e-4 → 5e-5"]
            )
        promoted = f"{parent}-exp" if number % 3 == 0 and number % 2 == 0 else None
        add(
            folder,
            f"v{number}",
            parent,
            data=str(number // 7),
            value=number / 50,
            promoted=promoted,
            changes=["樣本" * 40],
        )
        names.append(f"v{number}")
    for number in (10, 20):
        add(folder, f"v{number}.1", f"v{number}", data=str(number // 7))
    deploy(folder, *({"name": f"place-{n}", "version": f"v{n}"} for n in (3, 4, 4, 4, 30)))
    return folder


class Drawn(NamedTuple):
    boxes: dict[str, tuple[float, float, float, float]]
    edges: list[tuple[str, str, list[tuple[float, float]]]]
    size: tuple[float, float]


def drawn(text: str) -> Drawn:
    """The geometry, read back from the file."""
    root = ET.fromstring(text)
    boxes = {}
    for node in root.iter(f"{SVG}g"):
        if "data-id" in node.attrib:
            box = next(rect for rect in node.iter(f"{SVG}rect") if rect.get("class") == "box")
            x, y, width, height = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
            assert node.attrib["data-id"] not in boxes
            boxes[node.attrib["data-id"]] = (x, y, x + width, y + height)
    edges = []
    for path in root.iter(f"{SVG}path"):
        if "data-from" in path.attrib:
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
            points = list(zip(numbers[::2], numbers[1::2], strict=True))
            edges.append((path.attrib["data-from"], path.attrib["data-to"], points))
    return Drawn(boxes, edges, (float(root.attrib["width"]), float(root.attrib["height"])))


def on_border(point: tuple[float, float], box: tuple[float, float, float, float]) -> bool:
    (x, y), (left, top, right, bottom) = point, box
    across = left - 0.01 <= x <= right + 0.01 and top - 0.01 <= y <= bottom + 0.01
    return across and min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) < 0.01


def check_geometry(text: str) -> Drawn:
    found = drawn(text)
    width, height = found.size
    for left, top, right, bottom in found.boxes.values():
        assert left >= 0 and top >= 90 and right <= width and bottom <= height
    for (one, a), (other, b) in itertools.combinations(found.boxes.items(), 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (one, other)
    for start, end, points in found.edges:
        assert on_border(points[0], found.boxes[start]), (start, end)
        assert on_border(points[-1], found.boxes[end]), (start, end)
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
        for name, box in found.boxes.items():
            assert not any(_inside(p, q, box) for p, q in itertools.pairwise(points)), (start, end, name)
    return found


def _inside(p: tuple[float, float], q: tuple[float, float], box: tuple[float, float, float, float]) -> bool:
    """Whether the line between two points goes through a box's inside."""
    left, top, right, bottom = box
    return (
        max(p[0], q[0]) > left + 0.5 and min(p[0], q[0]) < right - 0.5
        and max(p[1], q[1]) > top + 0.5 and min(p[1], q[1]) < bottom - 0.5
    )  # fmt: skip


def test_everything_is_in_the_text(task: TaskFolder, cli: Cli) -> None:
    ran = cli("lineage", "graph")
    assert ran.code == 0, ran.err
    head, *rest = ran.out.split("\n\n")
    assert "reviews" in head
    rows = rest[0].splitlines()
    columns = [re.split(r"  +", row.strip()) for row in rows[1:]]
    assert [row[0] for row in columns] == [
        "× v1 (gone)", "○ v2", "├─◇ v2-exp", "├─○ v2.1", "○ v3", "● v4 (*)", "○ v5",
    ]  # fmt: skip
    assert columns[1][1:3] == ["2026-01-06", "72.0%"] and columns[5][2] == "81.5%"
    assert columns[1][3] == columns[4][3] != columns[5][3]
    assert "promoted from v2-exp" in rows[5] and "wrong value for results.macro_f1" in rows[7]
    assert "v2, v2-exp, v2.1, v3" in rest[1] and "train 700 · valid 140 · test 160" in rest[1]
    assert "reviews:latest" in rest[2] and "follows the active version" in rest[2]
    assert "  v5: versions/v5/lineage.yaml:4: " in rest[3]


def test_columns_line_up_by_display_width(task: TaskFolder) -> None:
    deploy(task, {"name": "情感分析:latest", "version": "v4"}, {"name": "old", "version": "v2"})
    head, *rows = graph.text(task).split("\n\n")[1].splitlines()
    assert {cell_len(row[: row.index("2026-01-06")]) for row in rows[1:]} == {head.index("created")}
    assert {cell_len(row[: row.index(said)]) for row, said in ((rows[1], "初始"), (rows[4], "promoted"))} == {
        head.index("what changed")
    }
    places = graph.text(task).split("\n\n")[3].splitlines()[1:]
    assert len({cell_len(row[: row.index(version)]) for row, version in zip(places, ("v4", "v2"), strict=True)}) == 1


def test_branches_of_branches_keep_their_rails(project: Path) -> None:
    folder = make(project / "deep", "v5")
    for name, parent in [
        ("v1", None),
        ("v2", "v1"),
        ("v3", "v2"),
        ("v3-exp", "v3"),
        ("v4", "v2"),
        ("v5", "v1"),
        ("v9", None),
    ]:
        add(folder, name, parent)
    tree = [line.split("  2026")[0].rstrip() for line in graph.text(folder).split("\n")[3:-1]]
    assert tree == ["○ v1", "├─○ v2", "│ ├─○ v3", "│ │ └─◇ v3-exp", "│ ○ v4", "● v5 (*)", "", "○ v9"]


def test_nodes_and_edges_as_json(task: TaskFolder, cli: Cli) -> None:
    found = cli("lineage", "graph", "--json").json
    by_id = {node["id"]: node for node in found["nodes"]}
    assert by_id["v4"]["active"] and by_id["v2-exp"]["experiment"] and by_id["v1"]["gone"]
    assert by_id["v2"]["value"] == 0.72 and by_id["v5"]["problems"][0]["line"] == 4
    edges = {(edge["kind"], edge["from"], edge["to"]) for edge in found["edges"]}
    assert {edge[1:] for edge in edges if edge[0] == "parent"} == {
        ("v1", "v2"), ("v2", "v2-exp"), ("v2", "v2.1"), ("v2", "v3"), ("v3", "v4"), ("v4", "v5"),
    }  # fmt: skip
    assert ("promoted", "v2-exp", "v3") in edges
    made_with = {edge[2]: edge[1] for edge in edges if edge[0] == "data"}
    assert made_with["v2"] == made_with["v2.1"] == made_with["v3"] != made_with["v4"]
    assert by_id[made_with["v4"]]["rows"] == {"train": 700, "valid": 140, "test": 160}
    runs = {by_id[edge[2]]["name"]: edge[1] for edge in edges if edge[0] == "deployment"}
    assert runs == {"reviews:latest": "v4", "old": "v2"}
    assert all(edge[end] in by_id for edge in edges for end in (1, 2))


def test_the_svg_shows_the_same(task: TaskFolder, cli: Cli, project: Path) -> None:
    assert cli("lineage", "graph", "--svg", "lineage.svg").code == 0
    text = (project / "lineage.svg").read_text(encoding="utf-8")
    found = check_geometry(text)
    about = graph.as_dict(task)
    assert set(found.boxes) == {node["id"] for node in about["nodes"]}
    assert sorted(edge[:2] for edge in found.edges) == sorted((edge["from"], edge["to"]) for edge in about["edges"])
    root = ET.fromstring(text)
    assert root.attrib["role"] == "img"
    named = root.attrib["aria-labelledby"].split()
    words = {node.attrib["id"]: node.text or "" for node in root if "id" in node.attrib}
    assert "reviews" in words[named[0]] and "v4, from v3: active" in words[named[1]]
    classes = {node.get("data-id"): (node.get("class") or "").split() for node in root.iter(f"{SVG}g")}
    assert "active" in classes["v4"] and "experiment" in classes["v2-exp"]
    assert "gone" in classes["v1"] and "broken" in classes["v5"]
    assert "prefers-color-scheme: dark" in text
    assert str(project) not in text  # a drawing goes elsewhere; where it was made is nobody's business


def test_the_file_runs_and_loads_nothing(task: TaskFolder) -> None:
    text = graph.svg(task)
    root = ET.fromstring(text)
    assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
        "svg", "title", "desc", "style", "defs", "marker", "g", "rect", "path", "text",
    }  # fmt: skip
    assert not [key for node in root.iter() for key in node.attrib if key.startswith("on") or key.endswith("href")]
    assert not re.search(r"url\((?!#)|@import|<!|<\?", text)


NASTY = ["<script>alert(1)</script>", "a ]]> b & c", '"><g onload="x">', "</title></svg>", "\x1b[31m\x00\x0b\ufffe red"]


def test_what_people_wrote_stays_text(project: Path) -> None:
    folder = make(project / "nasty")
    add(folder, "v1", "<script>alert(2)</script>", value=0.5)
    for number, text in enumerate(NASTY, 2):
        add(folder, f"v{number}", f"v{number - 1}", changes=[text.replace("\x00", "\\0")])
    deploy(folder, {"name": NASTY[0], "version": "v2"}, {"name": NASTY[2], "version": "v9</g>"})
    text = graph.svg(folder)
    check_geometry(text)
    root = ET.fromstring(text)
    said = " ".join(node.text or "" for node in root.iter(f"{SVG}title"))
    assert all(wanted in said for wanted in NASTY[:4])
    assert not list(root.iter(f"{SVG}script")) and "<script" not in text
    assert not {c for c in text + graph.text(folder) if ord(c) < 32 and c != "\n"}


def test_long_text_is_cut(project: Path) -> None:
    folder = make(project / "long")
    add(folder, "v1", changes=["字" * 5000])
    assert max(map(len, graph.text(folder).splitlines())) < 200
    shown = [node.text or "" for node in ET.fromstring(graph.svg(folder)).iter(f"{SVG}text")]
    assert max(map(len, shown)) < 80 and any(text.endswith("字…") for text in shown)


def test_versions_without_hashes_share_data_only_by_their_source(project: Path) -> None:
    folder = make(project / "old")
    for name, train in (("v1", 500), ("v2", 700), ("v3", 700)):
        add(folder, name)
        path = folder.version(name).lineage_path
        content = path.read_text(encoding="utf-8")
        path.write_text(f"{content}data:\n  source_hash: abc123def456\n  train_count: {train}\n", encoding="utf-8")
    text = graph.text(folder)
    assert "abc123de (its source; the splits are not on record)" in text
    assert "v2, v3" in text and "v1, v2" not in text
    assert "source abc123de" in graph.svg(folder)


def test_no_versions_yet(project: Path, cli: Cli) -> None:
    folder = make(project / "new")
    for ran in (cli("lineage", "graph"), cli("lineage", "graph", "--svg", "x.svg")):
        assert ran.code == 0
    assert "nlp-skills generate" in graph.text(folder)
    assert "nlp-skills generate" in "".join(ET.fromstring(graph.svg(folder)).itertext())


def test_parents_in_a_circle_are_drawn_and_said(project: Path, cli: Cli) -> None:
    folder = make(project / "circle")
    for name, parent in [("v1", "v2"), ("v2", "v1"), ("v3", "v3"), ("v4", "v2")]:
        add(folder, name, parent)
    text = graph.text(folder)
    assert "circle" in text and "its own parent" in text
    assert all(name in text for name in ("v1", "v2", "v3", "v4"))
    assert len([box for box in check_geometry(graph.svg(folder)).boxes if box.startswith("v")]) == 4


def test_deployments_that_cannot_be_read_are_said(task: TaskFolder, cli: Cli) -> None:
    task.deployments_path.write_text('{"deployments": [{"target": "moon"}]}', encoding="utf-8")
    ran = cli("lineage", "graph")
    assert ran.code == 0 and "deployments.json" in ran.out and "v4 (*)" in ran.out
    assert "deployments.json" in "".join(ET.fromstring(graph.svg(task)).itertext())
    assert "deployments.json" in cli("lineage", "graph", "--json").json["problems"][0]["file"]


def test_drawing_writes_nothing(task: TaskFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in task.root.rglob("*")}
    graph.text(task), graph.svg(task), graph.as_dict(task)
    assert {path: path.stat().st_mtime_ns for path in task.root.rglob("*")} == before


def test_fifty_versions(project: Path) -> None:
    folder = fifty(project / "fifty")
    assert len(folder.version_names()) == 50
    found = check_geometry(graph.svg(folder))
    assert len(found.boxes) == 50 + 6 + 5
    assert found.size[0] < 1600
    text = graph.text(folder)
    assert max(map(cell_len, text.splitlines())) <= 160
    listed = [line.split("2026")[0] for line in text.splitlines()]
    assert all(sum(re.search(rf"[○●◇] {re.escape(name)}( |$)", line) is not None for line in listed) == 1
               for name in folder.version_names())  # fmt: skip


_NAMES = [f"v{n}{end}" for n in range(1, 7) for end in ("", ".1", "-exp")]
_LINEAGES = st.dictionaries(
    st.sampled_from(_NAMES),
    st.tuples(
        st.sampled_from([None, *_NAMES]), st.sampled_from([None, None, *_NAMES]), st.sampled_from(["", "a", "b", "c"])
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(_LINEAGES, st.sampled_from(_NAMES), st.lists(st.sampled_from(_NAMES), max_size=4))
def test_whatever_came_from_whatever(
    lineages: dict[str, tuple[str | None, str | None, str]], active: str, running: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = make(Path(place) / "any", active)
        (folder.root / "versions").mkdir()
        for name, (parent, promoted, data) in lineages.items():
            add(folder, name, parent, promoted=promoted, data=data)
        deploy(folder, *({"name": f"p{n}", "version": name} for n, name in enumerate(running)))
        found = check_geometry(graph.svg(folder))
        model = graph_model.read(folder)
        text, about = graph.text(folder), graph.as_dict(folder)
    assert set(found.boxes) == {node["id"] for node in about["nodes"]}
    assert {*lineages, *running} <= set(found.boxes)
    rows = graph_model.rows(model)
    assert sorted(row.name for row in rows) == sorted(model.versions)
    placed = {row.name: index for index, row in enumerate(rows)}
    assert all(placed[edge.start] < placed[edge.end] for edge in model.of("parent"))
    assert all(name in text for name in lineages)


_MEASURE = """
onload = () => {
  const out = [], root = document.querySelector("svg");
  for (const node of root.querySelectorAll("g.node")) {
    const box = node.querySelector("rect.box").getBBox();
    const texts = [...node.querySelectorAll("text")].map(text => text.getBBox());
    for (const text of texts)
      if (text.x < box.x || text.x + text.width > box.x + box.width || text.y < box.y ||
          text.y + text.height > box.y + box.height) out.push("out of " + node.dataset.id);
    for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
      const a = texts[i], b = texts[j];
      if (a.x < b.x + b.width && b.x < a.x + a.width && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height)
        out.push("on each other in " + node.dataset.id);
    }
  }
  const paper = getComputedStyle(root.querySelector(".paper")).fill;
  document.body.append("nodes=" + root.querySelectorAll("g.node").length + " bad=[" + out + "] paper=" + paper);
}
"""


@pytest.mark.parametrize(("scheme", "paper"), [(0, "rgb(21, 24, 27)"), (1, "rgb(253, 253, 251)")])
def test_a_browser_finds_every_text_in_its_box(
    project: Path, task: TaskFolder, chromium: str, tmp_path: Path, scheme: int, paper: str
) -> None:
    """In light and in dark; a script outside the drawing measures it."""
    large = fifty(project / "fifty")
    for folder in (task, large):
        page = tmp_path / f"{folder.root.name}.html"
        page.write_text(
            f"<!DOCTYPE html><meta charset=utf-8><body>{graph.svg(folder)}<script>{_MEASURE}</script>", encoding="utf-8"
        )
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=3000",
            "--dump-dom", page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        said = re.search(r"nodes=(\d+) bad=\[(.*?)\] paper=(rgb\(.*?\))", html.unescape(done.stdout))
        assert said, done.stdout[-300:] + done.stderr[-800:]
        assert int(said[1]) == len(graph.as_dict(folder)["nodes"])
        assert said[2] == "" and said[3] == paper
