"""The committed JSON Schemas are those of the models, and accept what the models accept."""

import json

import jsonschema
import pytest
from conftest import ROOT

from nlp_skills.schema import export


@pytest.mark.parametrize("name", sorted(export.DOCUMENTS))
def test_the_committed_schema_is_current(name: str) -> None:
    committed = (ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert committed == export.text(name), "run: make schemas"


@pytest.mark.parametrize("name", sorted(export.DOCUMENTS))
def test_each_is_a_json_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(export.schema(name))


def test_short_spellings_that_are_read_are_not_underlined_by_editors() -> None:
    database = {"type": "database", "config": {"connection": "sqlite:///x.db", "query": "SELECT 1"}}
    jsonschema.validate({"sources": [database]}, export.schema("data_source"))
    task = {
        "task_name": "x",
        "task_type": "generation",
        "input_template": "{text}",
        "output_format": {"type": "text", "schema": {"output": {"type": "string"}}},
        "versioning": {"retention": 3},
    }
    jsonschema.validate(task, export.schema("task"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**task, "tresholds": 1}, export.schema("task"))


def test_the_file_is_what_an_editor_reads() -> None:
    assert json.loads(export.text("config"))["additionalProperties"] is False
