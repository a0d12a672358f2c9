"""How fast a tuned classifier is asked on a CPU, beside a loop over `generate` and beside lm-evaluation-harness.

    uv run --group peers python benchmarks/evaluation.py [--rounds 3] [--rows 120] [--threads 1] [--profile guided]

SmolLM2-135M with a LoRA adapter that is trained first, the same rows and the same prompts for all, each contestant a
process of its own, one after the other in every round. `short` has the demo's prompt of one line; `guided` one with
the labels' definitions, as annotators get them. Only the asking is timed: CPU seconds, because wall time on a shared
machine says little. Each computes in the precision it takes by itself. `disagreements` counts the rows that ours and
the harness answer differently when both compute in 32 bits: they look at the same likelihoods, and none should be
left. `unlike_generate` and `unlike_harness` count them as they were timed. Without the harness (group peers) the rest
is compared. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import training
from training import BASE, PEERS, ROOT, SOURCES, TASK

LABELS = ("positive", "neutral", "negative")
TITLES = {"loop": "generate, one by one", "harness": "lm-evaluation-harness", "ours": "nlp-skills evaluate"}
SYSTEM = {
    "short": training.SYSTEM["short"],
    "guided": (
        "You label sentences of product reviews for a shop. Read the sentence and say what its writer tells other "
        "buyers about the product. Answer with one word and nothing else. "
        "positive: the writer is content with the product or one of its parts, recommends it, or says that it works as "
        "it should; praise that has a small reservation is still positive. "
        "negative: the writer complains, reports a fault, warns others or regrets the purchase; a complaint that is "
        "put politely, or as a question, is still negative. "
        "neutral: the writer describes what the product has or does, how it was bought or is used, or tells of another "
        "product, without judging this one; a sentence with as much praise as blame is neutral as well. "
        "Do not guess at what the rest of the review may have said. Irony counts as what is meant by it. A number of "
        "stars or a price alone is no opinion."
    ),
}
CONFIG = """\
base_model: "{base}"
system_prompt: {system}
epochs: 1
learning_rate: 5e-4
batch_size: 8
seed: 3
lora: {{r: 16, alpha: 32}}
"""
TRAINED_ON = 96


@dataclass(frozen=True)
class Took:
    """One contestant's answers, and what asking for them took."""

    answers: list[str]
    cpu_s: float
    wall_s: float
    peak_mb: float


def write(folder: Path, system: str, rows: int) -> Path:
    """A task of ours with rows to train on and `rows` to ask."""
    from nlp_skills.demo import reviews

    found = sorted(reviews.fetch(), key=lambda review: training.hash_of(review.id))
    parts = {"train": found[:TRAINED_ON], "valid": found[-12:], "test": found[TRAINED_ON:][:rows]}
    (folder / "data").mkdir(parents=True)
    (folder / "versions" / "v1").mkdir(parents=True)
    for split, some in parts.items():
        lines = [json.dumps({"text": review.text, "label": review.label}) + "\n" for review in some]
        (folder / "data" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "data_source.yaml").write_text(SOURCES, encoding="utf-8")
    (folder / "task.yaml").write_text(TASK.format(base=BASE), encoding="utf-8")
    config = CONFIG.format(base=BASE, system=json.dumps(system))
    (folder / "versions" / "v1" / "config.yaml").write_text(config, encoding="utf-8")
    return folder


def start(words: list[str], threads: int, **more: str) -> str:
    """What a program said; its last words when it failed."""
    env = {**os.environ, **more, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    env |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    env |= {"NLP_SKILLS_LANG": "en"}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]}: exit {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def ask(peer: str, base: str, task: Path, system: str, threads: int, *, exact: bool = False) -> Took:
    """One contestant, asked every row; `exact`: in 32 bits."""
    trained = [base, str(task / "models" / "adapter" / "v1"), str(task / "data" / "test.jsonl"), system]
    words = {
        "loop": [str(PEERS / "generate_loop.py"), *trained],
        "harness": [str(PEERS / "harness.py"), *trained, "float32" if exact else "auto", *LABELS],
        "ours": [str(PEERS / "likelihood.py"), str(task)],
    }[peer]
    more = {"NLP_SKILLS_DETERMINISTIC": "1"} if exact else {}
    said = json.loads(start(words, threads, **more).splitlines()[-1])
    return Took(said["answers"], said["cpu_s"], said["wall_s"], said["peak_mb"])


def compare(name: str, base: str, rounds: int, rows: int, threads: int) -> dict[str, Any]:
    """The table of one profile, and its figures."""
    peers = [peer for peer in TITLES if peer != "harness" or importlib.util.find_spec("lm_eval")]
    took: dict[str, list[Took]] = {peer: [] for peer in peers}
    with tempfile.TemporaryDirectory() as made:
        task = write(Path(made) / "bench", SYSTEM[name], rows)
        start(["-m", "nlp_skills.cli.main", "train", str(task)], threads)
        for _round in range(rounds):
            for peer in peers:
                took[peer].append(ask(peer, base, task, SYSTEM[name], threads))
        exact = [ask(peer, base, task, SYSTEM[name], threads, exact=True) for peer in peers if peer != "loop"]
    print(f"\n{name}: {rows} rows, rounds: {rounds}, threads: {threads}")
    print(f"{'':<24}{'rows/CPU s':>12}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}")
    for peer, found in took.items():
        cpu, wall, peak = (
            statistics.median(getattr(one, key) for one in found) for key in ("cpu_s", "wall_s", "peak_mb")
        )
        print(f"{TITLES[peer]:<24}{rows / cpu:12.1f}{cpu:9.2f}{wall:9.2f}{peak:9.0f}")
    apart = _apart(exact[0], exact[1]) if len(exact) == 2 else None
    return {**figures(took), "disagreements": apart}


def _apart(one: Took, other: Took) -> int:
    return sum(a != b for a, b in zip(one.answers, other.answers, strict=True))


def figures(took: dict[str, list[Took]]) -> dict[str, Any]:
    """How many times as fast ours is, by CPU and by wall, and on how many rows the answers differ."""

    def ratio(peer: str, key: str) -> float | None:
        if peer not in took:
            return None
        other, own = (statistics.median(getattr(one, key) for one in took[name]) for name in (peer, "ours"))
        return round(other / own, 2)

    return {
        "speedup_vs_generate_loop": ratio("loop", "cpu_s"),
        "speedup_vs_harness": ratio("harness", "cpu_s"),
        "wall_vs_generate_loop": ratio("loop", "wall_s"),
        "wall_vs_harness": ratio("harness", "wall_s"),
        "unlike_harness": _apart(took["ours"][0], took["harness"][0]) if "harness" in took else None,
        "unlike_generate": _apart(took["ours"][0], took["loop"][0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="times each contestant is asked; medians are shown")
    parser.add_argument("--rows", type=int, default=120, help="rows to ask")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant")
    parser.add_argument("--profile", choices=("short", "guided", "both"), default="both")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from nlp_skills.training import base_model

    base = base_model.locate(BASE)
    wanted = [name for name in SYSTEM if options.profile in (name, "both")]
    found = {name: compare(name, base, options.rounds, options.rows, options.threads) for name in wanted}
    # Of both profiles the lesser gain and the more disagreements are what is claimed.
    speedups = [one["speedup_vs_generate_loop"] for one in found.values()]
    apart = [one["disagreements"] for one in found.values() if one["disagreements"] is not None]
    claimed = {"speedup_vs_generate_loop": min(speedups), "disagreements": max(apart) if apart else None}
    print(json.dumps({**claimed, **found, "load": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
