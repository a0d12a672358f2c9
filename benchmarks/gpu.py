"""How fast one GPU fine-tunes with our defaults, beside TRL's own and, where it is installed, unsloth.

    python benchmarks/gpu.py [--minutes 8] [--only WORDS] [--cpu-smoke]

Models of Qwen3's shape (0.6B and 4B) with random weights are made here; nothing is fetched. Every line of the table is
a program of its own that trains rows of 64 to 1,024 tokens, three quarters of them prompt, for some seconds after its
first steps. Ours go through `nlp_skills.training.fit`, as `nlp-skills train` does, at the defaults of config.yaml;
TRL's through SFTTrainer and SFTConfig as they come. tokens/s counts tokens that are no padding. MFU is 6 operations a
weight and token (4 with adapters, whose frozen weights need no gradients) over the data sheet's dense bfloat16 peak,
what is computed twice not counted. Peak memory is what torch had allocated at most.

`--cpu-smoke` runs each line for two steps on a tiny shape without a GPU: it tries the code, its figures mean nothing.
Prints the table, and one JSON object as the last line. Without a GPU it ends with exit code 3.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MEASURED_SECONDS, WARM_UP_STEPS, MOST_STEPS = 6.0, 4, 60
LONGEST_SECONDS = 150
ROWS, SHORTEST, LONGEST = 768, 64, 1024
ADAPTER = {"r": 16, "alpha": 32}  # as config.yaml has it where it says nothing
PAD, END = 0, 1

# Qwen3's shapes, as their config.json has them.
SHAPES: dict[str, dict[str, Any]] = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
             "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": True},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
           "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": True},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "tie_word_embeddings": True},
}  # fmt: skip


class Line(NamedTuple):
    """One line of the table: which model, what is trained of it, by whom, with what changed of their defaults."""

    shape: str
    adapter: str
    who: str
    settings: dict[str, Any] = {}  # noqa: RUF012 nobody changes it

    @property
    def label(self) -> str:
        changed = ", ".join(f"{name}: {value}" for name, value in self.settings.items())
        return f"{self.shape} {self.adapter} {self.who}" + (f" ({changed})" if changed else "")


def lines(smoke: bool) -> list[Line]:
    """The most telling first, in case the time runs out."""
    shapes = ["tiny"] if smoke else ["0.6B", "4B"]
    compiled = {"extra.torch_compile": True} | ({"extra.torch_compile_backend": "eager"} if smoke else {})
    plain = [Line(shape, kind, who) for shape in shapes for kind in ("lora", "full") for who in ("ours", "trl")]
    changed: list[dict[str, Any]] = [
        {"packing": True},
        {"extra.padding_free": True},
        {"batch_size": 32},
        {"extra.activation_checkpointing": True},
    ]
    ours = [Line(shape, "lora", "ours", settings) for shape in shapes for settings in changed]
    flash = {"attn_implementation": "kernels-community/flash-attn2"}
    others = [Line(shape, "lora", "trl", flash) for shape in shapes[:1]]
    others += [Line(shape, kind, "unsloth") for shape in shapes for kind in ("lora", "full")]
    return [*plain, *ours, Line(shapes[0], "lora", "ours", compiled), *others]


def missing(line: Line) -> str | None:
    """Why a line cannot be run here."""
    if line.who == "unsloth" and importlib.util.find_spec("unsloth") is None:
        return "unsloth is not installed"
    if "attn_implementation" in line.settings and importlib.util.find_spec("kernels") is None:
        return "kernels is not installed"
    return None


# ---------------------------------------------------------------------------------------------------------------------
# What is trained


def model(folder: Path, shape: str) -> Path:
    """A folder with a random model of a shape, in bfloat16, and a tokenizer that knows a few words."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    target = folder / shape
    if target.is_dir():
        return target
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    settings = Qwen3Config(
        **SHAPES[shape], max_position_embeddings=4096, pad_token_id=PAD, eos_token_id=END, bos_token_id=None,
        dtype=torch.bfloat16,
    )  # fmt: skip
    with torch.device(device):
        made = Qwen3ForCausalLM._from_config(settings, dtype=torch.bfloat16)
    made.save_pretrained(target)
    words = {"<pad>": PAD, "<end>": END, "word": 2}
    words_of = Tokenizer(models.WordLevel(words, unk_token="word"))
    fast = PreTrainedTokenizerFast(tokenizer_object=words_of, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    fast.save_pretrained(target)
    return target


def rows(shape: str) -> list[tuple[list[int], list[int]]]:
    """Prompts and answers of random tokens, the same for everybody."""
    chance, top = random.Random(0), SHAPES[shape]["vocab_size"]
    smoke = shape == "tiny"
    found = []
    for _row in range(24 if smoke else ROWS):
        length = chance.randint(8, 48) if smoke else chance.randint(SHORTEST, LONGEST)
        tokens = [chance.randrange(2, top) for _token in range(length - 1)] + [END]
        found.append((tokens[: length * 3 // 4], tokens[length * 3 // 4 :]))
    return found


class EnoughError(Exception):
    """All that is to be measured has been."""


class Clock:
    """Counts tokens and seconds once the first steps are over."""

    def __init__(self, smoke: bool) -> None:
        self.steps, self.warm_up = 0, 1 if smoke else WARM_UP_STEPS
        self.seconds, self.most = (0.0, 2) if smoke else (MEASURED_SECONDS, MOST_STEPS)
        self.begun: tuple[float, int] | None = None
        self.tokens_per_second = self.step_seconds = 0.0

    def step(self, tokens: int) -> None:
        """A step is done, `tokens` having been seen in all."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.steps += 1
        if self.steps == self.warm_up:
            self.begun = (now, tokens)
        if self.begun is None or self.steps == self.warm_up:
            return
        seconds, seen = now - self.begun[0], tokens - self.begun[1]
        self.tokens_per_second, self.step_seconds = seen / seconds, seconds / (self.steps - self.warm_up)
        if seconds >= self.seconds or self.steps - self.warm_up >= self.most:
            raise EnoughError


# ---------------------------------------------------------------------------------------------------------------------
# Who trains it


def ours(line: Line, base: Path, folder: Path, clock: Clock) -> None:
    """The training room's own way, from settings to steps; no checkpoint is reached."""
    from nlp_skills.schema import yaml
    from nlp_skills.training import fit, run
    from nlp_skills.training.device import pick
    from nlp_skills.training.encode import Encoded
    from nlp_skills.training.job import Job
    from nlp_skills.training.preflight import Preflight
    from nlp_skills.workspace.folder import TaskFolder

    class Clocked(run.Recorder):
        def measure(self, **values: Any) -> dict[str, Any]:
            written = super().measure(**values)
            clock.step(self.tokens)
            return written

    settings: dict[str, Any] = {"base_model": str(base), "adapter": line.adapter, "epochs": 50}
    for name, value in line.settings.items():
        inner = settings.setdefault("extra", {}) if name.startswith("extra.") else settings
        inner[name.removeprefix("extra.")] = value
    task = TaskFolder(folder / "task")
    version = task.version("v1")
    version.run.mkdir(parents=True)
    task.task_path.write_text(yaml.dumps(TASK), encoding="utf-8")
    version.config_path.write_text(yaml.dumps(settings), encoding="utf-8")
    config = version.config()
    job = Job(task, version, task.task(), config, {config.base_model: ""}, config.batch_size, 1)
    encoded = [Encoded(number, prompt, answer) for number, (prompt, answer) in enumerate(rows(line.shape), 1)]
    checked = Preflight("v1", [], encoded={"train": encoded}, max_length=LONGEST)
    device = pick(train_all_weights=line.adapter == "full")
    recorder = Clocked(version, "task", step=0, started=None, seconds=0.0)
    with run.library_log(version.run / "train.log"):
        fit.run_through(job, checked, device, recorder, run.Stop(lambda: None))


TASK = {
    "task_name": "task", "version": "v1", "task_type": "generation", "domain": "none", "language": "en",
    "input_template": "{text}", "output_format": {"type": "text", "schema": {"answer": {"type": "string"}}},
    "training": {"base_model": "none/none"}, "success_criteria": {"primary_metric": "rouge_l"},
}  # fmt: skip


def callback(clock: Clock) -> Any:
    """The clock for trainers that are not ours."""
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_more: Any) -> None:
            if "loss" in logs:
                clock.step(int(state.num_input_tokens_seen))

    return Ticking()


def columns(shape: str) -> Any:
    from datasets import Dataset

    both = rows(shape)
    return Dataset.from_dict(
        {"input_ids": [p + a for p, a in both], "labels": [[-100] * len(p) + a for p, a in both]},
    )


def settings_of_trl(folder: Path) -> Any:
    """TRL's defaults, but for what the clock needs, and no files."""
    import torch
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder / "trl"), num_train_epochs=50, save_strategy="no", logging_steps=1,
        include_num_input_tokens_seen="non_padding", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=ADAPTER["r"], lora_alpha=ADAPTER["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")


def trl(line: Line, base: Path, folder: Path, clock: Clock) -> None:
    """SFTTrainer as its documentation begins: the model by name, SFTConfig with next to nothing in it."""
    from trl import SFTTrainer

    settings = settings_of_trl(folder)
    if line.settings:
        settings.model_init_kwargs = dict(line.settings)
    made = SFTTrainer(
        model=str(base), args=settings, train_dataset=columns(line.shape),
        peft_config=None if line.adapter == "full" else lora(), callbacks=[callback(clock)],
    )  # fmt: skip
    train(made)


def unsloth(line: Line, base: Path, folder: Path, clock: Clock) -> None:
    """Unsloth as its documentation begins, in 16 bits. Never run where this was written."""
    from unsloth import FastLanguageModel  # type: ignore[import-not-found]  # must come before trl

    full = line.adapter == "full"
    made, tokenizer = FastLanguageModel.from_pretrained(
        str(base), max_seq_length=LONGEST, load_in_4bit=False, full_finetuning=full
    )
    if not full:
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        made = FastLanguageModel.get_peft_model(
            made,
            r=ADAPTER["r"],
            lora_alpha=ADAPTER["alpha"],
            target_modules=names,
            use_gradient_checkpointing="unsloth",
        )
    from trl import SFTTrainer

    trainer = SFTTrainer(
        model=made, processing_class=tokenizer, args=settings_of_trl(folder), train_dataset=columns(line.shape),
        callbacks=[callback(clock)],
    )  # fmt: skip
    train(trainer)


def train(made: Any) -> None:
    """Without a line on standard output for every step."""
    from transformers import PrinterCallback

    made.remove_callback(PrinterCallback)
    made.train()


WHO: dict[str, Callable[[Line, Path, Path, Clock], None]] = {"ours": ours, "trl": trl, "unsloth": unsloth}


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def one(line: Line, models: Path, smoke: bool) -> dict[str, Any]:
    """Run one line here."""
    import torch

    base, clock = model(models, line.shape), Clock(smoke)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(EnoughError):
        WHO[line.who](line, base, Path(folder), clock)
    gc.collect()
    if not clock.tokens_per_second:
        return {"note": "ended before anything was measured"}
    return {
        "tokens_s": round(clock.tokens_per_second, 1),
        "mfu": mfu(line, clock.tokens_per_second),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
        "step_s": round(clock.step_seconds, 4),
    }


def mfu(line: Line, tokens_per_second: float) -> float | None:
    """The share of the GPU's peak; None where the data sheet is not known."""
    import torch

    from nlp_skills.training.estimate import gpus

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    gpu = gpus.table().of_device(properties.name, properties.total_memory)
    if gpu is None:
        return None
    operations = (6 if line.adapter == "full" else 4) * weights(line.shape)
    return round(operations * tokens_per_second / (gpu.tflops * 1e12), 4)


def weights(shape: str) -> int:
    """The model's weights, counted without making them."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        made = Qwen3ForCausalLM._from_config(Qwen3Config(**SHAPES[shape]))
    return sum(weight.numel() for weight in made.parameters())


def apart(line: Line, models: Path, smoke: bool, seconds: float) -> dict[str, Any]:
    """Run one line in a program of its own, whose memory is its own."""
    command = [sys.executable, __file__, "--line", json.dumps(line), "--models", str(models)]
    try:
        done = subprocess.run(
            [*command, *(["--cpu-smoke"] if smoke else [])],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"note": f"stopped after {seconds:.0f} s"}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found
    said = done.stderr.strip().splitlines()
    return {"note": (said[-1] if said else f"exit code {done.returncode}")[:200]}


def measured(chosen: list[Line], models: Path, smoke: bool, minutes: float) -> list[dict[str, Any]]:
    """All lines, as far as the time goes. Of a smoke run only the first is a program of its own."""
    until, results = time.monotonic() + 60 * minutes, []
    for number, line in enumerate(chosen):
        left = until - time.monotonic()
        found: dict[str, Any]
        if (why := missing(line)) is not None:
            found = {"note": f"not run: {why}"}
        elif left < 15:
            found = {"note": "not run: no time left"}
        elif smoke and number:
            found = here(line, models)
        else:
            found = apart(line, models, smoke, min(left, LONGEST_SECONDS))
        results.append({**line._asdict(), **found})
        said = found.get("note") or f"{found['tokens_s']:.0f} tokens/s"
        print(f"{line.label}: {said}", file=sys.stderr, flush=True)
    return results


def here(line: Line, models: Path) -> dict[str, Any]:
    try:
        return one(line, models, smoke=True)
    except Exception as error:
        return {"note": f"{type(error).__name__}: {error}".splitlines()[0][:200]}


def show(results: list[dict[str, Any]]) -> None:
    print(f"{'':52}{'tokens/s':>12}{'MFU':>8}{'peak GB':>10}{'s/step':>9}")
    for result in results:
        line = Line(result["shape"], result["adapter"], result["who"], result["settings"])
        if "note" in result:
            print(f"{line.label:<52}  {result['note']}")
            continue
        share = "–" if result["mfu"] is None else f"{result['mfu']:.1%}"
        peak = "–" if result["peak_gb"] is None else f"{result['peak_gb']:.1f}"
        print(f"{line.label:<52}{result['tokens_s']:>12,.0f}{share:>8}{peak:>10}{result['step_s']:>9.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="when to stop, whatever is left")
    parser.add_argument("--only", default="", help="only lines with these words, such as '0.6B lora'")
    parser.add_argument("--cpu-smoke", action="store_true", help="try the code on a tiny shape, without a GPU")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    if options.cpu_smoke:
        os.environ.update(CUDA_VISIBLE_DEVICES="", NLP_SKILLS_DETERMINISTIC="1")
    if options.line:
        print(json.dumps(one(Line(*json.loads(options.line)), options.models, options.cpu_smoke)))
        return 0
    import torch

    if not options.cpu_smoke and not torch.cuda.is_available():
        print("error: this benchmark measures a GPU, and there is none here", file=sys.stderr)
        print("  mend: run it where there is one, or try the code with --cpu-smoke", file=sys.stderr)
        return 3
    chosen = [line for line in lines(options.cpu_smoke) if options.only in line.label]
    models = Path(tempfile.mkdtemp(prefix="gpu-benchmark-"))
    try:
        for shape in dict.fromkeys(line.shape for line in chosen):
            model(models, shape)
        results = measured(chosen, models, options.cpu_smoke, options.minutes)
    finally:
        shutil.rmtree(models, ignore_errors=True)
    show(results)
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu, figures mean nothing"
    print(json.dumps({"device": device, "torch": torch.__version__, "lines": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
