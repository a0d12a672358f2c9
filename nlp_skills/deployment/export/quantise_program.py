"""`python -m nlp_skills.deployment.export.quantise_program`: quantise a GGUF file with llama.cpp's library."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from nlp_skills.deployment.export import program
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _

# llama.cpp's numbers for the kinds of files.
_KINDS = {
    "f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q5_0": 8, "q2_k": 10, "q3_k_m": 12, "q4_k_s": 14, "q4_k_m": 15,
    "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "bf16": 32,
}  # fmt: skip


class _Settings(ctypes.Structure):
    """The first two members of the library's settings; the rest stays as the library sets it, whatever it is."""

    _fields_ = (("threads", ctypes.c_int32), ("kind", ctypes.c_int32), ("rest", ctypes.c_uint8 * 4096))


def main(told: dict[str, Any], _tell: program.Tell) -> dict[str, Any]:
    """Quantise; the library's return code."""
    try:
        library = ctypes.CDLL(told["library"])
    except OSError as error:
        raise Unavailable(
            _("llama.cpp's library cannot be loaded on this machine"),
            file=told["library"],
            cause=str(error),
            mend=_("install llama.cpp, so that llama-quantize is on PATH; or take q8_0, which needs no quantiser"),
        ) from error
    library.llama_model_quantize_default_params.restype = _Settings
    library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(_Settings)]
    library.llama_model_quantize.restype = ctypes.c_uint32
    settings = library.llama_model_quantize_default_params()
    settings.kind = _KINDS[told["quantization"]]
    settings.threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    names = [os.fsencode(told[name]) for name in ("whole", "made")]
    return {"code": int(library.llama_model_quantize(*names, ctypes.byref(settings)))}


if __name__ == "__main__":
    program.serve(main)
