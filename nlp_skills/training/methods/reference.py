"""The model that DPO and KTO hold the learning one against: what training began with, exactly.

Every new adapter begins as nothing, so with one it is the model without it. An adapter that an earlier version has
trained is kept a second time by TRL, frozen; here it is taken away when training is over, for it is no part of what
was trained. Of a model trained whole a copy is kept.
"""

from __future__ import annotations

import copy
from typing import Any

KEPT = "ref"


def kept(base: type[Any]) -> type[Any]:
    """TRL's DPO or KTO trainer, made so that its reference is what training begins with."""

    class Trainer(base):  # type: ignore[misc]
        def __init__(self, model: Any, args: Any, peft_config: Any = None, **parts: Any) -> None:
            whole = peft_config is None and not hasattr(model, "peft_config")
            if whole and not args.precompute_ref_log_probs:
                parts["ref_model"] = copy.deepcopy(model)
            super().__init__(model=model, args=args, peft_config=peft_config, **parts)

        def _prepare_dataset(self, dataset: Any, *_arguments: Any) -> Any:
            """Nothing: the rows are token ids."""
            return dataset

        def train(self, *arguments: Any, **settings: Any) -> Any:
            ended = super().train(*arguments, **settings)
            if KEPT in getattr(self.model, "peft_config", {}):
                self.model.delete_adapter(KEPT)
            return ended

    return Trainer
