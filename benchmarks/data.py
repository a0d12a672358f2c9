"""How fast rows are checked, deduplicated and rebuilt, beside what others make of the same rows.

    python benchmarks/data.py [--rows 1000000]

One file of Chinese reviews with planted faults is checked by us and by four others, each in a process of its
own that says what it found and used; those that stop at what is no JSON get the file again without it. CPU
seconds are compared, imports included, because wall time on a shared machine says little. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hooks

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
LABELS = ("正面", "中立", "負面")
PLANTED = 100
PLANTED_DUPLICATES = 1000
# Where a peer is not among our own dependencies: what uv brings for it.
BROUGHT = {
    "with_pandera": "pandera[polars]==0.35.0",
    "with_great_expectations": "great_expectations==1.24.1",
}
TITLES = {
    "bare": "bare read, line by line",
    "ours": "nlp-skills",
    "with_pydantic": "pydantic, line by line",
    "with_datasets": "datasets + checks",
    "with_pandera": "pandera (polars)",
    "with_great_expectations": "great_expectations (pandas)",
}
TASK = """\
task_name: million
version: v1
task_type: classification
language: zh-TW
input_template: "{text}"
output_format:
  type: text
  schema:
    label: {type: string, enum: [正面, 中立, 負面]}
"""
SOURCES = """\
sources:
  - type: database
    name: reviews
    connection: sqlite:///reviews.db
    query: SELECT text, label FROM reviews ORDER BY id
"""


@dataclass(frozen=True)
class Said:
    """What a peer found (by fault, line numbers or a count), its CPU seconds, peak memory and why it stopped."""

    found: dict[str, Any]
    cpu_s: float
    peak_mb: float
    stopped: str = ""

    @property
    def ways(self) -> str:
        return "lines" if any(isinstance(found, list) for found in self.found.values()) else "counts"


def texts(count: int, seed: int = 7) -> Iterator[str]:
    """Reviews of some fifty characters, all different, made of two thousand common ones."""
    draw = random.Random(seed)
    characters = [chr(code) for code in range(0x4E00, 0x9FA5) if _is_common(chr(code))][:2000]
    for number in range(count):
        yield "".join(draw.choices(characters, k=44)) + f"，編號{number}。"


def _is_common(char: str) -> bool:
    """Big5 sorts its frequent characters into rows A4 to C6."""
    try:
        return 0xA4 <= char.encode("big5")[0] <= 0xC6
    except UnicodeEncodeError:
        return False


def write_rows(path: Path, clean: Path, count: int) -> dict[str, list[int]]:
    """The file with its planted faults and one without those that no JSON reader survives; lines by fault."""
    draw = random.Random(3)
    places = draw.sample(range(2, count + 1), 4 * PLANTED + PLANTED_DUPLICATES + 50)
    kinds = ["bad_json", "missing_field", "unknown_label", "too_short"]
    fault = {line: kind for kind in kinds for line in places[kinds.index(kind) * PLANTED :][:PLANTED]}
    fault |= dict.fromkeys(places[4 * PLANTED : -50], "duplicate") | dict.fromkeys(places[-50:], "blank")
    first = b""
    with open(path, "wb") as stream, open(clean, "wb") as other:
        for line, text in enumerate(texts(count), 1):
            row: dict[str, Any] = {"text": text, "label": LABELS[line % 3]}
            kind = fault.get(line)
            if kind == "missing_field":
                del row["text"]
            elif kind == "unknown_label":
                row["label"] = "還行"
            elif kind == "too_short":
                row["text"] = f"{line % 10_000}"[:4]
            whole = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            first = first or whole
            written = {"bad_json": whole[:-9] + b"\n", "duplicate": first, "blank": b"\n"}.get(str(kind), whole)
            stream.write(written)
            other.write(b"" if kind in ("bad_json", "blank") else written)
    return {kind: sorted(line for line, one in fault.items() if one == kind) for kind in [*kinds, "duplicate"]}


def run(peer: str, path: Path) -> Said:
    """One peer on one file, in its own process."""
    command = [sys.executable]
    if peer in BROUGHT:
        uv = os.environ.get("UV") or shutil.which("uv")
        if not uv:
            return Said({}, 0, 0, "uv is not here to bring it")
        command = [uv, "run", "-q", "--isolated", "--no-project", "--python", sys.executable, "--with", BROUGHT[peer]]
        command += ["python"]
    env = {**os.environ, "PYTHONPATH": f"{PEERS}:{ROOT}", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run([*command, str(PEERS / f"{peer}.py"), str(path)], env=env, capture_output=True, text=True)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["?"]
        return Said({}, 0, 0, words[-1][:100])
    answer = json.loads(done.stdout.splitlines()[-1])
    return Said(answer["found"], answer["cpu_s"], answer["peak_mb"])


def best(peer: str, path: Path, rounds: int) -> Said:
    """The round that used least: other processes only ever add."""
    return min((run(peer, path) for _round in range(rounds)), key=lambda said: said.cpu_s)


def missed(said: Said, planted: dict[str, list[int]]) -> dict[str, int]:
    """How many of each planted fault a peer did not find; line numbers must be the true ones where it gives any."""
    gone = {}
    for kind, lines in planted.items():
        found = said.found.get(kind, [])
        right = len(set(found) & set(lines)) if isinstance(found, list) else min(found, len(lines))
        if right < len(lines):
            gone[kind] = len(lines) - right
    return gone


def compare(folder: Path, count: int) -> dict[str, Any]:
    """The table of validators."""
    path, clean = folder / "rows.jsonl", folder / "clean.jsonl"
    planted = write_rows(path, clean, count)
    print(f"{count:,} rows, {path.stat().st_size / 1e6:.0f} MB, planted: ", end="")
    print(", ".join(f"{kind} {len(lines)}" for kind, lines in planted.items()))
    bare = best("bare", path, 5)
    results = {"bare": bare, "ours": best("ours", path, 3)}
    print(f"{'':<28}{'CPU s':>8}{'x bare':>8}{'x ours':>8}{'peak MB':>9}  found")
    for peer in TITLES:
        said = results.get(peer) or run(peer, path)
        note = ""
        if said.stopped:
            note = f"; stops on the file itself ({said.stopped[:60]})"
            said = run(peer, clean)
        results[peer] = said
        if said.stopped:
            print(f"{TITLES[peer]:<28} not measured: {said.stopped}")
            continue
        ratio = said.cpu_s / results["ours"].cpu_s
        print(
            f"{TITLES[peer]:<28}{said.cpu_s:8.2f}{said.cpu_s / bare.cpu_s:8.1f}{ratio:8.2f}{said.peak_mb:9.0f}",
            end="  ",
        )
        gone = missed(said, planted)
        words = ", ".join(f"{kind} {lost}" for kind, lost in gone.items())
        print("" if peer == "bare" else (f"{said.ways}; " + (f"misses {words}" if gone else "all") + note))
    ours = results["ours"]
    if missed(ours, planted):
        raise SystemExit(f"not all planted faults were found: {missed(ours, planted)}")
    figures: dict[str, Any] = {
        "validate_x_bare_read": round(ours.cpu_s / bare.cpu_s, 2),
        "validate_s": round(ours.cpu_s, 2),
        "peak_mb": round(ours.peak_mb, 1),
    }
    others = {peer: said.cpu_s for peer, said in results.items() if peer not in ("bare", "ours") and not said.stopped}
    return figures | {
        f"{peer.removeprefix('with_')}_x_ours": round(cpu / ours.cpu_s, 2) for peer, cpu in others.items()
    }


def deduplicate(count: int) -> dict[str, Any]:
    """Near-identical texts among many, one in a hundred planted with two characters changed; their share found."""
    from nlp_skills.data import near

    draw = random.Random(5)
    found = list(texts(count, seed=11))
    twins = draw.sample(range(1, count), count // 100)
    for twin in twins:
        changed = list(found[twin - 1])
        for place in draw.sample(range(40), 2):
            changed[place] = "　"
        found[twin] = "".join(changed)
    started, used = time.perf_counter(), time.process_time()
    clusters = near.clusters(found, 0.7)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    recall = sum(clusters[twin] == clusters[twin - 1] for twin in twins) / len(twins)
    print(f"near-duplicates of {count:,} texts: {wall:.2f} s, CPU {cpu:.2f} s, planted ones found {recall:.1%}")
    return {"dedup_100k_s": round(wall, 2), "dedup_100k_cpu_s": round(cpu, 2), "dedup_recall": round(recall, 4)}


def measured(*arguments: str) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one of our commands."""
    env = {**os.environ, "NLP_SKILLS_LANG": "en"}
    command = [sys.executable, "-m", "nlp_skills.cli.main", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    words = process.stderr.read().decode()
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit {process.returncode}\n{words[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def from_sql(folder: Path, count: int) -> dict[str, Any]:
    """A task whose rows lie in SQLite: regenerated from nothing, then validated whole."""
    task = folder / "million"
    task.mkdir()
    (task / "task.yaml").write_text(TASK, encoding="utf-8")
    (task / "data_source.yaml").write_text(SOURCES, encoding="utf-8")
    with sqlite3.connect(task / "reviews.db") as database:
        database.execute("CREATE TABLE reviews (id INTEGER PRIMARY KEY, text TEXT, label TEXT)")
        rows = ((text, LABELS[number % 3]) for number, text in enumerate(texts(count)))
        database.executemany("INSERT INTO reviews (text, label) VALUES (?, ?)", rows)
    database.close()
    seconds, peak = measured("regenerate", str(task))
    print(f"regenerate {count:,} rows from SQLite: CPU {seconds:.1f} s, peak {peak:.0f} MB")
    whole, whole_peak = measured("validate", str(task), "--no-tokens")
    print(f"validate that task, leakage and all: CPU {whole:.1f} s, peak {whole_peak:.0f} MB")
    return {
        "sql_million_s": round(seconds, 1),
        "sql_million_peak_mb": round(peak),
        "validate_task_s": round(whole, 1),
        "validate_task_peak_mb": round(whole_peak),
    }


def hook_ratios(folder: Path, rounds: int) -> dict[str, Any]:
    """What the hook costs beside a bare interpreter."""
    medians = hooks.measure(folder, rounds)
    base = medians["python -I -c pass"]
    noop, large = medians["no-op, data-validation"] / base, medians["10,000 rows"] / base
    print(f"hook, of python -I -c pass ({base:.1f} ms): nothing to do {noop:.2f} x, 10,000 rows {large:.2f} x")
    return {"hook_noop_x_python": round(noop, 2), "hook_10k_x_python": round(large, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to check and to regenerate")
    parser.add_argument("--rounds", type=int, default=20, help="starts of each hook")
    options = parser.parse_args()
    if options.rows < 10_000:
        parser.error("fewer than 10000 rows have no room for the planted faults")
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = compare(folder, options.rows)
        figures |= deduplicate(min(100_000, options.rows))
        (folder / "hooks").mkdir()
        figures |= hook_ratios(folder / "hooks", options.rounds)
        figures |= from_sql(folder, options.rows)
    figures |= {"rows": options.rows, "load": round(os.getloadavg()[0], 2)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
