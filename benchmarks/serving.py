"""What the gateway costs on top of llama.cpp, and whether it loses anything while versions are switched; on a CPU.

    uv run python benchmarks/serving.py [--rounds 2] [--threads 1]
    uv run python benchmarks/serving.py --load [--minutes 5] [--every 10]

SmolLM2-135M with two small adapters that are trained first, as q8_0 files. The same conversations go to the gateway and
to the very llama.cpp that answers behind it, in turn, at 1, 8 and 32 clients. Ratios are medians over rounds; what a
single client waits longer is the median over the same conversations, one by one. The clients are a process of their own
that reads and writes sockets without a library (peers/load.py). Rows, which llama.cpp alone does not answer, are
reported without a counterpart. `--load` asks rows and conversations for minutes while another version is made active
every few seconds: no request may fail, no answer may be another version's than it says, and the gateway's memory must
not grow. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import training
from evaluation import start
from training import BASE, PEERS, ROOT, SOURCES, TASK

CLIENTS = (1, 8, 32)
# Requests of a cell, by clients; of rows, which take longer, half as many.
COUNTS = {1: 64, 8: 128, 32: 128}
MOVED = {"positive": "neutral", "neutral": "negative", "negative": "positive"}
CONFIG = 'base_model: "{base}"\nepochs: 2\nlearning_rate: 1e-3\nbatch_size: 8\nseed: 3\nlora: {{r: 8, alpha: 16}}\n'
_TRAINED_ON, _ASKED = 96, 64


def made(folder: Path, threads: int) -> list[str]:
    """A task with two versions that answer differently, v2 active; the texts to ask."""
    from nlp_skills.demo import reviews

    found = sorted(reviews.fetch(), key=lambda review: training.hash_of(review.id))
    texts = [review.text for review in found[_TRAINED_ON : _TRAINED_ON + _ASKED]]
    (folder / "data").mkdir(parents=True)
    (folder / "task.yaml").write_text(TASK.format(base=BASE), encoding="utf-8")
    (folder / "data_source.yaml").write_text(SOURCES, encoding="utf-8")
    for split, part in (("valid", found[-12:]), ("test", found[_TRAINED_ON : _TRAINED_ON + _ASKED])):
        _write(folder / "data" / f"{split}.jsonl", part, {})
    for version, labels in (("v1", MOVED), ("v2", {})):
        _write(folder / "data" / "train.jsonl", found[:_TRAINED_ON], labels)
        config = folder / "versions" / version / "config.yaml"
        config.parent.mkdir(parents=True)
        config.write_text(CONFIG.format(base=BASE), encoding="utf-8")
        start(["-m", "nlp_skills.cli.main", "train", str(folder), "--version", version], threads)
        gguf = ["-m", "nlp_skills.cli.main", "export", str(folder), version, "--gguf", "q8_0", "--no-parity"]
        start(gguf, threads)
    start(["-m", "nlp_skills.cli.main", "rollback", str(folder), "v2"], threads)
    return texts


def _write(path: Path, rows: list[Any], labels: dict[str, str]) -> None:
    lines = [json.dumps({"text": row.text, "label": labels.get(row.label, row.label)}) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


@contextlib.contextmanager
def gateway(folder: Path, threads: int) -> Iterator[tuple[dict[str, str], int]]:
    """The gateway in a process of its own: the addresses it tells, and its number."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "NLP_SKILLS_LANG": "en"}
    words = [sys.executable, str(PEERS / "gateway.py"), str(folder), str(threads)]
    with open(folder.parent / "gateway.log", "wb") as log:
        process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit((folder.parent / "gateway.log").read_text()[-3000:])
        try:
            yield json.loads(line), process.pid
        finally:
            process.terminate()
            process.wait(60)


def loaded(address: str, path: str, clients: int, count: int, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """One cell: so many requests of so many clients."""
    words = [sys.executable, str(PEERS / "load.py"), address, path, str(clients), str(count)]
    given = "\n".join(map(json.dumps, bodies)).encode()
    done = subprocess.run(words, input=given, stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    if told["failed"]:
        raise SystemExit(f"{address}{path}: {told['failed']} requests failed")
    took = sorted(told["took"])
    return {
        "per_s": len(took) / told["wall"],
        **{f"p{share}_ms": 1000 * took[min(len(took) - 1, len(took) * share // 100)] for share in (50, 95, 99)},
        "client_cpu": told["cpu"] / told["wall"],
        "each": told["took"],
    }


def conversations(texts: list[str], model: str) -> list[dict[str, Any]]:
    """As OpenAI's clients ask: short answers, the likeliest each time."""
    more = {"model": model, "max_tokens": 8, "temperature": 0.0}
    return [
        {"messages": [{"role": "user", "content": f"Say what you think of this: {text}"}], **more} for text in texts
    ]


def compared(folder: Path, texts: list[str], rounds: int, threads: int) -> dict[str, Any]:
    """The table, and its figures."""
    chat = conversations(texts, folder.name)
    rows = [{"text": text} for text in texts]
    with gateway(folder, threads) as (at, _pid):
        ways = {
            "llama.cpp": (at["engine"], "/v1/chat/completions", chat),
            "gateway": (at["gateway"], "/v1/chat/completions", chat),
            "gateway, rows": (at["gateway"], "/api/v1/predict", rows),
        }
        found: dict[tuple[str, int], list[dict[str, Any]]] = {}
        loaded(*ways["llama.cpp"][:2], 1, 8, chat)
        for number in range(rounds):
            for clients in CLIENTS:
                # Whoever comes second finds a warmer machine: they take turns at being first.
                for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
                    address, path, bodies = ways[name]
                    count = COUNTS[clients] // (2 if bodies is rows else 1)
                    found.setdefault((name, clients), []).append(loaded(address, path, clients, count, bodies))
    middle = {
        key: {figure: statistics.median(one[figure] for one in cells) for figure in cells[0] if figure != "each"}
        for key, cells in found.items()
    }
    print(f"\n{'':<16}{'clients':>8}{'req/s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'client CPU':>12}")
    for (name, clients), one in sorted(middle.items(), key=lambda item: (item[0][1], item[0][0])):
        figures = "".join(f"{one[key]:9.1f}" for key in ("per_s", "p50_ms", "p95_ms", "p99_ms"))
        print(f"{name:<16}{clients:>8}{figures}{one['client_cpu']:>12.2f}")
    return _figures(found, middle)


def _figures(found: dict[tuple[str, int], list[dict[str, Any]]], middle: dict[Any, Any]) -> dict[str, Any]:
    by_clients = {}
    for clients in CLIENTS:
        pairs = list(zip(found["gateway", clients], found["llama.cpp", clients], strict=True))
        ratio = statistics.median(ours["per_s"] / alone["per_s"] for ours, alone in pairs)
        if clients == 1:
            waited = [zip(ours["each"], alone["each"], strict=True) for ours, alone in pairs]
            added = 1000 * statistics.median(b - a for one in waited for b, a in one)
        else:
            added = statistics.median(ours["p50_ms"] - alone["p50_ms"] for ours, alone in pairs)
        by_clients[clients] = {"throughput_vs_engine": round(ratio, 3), "p50_overhead_ms": round(added, 2)}
        print(f"{clients:>3} clients: {ratio:6.3f} x the throughput of llama.cpp alone, p50 {added:+.2f} ms")
    return {
        "throughput_vs_engine": min(one["throughput_vs_engine"] for one in by_clients.values()),
        "p50_overhead_ms": max(one["p50_overhead_ms"] for one in by_clients.values()),
        "by_clients": by_clients,
        "rows_per_s": {clients: round(middle["gateway, rows", clients]["per_s"], 1) for clients in CLIENTS},
    }


def switched(folder: Path, texts: list[str], minutes: float, every: float, threads: int) -> dict[str, Any]:
    """Minutes of load with a switch every few seconds; what failed, what was mixed up, and how memory went."""
    import httpx2

    with gateway(folder, threads) as (at, pid), httpx2.Client(base_url=at["gateway"], timeout=120) as client:
        right = _sure(client, texts)
        print(f"rows that tell the versions apart: {len(right)}", flush=True)
        stop, counted, faults = threading.Event(), {"v1": 0, "v2": 0, "chat": 0}, []
        askers = [
            threading.Thread(target=_ask, args=(at["gateway"], folder.name, right, number, stop, counted, faults))
            for number in range(8)
        ]
        for one in askers:
            one.start()
        memory, moves, began, now = [], 0, time.monotonic(), "v2"
        while (passed := time.monotonic() - began) < minutes * 60:
            memory.append((passed, _resident_mb(pid)))
            if passed >= (moves + 1) * every:
                now = "v1" if now == "v2" else "v2"
                told = client.post("/api/v1/rollback", params={"version": now})
                if told.status_code != 200 or told.json()["after"] != now:
                    faults.append(f"switch: {told.status_code} {told.text[:200]}")
                moves += 1
            time.sleep(0.5)
        stop.set()
        for one in askers:
            one.join()
    settled = [entry for entry in memory if entry[0] > minutes * 60 / 3]
    slope = statistics.linear_regression([a for a, _b in settled], [b for _a, b in settled]).slope * 60
    print(f"answers {sum(counted.values())} {counted}, switches {moves}, faults {len(faults)}")
    print(f"memory of the gateway: {memory[0][1]:.0f} MB, {memory[-1][1]:.0f} MB at the end, {slope:+.2f} MB a minute")
    for fault in faults[:5]:
        print("  ", fault)
    return {
        "failed_during_rollbacks": len(faults),
        "answers": sum(counted.values()),
        "rollbacks": moves,
        "memory_mb": [round(memory[0][1], 1), round(memory[-1][1], 1)],
        "memory_mb_per_minute": round(slope, 2),
    }


def _sure(client: Any, texts: list[str]) -> dict[str, dict[str, str]]:
    """By text, what each version answers, where both are sure of different labels: no rounding turns these."""
    told = {
        version: client.post("/api/v1/predict", params={"version": version}, json=[{"text": one} for one in texts])
        for version in ("v1", "v2")
    }
    answers = {version: found.raise_for_status().json()["predictions"] for version, found in told.items()}
    return {
        text: {"v1": one["answer"]["label"], "v2": two["answer"]["label"]}
        for text, one, two in zip(texts, answers["v1"], answers["v2"], strict=True)
        if one["answer"] != two["answer"] and all(_margin(each) > 0.2 for each in (one, two))
    }


def _margin(prediction: dict[str, Any]) -> float:
    first, second, *_others = sorted(prediction["probabilities"].values(), reverse=True)
    return float(first - second)


def _ask(
    address: str,
    model: str,
    right: dict[str, dict[str, str]],
    number: int,
    stop: threading.Event,
    counted: dict[str, int],
    faults: list[str],
) -> None:
    import httpx2

    texts = list(right)
    talk = conversations(texts, model)
    with httpx2.Client(base_url=address, timeout=120) as client:
        while not stop.is_set():
            number += 1
            place = number % len(texts)
            if number % 4 == 0:
                told = client.post("/v1/chat/completions", json=talk[place])
                if told.status_code != 200 or "x-nlp-skills-version" not in told.headers:
                    faults.append(f"chat: {told.status_code} {told.text[:200]}")
                counted["chat"] += 1
                continue
            told = client.post("/api/v1/predict", json={"text": texts[place]})
            found = told.json()
            if told.status_code != 200 or found["answer"]["label"] != right[texts[place]][found["version"]]:
                faults.append(f"predict: {told.status_code} {told.text[:200]}")
            else:
                counted[found["version"]] += 1


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of llama.cpp; the gateway and the clients take another")
    parser.add_argument("--load", action="store_true", help="switch versions under load instead")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between switches")
    parser.add_argument("--task", type=Path, help="a task that an earlier run kept here, or where to keep it")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (chosen.task or Path(temporary)) / "bench"
        kept = folder.parent / "texts.json"
        if kept.is_file():
            texts = json.loads(kept.read_text(encoding="utf-8"))
        else:
            texts = made(folder, 2)
            kept.write_text(json.dumps(texts), encoding="utf-8")
        if chosen.load:
            found = switched(folder, texts, chosen.minutes, chosen.every, chosen.threads)
        else:
            found = compared(folder, texts, chosen.rounds, chosen.threads)
    print(json.dumps({**found, "threads": chosen.threads, "load": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
