"""The program that holds a network for `transformers`: one base model with adapters on it, or one whole model.

Standard input: one line with the task's folder, then one JSON object a line, each a request with an `id`; when it ends,
however, so does the program. Standard output: one JSON object a line, the reply to a request, in any order. Questions
that wait and want the same of the same version are answered together.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any

from nlp_skills.data.render import Renderer, tokenise
from nlp_skills.errors import Problem
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering.scorer import Question
from nlp_skills.evaluation.answering.transformers import Scorer
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import ModelInfo, Sampling
from nlp_skills.workspace.folder import TaskFolder

Request = dict[str, Any]

# So many questions are answered together; a large request goes through whole.
AT_ONCE = 64


class Network:
    """The model in memory, and the versions that it can answer for."""

    def __init__(self, folder: TaskFolder) -> None:
        self.folder = folder
        self.scorers: dict[str, Scorer] = {}
        self._adapters: dict[str, str] = {}
        self._network: Any = None
        self._made = 0

    def load(self, request: Request) -> Any:
        """Be able to answer for one more version."""
        started, version = time.monotonic(), str(request["version"])
        if version not in self.scorers:
            found = model.info(self.folder.existing_version(version))
            whole = found.adapter_path is None
            loaded = model.load(self.folder, version) if whole else self._with_adapter(version, found)
            # Who asks knows what it asks: the fingerprint, for which all weights are read, is not needed here.
            self.scorers[version] = Scorer(loaded, version, "")
        return [{"seconds": time.monotonic() - started}]

    def unload(self, request: Request) -> Any:
        """Forget a version that is not the last; after the last, nobody needs this program any more."""
        version = str(request["version"])
        self.scorers.pop(version, None)
        name = self._adapters.pop(version, None)
        if name is not None:
            self._network.delete_adapter(name)
        return []

    def settled(self, _request: Request) -> Any:
        """Nothing, once all that was asked before is answered."""
        return []

    def likelihood(self, request: Request) -> Any:
        """How likely each answer is after each question."""
        found = self._active(request).likelihood(_questions(request), request["answers"])
        return [dataclasses.asdict(one) for one in found]

    def generate(self, request: Request) -> Any:
        """What the version says to each question."""
        output = request["output"] and OutputFormat.model_validate(request["output"])
        sampling = Sampling.model_validate(request["sampling"])
        found = self._active(request).generate(_questions(request), sampling, output)
        return [dataclasses.asdict(one) for one in found]

    def chat(self, request: Request) -> Any:
        """As `generate` without a schema, with the tokens that were read and said."""
        scorer, questions = self._active(request), _questions(request)
        tokenizer, renderer = scorer.loaded.tokenizer, scorer.loaded.renderer
        by_row = {one.row: one for one in questions}
        replies = []
        for said in scorer.generate(questions, Sampling.model_validate(request["sampling"]), None):
            prompt = renderer.prompt_after(tokenizer, by_row[said.row].messages)
            # The end of the turn was said too.
            tokens = len(tokenise(tokenizer, said.text)) + (not said.cut)
            read = len(tokenise(tokenizer, prompt))
            replies.append({**dataclasses.asdict(said), "prompt_tokens": read, "completion_tokens": tokens})
        return replies

    def _active(self, request: Request) -> Scorer:
        version = str(request["version"])
        if version not in self.scorers:
            raise KeyError(version)
        name = self._adapters.get(version)
        if name is not None and self._network.active_adapters != [name]:
            self._network.set_adapter(name, inference_mode=True)
        return self.scorers[version]

    def _with_adapter(self, version: str, found: ModelInfo) -> model.Loaded:
        from nlp_skills.training import adapters, base_model, device

        place = device.pick(cuda_devices=self.folder.task().execution.cuda_devices)
        trained = model.weights(self.folder.root, found)
        # Versions have dots in their names, which PEFT cannot have in those of adapters.
        self._made += 1
        name = f"adapter{self._made}"
        if self._network is None:
            pinned: Any = {"root": self.folder.root, "revision": found.base_model_revision}
            model.same_base(found, pinned)
            base = base_model.load_model(found.base_model, place, quantization=found.quantization, **pinned)
            self._network = adapters.on_top(base, trained, name=name).eval()
        else:
            adapters.beside(self._network, trained, name)
        self._adapters[version] = name
        tokenizer, renderer = model.tokenizer(self.folder, found), Renderer.from_model_info(found)
        return model.Loaded(self._network, tokenizer, renderer, place)


def answered(network: Network, requests: list[Request]) -> list[Request]:
    """The replies to requests that want the same: to all at once, or one by one where that fails."""
    if len(requests) == 1:
        return [_reply(network, requests[0])]
    questions = [[at, messages] for at, (_row, messages) in enumerate(_asked(requests))]
    # The first may be of any of them, and says of its own row what is wrong.
    whole = _reply(network, {**requests[0], "questions": questions})
    if "error" in whole:
        return [_reply(network, request) for request in requests]
    found = {item["row"]: item for item in whole["items"]}
    replies, at = [], 0
    for request in requests:
        rows = [row for row, _messages in request["questions"]]
        items = [{**found[at + place], "row": row} for place, row in enumerate(rows)]
        replies.append({"id": request["id"], "items": items})
        at += len(rows)
    return replies


def together(waiting: deque[Request]) -> list[Request]:
    """The request that has waited longest, taken out with those that can be answered with it."""
    first = waiting.popleft()
    taken, room = [first], AT_ONCE - len(first.get("questions", ()))
    if not _can_be_joined(first):
        return taken
    for request in list(waiting):
        size = len(request.get("questions", ()))
        if 0 < size <= room and _wanted(request) == _wanted(first):
            waiting.remove(request)
            taken.append(request)
            room -= size
    return taken


def _asked(requests: list[Request]) -> list[Any]:
    return [question for request in requests for question in request["questions"]]


def _can_be_joined(request: Request) -> bool:
    """What is drawn depends on a row's number, so that such requests keep their own."""
    return bool(request.get("questions")) and not request.get("sampling", {}).get("temperature")


def _wanted(request: Request) -> Request:
    return {name: value for name, value in request.items() if name not in ("id", "questions")}


def _questions(request: Request) -> list[Question]:
    return [Question(row, messages) for row, messages in request["questions"]]


def _reply(network: Network, request: Request) -> Request:
    try:
        items = getattr(network, request["do"])(request)
    except Problem as problem:
        return {"id": request["id"], "error": {**problem.as_dict(), "kind": type(problem).__name__}}
    except Exception as error:
        traceback.print_exc()
        return {"id": request["id"], "error": {"kind": "failed", "cause": f"{type(error).__name__}: {error}"}}
    return {"id": request["id"], "items": items}


def _read(came: queue.SimpleQueue[Request]) -> None:
    for line in sys.stdin:
        came.put(json.loads(line))
    # Requests that nobody waits for any more are not worth waiting for.
    os._exit(0)


def main() -> None:
    """Answer until whoever started this closes standard input or is gone."""
    # What libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    network = Network(TaskFolder.at(Path(json.loads(sys.stdin.readline())["root"])))
    came: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(came,), daemon=True).start()
    waiting: deque[Request] = deque()
    while True:
        if not waiting:
            waiting.append(came.get())
        while not came.empty():
            waiting.append(came.get())
        for reply in answered(network, together(waiting)):
            replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
