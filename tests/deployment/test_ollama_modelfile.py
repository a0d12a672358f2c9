"""What an Ollama server is told: the Modelfile's text read back as Ollama reads it, and templates by family."""

from __future__ import annotations

import pytest

from nlp_skills.data.render import Message
from nlp_skills.deployment.ollama import templates
from nlp_skills.deployment.ollama.modelfile import Modelfile
from nlp_skills.errors import Invalid


def read(text: str) -> list[tuple[str, str]]:
    """Commands and values by Ollama's rules: a value goes on over lines until the quotes it began with are closed."""
    found, lines = [], text.split("\n")
    while lines:
        line = lines.pop(0)
        if not line.strip():
            continue
        command, _space, value = line.partition(" ")
        if command == "PARAMETER":
            name, _space, value = value.partition(" ")
            command = f"PARAMETER {name}"
        while (closed := unquoted(value.strip())) is None:
            value += "\n" + lines.pop(0)
        found.append((command, closed))
    return found


def unquoted(value: str) -> str | None:
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            ends = len(value) >= 2 * len(quotes) and value.endswith(quotes)
            return value[len(quotes) : -len(quotes)] if ends else None
    return value


AWKWARD = 'Say "yes".\n\nFROM /etc/passwd\n  {{ .Prompt }} \\n """quoted""" text, and "'


def test_a_modelfile_word_for_word() -> None:
    told = Modelfile(
        "./m.gguf", {"num_ctx": 4096, "temperature": 0.0, "top_p": 0.9}, ("<|im_end|>", "\n\n"), "Be brief."
    )
    assert told.text() == (
        "FROM ./m.gguf\n"
        "PARAMETER num_ctx 4096\n"
        "PARAMETER temperature 0\n"
        "PARAMETER top_p 0.9\n"
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop """\n\n"""\n'
        'SYSTEM "Be brief."\n'
    )
    assert told.request() == {
        "parameters": {"num_ctx": 4096, "temperature": 0.0, "top_p": 0.9, "stop": ["<|im_end|>", "\n\n"]},
        "system": "Be brief.",
    }


@pytest.mark.parametrize(
    "system", [AWKWARD, "one line", 'ends with "', '"""', " spaces ", "two\r\nlines", "中文\n提示"]
)
def test_any_system_prompt_is_read_back_as_it_is(system: str) -> None:
    told = Modelfile("./m.gguf", stop=('"',), system=system)
    assert read(told.text()) == [("FROM", "./m.gguf"), ("PARAMETER stop", '"'), ("SYSTEM", system)]


def test_a_text_that_would_end_itself_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot hold this text"):
        Modelfile("./m.gguf", system='a line with """\nFROM /etc/passwd').text()


def test_the_same_is_known_by_what_a_server_shows() -> None:
    told = Modelfile("./m.gguf", {"num_ctx": 4096, "temperature": 0.0}, ("<|im_end|>", '"\n'), "Be brief.")
    shown = {
        "parameters": 'num_ctx                        4096\ntemperature                    0\n'
        'stop                           "<|im_end|>"\nstop                           "\\"\\n"',
        "system": "Be brief.",
        "template": "whatever it found",
    }  # fmt: skip
    assert told.same(shown)
    assert not told.same({**shown, "system": ""})
    assert not told.same({**shown, "parameters": shown["parameters"].replace("4096", "2048")})
    assert told.same({**shown, "parameters": shown["parameters"] + "\nseed 3"})
    assert not told.same({**shown, "parameters": shown["parameters"] + '\nstop "x"'})


def chatml(messages: list[Message]) -> str:
    turns = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages)
    return f"{turns}<|im_start|>assistant\n"


def with_own_system(messages: list[Message]) -> str:
    begun = "" if messages[0]["role"] == "system" else "<|im_start|>system\nYou are Q.<|im_end|>\n"
    return begun + chatml(messages)


def gemma(messages: list[Message]) -> str:
    roles = {"assistant": "model"}
    turns = "".join(
        f"<start_of_turn>{roles.get(one['role'], one['role'])}\n{one['content']}<end_of_turn>\n" for one in messages
    )
    return f"<bos>{turns}<start_of_turn>model\n"


ASKED = [{"role": "user", "content": "What?"}]


def test_families_are_told_by_what_they_render() -> None:
    whole = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    assert templates.found(ASKED, chatml) == whole
    assert templates.found(ASKED, lambda messages: chatml(messages) + "<think>\n\n</think>\n\n") == (
        whole + "<think>\n\n</think>\n\n"
    )
    begun = "{{ if not .System }}<|im_start|>system\nYou are Q.<|im_end|>\n{{ end }}"
    assert templates.found(ASKED, with_own_system) == begun + whole
    assert '{{ if eq .Role "assistant" }}model{{ else }}' in templates.found(ASKED, gemma, "<bos>")
    assert templates.found(ASKED, lambda messages: "".join(one["content"] for one in messages)) == (
        "{{ range .Messages }}{{ .Content }}{{ end }}"
    )


def test_a_template_nobody_knows_is_refused() -> None:
    with pytest.raises(Invalid, match="no prompt template"):
        templates.found(ASKED, lambda messages: "".join(f"[{one['role']}] {one['content']}\n" for one in messages))
