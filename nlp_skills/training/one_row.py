"""A batch as one row: what all its rows begin with is read once, then each row's own tokens follow, without padding.

Half the tokens of short rows are the instruction they share, and padding besides. Layers that look at one token at a
time (nearly all the work) do not notice where it lies; `attend`, in place of the model's own attention, lets every
row look at the common beginning and at itself. Losses and gradients are those of the padded batch to the last digits
of 32 bits: gradients of the beginning's keys and values are summed over the rows by autograd.
"""

from __future__ import annotations

import functools
import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ATTENTION = "nlp_skills_one_row"
# Matrix products are made for each new shape anew, which costs a tenth of a step: lengths are rounded up to these.
TOKENS, WIDTH = 16, 8
# From here on a row's attention to itself is torch's fused one, which keeps no matrix of tokens by tokens.
LONG = 256


class Unsuitable(Exception):
    """The model's attention does something that `attend` does not."""


@dataclass(frozen=True)
class OneRow:
    """A batch laid out: `ids` and `positions` (1, tokens): `shared` tokens, then the rows' own, then `idle` ones.

    `padded` (rows, width) is where each cell of a padded batch lies among the own tokens (cells of padding: at the
    first), `cells` (own,) which cell each own token is. `hidden` (rows, width, width) is True where a cell does not see
    another; None: it sees those before it. `cached`: the beginning was read before, and is in the model's cache only.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    shared: int
    idle: int
    padded: torch.Tensor
    cells: torch.Tensor
    longest: int
    hidden: torch.Tensor | None = None
    cached: bool = False

    def place(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Where the tokens at these rows and columns of the batch lie."""
        import torch

        own = self.padded[rows, (columns - self.shared).clamp(min=0)]
        return torch.where(columns < self.shared, columns, self.shared + own)


def laid_out(ids: Any, mask: Any, *, share: bool = True) -> OneRow:
    """A batch padded on the right, (rows, tokens) both. `share`: read the common beginning once."""
    import torch

    rows = len(ids)
    lengths = mask.sum(1)
    same = ((ids == ids[:1]) & (mask != 0)).all(0).cumprod(0).sum()
    shared = min(int(same), int(lengths.min()) - 1) if share and rows > 1 else 0
    longest = int(lengths.max())
    real = mask[:, shared:longest] != 0
    width = -(-real.shape[1] // WIDTH) * WIDTH
    real = torch.nn.functional.pad(real, (0, width - real.shape[1]))
    cells = real.flatten().nonzero().squeeze(1)
    padded = torch.zeros(rows * width, dtype=torch.long)
    padded[cells] = torch.arange(len(cells))
    idle = -(shared + len(cells)) % TOKENS
    columns = torch.arange(shared, shared + width).repeat(rows)[cells]
    places = torch.cat([torch.arange(shared), columns, columns.new_zeros(idle)])
    taken = torch.cat([cells.new_zeros(shared), cells // width, cells.new_zeros(idle)])
    return OneRow(
        ids=ids[taken, places][None],
        positions=places[None],
        shared=shared,
        idle=idle,
        padded=padded.view(rows, width),
        cells=cells,
        longest=longest,
    )


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    one_row: OneRow | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within the rows of `one_row`, as transformers asks for it: (1, heads, tokens, size) each.

    Raises:
        Unsuitable: the model wants something else besides.
    """
    import torch

    if one_row is None or dropout or any(more.get(name) is not None for name in ("softcap", "s_aux")):
        raise Unsuitable
    if sliding_window is not None and one_row.longest > sliding_window:
        raise Unsuitable
    # Queries of one key-value head side by side: (key-value heads, queries of each, tokens, size).
    queries = (query[0] * (scaling or query.shape[-1] ** -0.5)).unflatten(0, (len(key[0]), -1))
    keys, values = key[0], value[0]
    given = _own(queries, keys, values, one_row)
    if one_row.shared and not one_row.cached:
        given = torch.cat([_beginning(queries, keys, values, one_row.shared), given], dim=1)
    given = torch.nn.functional.pad(given, (0, 0, 0, one_row.idle))
    return given.transpose(0, 1)[None], None


def _beginning(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, shared: int) -> torch.Tensor:
    """What the common beginning sees of itself: (heads, shared, size)."""
    queries, keys, values = queries[:, :, :shared], keys[:, None, :shared], values[:, None, :shared]
    scores = queries @ keys.transpose(2, 3) + _causal(shared, queries.dtype)
    return (_weights(scores, values) @ values).flatten(0, 1)


def _own(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, one_row: OneRow) -> torch.Tensor:
    """What the rows' own tokens see of the beginning and of their row: (heads, own, size)."""
    import torch

    shared, (rows, width) = one_row.shared, one_row.padded.shape
    heads, group, _tokens, size = queries.shape
    own = one_row.padded.flatten()
    cells = shared + own
    own_keys, own_values = (kind.index_select(1, cells).unflatten(1, (rows, width)) for kind in (keys, values))
    asked = queries.index_select(2, own if one_row.cached else cells).unflatten(2, (rows, width)).transpose(1, 2)
    unseen = _unseen(one_row, width, asked.dtype)
    if width >= LONG:
        seen = _fused(asked, own_keys, own_values, keys[:, :shared], values[:, :shared], unseen)
    else:
        asked = asked.reshape(heads, rows, group * width, size)
        of_row = (asked @ own_keys.transpose(2, 3)).unflatten(2, (group, width)) + unseen
        of_row = of_row.flatten(2, 3)
        if shared:
            together = asked.flatten(1, 2) @ keys[:, :shared].transpose(1, 2)
            weights = _weights(torch.cat([together.unflatten(1, (rows, -1)), of_row], dim=-1), values)
            seen = weights[..., shared:] @ own_values
            seen = seen + (weights[..., :shared].flatten(1, 2) @ values[:, :shared]).unflatten(1, (rows, -1))
        else:
            seen = _weights(of_row, values) @ own_values
        seen = seen.unflatten(2, (group, width))
    return seen.transpose(1, 2).reshape(heads * group, rows * width, size).index_select(1, one_row.cells)


def _unseen(one_row: OneRow, width: int, dtype: Any) -> torch.Tensor:
    """What is added to the scores: (rows, 1, width, width), or (width, width) where every row sees what is before."""
    import torch

    if one_row.hidden is None:
        return _causal(width, dtype)
    return torch.zeros(one_row.hidden.shape, dtype=dtype).masked_fill(one_row.hidden, -math.inf)[:, None]


def _fused(asked: Any, own_keys: Any, own_values: Any, keys: Any, values: Any, unseen: Any) -> Any:
    """The same through torch's fused attention: (key-value heads, rows, queries of each, width, size)."""
    import torch

    heads, rows, group, _width, _size = asked.shape
    shared = keys.shape[1]

    def whole(own: Any, common: Any) -> Any:
        joined = torch.cat([common[:, None].expand(-1, rows, -1, -1), own], dim=2)
        return joined[:, :, None].expand(-1, -1, group, -1, -1).flatten(0, 1)

    seen = torch.nn.functional.scaled_dot_product_attention(
        asked.flatten(0, 1),
        whole(own_keys, keys),
        whole(own_values, values),
        attn_mask=torch.nn.functional.pad(unseen if unseen.ndim == 2 else unseen.repeat(heads, 1, 1, 1), (shared, 0)),
        scale=1.0,
    )
    return seen.unflatten(0, (heads, rows))


def _weights(scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    import torch

    return scores.softmax(-1, dtype=torch.float32).to(values.dtype)


def _causal(width: int, dtype: Any) -> torch.Tensor:
    import torch

    return torch.full((width, width), -math.inf, dtype=dtype).triu(1)


def forward(model: Any, one_row: OneRow, **more: Any) -> Any:
    """The model's output on a laid-out batch.

    Raises:
        Unsuitable: its attention is not one that can be stood in for.
    """
    _register()
    config = getattr(model, "module", model).config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        return model(input_ids=one_row.ids, position_ids=one_row.positions, use_cache=False, one_row=one_row, **more)
    finally:
        config._attn_implementation = before


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)


_KNOWN: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def suits(model: Any) -> bool:
    """Whether the model gives on a laid-out batch what it gives on the padded one; tried once, on a few tokens."""
    decoder = _decoder(model)
    # Layers that are computed a second time on the way back would find the model's own attention there.
    if decoder is None or any(getattr(part, "gradient_checkpointing", False) for part in decoder.modules()):
        return False
    if decoder not in _KNOWN:
        _KNOWN[decoder] = _gives_the_same(decoder)
    return _KNOWN[decoder]


def _decoder(model: Any) -> Any:
    """The model without its head, by transformers' own name for it; below whatever a trainer put around it."""
    inner = getattr(model, "module", model)
    found = inner.get_decoder() if hasattr(inner, "get_decoder") else None
    return None if found is None or found is inner else found


def _gives_the_same(decoder: Any) -> bool:
    import torch

    kinds = set(getattr(decoder.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return False
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [3, 1, 4, 8, 9, 7, 0, 0], [3, 1, 4, 6, 2, 6, 4, 3]])
    ids = ids % decoder.get_input_embeddings().num_embeddings
    mask = torch.tensor([[1] * 8, [1] * 6 + [0] * 2, [1] * 8])
    rows, columns = mask.nonzero(as_tuple=True)
    training = decoder.training
    decoder.eval()
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            plain = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[rows, columns]
            one_row = laid_out(ids, mask)
            ours = forward(decoder, one_row).last_hidden_state[0, one_row.place(rows, columns)]
    except Exception:
        # Whatever a model makes of it: the padded way is always there.
        return False
    finally:
        decoder.train(training)
    exact = all(weight.dtype == torch.float32 for weight in decoder.parameters())
    return bool((plain - ours).abs().max() <= (1e-4 if exact else 3e-2) * plain.abs().max())
