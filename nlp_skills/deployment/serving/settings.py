"""How the gateway is run: everything that can be chosen, in one place."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EngineName = Literal["auto", "llama.cpp", "transformers", "vllm"]
ENGINES: tuple[EngineName, ...] = ("auto", "llama.cpp", "transformers", "vllm")


@dataclass(frozen=True)
class Settings:
    """Of one gateway.

    Args:
        host, port: where it listens.
        engine: what answers; `auto` is the fastest that is here.
        quantization: of the GGUF file for llama.cpp; that of task.yaml where it is None.
        version: a version to stay with; the active one is followed where it is None.
        keep: so many versions stay loaded, the active one among them.
        parallel: rows and conversations that a version answers at a time.
        context: tokens that a prompt and its answer may take together.
        threads: of the processor for each engine; as many as it thinks best where it is None.
        max_concurrency: requests that are answered at a time; `queue` more wait, further ones are sent away.
        timeout_s: the longest that a request may take.
        max_body_bytes: the longest body of a request.
        max_batch: rows of one request.
        max_chars: characters of one field.
        keys_file: the API keys (hashed); None where nobody needs one.
        admin_anywhere: administration is served elsewhere than on loopback too.
        cors_origins: pages that browsers may call it from.
        log_texts: requests are logged with the texts of users.
        grace_s: what is under way may take so long to end, once the gateway is told to.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    engine: EngineName = "auto"
    quantization: str | None = None
    version: str | None = None
    keep: int = 2
    parallel: int = 8
    context: int = 4096
    threads: int | None = None
    max_concurrency: int = 64
    queue: int = 256
    timeout_s: float = 120.0
    max_body_bytes: int = 1_000_000
    max_batch: int = 64
    max_chars: int = 20_000
    keys_file: Path | None = None
    admin_anywhere: bool = False
    cors_origins: tuple[str, ...] = ()
    log_texts: bool = False
    grace_s: float = 30.0

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def address(self) -> str:
        """The address that clients of this machine use."""
        anywhere = self.host in ("0.0.0.0", "::")  # noqa: S104
        host = "127.0.0.1" if anywhere else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
