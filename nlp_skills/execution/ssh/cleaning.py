"""Removing from a server what we put there: what it is, how much, and what is in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nlp_skills.execution.ssh.server import Server

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """Something that would go: where it is, what it takes on the disk there, and what it is."""

    path: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Cleaning:
    """What would go and what runs there now, which keeps everything where it is."""

    workdir: str
    everything: bool
    items: list[Item] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """What comes back in all."""
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class Cleaned:
    """What went, and the folders that hold something which is not ours."""

    items: list[Item]
    bytes: int
    left: list[str]


def plan(server: Server, *, everything: bool = False) -> Cleaning:
    """What cleaning would remove; nothing is changed there."""
    raise NotImplementedError


def clean(server: Server, wanted: Cleaning) -> Cleaned:
    """Remove what a plan names."""
    raise NotImplementedError
