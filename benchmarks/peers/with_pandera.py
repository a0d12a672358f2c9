"""pandera on a polars frame, with all failures collected (lazy)."""

import sys

import pandera.polars as pa
import polars as pl
from _task import LABEL, LEAST, finish, path

try:
    frame = pl.read_ndjson(path())
except pl.exceptions.PolarsError as error:
    sys.exit(f"{type(error).__name__}: {error}")
schema = pa.DataFrameSchema(
    {
        "text": pa.Column(str, pa.Check.str_length(min_value=LEAST), nullable=False),
        "label": pa.Column(str, pa.Check.isin(LABEL[1]), nullable=False),
    },
    unique=["text", "label"],
    report_duplicates="exclude_first",
)
found: dict[str, int] = {}
try:
    schema.validate(frame, lazy=True)
except pa.errors.SchemaErrors as error:
    kinds = {
        "not_nullable": "missing_field",
        f"isin({LABEL[1]})": "unknown_label",
        f"str_length({LEAST}, None)": "too_short",
        "multiple_fields_uniqueness": "duplicate",
    }
    for check, count in error.failure_cases["check"].value_counts().iter_rows():
        kind = kinds.get(check, check)
        found[kind] = found.get(kind, 0) + count
finish(found, dict(frame["label"].value_counts().iter_rows()))
