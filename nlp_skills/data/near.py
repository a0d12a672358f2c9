"""Texts that are the same, or nearly: keys of rows, and clusters of near-identical texts.

MinHash proposes pairs, the exact similarity decides. Of each text only a few hashes are held, so that a million
texts may stay where they are, on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import struct
import tempfile
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, Any

from nlp_skills import extras
from nlp_skills.i18n import _

_PERMUTATIONS = 64
_RECALL = 0.999
_SEED = 42
_CLUSTER_PROBES = 32
_PATIENCE = 8
_RARE_WIDTH = 3
_LONG = 8
_SAMPLE_CHARACTERS = 200_000
_FEW = 4
_AT_A_TIME = 100_000
_BATCH_CHARACTERS = 200_000
_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")

Tick = Callable[[int], None]


def normalised(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """What a row says, with case, width and spacing levelled; a missing field counts as empty."""
    parts = (unicodedata.normalize("NFKC", str(row.get(name, ""))).casefold() for name in fields)
    return "\x1f".join(" ".join(part.split()) for part in parts)


def row_key(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """32 hex digits that stand for a row's input; rows that differ in case or spacing only share it."""
    return text_key(normalised(row, fields)).hex()


def text_key(text: str) -> bytes:
    """The 16 bytes behind `row_key`, of a text that is normalised already."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def available() -> bool:
    """Whether near-identical texts can be searched for (rensa, of the extra `data`)."""
    return extras.installed("rensa")


def missing_words() -> str:
    """What to tell where they cannot."""
    return _("near-identical texts were not searched for: rensa is not installed")


def clusters(texts: Sequence[str], near: float) -> list[int]:
    """For each text the index of the first text of its cluster.

    Two texts share a cluster when the Jaccard similarity of their character 3-grams is at least `near`,
    or a chain of such pairs joins them. The result depends on the texts' order only in which member leads.
    Without rensa every text is on its own.
    """
    forest = joined(texts, near)
    return [forest.root(index) for index in range(len(texts))]


def joined(texts: Sequence[str], near: float, folder: Path | None = None, tick: Tick | None = None) -> Forest:
    """The clusters of `clusters`, as a forest over the texts' indexes.

    `texts` are read once in order, then only those that something resembles. What is held of each (some ten
    bytes, and for a while a hundred more) goes to unnamed files in `folder` where it can; without one all
    stays in memory. `tick` hears now and then how many texts were looked at.
    """
    forest = Forest(len(texts))
    if near < 1 and len(texts) > 1 and available():
        _Search(texts, near, forest, folder, tick).run()
    return forest


def grams(text: str) -> set[str]:
    """The character 3-grams of a text; of a shorter one, the text itself."""
    return {text[index : index + 3] for index in range(max(1, len(text) - 2))}


def sample(texts: Iterable[str]) -> Iterator[str]:
    """The first of some texts: enough to know which grams are common, and not more than fit in memory."""
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size > _SAMPLE_CHARACTERS:
            return


def similarity(one: set[str], other: set[str]) -> float:
    """Jaccard similarity, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


class Forest:
    """Union-find over 0 … count - 1; the smallest index leads a cluster."""

    def __init__(self, count: int) -> None:
        self.parent = array("i", range(count))

    def root(self, index: int) -> int:
        """The leader of an index's cluster."""
        parent = self.parent
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        """Make one cluster of two."""
        first, second = sorted((self.root(one), self.root(other)))
        self.parent[second] = first

    def groups(self) -> dict[int, list[int]]:
        """The members, in order, of each cluster that has more than one."""
        found: dict[int, list[int]] = {}
        for index in range(len(self.parent)):
            leader = self.root(index)
            if leader != index:
                found.setdefault(leader, [leader]).append(index)
        return found


class Sieve:
    """Among texts added one by one, those that may be near-identical to another; it misses none.

    Of two sets of grams with a similarity of t, each shares at least t of its grams with the other. So, in any
    order of all grams, their first (1 - t) of grams and one more have a gram in common. In the order of rarity,
    as `texts` tell it, hardly any other two sets do.
    """

    def __init__(self, near: float, texts: Iterable[str]) -> None:
        self._near = near
        self._frequency: Counter[str] = Counter()
        for text in sample(texts):
            self._frequency.update(grams(text))
        self._holders: dict[str, list[int]] = {}

    def candidates(self, found: set[str]) -> list[int]:
        """Numbers added so far that may be similar, smallest first."""
        holders = self._holders
        return sorted({number for gram in self._rare(found) for number in holders.get(gram, ())})

    def add(self, number: int, found: set[str]) -> None:
        """From now on `number` may be a candidate."""
        for gram in self._rare(found):
            self._holders.setdefault(gram, []).append(number)

    def _rare(self, found: set[str]) -> list[str]:
        count = len(found) - math.ceil(self._near * len(found) - 1e-9) + 1
        frequency = self._frequency
        return sorted(found, key=lambda gram: (frequency.get(gram, 0), gram))[:count]


class _Search:
    """The near-identical pairs among texts, found in time that grows with their number only.

    Texts that agree in a band of their sketches are compared. One that was compared in vain `_PATIENCE` times,
    or that so many are near to that comparing with it was given up, is a child of some template that many share:
    such texts, and those they were no longer compared with, are compared once more where they agree in what is
    rare among them.
    """

    def __init__(
        self, texts: Sequence[str], near: float, forest: Forest, folder: Path | None, tick: Tick | None
    ) -> None:
        self.texts, self.near, self.forest, self.folder, self.tick = texts, near, forest, folder, tick
        self.vain = bytearray(len(texts))
        self.again = bytearray(len(texts))
        self.last_vain = array("i", [-1]) * len(texts)

    def run(self) -> None:
        self._round(range(len(self.texts)), _width(self.near), _sketches)
        flood = array("i", (index for index, flag in enumerate(self.again) if flag))
        if flood:
            self.vain = bytearray(len(self.texts))
            common = _common(sample(self.texts[index] for index in flood))
            self._round(flood, _RARE_WIDTH, lambda batch: _rare_sketches(batch, common))

    def _round(self, numbers: Sequence[int], width: int, sketches: Callable[[Sequence[str]], Any]) -> None:
        with contextlib.ExitStack() as stack:
            bands = [stack.enter_context(self._shelf()) for _band in range(_PERMUTATIONS // width)]
            parts = [slice(4 * width * band, 4 * width * (band + 1)) for band in range(len(bands))]
            done = 0
            for batch in _batches(self.texts, numbers):
                _shelve(sketches(batch).to_rows(), parts, bands)
                done += len(batch)
                if self.tick:
                    self.tick(done)
            for band in bands:
                for members in _buckets(band):
                    self._compare([numbers[place] for place in members])

    def _shelf(self) -> IO[bytes]:
        return io.BytesIO() if self.folder is None else tempfile.TemporaryFile(dir=self.folder)

    def _compare(self, agreeing: Sequence[int]) -> None:
        vain, root = self.vain, self.forest.root
        first, last = agreeing[0], agreeing[-1]
        met = len(agreeing) == 2 and self.last_vain[last] == first
        if met or len({root(number) for number in agreeing}) < 2:
            return
        members = [number for number in agreeing if vain[number] < _PATIENCE]
        offered: list[tuple[int, set[str]]] = []
        probes: Counter[int] = Counter()
        for number in members:
            own = grams(self.texts[number])
            if self._meet(number, own, offered):
                offered = [other for other in offered if vain[other[0]] < _PATIENCE]
            leader = root(number)
            probes[leader] += 1
            # Of a flood of near-identical texts a few dozen find nearly all the others.
            if probes[leader] <= _CLUSTER_PROBES:
                offered.append((number, own))
            else:
                self.again[number] = 1
        if any(vain[number] >= _PATIENCE for number in agreeing):
            for number in agreeing:
                self.again[number] = 1

    def _meet(self, number: int, own: set[str], offered: Sequence[tuple[int, set[str]]]) -> bool:
        """Join a text with those that it is near; True when one lost its patience."""
        forest, vain, tired = self.forest, self.vain, False
        for other, its in offered:
            if vain[number] >= _PATIENCE:
                break
            if forest.root(other) == forest.root(number):
                continue
            if similarity(own, its) >= self.near:
                forest.join(other, number)
                continue
            self.last_vain[number] = other
            vain[number] += 1
            vain[other] = min(vain[other] + 1, _PATIENCE)
            tired = tired or vain[other] >= _PATIENCE
        return tired


def _width(near: float) -> int:
    """How many of a sketch's values make a band: as many as the recall we promise allows."""
    for width in range(_PERMUTATIONS, 1, -1):
        if 1 - (1 - near**width) ** (_PERMUTATIONS // width) >= _RECALL:
            return width
    return 1


def _batches(texts: Sequence[str], numbers: Sequence[int]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for number in numbers:
        batch.append(texts[number])
        size += len(batch[-1])
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shelve(rows: Sequence[Sequence[int]], parts: Sequence[slice], bands: Sequence[IO[bytes]]) -> None:
    """Append to each band's file eight bytes a text."""
    packed = struct.Struct(f"{_PERMUTATIONS}I").pack
    hashes = array("q")
    for row in rows:
        sketch = packed(*row)
        hashes.extend([hash(sketch[part]) for part in parts])
    for number, band in enumerate(bands):
        band.write(hashes[number :: len(bands)].tobytes())


def _sketches(texts: Sequence[str]) -> Any:
    """The MinHash of each text's 3-grams.

    A gram is three UTF-16 units side by side, a 64-bit number; slices of arrays put them there for a whole batch
    in one step. A character beyond the BMP becomes one surrogate: two such may fall together, which proposes a
    pair too many and never one too few.
    """
    import rensa

    padded = [text if len(text) > 2 else text.ljust(3, "\0") for text in texts]
    whole = _BEYOND_BMP.sub(lambda found: chr(0xD800 + ord(found[0]) % 2048), "".join(padded))
    units = array("H", (whole + "\0\0").encode("utf-16-le", "surrogatepass"))
    spread = array("H", bytes(8 * len(whole)))
    spread[0::4], spread[1::4], spread[2::4] = units[:-2], units[1:-1], units[2:]
    tokens = array("Q", spread.tobytes())
    starts = array("Q", accumulate(map(len, padded), initial=0))
    for start, end in pairwise(starts):
        # These two reach into the next text; a repetition changes nothing in a set.
        tokens[end - 2] = tokens[end - 1] = tokens[start]
    return rensa.RMinHash.digest_matrix_from_flat_token_hashes(tokens, starts, _PERMUTATIONS, _SEED)


def _rare_sketches(texts: Sequence[str], common: set[str]) -> Any:
    """The MinHash of what only a few of the texts say; of a text without such, of all it says."""
    import rensa

    rare = [(found - common) or found for found in map(_long_grams, texts)]
    return rensa.RMinHash.digest_matrix_from_token_sets(rare, _PERMUTATIONS, _SEED)


def _common(some: Iterable[str]) -> set[str]:
    """The long grams that belong to the template: one in fifty texts has them, and more than a few."""
    texts = list(some)
    counts = Counter(gram for text in texts for gram in _long_grams(text))
    return {gram for gram, count in counts.items() if count > max(_FEW, len(texts) // 50)}


def _long_grams(text: str) -> set[str]:
    return {text[index : index + _LONG] for index in range(max(1, len(text) - _LONG + 1))}


def _buckets(band: IO[bytes]) -> Iterator[list[int]]:
    """The places that agree in this band, in order, for each value that more than one has."""
    band.seek(0)
    hashes = array("q", band.read())
    parts = len(hashes) // _AT_A_TIME + 1
    for part in range(parts):
        found: dict[int, list[int]] = {}
        seen: dict[int, int] = {}
        for place, value in enumerate(hashes):
            if value % parts != part:
                continue
            first = seen.setdefault(value, place)
            if first != place:
                found.setdefault(value, [first]).append(place)
        yield from found.values()
