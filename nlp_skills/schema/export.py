"""The documents as JSON Schemas, for editors and for other programs: `python -m nlp_skills.schema.export FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.schema.data_lock import DataLock
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.deployment import Deployments, Exports, Parity
from nlp_skills.schema.document import Document
from nlp_skills.schema.summary import TaskSummary
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import DataSnapshot, Lineage, ModelInfo, Results, RunStatus

DOCUMENTS: dict[str, type[Document]] = {
    "task": Task,
    "data_source": DataSource,
    "data_lock": DataLock,
    "config": Config,
    "lineage": Lineage,
    "data_snapshot": DataSnapshot,
    "results": Results,
    "model_info": ModelInfo,
    "task_summary": TaskSummary,
    "run_status": RunStatus,
    "deployments": Deployments,
    "exports": Exports,
    "parity": Parity,
}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one document, with the short spellings that are read too."""
    made = DOCUMENTS[name].model_json_schema(by_alias=True)
    _allow_short_forms(made.get("$defs", {}))
    if name == "data_source":
        made["properties"]["sources"]["items"] = {"anyOf": [made["properties"]["sources"]["items"], _LONG_SOURCE]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


# A source's settings may stand under `config:`; reading lifts them beside `type`.
_LONG_SOURCE = {
    "type": "object",
    "properties": {"type": {"type": "string"}, "name": {"type": "string"}, "config": {"type": "object"}},
    "required": ["type", "config"],
}


def _allow_short_forms(parts: dict[str, Any]) -> None:
    """`retention: 3`, and `lora_r` in a lineage's config: what validators accept before they look closer."""
    if "Versioning" in parts:
        fields = parts["Versioning"]["properties"]
        fields["retention"] = {"anyOf": [fields["retention"], {"type": "integer", "minimum": 1}]}
    if "LineageConfig" in parts:
        parts["LineageConfig"]["properties"]["lora_r"] = {"type": "integer", "minimum": 1}


def text(name: str) -> str:
    """The schema as the file has it."""
    return json.dumps(schema(name), ensure_ascii=False, indent=2) + "\n"


def export(folder: Path) -> list[Path]:
    """Write every schema into `folder`."""
    paths = {name: folder / f"{name}.schema.json" for name in DOCUMENTS}
    for name, path in paths.items():
        files.write_text(path, text(name))
    return list(paths.values())


if __name__ == "__main__":
    for written in export(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas")):
        print(written)
