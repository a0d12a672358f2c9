"""Why a version fails: confusions by cost, slices that are worse, neighbours of errors, labels that look wrong.

In: predictions.jsonl and the splits. Out: an analysis as plain data, for the command line, the report and a diagnosis.
"""
