"""The program that holds a GGUF model for `llamacpp`: llama.cpp's own server, on a port of this machine alone.

Standard input: one line of JSON with the settings, then nothing; when it ends, however, so does the program. Standard
output: one line, `listening ADDRESS`, once the model is loaded. It is started as a file of its own, not as a part of
the package, so that it holds nothing but the model.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve until whoever started this closes standard input or is gone."""
    import xllamacpp

    told = json.loads(sys.stdin.readline())
    settings = xllamacpp.CommonParams()
    settings.model.path = told["model"]
    settings.n_parallel, settings.n_ctx = told["parallel"], told["parallel"] * told["context"]
    if told["threads"]:
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = told["threads"]
    if told["chat_template"] is not None:
        settings.chat_template = told["chat_template"]
    # A reply at the end of a conversation is rendered as one that is complete.
    settings.prefill_assistant = False
    # A slot goes on from its own last prompt; older ones are not kept in memory.
    settings.cache_prompt, settings.cache_idle_slots, settings.cache_ram_mib = True, False, 0
    # Errors and warnings; it has a few lines to say of every request otherwise.
    settings.verbosity = 2
    settings.ui, settings.hostnames, settings.port = False, ["127.0.0.1"], 0
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        sys.exit(str(error))
    print("listening", server.listening_address, flush=True)
    sys.stdin.read()
    # Requests that nobody waits for any more are not worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    main()
