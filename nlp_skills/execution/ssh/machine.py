"""A server that is there anyway, reached over SSH: what a step needs is brought there, and the step is started."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

from nlp_skills import files, i18n, progress
from nlp_skills.execution.ssh import checking, environment, sync
from nlp_skills.execution.ssh.connection import Connection
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.progress import Tell
from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.schema.task import Execution
from nlp_skills.workspace import mirror
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What the step is told of this computer's environment where it is set; never a secret.
_PASSED_ON = ("NLP_SKILLS_DETERMINISTIC",)


class SshMachine:
    """See `execution.machine.Machine`."""

    def __init__(self, wanted: Execution) -> None:
        self.wanted = wanted

    def propose(self, folder: TaskFolder, version: VersionFolder, step: Step, arguments: Sequence[str]) -> RemoteJob:
        """The job as it will be. The server is asked where its folders are: one that cannot be reached is told now."""
        assert self.wanted.host is not None
        with Connection(self.wanted.host) as link:
            server = Server(link, self.wanted.workdir, python=self.wanted.python)
            workdir = server.workdir
            if step == "train":
                for line in checking.before_a_run(server, self.wanted):
                    progress.notice(f"{_('warning:')} {line}")
        return RemoteJob(
            id=f"{step}-{version.name}-{secrets.token_hex(4)}",
            type="remote_ssh",
            step=step,
            version=version.name,
            place=self.wanted.host,
            host=self.wanted.host,
            workdir=workdir,
            folder=f"{workdir}/tasks/{mirror.name(folder)}",
            state="starting",
            arguments=list(arguments),
            created=files.now(),
        )

    def begin(
        self,
        folder: TaskFolder,
        version: VersionFolder,
        step: Step,
        arguments: Sequence[str],
        job: RemoteJob,
        tell: Tell,
    ) -> RemoteJob:
        """Send what changed, make the environment, start the step; each part is skipped where it is done."""
        server = self.server(job)
        with server.link:
            sync.send(folder, server, job.folder, version=version.name, step=step, tell=tell)
            program = environment.ready(folder, server, job.folder, python=self.wanted.python, tell=tell)
            argv = [*program, *command(job, arguments)]
            server.ask(
                "start", workdir=job.workdir, id=job.id, argv=argv, cwd=job.folder, env=surroundings(job, self.wanted)
            )
        tell(_("started on {place}", place=job.place))
        return job.model_copy(update={"state": "running", "started": files.now()})

    def server(self, job: RemoteJob) -> Server:
        return Server(Connection(job.host), job.workdir, python=self.wanted.python)

    def gone(self, job: RemoteJob) -> str | None:
        """A server is nobody's to take back."""
        return None

    def close(self, folder: TaskFolder, job: RemoteJob, tell: Tell) -> RemoteJob:
        return job


def command(job: RemoteJob, arguments: Sequence[str]) -> list[str]:
    """The step as the command line there takes it; data is a task's, not a version's."""
    which = [] if job.step == "regenerate" else ["--version", job.version]
    return [job.step, job.folder, *which, *arguments]


def surroundings(job: RemoteJob, wanted: Execution) -> dict[str, str]:
    """The environment that the step is given there beside the server's own."""
    found = {"NLP_SKILLS_LANG": i18n.language(), "PYTHONUNBUFFERED": "1", **environment.variables(job.workdir),
             # CUDA would number the fastest first; people count as nvidia-smi does.
             "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # fmt: skip
    return found | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
