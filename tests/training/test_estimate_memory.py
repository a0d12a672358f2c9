"""The formulas behind an estimate: exact counts, what autograd really keeps, and figures that others have published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nlp_skills.errors import Unavailable
from nlp_skills.schema.training import Config, Lora
from nlp_skills.training import beginnings
from nlp_skills.training.device import Device
from nlp_skills.training.estimate import machine, memory, pace, shape, verdict, work
from nlp_skills.training.estimate.gpus import Gpu
from nlp_skills.training.estimate.machine import Machine
from nlp_skills.training.estimate.memory import Load
from nlp_skills.training.estimate.shape import Shape

QWEN3_06B = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
QWEN3_8B = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
QWEN3_14B = {"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40}
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
PHI_4 = {"hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40}
LLAMA_70B = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}

H200 = machine.rented(Gpu(name="H200", memory_gb=141, tflops=989, mfu=(0.25, 0.45)))
A_ROW = Load(rows=1, length=1024, answer=1024, scored=1024, checkpointing=True)
# The published figures are for short rows.
SHORT = Load(rows=1, length=512, answer=512, scored=512, checkpointing=True)


def qwen3(*, tied: bool = False, **dimensions: int) -> Shape:
    from transformers import Qwen3Config

    settings = {"vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128, **dimensions}
    return shape.of_config(Qwen3Config(**settings, tie_word_embeddings=tied))


def llama(vocabulary: int = 128256, keys: int = 8, **dimensions: int) -> Shape:
    from transformers import LlamaConfig

    settings = {"vocab_size": vocabulary, "num_key_value_heads": keys, **dimensions}
    return shape.of_config(LlamaConfig(**settings, tie_word_embeddings=False))


def config(adapter: Any = "lora", **settings: Any) -> Config:
    return Config(base_model="x", adapter=adapter, **settings)


def gb(of: Shape, adapter: str, load: Load = A_ROW, **settings: Any) -> float:
    return memory.parts(of, config(adapter, **settings), H200, load).total / 1e9


@pytest.fixture(scope="module")
def eight() -> Shape:
    return llama(**LLAMA_8B)


@pytest.mark.parametrize(
    ("counted", "all_weights", "quantised", "adapter"),
    [
        (lambda: qwen3(tied=True, **QWEN3_06B), 596_049_920, 440_401_920, 10_092_544),
        (lambda: qwen3(**QWEN3_8B), 8_190_735_360, 6_945_767_424, 43_646_976),
        (lambda: llama(**LLAMA_8B), 8_030_261_248, 6_979_321_856, 41_943_040),
    ],
    ids=["Qwen3-0.6B", "Qwen3-8B", "Llama-3.1-8B"],
)
def test_weights_of_known_models_are_counted_exactly(
    counted: Callable[[], Shape], all_weights: int, quantised: int, adapter: int
) -> None:
    found = counted()
    assert (found.parameters, found.quantisable, found.adapter(Lora(r=16))) == (all_weights, quantised, adapter)


@pytest.mark.parametrize(
    "lora",
    [
        {"r": 8},
        {"r": 4, "dora": True},
        {"r": 4, "init": "pissa"},
        {"r": 8, "target_modules": ["q_proj", "v_proj"]},
        {"r": 8, "target_modules": r".*\.layers\.0\..*_proj"},
    ],
)
def test_adapters_are_counted_as_peft_makes_them(lora: dict[str, Any], tiny_base: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = Lora(**lora)
    made = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base),
        LoraConfig(
            r=beginnings.rank(settings),
            target_modules=settings.target_modules,
            use_dora=bool(settings.dora),
            task_type="CAUSAL_LM",
        ),
    )
    trained = sum(weight.numel() for weight in made.parameters() if weight.requires_grad)
    assert shape.of(str(tiny_base)).adapter(settings) == trained


def test_of_many_experts_only_the_chosen_ones_take_time() -> None:
    from transformers import Qwen3MoeConfig

    settings = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_key_value_heads": 2}
    found = shape.of_config(Qwen3MoeConfig(**settings, **experts, head_dim=16, tie_word_embeddings=True))
    all_experts = 2 * 8 * 3 * 64 * 32
    assert found.parameters - found.active == all_experts * 6 // 8
    assert found.feed_forward == 2 * 32


def test_a_model_of_an_unknown_kind_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    with pytest.raises(Unavailable) as refused:
        shape.of(str(tmp_path))
    assert refused.value.file == str(tmp_path / "config.json") and "unheard_of" in str(refused.value.cause)


def kept(family: str, adapter: str, machine_of: Machine, layers: int) -> tuple[int, Shape]:
    """Bytes that autograd keeps on the way through a small model, its weights left out; and the model's shape."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

    kind = Qwen3Config if family == "qwen3" else LlamaConfig
    settings = kind(
        vocab_size=64, hidden_size=128, intermediate_size=384, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(
        settings, dtype=torch.bfloat16 if adapter == "lora" and machine_of.frozen_bytes == 2 else torch.float32
    )
    inner = model.model
    if adapter == "lora":
        get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}

    def see(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        # Copies of weights are counted elsewhere: only what a batch of 2 × 300 tokens brings.
        if storage.data_ptr() not in own and {300, 600} & set(tensor.shape):
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    alive: list[Any] = []
    ids = torch.zeros(2, 300, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=machine_of.half),
    ):
        inner(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return sum(found.values()), shape.of_config(settings)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("half", [True, False])
def test_bytes_a_token_are_what_autograd_keeps(family: str, adapter: str, half: bool) -> None:
    on = Machine("cuda", "GPU", half, 2 if half else 4, None, None)
    two, found = kept(family, adapter, on, 2)
    three, _found = kept(family, adapter, on, 3)
    told = memory.per_token(found, config(adapter, **({"lora": {"r": 8}} if adapter == "lora" else {})), on)
    assert told == pytest.approx((three - two) / 600, rel=0.1)


def test_four_bits_take_the_bytes_that_bitsandbytes_takes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    import torch

    weights = torch.randn(1024, 1024)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
    scales = [state.absmax, state.state2.absmax]
    taken = packed.nbytes + sum(scale.nbytes for scale in scales)
    assert memory.NF4 * weights.numel() == pytest.approx(taken, rel=0.01)


# Minimum GPU memory, GB, as LLaMA-Factory's readme and Unsloth's documentation give it.
PUBLISHED = [
    ("7B", "qlora", 6, "LLaMA-Factory"), ("7B", "lora", 16, "LLaMA-Factory"), ("7B", "full", 120, "LLaMA-Factory"),
    ("8B", "qlora", 6, "Unsloth"), ("8B", "lora", 22, "Unsloth"), ("8B", "full", 144, "LLaMA-Factory, 18 a weight"),
    ("14B", "qlora", 12, "LLaMA-Factory"), ("phi-4", "qlora", 8.5, "Unsloth, 14B"),
    ("14B", "lora", 32, "LLaMA-Factory"), ("14B", "lora", 33, "Unsloth"), ("14B", "full", 240, "LLaMA-Factory"),
    ("70B", "qlora", 48, "LLaMA-Factory"), ("70B", "qlora", 41, "Unsloth"),
    ("70B", "lora", 160, "LLaMA-Factory"), ("70B", "lora", 164, "Unsloth"), ("70B", "full", 1200, "LLaMA-Factory"),
]  # fmt: skip
SIZES: dict[str, Callable[[], Shape]] = {
    "7B": lambda: llama(32000, 32, **LLAMA_7B),
    "8B": lambda: llama(**LLAMA_8B),
    "14B": lambda: qwen3(**QWEN3_14B),
    "phi-4": lambda: llama(100352, 10, **PHI_4),
    "70B": lambda: llama(**LLAMA_70B),
}


@pytest.mark.parametrize(("size", "adapter", "published", "source"), PUBLISHED)
def test_published_figures_are_near(size: str, adapter: str, published: float, source: str) -> None:
    assert 0.6 <= gb(SIZES[size](), adapter, SHORT) / published <= 1.5


def test_more_of_anything_takes_more(eight: Shape) -> None:
    for checkpointing in (True, False):
        start = replace(A_ROW, checkpointing=checkpointing)
        rows = [gb(eight, "lora", replace(start, rows=count)) for count in (1, 2, 4, 8)]
        lengths = [gb(eight, "lora", replace(start, length=count)) for count in (256, 512, 2048, 8192)]
        ranks = [gb(eight, "lora", start, lora={"r": rank}) for rank in (4, 16, 64, 256)]
        for grown in (rows, lengths, ranks):
            assert grown == sorted(grown) and grown[-1] > grown[0]


def test_adapters_take_less_than_all_weights_and_four_bits_less_still(eight: Shape) -> None:
    for load in (A_ROW, replace(A_ROW, rows=8, checkpointing=False)):
        assert gb(eight, "qlora", load) < gb(eight, "lora", load) < gb(eight, "full", load)


def test_what_saves_memory_saves_it(eight: Shape) -> None:
    long = replace(A_ROW, rows=4, length=4096)
    assert gb(eight, "lora", long) < gb(eight, "lora", replace(long, checkpointing=False)) / 2
    whole = gb(eight, "full")
    assert gb(eight, "full", extra={"optim": "adamw_8bit"}) == pytest.approx(whole - 6 * eight.parameters / 1e9)
    shared = gb(eight, "full", replace(A_ROW, devices=4, sharding="fsdp"))
    assert whole / 4 < shared < whole / 2
    assert gb(eight, "full", replace(A_ROW, devices=4, sharding="ddp")) == whole


def test_preferences_take_pairs_and_a_reference(eight: Shape) -> None:
    pairs, single = gb(eight, "lora", method="dpo"), gb(eight, "lora")
    assert pairs > single
    copy = memory.parts(eight, config("full", method="dpo"), H200, A_ROW).reference
    assert copy == 4 * eight.parameters, "a copy of the model in 32 bits"
    assert memory.parts(eight, config("full", method="orpo"), H200, A_ROW).reference == 0
    assert memory.parts(eight, config(method="dpo"), H200, A_ROW).reference == 0, "the model without its adapter"


def test_a_cpu_needs_no_cuda_and_keeps_attention_of_short_rows() -> None:
    cpu = Machine("cpu", "CPU", False, 4, None, None)
    small = qwen3(tied=True, **QWEN3_06B)
    short, long = (
        memory.parts(small, config(), cpu, Load(rows=8, length=length, answer=4, scored=4)) for length in (255, 256)
    )
    assert short.activations > long.activations, "plain attention, a square for every head, ends at 256 tokens"
    assert short.weights == small.parameters * 4


def test_what_rows_begin_with_is_kept_once_on_a_cpu() -> None:
    cpu = Machine("cpu", "CPU", False, 4, None, None)
    small = qwen3(tied=True, **QWEN3_06B)
    apart = Load(rows=8, length=300, answer=4, scored=4)
    for where, saves in ((cpu, True), (H200, False)):
        found = [memory.parts(small, config(), where, load).activations for load in (apart, replace(apart, shared=200))]
        assert (found[1] < found[0] / 2) is saves


def a_work(**counts: Any) -> work.Work:
    told = {"rows": 1000, "tokens": 200_000, "learnt": 4000, "longest": 1024, "p95": 300, "answer": 8, "spread": 0}
    return work.Work(**{**told, "shared": 0, "valid_tokens": 0, "steps": 125, "total_steps": 375, **counts})


def test_time_is_a_range_that_follows_work_and_method(eight: Shape) -> None:
    def seconds(adapter: Any, done: work.Work, load: Load = A_ROW) -> tuple[float, float]:
        found = pace.seconds(eight, config(adapter), H200, replace(load, rows=8), done)
        assert found is not None and 0 < found[0] < found[1]
        return found

    plain, twice, whole = seconds("lora", a_work()), seconds("lora", a_work(tokens=400_000)), seconds("full", a_work())
    assert plain[1] < twice[1] < 2 * plain[1] + 1 and plain[1] < whole[1]
    # 8e9 weights × 200,000 tokens × 3 epochs × 6 operations on 989e12 × 0.25 to 0.45 a second.
    once = replace(A_ROW, checkpointing=False)
    low, high = seconds("full", a_work(), once)
    expected = 6 * eight.active * 200_000 * 3
    assert low == pytest.approx(8 + expected / (989e12 * 0.45), rel=0.1)
    assert high == pytest.approx(45 + expected / (989e12 * 0.25), rel=0.1)


def test_a_small_batch_is_no_faster_than_it_can_be_started() -> None:
    small = qwen3(tied=True, **QWEN3_06B)
    short = a_work(tokens=30_000, longest=40, rows=1000)
    found = pace.seconds(small, config(), H200, Load(rows=1, length=40, answer=4, scored=4), short)
    assert found is not None and found[0] > 8 + 3000 * 28 * 268 * 4e-6 * 0.99


def test_without_rows_there_is_no_time(eight: Shape) -> None:
    found = verdict.of(config(), eight, H200, work.assumed(1024), micro_batch=1)
    assert found.seconds is None and found.cost is None and found.gb > 16


@pytest.mark.parametrize(("free", "wanted"), [(30.0, "fits"), (20.0, "tight"), (14.0, "too big"), (None, "unknown")])
def test_what_only_trying_tells_is_not_refused(eight: Shape, free: float | None, wanted: str) -> None:
    here = replace(H200, free=None if free is None else free * 1e9)
    found = verdict.of(config(), eight, here, a_work(), micro_batch=1, checkpointing=True)
    assert 18 < found.gb < 21 and found.verdict == wanted


def test_activations_are_computed_twice_only_where_they_would_not_fit(eight: Shape) -> None:
    roomy, narrow = (
        verdict.of(config(), eight, replace(H200, free=free * 1e9), a_work(), micro_batch=4) for free in (141, 40)
    )
    assert not roomy.load.checkpointing and narrow.load.checkpointing and narrow.verdict == "fits"
    said = config(extra={"activation_checkpointing": True})
    assert verdict.of(said, eight, H200, a_work(), micro_batch=1).load.checkpointing


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Where a system keeps memory groups, and the file that says which one a process is in."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    (root / "pod" / "container").mkdir(parents=True)
    own.write_text("0::/pod/container\n")
    yield root, own


def test_a_container_s_limit_counts_and_so_does_the_one_around_it(groups: tuple[Path, Path]) -> None:
    root, own = groups
    inner, outer = root / "pod" / "container", root / "pod"
    (inner / "memory.max").write_text("8000000000\n")
    (inner / "memory.current").write_text("3000000000\n")
    (inner / "memory.stat").write_text("anon 2000000000\ninactive_file 1000000000\n")
    assert machine.left_in_groups(root, own) == [6e9], "files that are only cached are let go first"
    (outer / "memory.max").write_text("4000000000\n")
    (outer / "memory.current").write_text("3500000000\n")
    assert min(machine.left_in_groups(root, own)) == 0.5e9
    (inner / "memory.max").write_text("max\n")
    (outer / "memory.max").write_text("max\n")
    assert machine.left_in_groups(root, own) == []
    assert machine.left_in_groups(root, root / "nowhere") == []


def test_free_memory_is_what_the_system_has_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Device("cpu", "cpu", "float32", None)
    free = machine.free_memory(cpu)
    assert free is not None and 1e8 < free < 1e14
    monkeypatch.setenv("NLP_SKILLS_MEMORY_GB", "1.5")
    assert machine.free_memory(cpu) == 1.5e9
