"""`python -m nlp_skills.deployment.export.merge_program`: a version's adapter merged into its base model, and measured.

The version is asked some test prompts as it is evaluated, and so is each merged model, read back from disk: the largest
difference between their logits, where an answer begins, is what the merge costs. An adapter on a base model in four
bits has learnt about the rounding of that base: merged into those weights, written out in full, it keeps what it
learnt; merged into the weights the base had before, it may not. Both are measured, and the nearer one is kept.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.data.render import Renderer, tokenise
from nlp_skills.deployment.export import program
from nlp_skills.evaluation import asking, model
from nlp_skills.schema.task import PLACEHOLDER
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace.folder import TaskFolder

_PACKAGES = ("torch", "transformers", "peft", "safetensors")
_HALVES = ("bfloat16", "float16")


@dataclass(frozen=True)
class Way:
    """How to merge: onto the base model's own weights, or those of its four bits (`nf4`); and in which precision."""

    onto: str
    dtype: str

    @property
    def name(self) -> str:
        return f"{self.onto}-{self.dtype}"


@dataclass(frozen=True)
class Gap:
    """What a way costs: the largest difference of any logit, and the prompts after which another token is likeliest."""

    way: Way
    largest: float
    turned: int


def main(told: dict[str, Any], tell: program.Tell) -> dict[str, Any]:
    """Merge into a folder of `told["into"]`; which one, and what is to be recorded of it."""
    merging = _Merging(told, tell)
    kept = merging.best()
    tools = {name: importlib.metadata.version(name) for name in _PACKAGES}
    tools |= {"dtype": kept.way.dtype, "merged_onto": kept.way.onto}
    others = [gap for gap in merging.measured if gap is not kept]
    tools |= {f"logit_gap_{gap.way.name}": f"{gap.largest:.6g}" for gap in others}
    return {
        "folder": kept.way.name,
        "tools": tools,
        "logit_gap": float(f"{kept.largest:.6g}"),
        "gap_prompts": len(merging.prompts),
    }


class _Merging:
    """One version, the logits it has as it is evaluated, and the ways that were tried."""

    def __init__(self, told: dict[str, Any], tell: program.Tell) -> None:
        self.folder = TaskFolder.at(Path(told["root"]))
        self.info: ModelInfo = model.info(self.folder.version(told["version"]))
        self.into, self.tell = Path(told["into"]), tell
        loaded = model.load(self.folder, self.info.version)
        self.device, self.tokenizer = loaded.device, loaded.tokenizer
        self.prompts = _prompts(self.folder, self.info, loaded.tokenizer, int(told["prompts"]))
        self.before = self._logits(loaded.model)
        self.measured: list[Gap] = []
        del loaded
        gc.collect()

    def best(self) -> Gap:
        """The nearest way in the base model's precision; in 32 bits where 16 turn what is likeliest, and 32 do not."""
        dtype = _checkpoint_dtype(self._base_folder())
        kept = self._tried(Way("base", dtype), None)
        if self.info.quantization is not None:
            kept = self._tried(Way(self.info.quantization, dtype), kept)
        if kept.turned and dtype in _HALVES:
            kept = self._tried(Way(kept.way.onto, "float32"), kept)
        return kept

    def _tried(self, way: Way, other: Gap | None) -> Gap:
        """Of a way and another, the better; the files of the worse are gone."""
        self.tell("merge")
        made = self.into / way.name
        self._write(way, made)
        self.tell("compare")
        gap = self._compared(way, made)
        self.measured.append(gap)
        if other is None:
            return gap
        # A wider precision is worth its bytes only where it keeps what the narrower one turns.
        nearer = gap.turned < other.turned if way.onto == other.way.onto else gap.largest < other.largest
        kept, left = (gap, other) if nearer else (other, gap)
        shutil.rmtree(self.into / left.way.name)
        return kept

    def _write(self, way: Way, made: Path) -> None:
        import torch

        from nlp_skills.training import adapters, base_model

        four_bits = self.info.quantization if way.onto == self.info.quantization else None
        # Four bits of the very weights that they were made of when the version was evaluated.
        place = self.device if four_bits else dataclasses.replace(self.device, dtype=way.dtype)
        base = base_model.load_model(
            self.info.base_model,
            place,
            root=self.folder.root,
            revision=self.info.base_model_revision,
            quantization=four_bits,
        )
        network = adapters.merged(adapters.on_top(base, model.weights(self.folder.root, self.info)))
        # Plain by now, though it may still say that it is quantised.
        network.hf_quantizer = None
        if hasattr(network.config, "quantization_config"):
            del network.config.quantization_config
        network.to(getattr(torch, way.dtype)).save_pretrained(made)
        self.tokenizer.save_pretrained(made)
        del network, base
        gc.collect()

    def _compared(self, way: Way, made: Path) -> Gap:
        from nlp_skills.training import base_model

        after = self._logits(base_model.load_model(str(made), self.device))
        gc.collect()
        pairs = list(zip(self.before, after, strict=True))
        largest = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
        turned = sum(int(a.argmax()) != int(b.argmax()) for a, b in pairs)
        return Gap(way, largest, turned)

    def _logits(self, network: Any) -> list[Any]:
        """After each prompt, as the version is evaluated."""
        import torch

        found = []
        with torch.inference_mode(), self.device.computing():
            for ids in self.prompts:
                asked = torch.tensor([ids], device=self.device.type)
                found.append(network(asked).logits[0, -1].float().cpu())
        return found

    def _base_folder(self) -> str:
        from nlp_skills.training import base_model

        return base_model.locate(self.info.base_model, root=self.folder.root, revision=self.info.base_model_revision)


def _prompts(folder: TaskFolder, info: ModelInfo, tokenizer: Any, most: int) -> list[list[int]]:
    """Token ids of the prompts of test rows, spread over the file; of train where there is none."""
    render = Renderer.from_model_info(info)
    rows = _rows(folder, set(PLACEHOLDER.findall(info.input_template)))
    chosen = [rows[place] for place in asking.spread(len(rows), most)]
    return [tokenise(tokenizer, render.prompt_text(tokenizer, row)) for row in chosen]


def _rows(folder: TaskFolder, fields: set[str]) -> Sequence[dict[str, Any]]:
    for split in ("test", "valid", "train"):
        if folder.split(split).is_file():
            found = [row for row in lines.read(folder.split(split)) if fields <= set(row)]
            if found:
                return found
    return []


def _checkpoint_dtype(base: str) -> str:
    """The precision in which the base model's weights are kept on disk."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True).dtype
    name = str(found).removeprefix("torch.")
    return name if name in (*_HALVES, "float32") else "float32"


if __name__ == "__main__":
    program.serve(main)
