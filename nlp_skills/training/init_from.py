"""The version that another goes on from: are its weights there, and are they what they are taken for?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.training import Adapter, Config
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Start:
    """A trained version to go on from, and the folder its weights are in."""

    name: str
    info: ModelInfo
    weights: Path

    @property
    def adapter(self) -> Adapter:
        """What was trained of it."""
        if self.info.adapter_path is None:
            return "full"
        return "qlora" if self.info.quantization else "lora"


def of(folder: TaskFolder, config: Config, path: Path, base_hash: str) -> Start | None:
    """The version `init_from` names; None where it names none. `path` is the file it stands in.

    Raises:
        Invalid: it is not trained, its weights are gone, or they are of another base model or kind.
    """
    if config.init_from is None:
        return None
    version = folder.version(config.init_from)
    if version.config_path == path:
        raise Invalid(
            _("init_from: {name} is this version itself", name=version.name),
            file=path,
            mend=_("name an earlier version, or remove init_from"),
        )
    info = version.model_info()
    weights = files.inside(folder.root, (info.adapter_path or info.merged_path or "") if info else "")
    if info is None or not any(weights.glob("*.safetensors")):
        raise Invalid(
            _("init_from: version {name} has no trained weights", name=version.name),
            file=path,
            cause=_("its model is gone") if info else _("it was never trained"),
            mend=_("train it: nlp-skills train --version {name}", name=version.name),
        )
    start = Start(version.name, info, weights)
    _refuse_another_base(start, config, path, base_hash)
    _refuse_another_kind(start, config, path)
    return start


def _refuse_another_base(start: Start, config: Config, path: Path, base_hash: str) -> None:
    same = start.info.base_model_hash == base_hash if start.info.base_model_hash else None
    if same or (same is None and start.info.base_model == config.base_model):
        return
    if start.info.base_model == config.base_model:
        cause = _("{base} is not what it was when {name} was trained", base=config.base_model, name=start.name)
        mend = _("bring the earlier base model back, or train {name} again", name=start.name)
    else:
        cause = _("{name} was trained on {base}", name=start.name, base=start.info.base_model)
        mend = _("set base_model: {base}, or remove init_from", base=start.info.base_model)
    raise Invalid(
        _("init_from: the weights of {name} are of another base model", name=start.name),
        file=path,
        cause=cause,
        mend=mend,
    )


def _refuse_another_kind(start: Start, config: Config, path: Path) -> None:
    if start.adapter == config.adapter:
        return
    words = {
        "lora": _("{name} is a LoRA adapter", name=start.name),
        "qlora": _("{name} is an adapter on a base model in four bits", name=start.name),
        "full": _("{name} is a whole model, which an adapter cannot stand on without keeping it", name=start.name),
    }
    raise Invalid(
        _("init_from: {name} cannot go on as adapter: {kind}", name=start.name, kind=config.adapter),
        file=path,
        cause=words[start.adapter],
        mend=_("set adapter: {kind}, or name another version, or remove init_from", kind=start.adapter),
    )


def differences(start: Start, settings: Any, shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """How the adapter on disk differs from the one config.yaml describes: its settings for PEFT, and its tensors."""
    saved = json.loads((start.weights / "adapter_config.json").read_text(encoding="utf-8"))
    pairs = {
        # With init: pissa and olora both are doubled.
        _("rank"): (saved.get("r"), settings.r),
        _("alpha"): (saved.get("lora_alpha"), settings.lora_alpha),
        "rslora": (bool(saved.get("use_rslora")), bool(settings.use_rslora)),
        "dora": (bool(saved.get("use_dora")), bool(settings.use_dora)),
    }
    wrong = [name for name, (there, wanted) in pairs.items() if there != wanted]
    for name in wrong:
        there, wanted = pairs[name]
        yield _("{setting}: {wanted} wanted, {there} there", setting=name, wanted=wanted, there=there)
    if not wrong and _shapes_on_disk(start) != shapes:
        yield _("lora.target_modules: other layers have the adapter")


def _shapes_on_disk(start: Start) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(start.weights.glob("*.safetensors")):
        with safe_open(path, framework="pt") as stream:
            found |= {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
    return found
