"""What most people write to evaluate a tuned classifier: one row after the other through `generate`.

    python generate_loop.py BASE ADAPTER ROWS SYSTEM

Prints one JSON object: the answers, CPU and wall seconds of the loop, and the process's peak memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, rows, system = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
texts = [json.loads(line)["text"] for line in Path(rows).read_text(encoding="utf-8").splitlines()]

answers = []
wall, cpu = time.perf_counter(), time.process_time()
for text in texts:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    answers.append(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
print(json.dumps({"answers": answers, **took, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
