"""The loss of an adapter on rows that were not trained on: mean over the answers' tokens, in 32 bits, row by row.

python valid_loss.py MODEL ADAPTER VALID.jsonl
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, valid = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
if adapter != "none":
    model = PeftModel.from_pretrained(model, adapter)
model.eval()
total, count = 0.0, 0
for row in map(json.loads, Path(valid).read_text(encoding="utf-8").splitlines()):
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
    answer = tokenizer(row["completion"][0]["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + answer]), logits_to_keep=len(answer) + 1).logits[0, :-1]
    total += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
    count += len(answer)
print(json.dumps({"valid_loss": total / count, "tokens": count}))
