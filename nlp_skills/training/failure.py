"""What a training that breaks means to the person who started it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from nlp_skills.errors import Problem, Unavailable
from nlp_skills.files import storage_problem
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunReason
from nlp_skills.training.health import Unhealthy

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")
_GPU = ("CUDA error:", "cuDNN error:", "CUBLAS_STATUS_", "NCCL error")
# torch's archive writer does not pass on why a write failed.
_TORCH_WRITE = ("PytorchStreamWriter", "inline_container", "unexpected pos")


def explain(error: BaseException, folder: Path) -> Problem | None:
    """The problem behind an error of the libraries, or None when it is a bug and its traceback is wanted."""
    if isinstance(error, Problem):
        return error
    code = _storage_error(error)
    if code is not None:
        return storage_problem(OSError(code, os.strerror(code)), folder)
    if _is_memory(error):
        return Unavailable(
            _("not enough memory for this training"),
            cause=str(error).splitlines()[0][:300] if str(error) else None,
            mend=_("halve batch_size and double gradient_accumulation, or lower max_length"),
        )
    if any(words in str(error) for words in _GPU):
        return Unavailable(
            _("the GPU failed in the middle of a computation"),
            cause=str(error).splitlines()[0][:300],
            mend=_(
                "train again to go on from the last checkpoint; where it comes back, look at nvidia-smi and its driver"
            ),
        )
    return None


def reason(error: BaseException) -> RunReason | None:
    """The name of what went wrong, where it has one."""
    if isinstance(error, Unhealthy):
        return error.reason
    if _storage_error(error) is not None:
        return "disk_full"
    if _is_memory(error):
        return "out_of_memory"
    return "refused" if isinstance(error, Problem) else None


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in _MEMORY)


def _storage_error(error: BaseException) -> int | None:
    """The errno of a failed write, also where a library has put it into words."""
    if isinstance(error, OSError) and error.errno in _STORAGE:
        return error.errno
    text = str(error)
    for code in _STORAGE:
        if os.strerror(code) in text or f"os error {code}" in text:
            return code
    return errno.ENOSPC if any(words in text for words in _TORCH_WRITE) else None


def in_short(error: BaseException) -> str:
    """One line for status.json and the task's history."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
