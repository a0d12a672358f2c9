"""What runs on every machine that SkyPilot rented for a version: the `run:` of configs/sky/vN.yaml.

    python -m nlp_skills.execution.cloud.node

The first machine keeps a job's folder as `agent.jobs` has it, so that home follows it like a job on any server. Under
that keeper, and on the other machines at once, `carry` puts in place what the bucket has, starts the step (under
torchrun where there are several machines), copies checkpoints to the bucket as they appear, and asks the step to end
when its hours or its money are used up.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.execution.agent import jobs
from nlp_skills.execution.cloud.bucket import Bucket
from nlp_skills.execution.cloud.budget import Budget
from nlp_skills.workspace import mirror, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

LOOK_SECONDS = 1.0
PORT = 29517
INTERRUPTED = 130
# A run whose time is up may still begin, come to its first step and save it, or finish a long step; then no longer.
FIRST_STEP_SECONDS = 600.0
PATIENCE_SECONDS = 1800.0
_TAIL_SECONDS = 0.5
_PROGRAM = "nlp_skills.cli.main"


@dataclass(frozen=True)
class Node:
    """What SkyPilot's variables and ours say of this machine and its part."""

    folder: TaskFolder
    version: VersionFolder
    step: str
    arguments: list[str]
    job: str
    workdir: Path
    bucket: Path | None
    models: dict[str, str]
    of: str
    usd_per_hour: float | None
    number: int
    addresses: list[str]
    gpus: int

    @property
    def nodes(self) -> int:
        return len(self.addresses)

    @classmethod
    def read(cls, folder: TaskFolder, given: Mapping[str, str]) -> Node:
        """From the environment; launched by hand, there is no job's name, and SkyPilot's own stands for it."""
        hand = re.sub(r"[^\w.-]+", "-", given.get("SKYPILOT_TASK_ID") or f"by-hand-{time.time():.0f}").lstrip(".")
        bucket = given.get("NLP_SKILLS_BUCKET")
        price = given.get("NLP_SKILLS_USD_PER_HOUR")
        return cls(
            folder,
            folder.existing_version(given.get("NLP_SKILLS_VERSION")),
            step=given.get("NLP_SKILLS_STEP") or "train",
            arguments=[str(word) for word in json.loads(given.get("NLP_SKILLS_ARGUMENTS") or "[]")],
            job=given.get("NLP_SKILLS_JOB") or hand,
            workdir=Path(given.get("NLP_SKILLS_WORKDIR") or "~/nlp-skills").expanduser(),
            bucket=Path(bucket).expanduser() if bucket else None,
            models={name: str(Path(there).expanduser()) for name, there in _models(given).items()},
            of=given.get("NLP_SKILLS_OF") or "?",
            usd_per_hour=float(price) if price else None,
            number=int(given.get("SKYPILOT_NODE_RANK") or 0),
            addresses=(given.get("SKYPILOT_NODE_IPS") or "127.0.0.1").split(),
            gpus=int(given.get("SKYPILOT_NUM_GPUS_PER_NODE") or 0),
        )


def _models(given: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(given.get("NLP_SKILLS_MODELS") or "{}")
    return found


def main(arguments: list[str]) -> int:
    """Keep the job; or carry it out (`carry`), when the keeper starts this; or `learn`, when torchrun does."""
    node = Node.read(TaskFolder.at(Path.cwd()), os.environ)
    if arguments == ["carry"]:
        return carry(node)
    if arguments[:1] == ["learn"]:
        return learn(node, arguments[1:])
    if node.number:
        # Only a training is made of several machines.
        return carry(node) if node.step == "train" else 0
    return _kept(node)


def _kept(node: Node) -> int:
    """Run `carry` as a job, in a session of its own, and say what it says; its exit code."""
    with contextlib.suppress(PermissionError):
        os.setsid()
    place = node.workdir / "jobs" / node.job
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    (place / "exit.json").unlink(missing_ok=True)  # SkyPilot starts a job again under its old name
    program = [sys.executable, "-u", "-I", "-m", "nlp_skills.execution.cloud.node", "carry"]
    env = {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(node.workdir / "cache"), "NLP_SKILLS_JOB": node.job}
    job = {"argv": program, "cwd": str(node.folder.root), "env": env, "created": time.time()}
    files.write_json(place / "job.json", job)
    over = threading.Event()
    told = threading.Thread(target=_tell, args=(place, over))
    told.start()
    try:
        jobs.keep(str(place))
    finally:
        over.set()
        told.join()
    return int(files.read_json(place / "exit.json")["exit_code"])


def _tell(place: Path, over: threading.Event) -> None:
    """Say what the job says, for `sky logs`."""
    at = {place / "out.log": 0, place / "err.log": 0}
    while True:
        last = over.wait(_TAIL_SECONDS)
        for path, offset in at.items():
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
                stream.seek(offset)
                words = stream.read()
                at[path] += len(words)
                sys.stdout.buffer.write(words)
        sys.stdout.flush()
        if last:
            return


def carry(node: Node) -> int:
    """The step, from where the bucket says it was, to its end; the exit code."""
    mark = {"of": node.of, "models": node.models}
    files.write_json(node.folder.state / mirror.NAME, mark)
    kept = None
    if node.bucket is not None and node.step == "train":
        place = node.bucket / node.version.name
        kept = Bucket(place, node.folder, node.version, node.number, node.nodes)
    arguments = _begun(node, kept)
    if kept is not None and (name := kept.restore()):
        _say(f"going on from {name} in the bucket")
    outlives = (node.bucket or node.workdir) / f"budget-{node.job}.json"
    budget = Budget.of(node.folder.task().execution, outlives, node.usd_per_hour) if not node.number else None
    return _ended(node, kept, _watched(node, kept, budget, _program(node, arguments)))


def _begun(node: Node, kept: Bucket | None) -> list[str]:
    """The step's options. To begin anew holds for the first machine of a job, not for one that replaces it."""
    if kept is None or node.number:
        return node.arguments
    note = kept.place / "job.txt"
    with contextlib.suppress(OSError):
        if note.read_text(encoding="utf-8") == node.job:
            return [word for word in node.arguments if word != "--again"]
    if "--again" in node.arguments:
        kept.forget()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(node.job, encoding="utf-8")
    return node.arguments


def command(node: Node, arguments: list[str]) -> list[str]:
    """The step's command line on this machine: under torchrun where several machines learn together."""
    which = [] if node.step == "regenerate" else ["--version", node.version.name]
    step = [node.step, str(node.folder.root), *which, *arguments]
    python = [sys.executable, "-u", "-I", "-m"]
    if not _launched(node):
        return [*python, _PROGRAM, *step]
    launcher = [
        *("--nnodes", str(node.nodes)),
        *("--node-rank", str(node.number)),
        *("--nproc-per-node", str(max(1, node.gpus))),
        *("--master-addr", node.addresses[0]),
        *("--master-port", os.environ.get("MASTER_PORT", str(PORT))),
    ]
    return [*python, "torch.distributed.run", *launcher, "-m", "nlp_skills.execution.cloud.node", "learn", *step]


def _launched(node: Node) -> bool:
    return node.nodes > 1 and node.step == "train"


def _code(node: Node) -> Path:
    """Where the first of the processes that torchrun started leaves its exit code."""
    return node.workdir / "jobs" / node.job / "code"


def _code_of_launched(node: Node) -> int | None:
    """What the first process ended with, where torchrun started it on this machine and it has ended."""
    if _launched(node) and not node.number:
        with contextlib.suppress(OSError, ValueError):
            return int(_code(node).read_text(encoding="utf-8"))
    return None


def learn(node: Node, arguments: list[str]) -> int:
    """The step, as one of the processes that torchrun started.

    torchrun neither passes on the code that its first process ends with, nor is it silent where that is not 0.
    """
    code: object = 0
    try:
        sys.argv = [_PROGRAM, *arguments]
        runpy.run_module(_PROGRAM, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    if os.environ.get("RANK") != "0":
        return int(str(code))
    _code(node).write_text(str(code), encoding="utf-8")
    return 0


def _program(node: Node, arguments: list[str]) -> subprocess.Popen[bytes]:
    if _launched(node):
        _code(node).unlink(missing_ok=True)
    return subprocess.Popen(command(node, arguments), cwd=node.folder.root, stdin=subprocess.DEVNULL)


def _watched(node: Node, kept: Bucket | None, budget: Budget | None, program: subprocess.Popen[bytes]) -> int:
    """Wait for the step's end, keeping what outlives the machine as it appears."""
    end = _End(node, program)
    # Unlike SIG_IGN, a handler is not inherited.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.want())
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return program.wait(LOOK_SECONDS)
        if kept is not None:
            kept.keep_checkpoint()
        if budget is not None:
            budget.count()
            if not end.wanted and (reason := budget.used_up()):
                _say(f"{reason}; asking the run to save a checkpoint and to end")
                end.want(after_a_step=True)
        end.see_to_it()
        if _code_of_launched(node) not in (None, 0, INTERRUPTED):
            # It would wait for the other machines, of which one is broken, for minutes.
            program.kill()


@dataclass
class _End:
    """That the step is to end: asked once, as soon as it can hear, and made to where it does not."""

    node: Node
    program: subprocess.Popen[bytes]
    wanted: float | None = None
    after_a_step: bool = False
    asked: bool = False

    def want(self, *, after_a_step: bool = False) -> None:
        """From now on; before its first step a training has nothing to save."""
        self.wanted, self.after_a_step = self.wanted or time.monotonic(), after_a_step

    def see_to_it(self) -> None:
        if self.wanted is None:
            return
        waited = time.monotonic() - self.wanted
        if not self.asked and (pid := self._listener(waited > FIRST_STEP_SECONDS)) is not None:
            self.asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if waited > PATIENCE_SECONDS:
            self.program.kill()

    def _listener(self, at_once: bool) -> int | None:
        """The process that stops the step: torchrun itself would not wait for a checkpoint."""
        if self.node.step != "train":
            return self.program.pid
        with contextlib.suppress(Problem):
            status = self.node.version.status()
            if status is not None and runs.alive(status):
                steps = status.step_seconds is not None
                return status.pid if steps or at_once or not self.after_a_step else None
        return None


def _ended(node: Node, kept: Bucket | None, code: int) -> int:
    """What is left is kept; the code that the step ended with."""
    code = 128 - code if code < 0 else code
    status = node.version.status() if node.step == "train" and not node.number else None
    launched = _code_of_launched(node)
    code = code if launched is None else launched
    if kept is not None:
        if status is not None and status.state == "completed" and not code:
            kept.keep_results()
        else:
            kept.keep_checkpoint()
    return code


def _say(words: str) -> None:
    print(f"--- {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
