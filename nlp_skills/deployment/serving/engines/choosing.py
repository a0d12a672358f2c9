"""Which engine answers, and how one is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from nlp_skills import extras
from nlp_skills.deployment.serving.engines.engine import Engine
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Maker:
    """How engines are made; `shared`: one answers for all versions."""

    name: str
    make: Callable[[], Engine]
    shared: bool


def chosen(folder: TaskFolder, settings: Settings) -> Maker:
    """The engine that was asked for, or the fastest that is here.

    Raises:
        Unavailable: its extra is missing.
    """
    name = settings.engine if settings.engine != "auto" else fastest()
    if name == "vllm":
        from nlp_skills.deployment.serving.engines import vllm  # type: ignore[attr-defined,unused-ignore]

        return Maker(name, lambda: cast(Engine, vllm.Vllm(folder)), shared=True)
    if name == "llama.cpp":
        from nlp_skills.deployment.serving.engines.llamacpp import LlamaCpp

        extras.need("llamacpp", "xllamacpp")
        return Maker(name, lambda: LlamaCpp(folder, settings), shared=False)
    from nlp_skills.deployment.serving.engines.transformers import Transformers

    extras.need("train", "torch", "transformers", "peft")
    return Maker(name, lambda: Transformers(folder), shared=True)


def fastest() -> str:
    """VLLM where there is a GPU for it, else llama.cpp, else transformers."""
    if extras.installed("vllm") and shutil.which("nvidia-smi"):
        return "vllm"
    return "llama.cpp" if extras.installed("xllamacpp") else "transformers"
