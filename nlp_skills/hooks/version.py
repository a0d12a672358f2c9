"""What a version's files say: how its last run ended, what was measured, and what to say of either."""

from __future__ import annotations

import os
import time

from nlp_skills.hooks import agents, alive, ground, words, yaml_lines

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

    from nlp_skills.hooks.version_tracking import Task

STEPS = {"train": "training", "evaluate": "evaluation"}


def fingerprints(versions: str, name: str) -> list[list[int]]:
    """Of the two files that say what became of a version."""
    files = (("run", "status.json"), ("results.json",))
    return [ground.fingerprint(os.path.join(versions, name, *file)) for file in files]


class Version:
    """What a version's files say: the last run, the results, and which of the two came last."""

    def __init__(self, task: Task, name: str) -> None:
        self.task = task
        self.name = name
        self.root = os.path.join(task.root, "versions", name)
        self.files = fingerprints(os.path.dirname(self.root), name)  # before they are read
        self.run = ground.read_json(os.path.join(self.root, "run", "status.json"))
        self.results = ground.read_json(os.path.join(self.root, "results.json"))
        self.state = self._state()
        self.run_time, self.results_time = (file[1] if file else 0 for file in self.files)
        self.ended = max(self.run_time, self.results_time)

    def _state(self) -> str | None:
        """completed, failed, interrupted, died; None while it runs or may run elsewhere, and where nothing ran."""
        state = self.run.get("state")
        if state == "dead" or (state == "running" and not alive.may_live(self.run)):
            return "died"
        return state if state in ("completed", "failed", "interrupted") else None

    @property
    def mark(self) -> str | None:
        """What tells one end from the next; None when there is nothing to tell (yet)."""
        if self.run.get("state") == "running" and self.state is None:
            return None
        run = f"{self.run.get('kind', 'train')} {self.run.get('started')} {self.state}" if self.state else ""
        if run and self.run.get("host"):
            run += f" {self.run.get('pid')}"  # one that went on has another process, and its own end
        measured = str(self.results.get("created") or "") if self.results.get("metrics") else ""
        return f"{run} | {measured}" if run or measured else None

    def lines(self) -> list[str]:
        """What to tell: a run that did not end well, results, or a training not measured yet."""
        if self.state in ("failed", "interrupted", "died"):
            return self._unfinished()
        return self._measured() if self.is_measured else self._trained()

    def stalled(self) -> list[str]:
        """What to tell of a run that goes on and does nothing."""
        step = "evaluate" if self.run.get("kind") == "evaluate" else "train"
        lines = [self.task.say("stalled", version=self._head(), kind=self.task.say(STEPS[step])), *self._reached()]
        since = words.seconds(self.run.get("stepped") or self.run.get("updated"))
        if since is not None:
            lines.append(self.task.say("unheard", span=words.span(self.task.lang, max(0.0, time.time() - since))))
        return [*lines, *self._to_diagnose(), self._command("logs")]

    @property
    def is_measured(self) -> bool:
        """Whether there are results of what was trained last."""
        trained_since = self.run.get("kind", "train") == "train" and self.run_time > self.results_time
        return bool(self.results.get("metrics")) and not trained_since

    @property
    def verdict(self) -> dict[str, Any]:
        """How it stands with the task's criterion."""
        return ground.mapping(self.results.get("success"))

    @property
    def primary(self) -> str:
        """The metric that the criterion is about."""
        return str(self.verdict.get("primary_metric") or self.task.digest.get("primary_metric") or "macro_f1")

    def value(self, metric: str) -> float | None:
        """A figure as it was measured."""
        return _number(ground.mapping(self.results.get("metrics")).get(metric))

    @property
    def can_resume(self) -> bool:
        """Whether a run ended before its end and can go on from a checkpoint."""
        return self.state in ("died", "interrupted") and self._has_checkpoint()

    @property
    def goes_on(self) -> bool:
        """Whether its run goes on here."""
        return self.run.get("state") == "running" and self.state is None and alive.is_here(self.run)

    def _head(self) -> str:
        return words.clean(f"{os.path.basename(self.task.root)} {self.name}")

    def _command(self, verb: str, *options: str) -> str:
        version = [] if self.name == self.task.digest.get("version") else ["--version", words.clean(self.name)]
        command = ground.command(verb, self.task.root, *version, *options)
        return self.task.say("next", command=command)

    def _unfinished(self) -> list[str]:
        step = "evaluate" if self.run.get("kind") == "evaluate" else "train"
        lines = [self.task.say(str(self.state), version=self._head(), kind=self.task.say(STEPS[step]))]
        lines += self._reached()
        if self.run.get("message"):
            lines.append(self.task.say("cause", cause=words.clean(self.run["message"], 200)))
        if self.run.get("reason") in _MENDED:
            lines.append(self.task.say("mend", mend=self.task.say(f"mend_{self.run['reason']}")))
        lines += self._to_diagnose()
        if step == "evaluate":
            return [*lines, self._command("evaluate")]
        # A failure wants its cause mended first; an interrupted run goes on from its checkpoint.
        verb = "preflight" if self.state == "failed" else "resume" if self._has_checkpoint() else "train"
        detached = verb != "preflight" and self.run.get("group") is not None
        return [*lines, self._command(verb, *(["--detach"] if detached else []))]

    def _reached(self) -> list[str]:
        if not self.run.get("total_steps"):
            return []
        return [self.task.say("reached", step=self.run.get("step"), total=self.run["total_steps"])]

    def _to_diagnose(self) -> list[str]:
        """For whoever finds the cause of a bad end; what a person interrupted has no cause to be found."""
        if self.state == "interrupted":
            return []
        files = [f"versions/{self.name}/run/{name}" for name in ("metrics.jsonl", "output.log", "train.log")]
        facts = [agents.coded(self.task.lang, self.run.get("reason")), *self._reached()]
        return [self._agent(agents.DIAGNOSER, *facts, *agents.present(self.task.root, *files))]

    def _agent(self, agent: str, *facts: str) -> str:
        version = agents.version(self.task.lang, self.name)
        return agents.line(self.task.lang, agent, self.task.root, version, *facts)

    def _has_checkpoint(self) -> bool:
        """Whether a checkpoint was written to its end."""
        place = os.path.join(self.task.root, "models", "checkpoints", self.name)
        try:
            names = os.listdir(place)
        except OSError:
            return False
        return any(os.path.exists(os.path.join(place, name, "complete.json")) for name in names)

    def _trained(self) -> list[str]:
        lines = [self.task.say("trained", version=self._head())]
        loss = _number(self.run.get("loss"))
        if loss is not None:
            lines.append(self.task.say("loss", steps=self.run.get("step"), loss=f"{loss:.4g}"))
        return [*lines, *self._lineage("model", None), self._command("evaluate")]

    def _measured(self) -> list[str]:
        verdict, primary = self.verdict, self.primary
        lines = [self.task.say("evaluated", version=self._head(), rows=self.results.get("test_rows"))]
        lines.append(f"{self._metric(primary)}; {self._criterion(verdict)}")
        if primary != "accuracy" and self.value("accuracy") is not None:
            lines.append(self._metric("accuracy"))
        lines += self._baseline(primary)
        parent = self._parent()
        lines += self._against(parent, primary) + self._lineage("results", primary)
        return [*lines, self._to_judge(verdict, primary, parent), self._after(verdict, parent)]

    def _to_judge(self, verdict: dict[str, Any], primary: str, parent: Version | None) -> str:
        """For whoever finds out why the criterion was missed, or else judges whether the version is worth having."""
        value = self.value(primary)
        threshold = _number(verdict.get("threshold"))
        facts = [
            self.task.say("fact_parent", name=words.clean(parent.name)) if parent else "",
            self.task.say("metric", name=words.clean(primary, 30), value=words.percent(value))
            if value is not None
            else "",
            self.task.say("fact_threshold", value=words.percent(threshold)) if threshold is not None else "",
        ]
        files = [f"versions/{self.name}/{name}" for name in ("results.json", "predictions.jsonl")]
        missed = threshold is not None and (_gate(verdict) or "not_met") == "not_met"
        agent = agents.DIAGNOSER if missed else agents.ANALYZER
        return self._agent(agent, *facts, *agents.present(self.task.root, *files))

    def _metric(self, name: str) -> str:
        value = self.value(name)
        shown = "-" if value is None else words.percent(value)
        interval = ground.mapping(self.results.get("intervals")).get(name)
        ends = [_number(end) for end in interval] if isinstance(interval, list) else []
        if len(ends) != 2 or None in ends:
            return self.task.say("metric", name=words.clean(name, 30), value=shown)
        low, high = (words.percent(end) for end in ends if end is not None)
        return self.task.say("interval", name=words.clean(name, 30), value=shown, low=low, high=high)

    def _criterion(self, verdict: dict[str, Any]) -> str:
        threshold = _number(verdict.get("threshold"))
        if threshold is None:
            return self.task.say("no_criterion")
        return self.task.say(_gate(verdict) or "not_met", threshold=words.percent(threshold))

    def _baseline(self, primary: str) -> list[str]:
        baselines = ground.mapping(self.results.get("baselines"))
        values = {name: _number(ground.mapping(metrics).get(primary)) for name, metrics in baselines.items()}
        known = [(value, name) for name, value in values.items() if value is not None]
        if not known:
            return []
        value, name = max(known)
        ours = self.value(primary)
        key = "baseline" if ours is not None and ours > value else "baseline_wins"
        return [self.task.say(key, name=words.clean(name, 30), value=words.percent(value))]

    def _parent(self) -> Version | None:
        name = yaml_lines.scalar(self._lineage_text(), "parent")
        if not name or name == self.name or os.path.basename(name) != name:
            return None
        parent = Version(self.task, name)
        return parent if parent.results.get("metrics") else None

    def _against(self, parent: Version | None, primary: str) -> list[str]:
        if parent is None:
            return []
        ours, theirs = self.value(primary), parent.value(primary)
        if ours is None or theirs is None:
            return []
        values = {"parent": words.clean(parent.name), "name": words.clean(primary, 30), "value": words.percent(theirs)}
        if self.results.get("test_sha256") != parent.results.get("test_sha256"):
            return [self.task.say("parent_other_rows", **values)]
        return [self.task.say("parent", change=f"{(ours - theirs) * 100:+.1f}", **values)]

    def _after(self, verdict: dict[str, Any], parent: Version | None) -> str:
        if parent is not None:
            command = ground.command("compare", self.task.root, words.clean(parent.name), words.clean(self.name))
            return self.task.say("next", command=command)
        if _gate(verdict) == "not_met":
            command = ground.command("new-version", self.task.root, '--change "…"')
            return self.task.say("next", command=command)
        return self._command("report")

    def _lineage_text(self) -> str:
        return ground.read_text(os.path.join(self.root, "lineage.yaml"))

    def _lineage(self, section: str, metric: str | None) -> list[str]:
        """The steps write the lineage; when one died in between, the CLI completes it here."""
        if self._recorded(section, metric):
            return []
        code, answer = ground.run_cli(self.task.lang, "lineage", self.task.root, self.name, "--complete")
        if code == 0:
            return [self.task.say("lineage_done")] if answer.get("mended") else []
        command = ground.command("lineage", self.task.root, words.clean(self.name), "--complete")
        return [self.task.say("lineage_behind", command=command)]

    def _recorded(self, section: str, metric: str | None) -> bool:
        """Whether lineage.yaml has the section, with this metric's present value."""
        inside = yaml_lines.section(self._lineage_text(), section)
        if metric is None:
            return bool(inside)
        ours = ground.mapping(self.results.get("metrics")).get(metric)
        return any(yaml_lines.number(line, metric) == ours for line in inside)


_MENDED = ("disk_full", "out_of_memory", "nan_loss", "diverged", "stalled")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _gate(verdict: dict[str, Any]) -> str | None:
    """The verdict's word; results of the releases up to 0.4 say `met` instead."""
    word = verdict.get("verdict")
    if word in ("met", "not_met", "cannot_tell"):
        return str(word)
    met = verdict.get("met")
    return {True: "met", False: "not_met"}.get(met) if isinstance(met, bool) else None
