"""Our own way of asking a tuned classifier, as `nlp-skills evaluate` does it, without the records around it.

    python likelihood.py TASK

Prints one JSON object: the answers, CPU and wall seconds, and the process's peak memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

from nlp_skills.data.render import Renderer
from nlp_skills.evaluation.answering import transformers
from nlp_skills.evaluation.answering.ask import ask
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.subject import asked
from nlp_skills.workspace.folder import TaskFolder

subject = asked(TaskFolder.at(Path(sys.argv[1])), "v1")
scorer, renderer, rows = transformers.load(subject.folder, "v1"), Renderer.from_model_info(subject.info), subject.test

wall, cpu = time.perf_counter(), time.process_time()
found = ask(scorer, rows, renderer, "label", None, Partial(subject.version.run / "bench.partial", "bench"), "bench")
took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
(subject.version.run / "bench.partial").unlink()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"answers": [one.predicted for one in found], **took, "peak_mb": peak}))
