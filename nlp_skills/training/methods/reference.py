"""The model that DPO and KTO hold the learning one against: what training began with, exactly.

With a new adapter that begins as nothing, it is the model without the adapter. An adapter that begins as a part of
the base model (PiSSA and its kind), or that an earlier version has trained, is kept a second time, frozen. Of a model
trained whole a copy is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEPT = "ref"
# Beginnings that take what the adapter is out of the base model: without the adapter it is no longer the base model.
_TAKEN_OUT = ("pissa", "olora", "orthogonal")


def kept(base: type[Any]) -> type[Any]:
    """TRL's DPO or KTO trainer, made so that its reference is what training begins with."""

    class Trainer(base):  # type: ignore[misc]
        def __init__(self, model: Any, args: Any, peft_config: Any = None, **parts: Any) -> None:
            if peft_config is not None and _takes_out(peft_config):
                model, peft_config = _wrapped(model, peft_config, args.seed), None
            whole = peft_config is None and not hasattr(model, "peft_config")
            if whole and not args.precompute_ref_log_probs:
                parts["ref_model"] = copy.deepcopy(model)
            with _plain_copies(model):
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


def _takes_out(settings: Any) -> bool:
    return str(getattr(settings, "init_lora_weights", "")).startswith(_TAKEN_OUT)


def _wrapped(model: Any, settings: Any, seed: int) -> Any:
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(seed)
    return get_peft_model(model, settings)


@contextmanager
def _plain_copies(model: Any) -> Iterator[None]:
    """TRL adds the second adapter with the settings of the first; its beginning must leave the base model alone."""
    settings = getattr(model, "peft_config", {}).get("default")
    if settings is None or not _takes_out(settings):
        yield
        return
    begins = settings.init_lora_weights
    settings.init_lora_weights = True
    try:
        yield
    finally:
        settings.init_lora_weights = begins
