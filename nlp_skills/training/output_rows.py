"""The output layer as it lies on disk: a row of numbers for each token, read row by row, so that it costs nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.training import base_model

_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
)
_SAMPLED = 1024
# Rows made alike at a model's birth stay alike where no text with their tokens came: by chance none are.
_ALIKE = 0.01
# How far beyond its neighbours' lengths a row's length has to be. Rows that were learnt differ by less.
_FAR = 3.0


@dataclass(frozen=True)
class Rows:
    """`count` rows; `layer[a:b]` reads some of them."""

    layer: Any
    count: int

    def of(self, tokens: Iterable[int]) -> Any:
        """The rows of some tokens, one below another, in 32 bits."""
        import torch

        return torch.cat([self.layer[token : token + 1] for token in tokens]).float()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Rows | None]:
    """The output layer of the base model in a folder; None where it is kept in a form we cannot read.

    Raises:
        Unavailable: weights are missing or damaged.
    """
    from safetensors import safe_open

    shards = base_model.weights(folder)
    with contextlib.ExitStack() as stack:
        named: dict[str, Any] = {}
        for path in shards:
            shard = stack.enter_context(safe_open(path, framework="pt"))
            named |= dict.fromkeys(shard.keys(), shard)
        name = _name(named, folder)
        layer = named[name].get_slice(name) if name else None
        if layer is None or not str(layer.get_dtype()).startswith(("F", "BF")) or len(layer.get_shape()) != 2:
            yield None
        else:
            yield Rows(layer, int(layer.get_shape()[0]))


def _name(names: Iterable[str], folder: Path) -> str | None:
    """The tensor that scores tokens: the output layer's own, or the embeddings where it shares theirs."""
    settings = files.read_json(folder / "config.json")
    heads = [name for name in names if _ends(name, _HEADS)]
    embeddings = [name for name in names if _ends(name, _EMBEDDINGS)]
    if settings.get("tie_word_embeddings") and embeddings:
        return embeddings[0]
    return next(iter(heads or embeddings), None)


def _ends(name: str, endings: Iterable[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def untrained(rows: Rows, token: int, others: Iterable[int]) -> bool:
    """Whether no text ever taught the model to say a token.

    Its row is then nothing, the same as the row of one of `others` (further tokens that may be unused), or of a
    length that no row of an ordinary token has.
    """
    own = rows.of([token])
    length = own.norm()
    spaced = [each for each in range(0, rows.count, max(1, rows.count // _SAMPLED)) if each != token]
    lengths = rows.of(spaced).norm(dim=1).sort().values
    if length <= 1e-6 * lengths[len(lengths) // 2]:
        return True
    beside = rows.of({*others, *range(max(0, rows.count - 8), rows.count), *spaced} - {token})
    if bool(((beside - own).norm(dim=1) < _ALIKE * length).any()):
        return True
    low, high = lengths[len(lengths) // 100], lengths[-1 - len(lengths) // 100]
    return bool(length < low / _FAR or length > high * _FAR)
