"""Great Expectations on a pandas frame, the expectations of one suite, results with all indexes."""

import sys

import great_expectations as gx
import pandas as pd
from _task import LABEL, LEAST, finish, path

try:
    frame = pd.read_json(path(), lines=True, dtype=False)
except ValueError as error:
    sys.exit(f"{type(error).__name__}: {error}")
context = gx.get_context(mode="ephemeral")
batch = (
    context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
).get_batch({"dataframe": frame})
expect = gx.expectations
suite = gx.ExpectationSuite(
    "rows",
    [
        expect.ExpectColumnValuesToNotBeNull(column="text"),
        expect.ExpectColumnValuesToNotBeNull(column="label"),
        expect.ExpectColumnValuesToBeInSet(column="label", value_set=LABEL[1]),
        expect.ExpectColumnValueLengthsToBeBetween(column="text", min_value=LEAST),
        expect.ExpectCompoundColumnsToBeUnique(column_list=["text", "label"]),
    ],
)
kinds = ["missing_field", "missing_field", "unknown_label", "too_short", "duplicate"]
results = batch.validate(suite, result_format="SUMMARY").results
by_type = dict(zip([one.expectation_type for one in suite.expectations], kinds, strict=False))
found: dict[str, int] = {}
for one in results:
    kind = by_type[one.expectation_config.type]
    count = one.result.get("unexpected_count", 0)
    if count:
        found[kind] = found.get(kind, 0) + count
finish(found, frame["label"].value_counts().to_dict())
