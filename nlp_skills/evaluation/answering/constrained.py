"""Keeping a transformers model within a JSON Schema: xgrammar's grammar of it, compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputFormat

# Where in xgrammar's own sources a message comes from, and when.
_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


class NoGrammar(Invalid):
    """A schema that answers cannot be held to."""


def processors(model: Any, tokenizer: Any, output: OutputFormat) -> Callable[[], Any]:
    """A function that makes a logits processor for one call of `generate`: it lets an answer be nothing but `output`.

    Spaces are where `Renderer.answer` puts them in training, and properties in the schema's order.

    Raises:
        Unavailable: xgrammar is missing.
        NoGrammar: the schema asks for what no grammar can be made of.
    """
    need("train", "xgrammar")
    import xgrammar
    from xgrammar.contrib.hf import LogitsProcessor

    # Weights may have more places than the tokenizer has words.
    words = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=model.config.get_text_config().vocab_size)
    try:
        grammar = _grammar(xgrammar.GrammarCompiler(words), output)
    except RuntimeError as error:
        raise NoGrammar(
            _("no grammar can be made of output_format.schema, so that answers cannot be held to it"),
            cause=_PLACE.sub("", str(error).strip().splitlines()[-1]),
            mend=_("write the schema more simply: type, enum, items, properties, required"),
        ) from error
    return lambda: LogitsProcessor(grammar)


def _grammar(compiler: Any, output: OutputFormat) -> Any:
    (part, *_others) = output.schema_.values()
    if output.type == "text" and part.type == "string":
        return compiler.compile_regex("|".join(re.escape(str(choice)) for choice in part.choices))
    schema = output.json_schema() if output.type == "json" else part.model_dump(exclude_none=True)
    return compiler.compile_json_schema(schema, any_whitespace=False, separators=(", ", ": "))
