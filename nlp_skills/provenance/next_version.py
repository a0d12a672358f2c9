"""Making the next version: what it says of itself is true and worth reading, or it is not made."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.data.rows import cut
from nlp_skills.errors import Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.provenance import changes as differences
from nlp_skills.provenance import second_stage
from nlp_skills.provenance.vague import vague
from nlp_skills.schema.training import Method
from nlp_skills.workspace import naming, promotion, versions
from nlp_skills.workspace.folder import TaskFolder, VersionFolder
from nlp_skills.workspace.versions import Decision, Draft

KINDS: tuple[naming.Kind, ...] = ("major", "minor", "exp")
# Takes a configuration's text, and what is wrong with it the second time; None leaves it as it is.
Edit = Callable[[str, Problem | None], str | None]
# Takes the proposed kind and the name that each kind would give.
Choose = Callable[[naming.Kind, Mapping[naming.Kind, str]], naming.Kind]


@dataclass(frozen=True)
class Made:
    """A new version. `computed` is what differs from its parent, `changes` what its lineage says.

    `proposal` is the kind that fits what differs (None where the strategy knows no minor versions), `names` what each
    kind would have been called; `diff` is of the two config.yaml. `reasons` say why settings were chosen that nobody
    gave, `following` is what to type next.
    """

    version: VersionFolder
    parent: str
    changes: list[str]
    computed: list[str]
    proposal: naming.Kind | None
    names: Mapping[naming.Kind, str]
    diff: str
    reasons: list[str]
    following: str


def new_version(
    folder: TaskFolder,
    *,
    changes: Sequence[str] = (),
    settings: Mapping[str, Any],
    parent: str | None = None,
    kind: naming.Kind | None = None,
    edit: Edit | None = None,
    choose: Choose | None = None,
    method: Method | None = None,
    init_from: str | None = None,
) -> Made:
    """Make the next version. What nobody says is computed; `edit` and `choose` ask whoever is there.

    `method` and `init_from` (a trained version to go on from, and the parent where none is given) bring the settings
    along that they need; those in `settings` have precedence.

    Raises:
        Usage: a change that says nothing, nothing that changes, a setting without a place, no such kind of version.
        Invalid: the parent does not exist, `init_from` is not trained, the configuration is not valid, or the task is
            archived.
    """
    parent = parent or init_from
    stage = second_stage.settings(folder, folder.existing_version(parent), method, init_from)
    chosen = [setting for setting in stage if setting.key not in settings]
    wanted = {**{setting.key: setting.value for setting in chosen}, **settings}
    asked = _Request(folder, changes, kind, edit, choose, insist=not changes and not wanted)
    made = versions.new_version(folder, settings=wanted, changes=changes, parent=parent, decide=asked.decide)
    lineage = made.lineage()
    return Made(
        version=made,
        parent=asked.draft.origin.name,
        changes=lineage.changes if lineage else [],
        computed=[change.sentence for change in asked.found],
        proposal=asked.proposal,
        names=asked.names,
        diff=_diff(asked.draft.origin, made),
        reasons=[f"{setting.key}: {setting.why}" for setting in chosen if setting.why],
        following=second_stage.commands(folder, made, asked.draft.origin.name),
    )


@dataclass
class _Request:
    """What was asked for, and, once a draft was decided upon, what was found."""

    folder: TaskFolder
    changes: Sequence[str]
    kind: naming.Kind | None
    edit: Edit | None
    choose: Choose | None
    insist: bool
    draft: Draft = field(init=False)
    found: list[differences.Change] = field(init=False)
    proposal: naming.Kind | None = None
    names: dict[naming.Kind, str] = field(default_factory=dict)

    def decide(self, draft: Draft) -> Decision:
        """Let the text be edited, see what differs, judge what is said, and settle the kind."""
        self.draft = _edited(draft, self.edit, insist=self.insist) if self.edit else draft
        self.found = differences.between(self.folder, draft.origin, self.draft.config)
        said = _said(self.changes, [change.sentence for change in self.found], draft.origin)
        task = self.folder.task()
        if task.versioning.strategy == "semantic":
            self.names = {kind: versions.next_name(self.folder, task, kind, draft.origin.name) for kind in KINDS}
            self.proposal = differences.proposal(self.found)
        asks = self.choose if self.proposal and not self.kind else None
        chosen = asks(self.proposal or "major", self.names) if asks else self.kind or "major"
        return Decision(self.draft, chosen, said)


def promote(folder: TaskFolder, name: str, *, changes: Sequence[str] = ()) -> promotion.Promoted:
    """Make an experiment the next version; `changes` are added to those it was begun with.

    Raises:
        Usage: a change that says nothing; and as `promotion.promote`.
        Invalid: as `promotion.promote`.
    """
    experiment = promotion.experiment(folder, name)
    lineage = experiment.lineage()
    for change in changes:
        _refuse_vague(change, lineage.changes if lineage else [], (lineage and lineage.parent) or experiment.name)
    return promotion.promote(folder, name, changes=changes)


def _edited(draft: Draft, edit: Edit, *, insist: bool) -> Draft:
    text = edit(draft.text, None)
    while text is not None and text != draft.text:
        try:
            return draft.edited(text)
        except Problem as problem:
            again = edit(text, problem)
            if again is None:
                raise
            text = again
    if insist:
        raise Usage(
            _("no version made: the configuration was left as it is"),
            mend=_('change it in the editor, or say what changes: --change "LoRA rank 16 → 32"'),
        )
    return draft


def _said(changes: Sequence[str], computed: Sequence[str], origin: VersionFolder) -> list[str]:
    for change in changes:
        _refuse_vague(change, computed, origin.name)
    if not changes and not computed:
        waiting = not versions.begun(origin)
        raise Usage(
            _("nothing says what changes"),
            cause=_("the next version would be {parent} again", parent=origin.name),
            mend=_("{version} is not trained yet: nlp-skills train", version=origin.name)
            if waiting
            else _('add --change "LoRA rank 16 → 32", or --set lora.r=32'),
        )
    return list(changes or computed)


def _refuse_vague(change: str, computed: Sequence[str], parent: str) -> None:
    if not vague(change):
        return
    shown = cut(" ".join(change.split()), 60)
    if computed:
        cause = _("it differs from {parent} in: {changes}", parent=parent, changes="; ".join(computed))
        options = " ".join(f"--change {shlex.quote(sentence)}" for sentence in computed)
        mend = _("say it so, or leave --change out and it is written so: {options}", options=options)
    else:
        cause = _("nothing differs from {parent} yet", parent=parent)
        mend = _("say what and how much, such as: LoRA rank 32 → 64, or: cleaned labels that contradict each other")
    raise Usage(_('the change "{change}" says nothing', change=shown), cause=cause, mend=mend)


def _diff(before: VersionFolder, after: VersionFolder) -> str:
    """A unified diff of the two config.yaml; empty where they are the same."""
    old, new = (version.config_path.read_text(encoding="utf-8-sig").splitlines() for version in (before, after))
    names = [version.config_path.relative_to(version.task_root).as_posix() for version in (before, after)]
    return "\n".join(difflib.unified_diff(old, new, names[0], names[1], lineterm=""))
