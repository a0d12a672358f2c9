"""The deployment room: a trained version becomes files and services that answer as it did when it was measured.

In: models/adapter or models/merged, model_info.json, results.json and predictions.jsonl of a version. Out:
models/merged and models/gguf with exports.json, parity.json, what is put on a hub or a server, and
versions/deployments.json.
"""
