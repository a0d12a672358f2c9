"""The tables of the documents, made from the catalogue and from arithmetic, in either language.

A document marks their places: `<!-- generated: NAME -->` and `<!-- end -->`, with the table between.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from nlp_skills.knowledge import shape
from nlp_skills.knowledge.catalogue import Model, models, named
from nlp_skills.schema.training import Lora

MARKED = re.compile(r"(?P<open><!-- generated: (?P<name>[\w-]+) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)

_WORDS = {
    "zh-TW": {
        "model": "模型",
        "weights": "參數",
        "per token": "每個 token 用到",
        "context": "上下文",
        "licence": "授權",
        "thinks": "思考",
        "Chinese": "中文",
        "on request": "可開關",
        "always": "一律",
        "yes": "是",
        "no": "否",
        "must accept": "需先同意",
        "need": "需求",
        "smallest first": "由小到大",
        "chinese": "中文",
        "reasoning": "推理",
        "light": "輕量",
        "ecosystem": "工具支援廣",
        "multilingual": "多語",
        "kind": "類型",
        "layers": "層數",
        "experts": "專家（每次用到／共有）",
        "cache a token": "每個 token 的快取",
        "adapters reach": "轉接層碰得到",
        "trained at r=16": "r=16 時訓練的參數",
        "share": "比例",
        "dense": "稠密",
        "figure": "數值",
        "test rows": "測試資料筆數",
        "better by": "進步",
        "answers that differ: 10 %": "兩版答案不同 10 %",
        "answers that differ: 20 %": "兩版答案不同 20 %",
        "points": "個百分點",
    }
}
_EXAMPLES = {
    "dense": "Qwen/Qwen3-8B",
    "moe": "Qwen/Qwen3-30B-A3B",
    "mla-moe": "deepseek-ai/DeepSeek-R1",
    "hybrid": "Qwen/Qwen3.5-9B",
    "hybrid-moe": "Qwen/Qwen3.5-35B-A3B",
}
_ADAPTED = ["HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B",
            "Qwen/Qwen3-14B", "Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.3-70B-Instruct"]  # fmt: skip
_Say = Callable[[str], str]


def fill(text: str, language: str) -> str:
    """A document with its tables as they are now.

    Raises:
        ValueError: a marker names no table, or has no end.
    """
    if text.count("<!-- generated:") != len(MARKED.findall(text)):
        raise ValueError("a marker has no end")

    def made(found: re.Match[str]) -> str:
        table = TABLES.get(found["name"])
        if table is None:
            raise ValueError(f"no table is called {found['name']}")
        words = _WORDS.get(language, {})
        return found["open"] + table(lambda word: words.get(word, word)) + found["end"]

    return MARKED.sub(made, text)


def plain(text: str) -> str:
    """A document without its markers, for readers who pay by the word."""
    return MARKED.sub(lambda found: found["table"], text)


def short(count: float) -> str:
    """4,022,468,096 as 4.0B."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            value = count / unit
            return f"{value:.0f}{name}" if value >= 100 else f"{value:.1f}{name}"
    return str(int(count))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _models(say: _Say) -> str:
    thinks = {"none": "–", "optional": say("on request"), "always": say("always")}
    rows = [
        [
            f"`{model.name}`",
            short(model.parameters),
            short(model.active) if model.active else "–",
            f"{model.context // 1024}k",
            model.licence + (f" ({say('must accept')})" if model.gated else ""),
            thinks[model.thinking],
            say("yes") if model.serves("zh-TW") else "–",
        ]
        for model in models()
    ]
    columns = ("model", "weights", "per token", "context", "licence", "thinks", "Chinese")
    return _table([say(column) for column in columns], rows)


def _by_need(say: _Say) -> str:
    needs = ("chinese", "reasoning", "light", "ecosystem", "multilingual")
    known = sorted(models(), key=lambda model: model.parameters)
    # What one person can train comes first, and the list ends where it gets long.
    listed = ([model.short for model in known if need in model.needs][:10] for need in needs)
    rows = [[say(need), ", ".join(names)] for need, names in zip(needs, listed, strict=True)]
    return _table([say("need"), say("smallest first")], rows)


def cache(model: Model) -> int:
    """Bytes of keys and values that a server keeps in 16 bits for one token of a conversation."""
    if model.latent:
        return 2 * model.layers * (model.latent.kv_rank + model.latent.rope)
    full = model.layers // model.delta.full_every if model.delta else model.layers
    return 2 * 2 * full * model.kv_heads * model.head_dim


def _architectures(say: _Say) -> str:
    rows = []
    for kind, name in _EXAMPLES.items():
        model = named(name)
        reached = shape.shape(model).quantisable / model.parameters
        experts = f"{model.experts_per_token}/{model.experts}" if model.experts else "–"
        rows.append(
            [
                say(kind) if kind == "dense" else kind,
                model.short,
                short(model.parameters),
                short(model.active or model.parameters),
                experts,
                f"{cache(model) / 1024:.0f} KiB",
                f"{reached:.0%}",
            ]
        )
    columns = ("kind", "model", "weights", "per token", "experts", "cache a token", "adapters reach")
    return _table([say(column) for column in columns], rows)


def _adapters(say: _Say) -> str:
    lora = Lora(r=16, target_modules="all-linear")
    rows = []
    for name in _ADAPTED:
        model = named(name)
        trained = shape.shape(model).adapter(lora)
        rows.append([model.short, f"{model.parameters:,}", f"{trained:,}", f"{trained / model.parameters:.2%}"])
    return _table([say(column) for column in ("model", "weights", "trained at r=16", "share")], rows)


def interval(value: float, rows: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that was seen on so many rows."""
    z = 1.959964
    middle = (value + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(value * (1 - value) / rows + z * z / (4 * rows * rows))
    return middle - half, middle + half


def rows_to_tell(gain: float, differing: float) -> int:
    """Test rows with which a true gain is shown four times out of five (paired, 5 % level, two-sided).

    `differing` is the share of rows that two versions answer differently.
    """
    found = (1.959964 * math.sqrt(differing) + 0.841621 * math.sqrt(differing - gain * gain)) / gain
    return math.ceil(found * found)


def _intervals(say: _Say) -> str:
    sizes = (20, 50, 100, 200, 400, 1000, 2000)
    rows = []
    for value in (0.7, 0.8, 0.9):
        ranges = (interval(value, size) for size in sizes)
        rows.append([f"{value:.0%}", *(f"{low * 100:.0f}–{high * 100:.0f}" for low, high in ranges)])
    return _table([f"{say('figure')} \\ {say('test rows')}", *map(str, sizes)], rows)


def _gains(say: _Say) -> str:
    rows = [
        [f"{gain * 100:.0f} {say('points')}", f"{rows_to_tell(gain, 0.1):,}", f"{rows_to_tell(gain, 0.2):,}"]
        for gain in (0.02, 0.03, 0.05, 0.08)
    ]
    return _table([say("better by"), say("answers that differ: 10 %"), say("answers that differ: 20 %")], rows)


TABLES: dict[str, Callable[[_Say], str]] = {
    "models": _models,
    "models-by-need": _by_need,
    "architectures": _architectures,
    "adapter-sizes": _adapters,
    "intervals": _intervals,
    "gains": _gains,
}
