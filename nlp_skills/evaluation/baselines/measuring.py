"""Each baseline's answer to the very rows the model answers, kept so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.version import Sampling

if TYPE_CHECKING:
    from nlp_skills.evaluation.answering.scorer import Scorer
    from nlp_skills.evaluation.subject import Subject

# Opens a model to be asked, within a block: what is known already opens none.
Opens = Callable[[], AbstractContextManager["Scorer"]]


def measure(
    chosen: Subject,
    wanted: Sequence[str],
    *,
    base: Opens | None = None,
    sampling: Sampling | None = None,
    endpoint: LlmSettings | None = None,
) -> dict[str, list[Any]]:
    """The answers of the `wanted` baselines to `chosen.test`, by name, in the form of the task's kind.

    Args:
        chosen: the version; of it `kind`, `test`, `fields`, `labels`, `info`, `test_hash` and its folder are used.
        wanted: names from `choose`. What cannot be had is left out: a fitted or few-shot one where train is no longer
            what the version was trained on, an untrained model where the version has no base model.
        base: opens the version's base model, untrained, with the backend the version is asked with.
        sampling: how text is drawn, as for the version; None where labels are asked by likelihood.
        endpoint: the endpoint of the command line; left out, `evaluation.endpoint` of task.yaml.

    Raises:
        Invalid: a bad rule file.
        Unavailable: an extra is missing, an endpoint does not answer; what was measured before is kept.
    """
    raise NotImplementedError
