"""A fake of `vllm serve`, which wants a GPU: it takes vLLM's command line, speaks its HTTP, and asks the real model.

It was written by those who wrote the engine, from the same reading: it finds slips, not misreadings. Options and fields
that it does not know it refuses. Choices are scored where vLLM would hold each token to a grammar.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ONE_AT_A_TIME = threading.Lock()


def install(folder: Path, python: str) -> Path:
    """A folder for PATH with a program called vllm."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {python} {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)
    return folder


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("model")
    for name in ("--host", "--port", "--served-model-name", "--dtype", "--seed", "--chat-template"):
        parser.add_argument(name)
    parser.add_argument("--generation-config", choices=["auto", "vllm"])
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512], default=16)
    parser.add_argument("--max-loras", type=int, default=1)
    return parser.parse_args()


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Model:
    """The base model, with adapters by name."""

    def __init__(self, told: argparse.Namespace) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.told, self.adapters = told, set[str]()
        self.tokenizer = AutoTokenizer.from_pretrained(told.model)
        self.network = AutoModelForCausalLM.from_pretrained(told.model).eval()
        if told.chat_template:
            self.tokenizer.chat_template = Path(told.chat_template).read_text(encoding="utf-8")

    def load(self, body: dict[str, Any]) -> None:
        from peft import PeftModel

        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "1" or not self.told.enable_lora:
            raise Refused(404, "Not Found")
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.told.max_lora_rank:
            raise Refused(400, f"LoRA rank {rank} is greater than max_lora_rank {self.told.max_lora_rank}.")
        if self.adapters:
            self.network.load_adapter(str(path), name)
        else:
            self.network = PeftModel.from_pretrained(self.network, str(path), adapter_name=name)
        self.network.eval()
        self.adapters.add(name)

    def unload(self, body: dict[str, Any]) -> None:
        if body["lora_name"] not in self.adapters:
            raise Refused(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        self.network.delete_adapter(body["lora_name"])
        self.adapters.discard(body["lora_name"])

    def choose(self, name: str) -> None:
        if name in self.adapters:
            self.network.set_adapter(name)
        elif name != self.told.served_model_name:
            raise Refused(404, f"The model `{name}` does not exist.")

    def logs(self, ids: list[int]) -> list[dict[str, Any] | None]:
        """What `prompt_logprobs` tells of each place."""
        import torch

        with torch.inference_mode():
            found = self.network(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        each = [found[place - 1, ids[place]].item() for place in range(1, len(ids))]
        return [None, *({str(token): {"logprob": log, "rank": 1}} for token, log in zip(ids[1:], each, strict=True))]

    def say(self, ids: list[int], body: dict[str, Any]) -> tuple[str, str, int]:
        import torch

        form, most = body.get("structured_outputs") or {}, int(body.get("max_tokens") or 16)
        if "choice" in form:
            ends = {text: self.tokenizer.encode(text, add_special_tokens=False) for text in form["choice"]}
            told = {text: self.logs([*ids, *end])[len(ids) :] for text, end in ends.items()}
            sums = {text: sum(next(iter(one.values()))["logprob"] for one in each) for text, each in told.items()}
            text = max(sums, key=lambda one: sums[one])
            return text, "stop", len(ends[text])
        with torch.inference_mode():
            given = torch.tensor([ids])
            out = self.network.generate(given, max_new_tokens=most, do_sample=False, pad_token_id=0)
        new = out[0, len(ids) :].tolist()
        ended = new[-1] == self.tokenizer.eos_token_id
        return self.tokenizer.decode(new, skip_special_tokens=True), "stop" if ended else "length", len(new)

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        self.choose(body["model"])
        choices = []
        for index, ids in enumerate(body["prompt"]):
            if len(ids) + 1 > self.network.config.max_position_embeddings:
                raise Refused(400, "This model's maximum context length is exceeded.")
            text, ending, _new = self.say(ids, body)
            told = self.logs(ids) if body.get("prompt_logprobs") is not None else None
            logs = {"token_logprobs": [-0.5]} if body.get("logprobs") is not None else None
            found = {"index": index, "text": text, "finish_reason": ending, "prompt_logprobs": told, "logprobs": logs}
            choices.append(found)
        # In any order, as nothing promises one.
        return {"object": "text_completion", "model": body["model"], "choices": choices[::-1]}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.choose(body["model"])
        kwargs = body.get("chat_template_kwargs") or {}
        text = self.tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True, **kwargs
        )
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        said, ending, new = self.say(ids, body)
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": ending}
        usage = {"prompt_tokens": len(ids), "completion_tokens": new, "total_tokens": len(ids) + new}
        return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    model: Model

    def do_GET(self) -> None:
        self._reply(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            if self.headers["authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
                raise Refused(401, "Unauthorized")
            with ONE_AT_A_TIME:
                found = self._found(body)
        except Refused as refused:
            error = {"message": str(refused), "type": "BadRequestError", "param": None, "code": refused.status}
            self._reply(refused.status, json.dumps({"error": error}).encode())
            return
        if self.path == "/v1/chat/completions" and body.get("stream"):
            self._stream(found)
        else:
            self._reply(200, json.dumps(found).encode())

    def _found(self, body: dict[str, Any]) -> Any:
        known = {
            "/v1/load_lora_adapter": self.model.load,
            "/v1/unload_lora_adapter": self.model.unload,
            "/v1/completions": self.model.completions,
            "/v1/chat/completions": self.model.chat,
        }
        if self.path not in known:
            raise Refused(404, "Not Found")
        return known[self.path](body)

    def _stream(self, found: Any) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        (choice,) = found["choices"]
        for piece in choice["message"]["content"]:
            part = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        pass


def main() -> None:
    told = options()
    import torch

    torch.set_num_threads(1)
    Handler.model = Model(told)
    ThreadingHTTPServer((told.host, int(told.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
