"""Which backend answers: the version itself in transformers, or another program or model in its stead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nlp_skills.errors import Usage
from nlp_skills.evaluation.answering.scorer import Scorer
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.task import Task

if TYPE_CHECKING:
    from nlp_skills.evaluation.subject import Subject

Name = Literal["vllm", "llama.cpp", "endpoint"]
_INDECISIVE = {"api_key", "timeout", "concurrency", "price", "max_cost"}


@dataclass(frozen=True)
class Backend:
    """What answers in the version's stead. `model` is a GGUF file (llama.cpp), a folder or name (vllm), or what an
    endpoint calls it; `settings` say how an endpoint is reached.
    """

    name: Name
    model: str | None = None
    settings: LlmSettings | None = None

    @classmethod
    def of(cls, name: str | None, model: str | None, base_url: str | None, task: Task) -> Backend | None:
        """What the command line asks for; None where the version itself answers.

        Raises:
            Usage: a backend without the model it needs, or with what it has no use for.
        """
        if name in (None, "transformers"):
            return None
        if name == "endpoint":
            return cls("endpoint", settings=endpoint(model, base_url, task) or _task_endpoint(task))
        if base_url is not None:
            raise Usage(
                _("--base-url is of an endpoint, and {name} is none", name=name),
                mend=_("name it: --backend endpoint, or leave --base-url out"),
            )
        if name == "llama.cpp" and model is None:
            raise Usage(_("llama.cpp needs a GGUF file"), mend=_("name it with --model FILE"))
        return cls("vllm" if name == "vllm" else "llama.cpp", model)

    @property
    def label(self) -> str:
        """The model's name for people and folders; empty where it is the version's own."""
        if self.settings is not None:
            return self.settings.model
        return Path(self.model).stem if self.model and self.name == "llama.cpp" else self.model or ""

    def decisive(self) -> list[Any]:
        """What decides the answers, as far as it can be told without asking: other answers are of another question."""
        said = self.settings.model_dump(mode="json", exclude=_INDECISIVE) if self.settings else None
        file = Path(self.model or "")
        stat = file.stat() if self.name == "llama.cpp" and file.is_file() else None
        return [self.name, self.model, said, [stat.st_mtime_ns, stat.st_size] if stat else None]


def endpoint(model: str | None, base_url: str | None, task: Task) -> LlmSettings | None:
    """The endpoint that `--model` and `--base-url` name, with what task.yaml says beside; None where neither is given.

    Raises:
        Usage: an address without a model.
    """
    given = {name: value for name, value in (("model", model), ("base_url", base_url)) if value is not None}
    if not given:
        return None
    asked = task.evaluation.endpoint if task.evaluation else None
    if asked is not None:
        return asked.model_copy(update=given)
    if model is None:
        raise Usage(_("an endpoint needs the name of a model"), mend=_("name it with --model NAME"))
    return LlmSettings.model_validate(given)


def _task_endpoint(task: Task) -> LlmSettings:
    if task.evaluation is None or task.evaluation.endpoint is None:
        raise Usage(
            _("no endpoint is named"),
            mend=_("name it with --model NAME and --base-url URL, or in task.yaml as evaluation.endpoint"),
        )
    return task.evaluation.endpoint


def open_scorer(chosen: Subject, backend: Backend | None, *, again: bool = False) -> Scorer:
    """What answers, ready to be asked; `again`: anew also where what it answered is recorded.

    Raises:
        Invalid, Unavailable: as the backend's own module says.
    """
    from nlp_skills.evaluation.answering import endpoint as endpoints
    from nlp_skills.evaluation.answering import llamacpp, transformers

    if backend is None:
        return transformers.load(chosen.folder, chosen.version.name)
    if backend.settings is not None:
        return endpoints.open(backend.settings, chosen.folder, again=again)
    if backend.name == "llama.cpp":
        info = chosen.info
        return llamacpp.open(
            Path(str(backend.model)), chat_template=info.chat_template, chat_template_kwargs=info.chat_template_kwargs
        )
    from nlp_skills.evaluation.answering import vllm

    return vllm.open(chosen.folder, chosen.version.name, model=backend.model)
