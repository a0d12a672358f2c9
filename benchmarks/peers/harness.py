"""EleutherAI's lm-evaluation-harness on the same rows: the likelihood of each label after each prompt.

    python harness.py BASE ADAPTER ROWS SYSTEM DTYPE LABEL...

What a multiple-choice task of the harness asks its model for is asked of it here; only the task's file is left out.
Prints one JSON object: the answers, CPU and wall seconds, and the process's peak memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

base, adapter, rows, system, dtype, *labels = sys.argv[1:]
model = HFLM(pretrained=base, peft=adapter, dtype=dtype, device="cpu", batch_size=16)
texts = [json.loads(line)["text"] for line in Path(rows).read_text(encoding="utf-8").splitlines()]

wall, cpu = time.perf_counter(), time.process_time()
asked = []
for number, text in enumerate(texts):
    prompt = model.apply_chat_template([{"role": "system", "content": system}, {"role": "user", "content": text}])
    for place, label in enumerate(labels):
        arguments = (prompt, label + model.tokenizer.eos_token)
        asked.append(Instance("loglikelihood", {}, arguments, place, ("rows", number, 1)))
logs = [log for log, _greedy in model.loglikelihood(asked, disable_tqdm=True)]
found = [logs[at : at + len(labels)] for at in range(0, len(logs), len(labels))]
answers = [labels[one.index(max(one))] for one in found]
took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"answers": answers, "logs": found, **took, "peak_mb": peak}))
