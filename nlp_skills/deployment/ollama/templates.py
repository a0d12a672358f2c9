"""A prompt template in Go for servers that do not use the one in the GGUF file: one that is known to say the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.data.render import Message, Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

_PROBE = "A probe of the template, in two words?"


@dataclass(frozen=True)
class _Family:
    """How prompts of a family look: `turn` of a role and a text, `begun` for the answer; and the same in Go."""

    name: str
    turn: str
    begun: str
    assistant: str = "assistant"

    def rendered(self, messages: Sequence[Message]) -> str:
        turns = (self.turn.replace("ROLE", self._role(one)).replace("TEXT", one["content"]) for one in messages)
        return "".join(turns) + self.begun

    def go(self, before: str, after: str) -> str:
        role = "{{ .Role }}"
        if self.assistant != "assistant":
            role = f'{{{{ if eq .Role "assistant" }}}}{self.assistant}{{{{ else }}}}{{{{ .Role }}}}{{{{ end }}}}'
        turn = self.turn.replace("ROLE", role).replace("TEXT", "{{ .Content }}")
        first = f"{{{{ if not .System }}}}{before}{{{{ end }}}}" if before else ""
        return f"{first}{{{{ range .Messages }}}}{turn}{{{{ end }}}}{self.begun}{after}"

    def _role(self, message: Message) -> str:
        return self.assistant if message["role"] == "assistant" else message["role"]


_FAMILIES = (
    _Family("chatml", "<|im_start|>ROLE\nTEXT<|im_end|>\n", "<|im_start|>assistant\n"),
    _Family(
        "llama3",
        "<|start_header_id|>ROLE<|end_header_id|>\n\nTEXT<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    _Family("gemma", "<start_of_turn>ROLE\nTEXT<end_of_turn>\n", "<start_of_turn>model\n", "model"),
    _Family("plain", "TEXT", ""),
)


def of(renderer: Renderer, tokenizer: Any) -> str:
    """The Go template that renders prompts as the version was trained with them.

    Raises:
        Invalid: none that is known does.
    """
    return found(renderer.conversation(_PROBE), lambda messages: renderer.prompt_after(tokenizer, messages),
                 tokenizer.bos_token or "")  # fmt: skip


def found(messages: list[Message], render: Callable[[list[Message]], str], bos: str = "") -> str:
    """The Go template of the family that `render` is of; `bos` is what a server puts before every prompt itself.

    Raises:
        Invalid: none is known.
    """
    longer = [*messages, {"role": "assistant", "content": "One."}, {"role": "user", "content": "And another?"}]
    shown, shown_longer = (render(asked).removeprefix(bos) for asked in (messages, longer))
    for family in _FAMILIES:
        before, there, after = shown.partition(family.rendered(messages))
        # What stands before is a system message of the template's own, which one that is given takes the place of.
        if not there or (before and messages[0]["role"] == "system") or "{{" in before + after:
            continue
        if shown_longer == f"{before}{family.rendered(longer)}{after}":
            return family.go(before, after)
    raise Invalid(
        _("no prompt template for older Ollama servers is known to say what this model's says"),
        cause=_("known are {names}", names=", ".join(family.name for family in _FAMILIES)),
        mend=_("leave --template out: newer servers use the template in the GGUF file"),
    )
