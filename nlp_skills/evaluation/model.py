"""A trained version, ready to be asked: base model and adapter, or a whole model, and its renderer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills import files
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

if TYPE_CHECKING:
    from nlp_skills.training.device import Device


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, its tokenizer, how to ask it and the settings of the device it is on."""

    model: Any
    tokenizer: Any
    renderer: Renderer
    device: Device

    @contextlib.contextmanager
    def untrained(self) -> Iterator[None]:
        """Within the block the base model answers, as it was before training."""
        with self.model.disable_adapter():
            yield


def info(version: VersionFolder) -> ModelInfo:
    """The version's model_info.json.

    Raises:
        Invalid: the version was not trained, or its weights are gone.
    """
    found = version.model_info()
    if found is None:
        mend = _("nlp-skills train --version {version}", version=version.name)
        raise Invalid(_("version {version} has no trained model yet", version=version.name), mend=mend)
    if not any(weights(version.task_root, found).glob("*.safetensors")):
        raise Invalid(
            _("the weights of version {version} are gone", version=version.name),
            file=weights(version.task_root, found),
            mend=_("nlp-skills train --version {version} --again", version=version.name),
        )
    return found


def weights(task_root: Path, found: ModelInfo) -> Path:
    """The folder the version is loaded from: its adapter where it has one, else the whole model."""
    path = found.adapter_path or found.merged_path
    assert path is not None
    return files.inside(task_root, path)


def fingerprint(task_root: Path, found: ModelInfo) -> str:
    """One hash of everything that decides an answer: the weights, the base model and the prompt's format."""
    folder = weights(task_root, found)
    parts = sorted([*folder.glob("*.safetensors"), *folder.glob("*config.json")])
    hashes = {path.name: files.sha256_file(path) for path in parts}
    return digest([hashes, base_fingerprint(found)])


def base_fingerprint(found: ModelInfo) -> str:
    """One hash of the base model and of how it is asked; versions that share both share its answers."""
    asked = found.model_dump(
        mode="json", by_alias=True, include={"input_template", "output_format", "system_prompt", "chat_template_kwargs"}
    )
    if found.chat_template is not None:
        asked["chat_template"] = found.chat_template
    if found.quantization is not None:
        asked["quantization"] = found.quantization
    return digest([found.base_model, found.base_model_hash, asked])


def digest(content: Any) -> str:
    """`sha256:<hex>` of plain data."""
    return files.sha256_bytes(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())


def load(folder: TaskFolder, version: str | None = None) -> Loaded:
    """Load a version to ask it.

    Raises:
        Invalid: not trained, or the base model is not the one it was trained on.
        Unavailable: the training extra, qlora's for a base model in four bits, or the base model is missing.
    """
    need("train", "torch", "transformers", "peft")
    from nlp_skills.training import adapters, base_model, device

    chosen = folder.existing_version(version)
    found = info(chosen)
    place = device.pick(cuda_devices=folder.task().execution.cuda_devices)
    trained = weights(folder.root, found)
    if found.adapter_path is None:
        network = base_model.load_model(str(trained), place)
    else:
        pinned: Any = {"root": folder.root, "revision": found.base_model_revision}
        same_base(found, pinned)
        base = base_model.load_model(found.base_model, place, quantization=found.quantization, **pinned)
        network = adapters.on_top(base, trained)
    return Loaded(network.eval(), tokenizer(folder, found), Renderer.from_model_info(found), place)


def tokenizer(folder: TaskFolder, found: ModelInfo) -> Any:
    """The tokenizer a version is asked with, its chat template included.

    Raises:
        Unavailable: the training extra or the base model is missing.
    """
    need("train", "transformers")
    from nlp_skills.training import base_model

    if found.adapter_path is None:
        loaded = base_model.load_tokenizer(str(weights(folder.root, found)))
    else:
        loaded = base_model.load_tokenizer(found.base_model, root=folder.root, revision=found.base_model_revision)
    if found.chat_template is not None:
        loaded.chat_template = found.chat_template
    return loaded


def same_base(found: ModelInfo, pinned: Any) -> None:
    """Refuse a base model that is not the one a version was trained on; `pinned` as `base_model.fingerprint` takes it.

    Raises:
        Invalid: its hash is another.
    """
    from nlp_skills.training import base_model

    if found.base_model_hash and base_model.fingerprint(found.base_model, **pinned) != found.base_model_hash:
        raise Invalid(
            _("the base model {name} is not the one version {version} was trained on",
              name=found.base_model, version=found.version),
            cause=_("its weights or its tokenizer have changed"),
            mend=_("bring the earlier base model back, or: nlp-skills train --version {version} --again",
                   version=found.version),
        )  # fmt: skip
