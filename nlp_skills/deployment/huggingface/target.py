"""The target: what is sent to a repository, what is found there already, and what is somebody else's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.deployment import parity
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.huggingface import contents, names, planning
from nlp_skills.deployment.huggingface import hub as hubs
from nlp_skills.deployment.huggingface.contents import Forms, Piece
from nlp_skills.deployment.huggingface.hub import Held, Hub, Tree
from nlp_skills.deployment.huggingface.names import Place
from nlp_skills.deployment.huggingface.planning import Plan
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment, Export
from nlp_skills.schema.task import Quantization
from nlp_skills.schema.version import LineageModel
from nlp_skills.workspace import lineage, lock
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What a finished upload waits for the task's lock.
_PATIENCE = 600.0
# So many files of a difference are named.
_NAMED = 5
# What a repository that was made by hand begins with.
_HARMLESS = {contents.CARD, "LICENSE", ".gitignore"}


def deploy(
    going: Going,
    *,
    repo: str | None = None,
    public: bool = False,
    merged: bool = False,
    gguf: Sequence[Quantization] = (),
    retag: bool = False,
) -> list[Deployment]:
    """Send a version to its repository and tag it there; the main branch is made the active version's.

    What the Hub has already is not sent again, so an upload that was cut off goes on where it was.

    Args:
        going: the version.
        repo: OWNER/NAME; else `deploy.repo` of task.yaml, else the account's, by the task's naming.
        public: for everyone to see; else as `deploy.private` says.
        merged: the merged model instead of the adapter.
        gguf: quantisations of GGUF files beside it.
        retag: move the version's tag where other files are under it.

    Raises:
        Invalid: the tag stands for other files, the repository is somebody else's or is seen by others than it
            should, an export does not answer as the version did, or the Hub refuses the name.
        Unavailable: no one is logged in, the account may not write there, there is no room or no connection; or an
            extra is missing.
    """
    extras.need("hub", "huggingface_hub")
    with hubs.opened() as hub:
        account = hub.account
        place = names.of(going.task, going.version.name, repo, account)
        forms = contents.made(going, merged=merged, gguf=gguf)
        forced = _changed(going, [*filter(None, [forms.merged]), *forms.ggufs])
        plan = planning.of(going, place, forms, private=planning.is_private(going, public=public), token=hub.token)
        _Sending(going, hub, plan, retag=retag).all()
    _record(going.version, place.repo)
    return _entries(going, place, hub, forms, forced=forced)


def _changed(going: Going, exports: Sequence[Export]) -> bool:
    """Whether an export does not answer as the version did and goes out all the same; of one nobody measured, too."""
    if not exports:
        return False
    try:
        parity.measured(going.folder, going.version)
    except Invalid as problem:
        if not going.forced:
            raise
        progress.notice(_("not held against the version as it was evaluated: {why}", why=problem.message))
        return True
    checks = [parity.of_export(going.folder, going.version, export) for export in exports]
    if not going.forced:
        for check in checks:
            parity.refuse(check, going.version, overrule=_("--force deploys it all the same"))
    return any(check.verdict != "met" for check in checks)


@dataclass(frozen=True)
class _Sending:
    """A version on its way into a repository."""

    going: Going
    hub: Hub
    plan: Plan
    retag: bool

    @property
    def repo(self) -> str:
        return self.plan.place.repo

    def all(self) -> None:
        """Send what is not there, tag it, and let main follow."""
        self._make()
        tag = self.plan.place.tag
        heads, tags = self.hub.refs(self.repo)
        if tag is None:
            self._alone(heads["main"])
            return
        commit = tags.get(tag)
        there = commit is not None and self._there(commit, tag)
        if not there:
            commit = self._sent(heads)
            if tag in tags:
                self.hub.remove_tag(self.repo, tag)
            self.hub.tag(self.repo, tag, commit, self._message)
        if self._side in heads or not (there or self.going.active):
            self.hub.remove_branch(self.repo, self._side)
        if there and self.going.active:
            follow(self.hub, self.repo, tag, self._message)

    @property
    def _message(self) -> str:
        return f"{self.going.task.task_name} {self.going.version.name}"

    @property
    def _side(self) -> str:
        """Where a version is committed that main does not follow."""
        return f"nlp-skills-{self.going.version.name}"

    def _make(self) -> None:
        """Make the repository, unless what is there is not ours to write to."""
        private = self.hub.private(self.repo)
        if private is None:
            self.hub.create(self.repo, private=self.plan.private)
        elif self.plan.private and not private:
            raise Invalid(
                _("{repo} is public, and this version is not to be", repo=self.repo),
                cause=_("everyone would see it; deploy.private in task.yaml is true"),
                mend=_("make the repository private in its settings; name another: --repo OWNER/NAME; or --public"),
            )
        elif private and not self.plan.private:
            progress.notice(_("{repo} is private, and stays so: its settings on the Hub change that", repo=self.repo))

    def _there(self, commit: str, tag: str) -> bool:
        """Whether the tag stands for these files; those that only tell about the model may be of an earlier state."""
        tree = self.hub.tree(self.repo, commit)
        other = _differing(self.plan.pieces, tree)
        if not other or self.retag:
            return not other
        self._refuse_other(other, tag)
        told = ", ".join(piece.name for piece in other[:_NAMED])
        progress.notice(_("{tag} is there already, with other notes on it ({names}); --retag renews them",
                          tag=tag, names=told))  # fmt: skip
        return True

    def _refuse_other(self, other: Sequence[Piece], revision: str) -> None:
        answers = [piece.name for piece in other if piece.answers]
        if not answers:
            return
        raise Invalid(
            _("{tag} is in {repo} already, with other files", tag=revision, repo=self.repo),
            cause=_("these differ: {names}", names=", ".join(answers[:_NAMED])),
            mend=_("publish it as a new version (nlp-skills new-version), or move the tag, which changes what others "
                   "are given for it: --retag"),
        )  # fmt: skip

    @property
    def _names(self) -> set[str]:
        return {piece.name for piece in self.plan.pieces}

    def _sent(self, heads: Mapping[str, str]) -> str:
        """The commit with these files: one that a lost answer left behind, or a new one."""
        branch = "main" if self.going.active else self._side
        if branch not in heads:
            self.hub.branch(self.repo, branch)
            heads = self.hub.refs(self.repo)[0]
        return self._onto(branch, heads[branch])

    def _onto(self, branch: str, head: str) -> str:
        tree = self.hub.tree(self.repo, head)
        told = self.hub.manifest(self.repo, head, tree)
        self._refuse_foreign(tree, told)
        gone = _left_over(tree, told, self._names)
        other = _differing(self.plan.pieces, tree)
        if not other and not gone:
            return head
        return self.hub.commit(self.repo, branch, other, gone, parent=head, message=self._message)

    def _alone(self, head: str) -> None:
        """A repository of one version: its main branch is the version."""
        tree = self.hub.tree(self.repo, head)
        told = self.hub.manifest(self.repo, head, tree)
        if told and not self.retag:
            self._refuse_other(_differing(self.plan.pieces, tree), "main")
        self._onto("main", head)

    def _refuse_foreign(self, tree: Tree, told: Mapping[str, Any]) -> None:
        """A repository with files that nobody put there from this task is left alone, unless forced."""
        ours = told.get("task") == self.going.task.task_name
        if ours or (not told and _HARMLESS.issuperset(tree)) or self.going.forced:
            return
        what = _("the model of another task, {task}", task=str(told["task"])) if "task" in told else ", ".join(
            sorted(tree)[:_NAMED]
        )  # fmt: skip
        raise Invalid(
            _("{repo} is not a repository of this task", repo=self.repo),
            cause=_("it holds {what}", what=what),
            mend=_("name another: --repo OWNER/NAME; or --force puts the version into it, beside what is there"),
        )


def follow(hub: Hub, repo: str, tag: str, message: str) -> None:
    """Make main's files of ours those of a tag, in one commit; nothing where they are."""
    heads, tags = hub.refs(repo)
    wanted, head = hub.tree(repo, tags[tag]), hub.tree(repo, heads["main"])
    ours = set(hub.manifest(repo, tags[tag], wanted).get("files", ())) | {contents.MANIFEST}
    other = [name for name, held in wanted.items() if name in ours and head.get(name) != held]
    gone = _left_over(head, hub.manifest(repo, heads["main"], head), set(wanted))
    if other or gone:
        hub.copy(repo, tag, other, gone, parent=heads["main"], message=message)


def _differing(pieces: Sequence[Piece], tree: Tree) -> list[Piece]:
    found: list[tuple[Piece, Held | None]] = [(piece, tree.get(piece.name)) for piece in pieces]
    return [piece for piece, held in found if held is None or not held.same(piece)]


def _left_over(tree: Tree, told: Mapping[str, Any], kept: set[str]) -> list[str]:
    """What another version of ours left there; what people added stays."""
    return sorted(name for name in told.get("files", ()) if name in tree and name not in kept)


def _record(version: VersionFolder, repo: str) -> None:
    """Where it is published, in its lineage."""
    with lock.writing(TaskFolder(version.task_root), wait_seconds=_PATIENCE):
        known = lineage.ensure(version).model or LineageModel()
        if known.hf_repo != repo:
            lineage.record(version, model=known.model_copy(update={"hf_repo": repo}))


def _entries(going: Going, place: Place, hub: Hub, forms: Forms, *, forced: bool) -> list[Deployment]:
    trained = going.info.adapter_path or going.info.merged_path
    own = Deployment(
        target="huggingface",
        name=place.name,
        version=going.version.name,
        since=files.now(),
        forced=forced,
        artefact=forms.merged.path if forms.merged else trained,
        where=hub.host,
    )
    if place.tag is None or not going.active:
        return [own]
    return [own, own.model_copy(update={"name": place.repo, "follows": True})]


def undeploy(_folder: TaskFolder, entry: Deployment) -> None:
    """Remove a version's tag; its files stay in the repository's history. A repository is never removed from here.

    Raises:
        Invalid: it is a whole repository; or the Hub refuses.
        Unavailable: the Hub of that time is not reached.
    """
    place = names.parse(entry.name)
    with hubs.opened() as hub:
        _refuse_other_hub(hub, entry)
        if hub.private(place.repo) is None:
            return
        if place.tag is None:
            raise Invalid(
                _("the repository {repo} is not removed from here", repo=place.repo),
                cause=_("with it every version in it would be gone for everyone, and nothing could bring it back"),
                mend=_("remove it in its settings on the Hub, or with: {command}; then run this again",
                       command=f"hf repos delete {place.repo}"),
            )  # fmt: skip
        if place.tag in hub.refs(place.repo)[1]:
            hub.remove_tag(place.repo, place.tag)
            progress.notice(_("{repo} has no tag {tag} any more; its files stay in the history there",
                              repo=place.repo, tag=place.tag))  # fmt: skip


def move(folder: TaskFolder, entry: Deployment, version: VersionFolder) -> bool:
    """Make the main branch another version's, where that version's tag is there.

    Raises:
        Problem: the Hub is not reached, or the version was never published.
    """
    place = names.parse(entry.name)
    with hubs.opened() as hub:
        _refuse_other_hub(hub, entry)
        if version.name not in hub.refs(place.repo)[1]:
            task = folder.root.name
            raise Invalid(
                _("{repo} has no {version}", repo=place.repo, version=version.name),
                mend=f"nlp-skills deploy {task} {version.name} --to huggingface",
            )
        follow(hub, place.repo, version.name, f"{folder.task().task_name} {version.name}")
    return True


def _refuse_other_hub(hub: Hub, entry: Deployment) -> None:
    """A token is for the Hub that the user has set, and not for whatever a file of the task names."""
    if entry.where not in (None, hub.host):
        raise Unavailable(
            _("{name} is on another Hub", name=entry.name),
            cause=_("it is on {where}, and this machine is set to {host}", where=entry.where, host=hub.host),
            mend=_("set HF_ENDPOINT to the address of {where}", where=entry.where),
        )
