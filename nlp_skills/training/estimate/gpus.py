"""GPUs by name: memory, speed and price, from the table that comes with this package and from the user's own."""

from __future__ import annotations

import datetime as dt
import difflib
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from nlp_skills import files
from nlp_skills.errors import Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.document import Document, Model

PACKAGED = Path(__file__).parent / "gpus.yaml"
_Share = Annotated[float, Field(gt=0, le=1)]


class Price(Model):
    """US dollars an hour for one GPU, as `source` asked for it on the day it was seen."""

    usd_per_hour: Annotated[float, Field(ge=0)]
    seen: dt.date
    source: str


class Gpu(Model):
    """One kind of GPU. `devices` are drivers' names of it; `tflops` dense bfloat16, `mfu` what is reached of it."""

    name: Annotated[str, Field(min_length=1)]
    devices: list[str] = Field(default_factory=list)
    memory_gb: Annotated[float, Field(gt=0)]
    tflops: Annotated[float, Field(gt=0)]
    sheet: str | None = None
    mfu: tuple[_Share, _Share] | None = None
    price: Price | None = None

    @model_validator(mode="after")
    def _from_low_to_high(self) -> Gpu:
        if self.mfu and self.mfu[0] > self.mfu[1]:
            raise ValueError(_("mfu is a lower and an upper share, in this order"))
        return self

    def matches(self, device: str) -> int:
        """How many letters of a device's name are one of this GPU's, which are then its beginning."""
        said = device.lower()
        return max((len(name) for name in self.devices if said.startswith(name.lower())), default=0)

    def speed(self) -> tuple[float, float]:
        """Operations a second that a training reaches, at least and at most."""
        low, high = self.mfu or (0.25, 0.45)
        return self.tflops * 1e12 * low, self.tflops * 1e12 * high


class Table(Document):
    """gpus.yaml. `mfu` holds for every GPU that has none of its own."""

    mfu: tuple[_Share, _Share] | None = None
    gpus: list[Gpu] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fill(self) -> Table:
        for gpu in self.gpus:
            gpu.__dict__["mfu"] = gpu.mfu or self.mfu
        return self

    def matching(self, name: str) -> list[Gpu]:
        """The GPU of this name, else those whose names have these words in them; none where nobody knows it."""
        wanted = _plain(name)
        exact = [gpu for gpu in self.gpus if wanted in (_plain(gpu.name), *map(_plain, gpu.devices))]
        return exact or [gpu for gpu in self.gpus if wanted and wanted in _plain(gpu.name)]

    def named(self, name: str) -> Gpu:
        """The GPU of this name, or the only one whose name has these words in it.

        Raises:
            Usage: there is none, or there are several.
        """
        found = self.matching(name)
        if len(found) == 1:
            return found[0]
        names = [gpu.name for gpu in found or self.gpus]
        listed = ", ".join(names)
        if found:
            raise Usage(_("several GPUs are called {name}", name=name), mend=_("name one: {names}", names=listed))
        near = difflib.get_close_matches(name, names, n=1)
        known = _("known: {names}; others go into {path}", names=listed, path=str(own_path()))
        raise Usage(
            _("no GPU is called {name}", name=name[:60]),
            mend=_("did you mean {name}?", name=near[0]) if near else known,
        )

    def of_device(self, device: str, memory: float | None) -> Gpu | None:
        """The GPU a driver calls so; where several are, the one whose memory is nearest."""
        lengths = {gpu.name: gpu.matches(device) for gpu in self.gpus}
        best = max(lengths.values(), default=0)
        found = [gpu for gpu in self.gpus if best and lengths[gpu.name] == best]
        return min(found, key=lambda gpu: abs(gpu.memory_gb * 1e9 - (memory or 0)), default=None)


def _plain(name: str) -> str:
    kept = "".join(char for char in name.lower() if char.isalnum())
    for word in ("nvidia", "geforce", "tesla"):
        kept = kept.replace(word, "")
    return kept


def own_path() -> Path:
    """The user's table: `$XDG_CONFIG_HOME/nlp-skills/gpus.yaml`, by default in ~/.config."""
    return files.of_user("gpus.yaml")


def table() -> Table:
    """All GPUs known here.

    Raises:
        Invalid: the user's table is not a valid one, with the line.
    """
    content, _lines = yaml.read(PACKAGED)
    own = own_path()
    if not own.is_file():
        return Table.check(content, PACKAGED, {})
    said, lines = yaml.read(own)
    entries = said.get("gpus") or [] if isinstance(said, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return Table.check(said, own, lines)
    known = {gpu["name"]: gpu for gpu in content["gpus"]}
    completed = [{**known.get(str(entry.get("name")), {}), **entry} for entry in entries]
    # By itself first, so that a wrong line is named as it stands in that file.
    Table.check({**said, "gpus": completed}, own, lines)
    merged = {**known, **{entry["name"]: entry for entry in completed}}
    return Table.check({**content, **said, "gpus": list(merged.values())}, own, {})


def own_price(device: str, memory: float | None = None) -> float | None:
    """US dollars an hour that the user's own table says of a device; None where it says nothing, or not surely.

    Without `memory` (bytes), a device whose name several GPUs go by has no price.
    """
    try:
        if not own_path().is_file():
            return None
        known, (said, _lines) = table(), yaml.read(own_path())
    except Problem:
        return None
    gpu = known.of_device(device, memory)
    if gpu is None or (memory is None and sum(one.matches(device) == gpu.matches(device) for one in known.gpus) > 1):
        return None
    priced = {str(entry["name"]) for entry in said.get("gpus") or [] if entry.get("price")}
    return gpu.price.usd_per_hour if gpu.price and gpu.name in priced else None
