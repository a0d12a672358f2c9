"""A task drawn: its versions, the data they were made with and where they run, as text, as SVG and as data."""

from __future__ import annotations

from typing import Any

from nlp_skills.provenance import graph_model, graph_svg, graph_text
from nlp_skills.provenance.graph_model import Graph, Version
from nlp_skills.workspace.folder import TaskFolder


def text(folder: TaskFolder) -> str:
    """The drawing for a terminal.

    Raises:
        Invalid: task.yaml is wrong; a version that cannot be read is drawn with the reason.
    """
    return graph_text.draw(graph_model.read(folder))


def svg(folder: TaskFolder) -> str:
    """The drawing as one SVG file that loads nothing and runs nothing, for light and dark screens.

    Raises:
        Invalid: task.yaml is wrong; a version that cannot be read is drawn with the reason.
    """
    return graph_svg.draw(graph_model.read(folder))


def as_dict(folder: TaskFolder) -> dict[str, Any]:
    """Nodes and edges; every edge names two nodes by their `id`, from what was first to what came of it.

    Raises:
        Invalid: task.yaml is wrong.
    """
    graph = graph_model.read(folder)
    return {
        "ok": True,
        "task": graph.task,
        "version": graph.active,
        "primary_metric": graph.metric,
        "nodes": _nodes(graph),
        "edges": [{"kind": edge.kind, "from": edge.start, "to": edge.end} for edge in graph.edges],
        "problems": [problem.as_dict() for problem in graph.problems],
    }


def _nodes(graph: Graph) -> list[dict[str, Any]]:
    nodes = [_version(version) for version in graph.versions.values()]
    for key, data in graph.data.items():
        hashes = {"rows": data.rows, "hashes": data.hashes, "splits_recorded": data.known}
        nodes.append({"id": key, "kind": "data", "short": data.short, **hashes})
    for key, entry in graph.deployments.items():
        nodes.append({"id": key, "kind": "deployment", **entry.model_dump(mode="json", exclude_none=True)})
    return nodes


def _version(version: Version) -> dict[str, Any]:
    node = {
        "id": version.name,
        "kind": "version",
        "active": version.active,
        "experiment": version.experiment,
        "gone": version.gone,
        "created": version.created.isoformat() if version.created else None,
        "value": version.value,
        "changes": version.changes,
        "problems": [problem.as_dict() for problem in version.problems],
    }
    return {key: value for key, value in node.items() if value is not None}
