"""`vllm serve` on a port of this machine alone, with the adapters that are put on it while it runs.

It never ran for real here, which takes a GPU: what completions ask and answer was read in the source of vLLM, options,
variables and the calls for adapters in its documentation and in programs that use them. The tests talk to a fake.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _

_TETHERED = Path(__file__).with_name("tethered.py")
# A large model is read, compiled and warmed up.
_START_SECONDS = 1800.0
_LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class Wanted:
    """What is served: a base model's folder with room for adapters of this rank, or a whole model (rank None)."""

    model: Path
    name: str
    dtype: str
    rank: int | None
    adapters: int
    chat_template: str | None = None


def arguments(wanted: Wanted, port: int, template: Path | None) -> list[str]:
    """What follows `vllm` on the command line."""
    found = ["serve", str(wanted.model), "--host", "127.0.0.1", "--port", str(port)]
    found += ["--served-model-name", wanted.name, "--dtype", wanted.dtype, "--seed", "0"]
    # Nothing but what a request says decides how text is drawn.
    found += ["--generation-config", "vllm"]
    if wanted.rank is not None:
        found += ["--enable-lora", "--max-lora-rank", str(wanted.rank), "--max-loras", str(wanted.adapters)]
    if template is not None:
        found += ["--chat-template", str(template)]
    return found


class Server:
    """The process, asked over HTTP by any number of threads; it ends with our process, however that ends."""

    def __init__(self, wanted: Wanted) -> None:
        program = shutil.which("vllm")
        if program is None:
            raise Unavailable(
                _("vLLM is not installed"),
                cause=_("it is no part of any extra: it pins a PyTorch of its own and wants a GPU"),
                mend=_("install it beside nlp-skills on the machine with the GPU: uv pip install vllm"),
            )
        self.wanted, self._key = wanted, secrets.token_urlsafe(32)
        self._folder = tempfile.TemporaryDirectory()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        template = None
        if wanted.chat_template is not None:
            template = Path(self._folder.name) / "template.jinja"
            template.write_text(wanted.chat_template, encoding="utf-8")
        port = _free_port()
        self.address = f"http://127.0.0.1:{port}"
        # The key is not for the list of processes to show. Without the other, adapters are what they were at its start.
        environment = {**os.environ, "VLLM_API_KEY": self._key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
        environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(_TETHERED), program, *arguments(wanted, port, template)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        # Whatever proxy there may be, this is not its business.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def put_on(self, name: str, adapter: Path) -> None:
        """Put an adapter on the base model."""
        self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)})

    def take_off(self, name: str) -> None:
        """Take an adapter away."""
        self.post("/v1/unload_lora_adapter", {"lora_name": name})

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """What it replies.

        Raises:
            Invalid: it refuses the request.
            Unavailable: it is gone or broken.
        """
        try:
            with self.opened(path, body) as reply:
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            said = lines.cut(message(error.read()), 300)
            if error.code < 500:
                raise Invalid(_("vLLM refuses the request"), cause=said, mend=_("shorten the row")) from error
            raise Unavailable(_("vLLM could not answer"), cause=said) from error
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(error) from error

    def opened(self, path: str, body: dict[str, Any]) -> Any:
        """The reply to a request, to be read.

        Raises:
            HTTPError: it refuses the request.
            OSError: it is gone.
        """
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._key}"}
        return self._open(urllib.request.Request(self.address + path, json.dumps(body).encode(), headers))  # noqa: S310

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        self._folder.cleanup()

    def gone(self, error: Exception) -> Unavailable:
        """That it is no longer there."""
        return Unavailable(_("vLLM has stopped"), cause=self._last_words() or str(error))

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if not self.alive:
                break
            try:
                with self._open(f"{self.address}/health", timeout=5):
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
        raise Unavailable(
            _("vLLM cannot load {model}", model=self.wanted.name),
            cause=self._last_words(),
            mend=_("look at the memory of the GPU; or ask through transformers"),
        )

    def _last_words(self) -> str | None:
        if self._log.closed:
            return None
        written = os.pread(self._log.fileno(), _LOG_BYTES, 0).decode("utf-8", "replace").strip().splitlines()
        return lines.cut(written[-1].strip(), 300) if written else None


def message(body: bytes) -> str:
    """What an error of the server says, in its two forms."""
    try:
        found = json.loads(body)
        return str(found["error"]["message"] if "error" in found else found["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
