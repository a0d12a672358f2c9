"""Labels that look wrong: each row is judged by a model that never saw it, and confident learning draws the line."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nlp_skills.data.audit.pii import excerpt
from nlp_skills.data.audit.reading import Entry
from nlp_skills.data.split import keyed_hash
from nlp_skills.extras import need
from nlp_skills.schema.task import Task

FOLDS = 5
FEWEST_ROWS = 50
# Above this many rows a sample is judged: the time grows with rows times classes.
MOST_ROWS = 50_000
MOST_SHOWN = 500
_FEATURES = 200_000


def search(entries: Sequence[Entry], task: Task, seed: int) -> dict[str, Any]:
    """Suspected labels, the least believable first, and how well the judging model knows the labels at all.

    Out-of-fold probabilities of a logistic regression over TF-IDF of one to three characters; rows that were made
    by augmentation take no part. What was left out, and why, is under `skipped` and `left_out`.

    Raises:
        Unavailable: the extra `quality` is missing.
    """
    need("quality", "sklearn", "cleanlab")
    if task.label_field is None:
        return _skipped("not_classification")
    field = task.label_field
    own = sorted((entry for entry in entries if entry.method is None), key=lambda entry: keyed_hash(seed, entry.key))
    taken = own[:MOST_ROWS]
    judge = _many if task.multi_label else _one
    found = judge(taken, field, seed)
    if "skipped" not in found:
        found["unjudged"] = len(own) - len(taken)
    return found


def _skipped(code: str, **values: Any) -> dict[str, Any]:
    return {"skipped": {"code": code, **values}, "count": 0, "found": []}


def _enough(counts: Counter[str], rows: int) -> dict[str, Any] | None:
    usable = [label for label, count in counts.items() if count >= FOLDS]
    if len(counts) < 2:
        return _skipped("one_class")
    if rows < FEWEST_ROWS:
        return _skipped("too_few_rows", rows=rows, needed=FEWEST_ROWS)
    if len(usable) < 2:
        return _skipped("too_few_rows_in_classes", needed=FOLDS)
    return None


def _one(entries: Sequence[Entry], field: str, seed: int) -> dict[str, Any]:
    """One label a row."""
    import numpy as np
    from cleanlab.filter import find_label_issues
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    counts = Counter(str(entry.row[field]) for entry in entries)
    refusal = _enough(counts, len(entries))
    if refusal:
        return refusal
    labels = sorted(label for label, count in counts.items() if count >= FOLDS)
    rows = [entry for entry in entries if counts[str(entry.row[field])] >= FOLDS]
    given = np.array([labels.index(str(entry.row[field])) for entry in rows])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = cross_val_predict(_model(seed), _vectors(rows), given, cv=folds, method="predict_proba")
        ranked = find_label_issues(given, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
    best = shares.argmax(axis=1)
    found = [
        {**rows[at].where, "given": labels[given[at]], "suggested": labels[best[at]],
         "confidence": round(float(shares[at, best[at]]), 4), "excerpt": excerpt(rows[at].text)}
        for at in ranked if best[at] != given[at]
    ]  # fmt: skip
    left_out = {label: count for label, count in sorted(counts.items()) if count < FOLDS}
    return _result(found, len(rows), float((best == given).mean()), max(counts.values()) / len(entries), left_out)


def _many(entries: Sequence[Entry], field: str, seed: int) -> dict[str, Any]:
    """Any number of labels a row; each label is judged as a yes or no of its own."""
    import numpy as np
    from cleanlab.multilabel_classification.filter import find_label_issues
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    counts = Counter(str(label) for entry in entries for label in set(entry.row[field]))
    refusal = _enough(counts, len(entries))
    if refusal:
        return refusal
    labels = sorted(name for name, count in counts.items() if FOLDS <= count <= len(entries) - FOLDS)
    if not labels:
        return _skipped("too_few_rows_in_classes", needed=FOLDS)
    given = MultiLabelBinarizer(classes=labels).fit_transform([set(e.row[field]) & set(labels) for e in entries])
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = OneVsRestClassifier(_model(seed))
        shares = cross_val_predict(model, _vectors(entries), given, cv=folds, method="predict_proba")
        listed = [[int(at) for at in np.flatnonzero(row)] for row in given]
        ranked = find_label_issues(listed, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
    best = (shares >= 0.5).astype(int)
    doubted = [at for at in ranked if (best[at] != given[at]).any()]
    found = [_change(entries[at], labels, given[at], best[at], shares[at]) for at in doubted]
    left_out = {name: count for name, count in sorted(counts.items()) if name not in labels}
    right = float((best == given).mean())
    return _result(found, len(entries), right, float(max(given.mean(), 1 - given.mean())), left_out)


def _change(entry: Entry, labels: Sequence[str], given: Any, best: Any, shares: Any) -> dict[str, Any]:
    """A row whose set of labels looks wrong; the confidence is that of the change the model is surest of."""
    changed = [at for at in range(len(labels)) if given[at] != best[at]]
    sure = max(float(shares[at] if best[at] else 1 - shares[at]) for at in changed)
    return {
        **entry.where,
        "given": [label for label, there in zip(labels, given, strict=True) if there],
        "suggested": [label for label, there in zip(labels, best, strict=True) if there],
        "confidence": round(sure, 4),
        "excerpt": excerpt(entry.text),
    }


def _vectors(entries: Sequence[Entry]) -> Any:
    """TF-IDF of one to three characters. It knows no label, so all folds may share it."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), sublinear_tf=True, max_features=_FEATURES, dtype=np.float32
    )
    return vectors.fit_transform([entry.text for entry in entries])


def _model(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    # As right as the default solver to a thousandth, in a tenth of its time.
    return LogisticRegression(solver="saga", tol=1e-2, max_iter=200, class_weight="balanced", random_state=seed)


def _result(
    found: list[dict[str, Any]], rows: int, right: float, commonest: float, left_out: dict[str, int]
) -> dict[str, Any]:
    return {
        "rows": rows,
        "count": len(found),
        "share": round(len(found) / rows, 4),
        "fold_accuracy": round(right, 4),
        "commonest_class": round(commonest, 4),
        "reliable": right > commonest + (1 - commonest) / 4,
        "left_out": left_out,
        "confusion": _confusion(found),
        "found": found[:MOST_SHOWN],
    }


def _confusion(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often each label was given where another is suggested, most frequent first; for one label a row only."""
    pairs = Counter((e["given"], e["suggested"]) for e in found if isinstance(e["given"], str))
    return [
        {"given": given, "suggested": suggested, "count": count}
        for (given, suggested), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]
