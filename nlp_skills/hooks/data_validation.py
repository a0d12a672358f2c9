"""data-validation: what became of the data and the documents that were just changed, by whomever.

A Write or Edit names its file; after a regenerating command, at Stop and at SessionStart every task
of the project is swept for files whose fingerprint moved. Nothing wrong and nothing changed is silence.
"""

from __future__ import annotations

import os

from nlp_skills.hooks import agents, ground, log, shell_line, words

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

# Up to the limit a file is checked whole; of a larger one, so much of it, from all over.
LIMIT_MB = 50
GLANCE_MB = 16
# With fewer rows to train on than these, in all or of one label, fine-tuning learns little.
FEW_ROWS = 100
FEW_OF_A_LABEL = 10
_SPLITS = ("data/train.jsonl", "data/valid.jsonl", "data/test.jsonl")
_DOCUMENTS = ("task.yaml", "data_source.yaml")
_FAULTS = 4
_LABELS = 8


def main(arguments: list[str]) -> None:
    """Read the event, check what it is about, say what there is to say."""
    said = ground.event()
    if ground.is_too_early(said):
        return
    written = ground.mapping(said.get("tool_input")).get("file_path")
    if isinstance(written, str):
        task = ground.task_above(os.path.dirname(written))
        log.note(tasks=[os.path.basename(task)] if task else [])
        lang, blocks = _written(task, written) if task else ("en", [])
    else:
        lang, blocks = _sweep(said)
        blocks += _failed(said, lang, arguments)
    ground.speak(said, lang, blocks)


def _written(task: str, path: str) -> tuple[str, list[list[str]]]:
    checked = Check(task)
    key = os.path.relpath(path, task).replace(os.sep, "/")
    if key in _DOCUMENTS:
        return checked.lang, checked.documents([key], nag=True)
    if key.startswith("data/") and key.endswith(".jsonl"):
        return checked.lang, [checked.file(key, new=True, swept=False)]
    return checked.lang, []


def _sweep(said: dict[str, Any]) -> tuple[str, list[list[str]]]:
    """Every task's splits and documents that moved. At SessionStart a file never seen is only taken note of."""
    new = said.get("hook_event_name") != "SessionStart"
    lang: str = "en"
    blocks: list[list[str]] = []
    for task in ground.tasks(said):
        checked = Check(task)
        lang = checked.lang
        moved = [key for key in _DOCUMENTS if checked.document_moved(key)]
        blocks += checked.documents(moved, nag=False) if moved else []
        for key in _SPLITS:
            if ground.seconds_left() < 2:
                return lang, blocks  # the rest is found again at the next stop
            if checked.moved(key):
                blocks.append(checked.file(key, new=new, swept=True))
    return lang, blocks


def _failed(said: dict[str, Any], lang: str, arguments: list[str]) -> list[list[str]]:
    """Who reads on when a command failed that fetches data or looks whether it could."""
    command = ground.mapping(said.get("tool_input")).get("command")
    verb = shell_line.first(command, "regenerate", "data-source")
    # hooks.json starts us for either word in a command; the one whose word it is speaks of its failure.
    if said.get("hook_event_name") != "PostToolUseFailure" or verb not in arguments:
        return []
    tasks = ground.tasks(said)
    named = [task for task in tasks if shell_line.names(command, task)]
    task = (named or tasks)[0] if len(named or tasks) == 1 else ground.task_above(str(said.get("cwd") or os.getcwd()))
    if task is None:
        return []
    lines = [words.phrase(lang, "no_data", task=words.clean(os.path.basename(task)), verb=verb)]
    facts = agents.present(task, "data_source.yaml")
    return [[*lines, agents.line(lang, agents.ADVISOR, task, *facts)]]


class Check:
    """One task's files against its digest and against what was seen of them before."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.state = ground.state(task)
        self.digest = ground.digest(task)
        self.lang = words.language(self.digest.get("lang"))
        self._checked: dict[str, Any] | None = None
        self._verdict: tuple[int, dict[str, Any]] | None = None
        self._seen_path = os.path.join(self.state, "noticed.json")

    def say(self, key: str, **values: object) -> str:
        return words.phrase(self.lang, key, **values)

    def shown(self, key: str) -> str:
        return words.clean(f"{os.path.basename(self.task)}/{key}")

    def moved(self, key: str) -> bool:
        """Whether a split, or what is expected of it, differs from when it was last checked, or last found too
        large to check.
        """
        now = ground.fingerprint(os.path.join(self.task, key))
        return bool(now) and not self._known(key, now) and now != self._seen(key)

    def _known(self, key: str, now: list[int]) -> dict[str, Any]:
        """What is noted of this very state of a file; costs one stat and no import."""
        if self._checked is None:
            self._checked = ground.read_json(os.path.join(self.state, "checked.json"))
        before = ground.mapping(self._checked.get(key))
        if not now or [before.get("size"), before.get("mtime_ns")] != now:
            return {}
        same = key not in _SPLITS or not self.digest or before.get("expected") == self._expectation()
        return before if same else {}

    def _asked(self) -> tuple[list[str], dict[str, Any], int, int | None]:
        """What the digest expects of a row: fields, answer, fewest and most characters."""
        fields = [name for name in _list(self.digest.get("fields")) if isinstance(name, str)]
        checks = ground.mapping(self.digest.get("checks"))
        least, most = (
            value if isinstance(value, int) else None for value in map(checks.get, ("min_chars", "max_chars"))
        )
        return fields, ground.mapping(self.digest.get("output")), least or 0, most

    def _expectation(self) -> int:
        return ground.expectation(*self._asked())

    def document_moved(self, key: str) -> bool:
        now = ground.fingerprint(os.path.join(self.task, key))
        return bool(now) and now not in (ground.mapping(self.digest.get("documents")).get(key), self._seen(key))

    def _seen(self, key: str) -> Any:
        return ground.mapping(ground.read_json(self._seen_path).get("files")).get(key)

    def _remember(self, key: str) -> bool:
        """Note that this state of a file was spoken of; False where nothing can be noted."""
        notes = ground.read_json(self._seen_path)
        now = ground.fingerprint(os.path.join(self.task, key))
        return ground.write_json(self._seen_path, {**notes, "files": {**ground.mapping(notes.get("files")), key: now}})

    def _judged(self) -> tuple[int, dict[str, Any]]:
        """What the CLI says of the documents, asked at most once; it also brings the digest up to date."""
        if self._verdict is None:
            self._verdict = ground.run_cli(self.lang, "validate", self.task, "--documents")
            self.digest = ground.digest(self.task)
        return self._verdict

    def documents(self, keys: list[str], *, nag: bool) -> list[list[str]]:
        """task.yaml and data_source.yaml, judged by the CLI; `nag`: say so where there is none."""
        code, answer = self._judged()
        if code not in (0, 1):
            return [[self.say("document_unchecked", file=self.shown(key))] for key in keys if nag]
        noted = [self._remember(key) for key in keys]
        if code == 0 or not (nag or all(noted)):
            return []
        return [self._document(key, _errors(answer)) for key in keys]

    def _document(self, key: str, errors: list[dict[str, Any]]) -> list[str]:
        found = [finding for finding in errors if _is_about(finding, key)]
        if not found:
            return []
        lines = [self.say("document_errors", file=self.shown(key), count=len(found))]
        return lines + [line for finding in found[:_FAULTS] for line in self._finding(finding, key)]

    def _finding(self, finding: dict[str, Any], key: str) -> list[str]:
        where = f"{self.shown(key)}:{finding['line']}" if finding.get("line") else self.shown(key)
        said = [self.say("finding", where=where, message=words.clean(finding.get("message"), 160))]
        extra = [self.say(part, **{part: words.clean(finding[part], 160)}) for part in _PARTS if finding.get(part)]
        return [*said, "  " + " · ".join(extra)] if extra else said

    def file(self, key: str, *, new: bool, swept: bool) -> list[str]:
        """A data file. `new`: one never checked before is worth a word even when it is clean; `swept`: nobody
        named it, so that it is passed over where what was said cannot be noted and would be said at every stop.
        """
        path = os.path.join(self.task, key)
        now = ground.fingerprint(path)
        known = self._known(key, now)
        if known and not known.get("bad"):
            return []
        if sum(now[:1]) > LIMIT_MB << 20 and not self._remember(key) and swept:
            return []
        from nlp_skills.data import rows  # here, not above: most events end before it is needed

        before = rows.recall(self.state, key)
        structure_only, asked = self._expected(key)
        try:
            if sum(now[:1]) > LIMIT_MB << 20:
                lines = self._large(key, rows.glance(path, budget=GLANCE_MB << 20, **asked))
                return [*lines, self.say("structure_only")] if structure_only else lines
            report = rows.check(path, **asked)
        except OSError as error:
            return [self.say("unreadable", file=self.shown(key), cause=error.strerror)]
        if (not self._noted(key, report) and swept) or not (report["bad"] or _is_news(before, report, new)):
            return []
        lines = self._summary(key, report, before)
        lines += [self.say("nested")] if _is_nested(asked["output"]) else []
        return [*lines, self.say("structure_only")] if structure_only else lines

    def _noted(self, key: str, report: dict[str, Any]) -> bool:
        from nlp_skills.data import rows

        try:
            rows.remember(self.state, key, report)
        except OSError:
            return False
        return True

    def _large(self, key: str, report: dict[str, Any]) -> list[str]:
        """A file too large for a hook: what was seen of it, and that the rest was not."""
        file, size, command = self.shown(key), report["size"] >> 20, ground.command("validate", self.task)
        if not report["rows"]:
            return [self.say("too_large", file=file, size=size, limit=LIMIT_MB, command=command)]
        seen = {"seen": report["seen"] >> 20, "rows": report["rows"], "bad": report["bad"]}
        lines = [self.say("glanced", file=file, size=size, limit=LIMIT_MB, **seen)]
        lines += self._faults(report)
        return [*lines, self.say("full", command=command)]

    def _expected(self, key: str) -> tuple[bool, dict[str, Any]]:
        """What each row of a split must hold, as rows.check takes it; raw, converted and reviewed rows have a shape
        of their own. True where it is not known although it should be.
        """
        nothing: dict[str, Any] = {"fields": [], "output": {}}
        if key not in _SPLITS:
            return False, nothing
        if not ground.is_current(self.task, self.digest):
            self._judged()
            if not ground.is_current(self.task, self.digest):
                return True, nothing
        fields, output, least, most = self._asked()
        return False, {
            "fields": fields,
            "output": output,
            "min_chars": least,
            "max_chars": most,
            "also": _entity_check(fields, output),
        }

    def _summary(self, key: str, report: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
        head = [self.say("rows", file=self.shown(key), rows=report["rows"], bad=report["bad"])]
        head += [self.say(name, count=report[name]) for name in ("blank", "duplicates") if report.get(name)]
        head += [] if before else [self.say("first")]
        lines = [self.say("comma").join(head)]
        lines += self._faults(report)
        lines += self._shares(report["distribution"]) + self._changes(report, before)
        lines += self._to_advise(key, report, before)
        if report["bad"]:
            lines.append(self.say("full", command=ground.command("validate", self.task)))
        return lines

    def _to_advise(self, key: str, report: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
        """For whoever knows where rows come from, when they have become bad or are too few; told as that begins."""
        wants = [name for name, wrong in _WRONG.items() if wrong(key, report)]
        if not wants or (before and any(wrong(key, before) for wrong in _WRONG.values())):
            return []
        facts = [self.say("fact_rows", rows=report["rows"], bad=report["bad"])]
        rarest = min(report["distribution"].items(), key=lambda item: (item[1], item[0]), default=None)
        if rarest and "few" in wants:
            facts.append(self.say("fact_smallest", label=words.clean(rarest[0], 30), count=rarest[1]))
        return [agents.line(self.lang, agents.ADVISOR, self.task, words.clean(key), *facts)]

    def _faults(self, report: dict[str, Any]) -> list[str]:
        faults = [fault for fault in report["faults"] if fault["code"] != "duplicate"]
        lines = [
            self.say("fault" if fault["line"] else "fault_at", what=self._fault(fault), **fault)
            for fault in faults[:_FAULTS]
        ]
        more = sum(count for code, count in report["codes"].items() if code != "duplicate") - len(lines)
        return [*lines, self.say("more_faults", count=more)] if more > 0 else lines

    def _fault(self, fault: dict[str, Any]) -> str:
        detail = words.clean(fault.get("detail") or "")
        what = words.fault(self.lang, fault.get("code"))
        return self.say("detailed", what=what, detail=detail) if detail else what

    def _shares(self, distribution: dict[str, int]) -> list[str]:
        total = sum(distribution.values())
        if not total:
            return []
        largest = sorted(distribution.items(), key=lambda item: (-item[1], item[0]))
        shares = [
            self.say("share", label=words.clean(label, 30), count=count, percent=words.percent(count / total))
            for label, count in largest[:_LABELS]
        ]
        if len(largest) > _LABELS:
            shares.append(self.say("more_labels", count=len(largest) - _LABELS))
        field = words.clean(self.digest.get("label_field") or "label", 30)
        return [self.say("shares", field=field, shares=self.say("comma").join(shares))]

    def _changes(self, report: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
        if not before:
            return []
        changes = [
            self.say(phrase, before=before.get(name), after=report[name])
            for name, phrase in (("rows", "row_change"), ("bad", "bad_change"))
            if before.get(name) != report[name]
        ]
        old, new = ground.mapping(before.get("distribution")), report["distribution"]
        moves = {label: new.get(label, 0) - old.get(label, 0) for label in {*old, *new}}
        largest = sorted((item for item in moves.items() if item[1]), key=lambda item: (-abs(item[1]), item[0]))
        changes += [f"{words.clean(label, 30)} {move:+d}" for label, move in largest[:_LABELS]]
        return [self.say("change", changes=self.say("comma").join(changes))] if changes else []


_PARTS = ("cause", "mend")


def _is_bad(_key: str, report: dict[str, Any]) -> bool:
    return bool(report.get("bad"))


def _is_few(key: str, report: dict[str, Any]) -> bool:
    """Whether there is too little to train on: of all rows, or of a label."""
    if key != "data/train.jsonl":
        return False
    counts = ground.mapping(report.get("distribution")).values()
    return (report.get("rows") or 0) < FEW_ROWS or any(count < FEW_OF_A_LABEL for count in counts)


_WRONG = {"bad": _is_bad, "few": _is_few}


def _entity_check(fields: list[str], output: dict[str, Any]) -> Any:
    """What to ask of a row's entities; None for answers without any."""
    if not _is_nested(output):
        return None
    from nlp_skills.data import entities

    return entities.checker(fields, output)


def _is_nested(output: dict[str, Any]) -> bool:
    """Whether an answer has parts that rows.check does not look into."""
    parts = [ground.mapping(part) for part in output.values()]
    return any(
        part.get("type") == "object"
        or (part.get("type") == "array" and not ground.mapping(part.get("items")).get("enum"))
        for part in parts
    )


def _is_news(before: dict[str, Any] | None, report: dict[str, Any], new: bool) -> bool:
    """Whether something changed since the last check; without one, whether a first check counts as news."""
    if before is None:
        return new
    return any(before.get(name) != report[name] for name in ("rows", "bad", "distribution"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _errors(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The errors of `validate --json`: its findings, or the one problem (and those beside it) that stopped it."""
    problem = ground.mapping(answer.get("error"))
    entries = [problem, *_list(problem.get("also"))] if problem else _list(answer.get("findings"))
    found = [ground.mapping(entry) for entry in entries]
    return [entry for entry in found if entry.get("message") and entry.get("severity") != "warning"]


def _is_about(finding: dict[str, Any], key: str) -> bool:
    return os.path.basename(str(finding.get("file") or key)) == key
