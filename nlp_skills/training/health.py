"""Whether a run is still worth its electricity, and what became of one that is not."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunReason


class Unhealthy(Invalid):
    """A run that was ended because going on made no sense; `reason` names the state it ends in."""

    reason: RunReason = "diverged"


class NanLoss(Unhealthy):
    reason: RunReason = "nan_loss"


class Guard:
    """Looks at every logged figure and ends what cannot come right."""

    def look(self, step: int, measured: Mapping[str, float]) -> None:
        """Look at one line of the log.

        Raises:
            Unhealthy: the run has gone wrong.
        """
        if any(not math.isfinite(value) for value in measured.values()):
            raise NanLoss(
                _("training diverged: the loss is not a number at step {step}", step=step),
                mend=_("lower learning_rate (a tenth is a good next try), then train again"),
            )
