"""One training, as everything in this room hands it on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nlp_skills.schema.task import Sharding, Task
from nlp_skills.schema.training import Config
from nlp_skills.training.identity import Identity
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Job:
    """What is trained, with which settings, and from which checkpoint (None: from the start).

    One optimiser step sees `config.effective_batch` rows: `micro_batch` at once on each of `processes` devices,
    `accumulation` times. `sharding` says what each device holds of the model: all of it (ddp), or a part.
    `own_disks`: the processes are on machines that do not see each other's files.
    """

    folder: TaskFolder
    version: VersionFolder
    task: Task
    config: Config
    identity: Identity
    micro_batch: int
    accumulation: int
    processes: int = 1
    sharding: Sharding = "ddp"
    own_disks: bool = False
    checkpoint: Path | None = None
    track: bool = False

    @property
    def step(self) -> int:
        """The step to go on from."""
        return int(self.checkpoint.name.rpartition("-")[2]) if self.checkpoint else 0

    @property
    def sharded(self) -> bool:
        """Whether no device holds the whole model."""
        return self.processes > 1 and self.sharding != "ddp"

    @property
    def base_hash(self) -> str:
        """The base model's fingerprint."""
        return self.identity[self.config.base_model]

    def halved(self) -> Job | None:
        """The same training with at most half the rows in memory at once; None where no fewer can be held.

        KTO holds the answers of a batch against each other, and needs two.
        """
        each, least = self.config.effective_batch // self.processes, 2 if self.config.method == "kto" else 1
        smaller = [size for size in range(least, self.micro_batch // 2 + 1) if each % size == 0]
        if not smaller:
            return None
        return dataclasses.replace(self, micro_batch=smaller[-1], accumulation=each // smaller[-1])
