"""Bootstrap samples of rows, drawn by what the rows count: rows that count alike are one cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nlp_skills.evaluation import metrics

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats

# Numbers held at once: 64 MB.
_BLOCK = 8_000_000
# Numbers drawn in all; of very many rows fewer samples say as much.
_MOST = 200_000_000
_FEWEST_SAMPLES = 1000
# Drawing how often a cell comes takes as long as drawing so many rows.
_ROWS_A_CELL = 10


def count(rows: int) -> int:
    """How many samples of so many rows are drawn."""
    return max(_FEWEST_SAMPLES, min(metrics.RESAMPLES, _MOST // max(1, rows)))


def of_cells(cell_of: Counts) -> Iterator[Floats]:
    """Samples as counts of the cells, (samples, cells), a block at a time; the rows' order makes no difference."""
    import numpy as np

    counts = np.bincount(cell_of)
    generator, rows, cells = np.random.default_rng(metrics.SEED), len(cell_of), len(counts)
    ordered = np.repeat(np.arange(cells), counts)
    few = cells * _ROWS_A_CELL < rows
    size = max(1, _BLOCK // (cells if few else max(rows, cells)))
    total = count(1 if few else rows)
    for start in range(0, total, size):
        samples = min(size, total - start)
        if few:
            yield generator.multinomial(rows, counts / rows, size=samples).astype(np.float64)
        else:
            yield _counted(ordered[generator.integers(rows, size=(samples, rows), dtype=np.int32)], cells)


def of_rows(rows: int) -> Iterator[Floats]:
    """Samples as how often each row comes, (samples, rows), a block at a time."""
    import numpy as np

    return of_cells(np.arange(rows))


def _counted(drawn: Counts, cells: int) -> Floats:
    import numpy as np

    apart = drawn + np.arange(len(drawn))[:, None] * cells
    return np.bincount(apart.ravel(), minlength=len(drawn) * cells).reshape(len(drawn), cells).astype(np.float64)
