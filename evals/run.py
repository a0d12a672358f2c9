"""Do the skills and agents trigger? Replays evals/triggers/*.json with a live client: `python evals/run.py`.

Each query goes into a session of its own, in an empty folder and an empty home, with this plugin alone; what counts is
the first of our skills or agents that the model reaches for within a few turns. Then the session is ended. Prints a
table and one JSON object as the last line. Answers are kept, so that the same command goes on where it stopped.

Exit codes: 0 measured (or --dry-run), 2 misspelt, 3 no key, no client, or the sessions fail.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nlp_skills.evaluation.metrics import wilson_interval

ROOT = Path(__file__).resolve().parent.parent
TURNS = 4
SECONDS = 240
# What a session is let do: look, and load. Nothing here changes a file or starts a program.
ALLOWED = "Skill,Read,Glob,Grep"
FAILURES = 3


class Failed(Exception):
    """A session that says nothing about triggers: no key that is valid, no network, out of credit."""


@dataclass(frozen=True)
class Answer:
    """What the model reached for first: one of ours by its short name, or nothing."""

    query: str
    run: int
    first: str | None
    plugin: str
    asked: str | None
    model: str
    seconds: float


@dataclass(frozen=True)
class Settings:
    """How sessions are started."""

    client: str
    plugin: Path
    model: str | None


def read_sets(folder: Path, only: list[str]) -> list[dict[str, Any]]:
    """The trigger sets, in the order of their names."""
    sets = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    unknown = set(only) - {one["name"] for one in sets}
    if unknown:
        raise SystemExit(f"no trigger set {min(unknown)!r}; there are {', '.join(one['name'] for one in sets)}")
    return [one for one in sets if not only or one["name"] in only]


def queries(sets: list[dict[str, Any]]) -> list[str]:
    """Every query once, though two sets may share it."""
    return list(dict.fromkeys(item["query"] for one in sets for item in one["should"] + one["near_miss"]))


def parts(plugin: Path) -> dict[str, Path]:
    """The skills and agents by name."""
    skills = {path.parent.name: path for path in plugin.glob("skills/*/SKILL.md")}
    return skills | {path.stem: path for path in plugin.glob("agents/*.md")}


def described(plugin: Path) -> str:
    """A hash of what the model chooses by: names and descriptions. Other descriptions are measured anew."""
    digest = hashlib.sha256()
    for path in sorted(parts(plugin).values()):
        head = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL)
        digest.update(f"{path.relative_to(plugin)}\n{head[1] if head else ''}\n".encode())
    return digest.hexdigest()[:12]


def named(block: dict[str, Any], ours: Collection[str]) -> str | None:
    """The skill or agent of ours that a tool call names, with or without the plugin's name before it."""
    asked = block.get("input") or {}
    if block.get("name") == "Skill":
        name = str(asked.get("skill") or asked.get("command") or "")
    elif block.get("name") in ("Task", "Agent"):
        name = str(asked.get("subagent_type") or "")
    else:
        return None
    short = name.removeprefix("/").removeprefix("nlp-skills:")
    return short if short in ours else None


def first_reached(lines: Iterator[str], ours: Collection[str]) -> tuple[str | None, str]:
    """What a session's events name first, and the model that answered.

    Raises:
        Failed: the session ended with an error, or without having begun.
    """
    turns: set[str] = set()
    model = ""
    for line in lines:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("subtype") == "init":
            model = event.get("model", "")
            if event.get("plugin_errors"):
                raise Failed(f"the client does not load the plugin: {event['plugin_errors']}")
        if event.get("type") == "assistant" and not event.get("parent_tool_use_id"):
            turns.add(event["message"]["id"])
            calls = [named(block, ours) for block in event["message"]["content"]]
            found = next(filter(None, calls), None)
            if found or len(turns) > TURNS:
                return found, model
        if event.get("type") == "result":
            if event.get("is_error"):
                raise Failed(str(event.get("result") or event.get("subtype"))[:300])
            return None, model
    raise Failed("the session ended without an answer")


def ask(settings: Settings, query: str) -> tuple[str | None, str]:
    """One session in a folder and a home that are empty, ended as soon as it is decided."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home, place = Path(folder) / "home", Path(folder) / "project"
        home.mkdir()
        place.mkdir()
        command = [settings.client, "-p", query, "--output-format", "stream-json", "--verbose",
                   "--plugin-dir", str(settings.plugin), "--allowedTools", ALLOWED]  # fmt: skip
        command += ["--model", settings.model] if settings.model else []
        env = {**os.environ, "HOME": str(home), "CLAUDE_CONFIG_DIR": str(home / ".claude"), "NLP_SKILLS_HOOKS": "off",
               "DISABLE_AUTOUPDATER": "1"}  # fmt: skip
        session = subprocess.Popen(
            command, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        # Its own process group: nothing else is ended with it.
        late = threading.Timer(SECONDS, _end, [session])
        late.start()
        try:
            assert session.stdout is not None
            return first_reached(iter(session.stdout), parts(settings.plugin))
        finally:
            late.cancel()
            _end(session)


def _end(session: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session.pid, signal.SIGKILL)
    session.wait()


def kept(path: Path, plugin: str, model: str | None) -> list[Answer]:
    """The answers of earlier runs to the same descriptions, with the same model asked for."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    # A run that was killed while it wrote may have left half a line.
    answers = [Answer(**json.loads(line)) for line in lines if line.endswith("}")]
    return [one for one in answers if one.plugin == plugin and one.asked == model]


def replay(settings: Settings, wanted: list[tuple[str, int]], jobs: int, out: Path) -> Iterator[Answer]:
    """Ask what is missing, keeping each answer as it comes.

    Raises:
        Failed: several sessions failed one after the other.
    """
    plugin, failures = described(settings.plugin), 0
    out.parent.mkdir(parents=True, exist_ok=True)

    def one(query: str, run: int) -> Answer:
        started = time.monotonic()
        first, model = ask(settings, query)
        return Answer(query, run, first, plugin, settings.model, model, round(time.monotonic() - started, 1))

    with ThreadPoolExecutor(jobs) as pool, out.open("a", encoding="utf-8") as file:
        going = {pool.submit(one, query, run): query for query, run in wanted}
        try:
            for number, done in enumerate(as_completed(going), 1):
                try:
                    answer = done.result()
                except Failed as failed:
                    failures += 1
                    print(f"failed: {going[done][:60]}: {failed}", file=sys.stderr)
                    if failures >= FAILURES or len(wanted) <= failures:
                        raise
                    continue
                failures = 0
                file.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")
                file.flush()
                print(f"{number}/{len(wanted)}  {answer.first or '-':20} {answer.query[:70]}", file=sys.stderr)
                yield answer
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def score(one: dict[str, Any], answers: list[Answer]) -> dict[str, Any]:
    """A set's figures. A query counts by what most of its runs did; the intervals are over queries."""
    runs: dict[str, list[str | None]] = {}
    for answer in answers:
        runs.setdefault(answer.query, []).append(answer.first)

    def most(item: dict[str, Any], names: set[str]) -> bool:
        firsts = runs[item["query"]]
        return 2 * sum(first in names for first in firsts) > len(firsts)

    name = one["name"]
    should = [item for item in one["should"] if item["query"] in runs]
    near = [item for item in one["near_miss"] if item["query"] in runs]
    hits = sum(most(item, {name}) for item in should)
    false = [item["query"] for item in near if most(item, {name})]
    found: dict[str, Any] = {
        "should": len(should),
        "hits": hits,
        "reached": sum(most(item, {name, *item.get("or", [])}) for item in should),
        "near_miss": len(near),
        "false_alarms": len(false),
        "missed": [item["query"] for item in should if not most(item, {name, *item.get("or", [])})],
        "wrong": false,
    }
    for figure, of in (("recall", len(should)), ("precision", hits + len(false))):
        found[figure] = hits / of if of else None
        found[f"{figure}_95"] = wilson_interval(hits, of) if of else None
    return found


def table(scores: dict[str, dict[str, Any]]) -> str:
    """The figures for people."""

    def share(found: dict[str, Any], figure: str) -> str:
        if found[figure] is None:
            return "-"
        low, high = found[f"{figure}_95"]
        return f"{found[figure]:.2f} [{low:.2f}, {high:.2f}]"

    lines = [f"{'':20} {'should':>6} {'recall':>19} {'reached':>8} {'near-miss':>10} {'false':>6} {'precision':>19}"]
    for name, found in scores.items():
        lines.append(
            f"{name:20} {found['should']:6} {share(found, 'recall'):>19} {found['reached']:8} "
            f"{found['near_miss']:10} {found['false_alarms']:6} {share(found, 'precision'):>19}"
        )
    lines.append("recall: the one itself; reached: it or a neighbour that may answer too; 95 % intervals over queries")
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay the trigger sets with a live client and count.")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this skill or agent; repeatable")
    parser.add_argument("--runs", type=int, default=3, help="sessions for each query (3)")
    parser.add_argument("--jobs", type=int, default=2, help="sessions at once (2)")
    parser.add_argument("--model", help="which model the client asks; its default when left out")
    parser.add_argument("--client", help="the client's program; `claude` on PATH when left out")
    parser.add_argument("--plugin", type=Path, default=ROOT, help="the plugin's folder (this one)")
    parser.add_argument("--sets", type=Path, default=ROOT / "evals" / "triggers", help="folder of trigger sets")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "evals" / "triggers.jsonl", help="kept answers")
    parser.add_argument("--dry-run", action="store_true", help="say what would be asked; start nothing")
    chosen = parser.parse_args(arguments)
    if chosen.runs < 1 or chosen.jobs < 1:
        parser.error("--runs and --jobs are at least 1")
    return chosen


def main(arguments: list[str]) -> int:
    chosen = parse(arguments)
    try:
        sets = read_sets(chosen.sets, chosen.only)
    except SystemExit as unknown:
        print(unknown, file=sys.stderr)
        return 2
    client = shutil.which(chosen.client or "claude")
    there = kept(chosen.out, described(chosen.plugin), chosen.model)
    asked, done = queries(sets), {(one.query, one.run) for one in there}
    wanted = [(query, run) for run in range(chosen.runs) for query in asked if (query, run) not in done]
    print(f"queries: {len(asked)}, runs of each: {chosen.runs}, sessions to start: {len(wanted)}", file=sys.stderr)
    if chosen.dry_run:
        print(f"client: {client or 'none'}, key: {'set' if os.environ.get('ANTHROPIC_API_KEY') else 'none'}")
        for one in sets:
            print(f"{one['name']:20} should {len(one['should']):3}  near-miss {len(one['near_miss']):3}")
        return 0
    if wanted and not os.environ.get("ANTHROPIC_API_KEY"):
        print("needs a key: set ANTHROPIC_API_KEY; every session is paid for (see --dry-run)", file=sys.stderr)
        return 3
    if wanted and client is None:
        print("needs the client: npm install -g @anthropic-ai/claude-code, or --client PATH", file=sys.stderr)
        return 3
    code = 0
    try:
        there += replay(Settings(client or "", chosen.plugin, chosen.model), wanted, chosen.jobs, chosen.out)
    except (Failed, KeyboardInterrupt) as stopped:
        print("stopped; what was answered is kept, and the same command goes on", file=sys.stderr)
        there = kept(chosen.out, described(chosen.plugin), chosen.model)
        code = 3 if isinstance(stopped, Failed) else 130
    within = [one for one in there if one.run < chosen.runs]
    scores = {one["name"]: score(one, within) for one in sets}
    print(table(scores))
    models = sorted({one.model for one in within})
    print(json.dumps({"runs": chosen.runs, "models": models, "sets": scores}, ensure_ascii=False))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
