"""A trained version asked through vLLM's offline engine, for many rows on a GPU.

Every call and argument was checked against the source of vLLM 0.33.0. It was not run: that takes a GPU.

Prompts are made by our own renderer and go to the engine as token ids, so that they are those of training. Within a
schema vLLM's structured outputs are used; the likelihood of an answer is read from the log-probabilities of a prompt
that ends with it, which are the model's own, before any sampling setting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nlp_skills import extras, files
from nlp_skills.data.render import Renderer, tokenise
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation import model as versions
from nlp_skills.evaluation.answering.endpoint import closed
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Way
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import ModelInfo, Sampling
from nlp_skills.workspace.folder import TaskFolder

# So many rows go to the engine at a time; it makes batches of them itself, and what came is kept after each.
_ROWS = 512
# The ranks that vLLM has kernels for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def open(folder: TaskFolder, version: str | None = None, *, model: str | None = None) -> Vllm:  # noqa: A001
    """A scorer for a version, or for `model` (a folder or Hub id) asked as the version is; its engine is loaded.

    Raises:
        Invalid: not trained, the base model is not the one it was trained on, or vLLM cannot ask such a version.
        Unavailable: vLLM or the training extra is not installed, a model is missing, or there is no GPU for it.
    """
    if not extras.installed("vllm"):
        raise Unavailable(
            _("vLLM is not installed"),
            cause=_("it is no part of any extra: it pins a PyTorch of its own and wants a GPU"),
            mend=_("install it beside nlp-skills on the machine with the GPU: uv pip install vllm"),
        )
    extras.need("train", "torch", "transformers", "peft")
    chosen = folder.existing_version(version)
    found = versions.info(chosen)
    renderer = Renderer.from_model_info(found)
    if model is not None:
        from nlp_skills.training import base_model

        whole = Path(base_model.locate(model, root=folder.root))
        decisive = versions.digest([base_model.fingerprint(model, root=folder.root), versions.base_fingerprint(found)])
        engine = _engine(engine_arguments("auto", whole, None), model)
        return Vllm(engine, base_model.load_tokenizer(str(whole)), renderer, model, decisive, None)
    whole, adapter = _folders(folder, found)
    engine = _engine(engine_arguments(found.dtype, whole, adapter), chosen.name)
    # As the version's own: another backend is no other model.
    decisive = versions.fingerprint(folder.root, found)
    return Vllm(engine, versions.tokenizer(folder, found), renderer, chosen.name, decisive, adapter)


def _engine(arguments: dict[str, Any], name: str) -> Any:
    # Heavy, and only where it is: hence not above.
    from vllm import LLM

    try:
        return LLM(**arguments)
    except (ValueError, RuntimeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(
            _("vLLM cannot load {model}", model=name),
            cause=said[-1],
            mend=_("look at what it wrote above; or ask through transformers"),
        ) from error


def engine_arguments(dtype: str, whole: Path, adapter: Path | None) -> dict[str, Any]:
    """What `vllm.LLM` is given for a whole model in `whole`, with an adapter on it where there is one."""
    arguments: dict[str, Any] = {
        "model": str(whole),
        "dtype": dtype,
        "seed": 0,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_rank(adapter)}
    return arguments


def lora_rank(adapter: Path) -> int:
    """The least rank vLLM has kernels for that holds the adapter's.

    Raises:
        Invalid: the rank is beyond all of them.
    """
    path = adapter / "adapter_config.json"
    settings = files.read_json(path)
    rank = max([int(settings["r"]), *map(int, (settings.get("rank_pattern") or {}).values())])
    fitting = next((known for known in _RANKS if known >= rank), None)
    if fitting is None:
        mend = _("merge the adapter, or ask through transformers")
        raise Invalid(_("vLLM takes no adapter of rank {rank}", rank=rank), file=path, mend=mend)
    return fitting


def sampling_arguments(sampling: Sampling, output: OutputFormat | None) -> dict[str, Any]:
    """What `vllm.SamplingParams` is given, `structured_outputs` as the arguments of `StructuredOutputsParams`."""
    arguments: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
        # The token that was taken, and no others beside it.
        "logprobs": 0,
    }
    if (form := constraint(output)) is not None:
        arguments["structured_outputs"] = form
    return arguments


def constraint(output: OutputFormat | None) -> dict[str, Any] | None:
    """The arguments of `vllm.sampling_params.StructuredOutputsParams`; None where any text may come."""
    if output is None:
        return None
    if output.type == "json":
        return {"json": closed(output.json_schema())}
    (prop,) = output.schema_.values()
    if prop.type != "string":
        return {"json": closed(prop.model_dump(exclude_none=True))}
    return {"choice": [str(choice) for choice in prop.choices]} if prop.choices else None


def tail_log(told: Sequence[Any], ids: Sequence[int], answer: int) -> float:
    """The log-probability of the last `answer` of the token ids, of what vLLM tells of each (`prompt_logprobs`)."""
    places = range(len(ids) - answer, len(ids))
    return float(sum(told[place][ids[place]].logprob for place in places))


class Vllm:
    """A `Scorer`."""

    backend = "vllm"
    ways: tuple[Way, ...] = ("likelihood", "constrained", "free")

    def __init__(
        self, engine: Any, tokenizer: Any, renderer: Renderer, name: str, fingerprint: str, adapter: Path | None
    ) -> None:
        self.engine, self.tokenizer, self.renderer = engine, tokenizer, renderer
        self.model, self.fingerprint = name, fingerprint
        self._adapter = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            self._adapter = LoRARequest(name, 1, str(adapter))

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """As `Scorer.likelihood`.

        Raises:
            Invalid: a row does not fit the model's context, or its prompt cannot be rendered.
        """
        from vllm import SamplingParams

        # vLLM always makes a token more; nobody looks at it.
        settings = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        size = max(1, _ROWS // max(1, len(answers)))
        for at in range(0, len(questions), size):
            part = questions[at : at + size]
            pairs = [
                [self.renderer.texts_after(self.tokenizer, one.messages, text) for text in answers] for one in part
            ]
            started = time.monotonic()
            asked = [(prompt, self._ids(prompt), self._ids(end)) for row in pairs for prompt, end in row]
            found = self._run([(*ids, *tail) for _prompt, ids, tail in asked], settings)
            logs = [
                tail_log(each.prompt_logprobs, (*ids, *tail), len(tail))
                for each, (_prompt, ids, tail) in zip(found, asked, strict=True)
            ]
            seconds = (time.monotonic() - started) / len(part)
            for number, question in enumerate(part):
                own = logs[number * len(answers) : (number + 1) * len(answers)]
                yield Likely(question.row, own, files.sha256_bytes(pairs[number][0][0].encode()), seconds)

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `Scorer.generate`; `probability` is that of the whole text: among those the schema allows, where there is
        one, since vLLM rules the others out before it looks at probabilities. So it cannot tell either what was bent.

        Raises:
            Invalid: as `likelihood`; or vLLM cannot enforce the schema.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        arguments = sampling_arguments(sampling, output)
        if (form := arguments.get("structured_outputs")) is not None:
            arguments["structured_outputs"] = StructuredOutputsParams(**form)
        settings = SamplingParams(**arguments)
        for at in range(0, len(questions), _ROWS):
            part = questions[at : at + _ROWS]
            prompts = [self.renderer.prompt_after(self.tokenizer, question.messages) for question in part]
            started = time.monotonic()
            found = self._run([self._ids(prompt) for prompt in prompts], settings)
            seconds = (time.monotonic() - started) / len(part)
            for question, prompt, each in zip(part, prompts, found, strict=True):
                said = each.outputs[0]
                yield Said(
                    row=question.row,
                    text=said.text,
                    prompt_sha256=files.sha256_bytes(prompt.encode()),
                    seconds=seconds,
                    probability=None if said.cumulative_logprob is None else math.exp(said.cumulative_logprob),
                    cut=said.finish_reason == "length",
                )

    def close(self) -> None:
        """Give the engine's processes and memory back; it does so when nobody knows it any more."""
        self.engine = None

    def _ids(self, text: str) -> list[int]:
        return tokenise(self.tokenizer, text)

    def _run(self, prompts: Sequence[Sequence[int]], settings: Any) -> Sequence[Any]:
        try:
            found: Sequence[Any] = self.engine.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts],
                settings,
                use_tqdm=False,
                lora_request=self._adapter,
            )
        except ValueError as error:
            raise Invalid(
                _("vLLM refuses the rows"),
                cause=str(error).splitlines()[0],
                mend=_("shorten the row in data/test.jsonl, or choose a base model with a longer context"),
            ) from error
        return found


def _folders(folder: TaskFolder, found: ModelInfo) -> tuple[Path, Path | None]:
    """The folder of the whole model, and of the adapter on it where the version is one.

    Raises:
        Invalid: the base model is another by now, or is in four bits under the adapter.
    """
    trained = versions.weights(folder.root, found)
    if found.adapter_path is None:
        return trained, None
    if found.quantization is not None:
        raise Invalid(
            _(
                "version {version} has a base model in four bits, which vLLM reads in another way",
                version=found.version,
            ),
            mend=_("ask it through transformers"),
        )
    from nlp_skills.training import base_model

    pinned: Any = {"root": folder.root, "revision": found.base_model_revision}
    versions.same_base(found, pinned)
    return Path(base_model.locate(found.base_model, **pinned)), trained
