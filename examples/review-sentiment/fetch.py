"""Write rows.jsonl: sentences of product reviews, each rated by twenty people.

Source: Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
ICWSM 2014, as it travels in the source distribution of vaderSentiment 3.3.2 (MIT). The classes are those of the demo.

    python fetch.py [--rows 700]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from nlp_skills.demo import reviews

parser = argparse.ArgumentParser(description="Fetch rated review sentences into rows.jsonl.")
parser.add_argument("--rows", type=int, default=700)
wanted = parser.parse_args().rows

order = sorted(reviews.fetch(), key=lambda review: hashlib.sha256(review.id.encode()).digest())
with open(Path(__file__).parent / "rows.jsonl", "w", encoding="utf-8") as stream:
    for review in order[:wanted]:
        # The number before the underscore is the review that a sentence is of.
        row = {"id": review.id, "text": review.text, "label": review.label, "review": review.id.split("_")[0]}
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
