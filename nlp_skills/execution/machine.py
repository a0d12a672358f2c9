"""What a step needs of another machine, whoever runs it: to begin there, to be looked at, to leave nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nlp_skills.execution.ssh.server import Server
from nlp_skills.progress import Tell
from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.schema.task import Execution
from nlp_skills.workspace import mirror
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


class Machine(Protocol):
    """A server, or a cluster that is rented for one run. A job there has a folder as `agent.jobs` keeps it.

    Raises, in every method:
        Unreachable: the link broke; trying again may help, and does no harm.
        Problem: it cannot be done, and trying again would not help.
    """

    def begin(
        self,
        folder: TaskFolder,
        version: VersionFolder,
        step: Step,
        arguments: Sequence[str],
        job: RemoteJob,
        tell: Tell,
    ) -> RemoteJob:
        """Bring there what the step needs, and start `nlp-skills STEP … ARGUMENTS`.

        `job` is what `propose` gave, already kept in the task. Called again with the same job, it goes on from where
        it was cut off and starts nothing twice.
        """

    def propose(self, folder: TaskFolder, version: VersionFolder, step: Step, arguments: Sequence[str]) -> RemoteJob:
        """The job as it will be, before anything is sent; what it may cost was shown and agreed to."""

    def server(self, job: RemoteJob) -> Server:
        """The machine that the job's folder is on, to be used within `with server.link`."""

    def gone(self, job: RemoteJob) -> str | None:
        """Why the machine itself is no more (a spot machine that was taken back); None where it should be there."""

    def close(self, folder: TaskFolder, job: RemoteJob, tell: Tell) -> RemoteJob:
        """All is fetched: give back what was rented. The job with what it has cost."""


def of(folder: TaskFolder) -> Machine | None:
    """The machine that `execution` in task.yaml names; None where the task's steps run here."""
    if mirror.runs_here(folder):
        return None
    wanted = folder.task().execution
    return _machine(wanted.type, wanted)


def of_job(folder: TaskFolder, job: RemoteJob) -> Machine:
    """The machine that a job was sent to, whatever `execution` says since."""
    return _machine(job.type, folder.task().execution)


def _machine(kind: str, wanted: Execution) -> Machine:
    if kind == "remote_ssh":
        from nlp_skills.execution.ssh.machine import SshMachine

        return SshMachine(wanted)
    from nlp_skills.execution.cloud.machine import CloudMachine

    return CloudMachine(wanted)
