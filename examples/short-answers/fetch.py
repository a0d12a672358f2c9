"""Write rows.jsonl: remarks to a chat bot and its short replies, in English.

Source: the corpus of ChatterBot, chatterbot-corpus 1.3.3 (BSD). One exchange of two turns is one row; of remarks that
occur with several replies the first is kept.

    python fetch.py [--rows 700]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from nlp_skills import package_index

SHA256 = "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
TOPICS = ("ai", "botprofile", "emotion", "food", "gossip", "humor", "literature", "money", "psychology")
TOPICS += ("science", "trivia")
LONGEST = 120


def exchanges() -> Iterator[tuple[str, str, str]]:
    """Topic, remark and reply."""
    archive = package_index.download("chatterbot-corpus==1.3.3", SHA256)
    with zipfile.ZipFile(archive) as packed:
        for topic in TOPICS:
            content = yaml.safe_load(packed.read(f"chatterbot_corpus/data/english/{topic}.yml"))
            for turns in content["conversations"]:
                if len(turns) == 2 and all(isinstance(turn, str) for turn in turns):
                    yield topic, " ".join(turns[0].split()), " ".join(turns[1].split())


parser = argparse.ArgumentParser(description="Fetch remarks and replies into rows.jsonl.")
parser.add_argument("--rows", type=int, default=700)
wanted = parser.parse_args().rows

rows: dict[str, dict[str, str]] = {}
for topic, remark, reply in exchanges():
    if reply and len(remark) <= LONGEST and len(reply) <= LONGEST:
        rows.setdefault(remark.lower(), {"remark": remark, "reply": reply, "topic": topic})
order = sorted(rows.values(), key=lambda row: hashlib.sha256(row["remark"].encode()).digest())
with open(Path(__file__).parent / "rows.jsonl", "w", encoding="utf-8") as stream:
    for row in order[:wanted]:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
