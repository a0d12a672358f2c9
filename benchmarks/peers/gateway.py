"""The gateway of a task, as `nlp-skills serve` runs it, which also tells where its engine listens: one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nlp_skills.deployment.serving import program
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.workspace.folder import TaskFolder


def tell(service) -> None:
    engine = service.pool.seats[service.pool.active].engine
    scorer = engine.scorer(service.pool.active)
    print(json.dumps({"gateway": service.settings.address, "engine": scorer.server.address}), flush=True)


if __name__ == "__main__":
    folder, threads = TaskFolder.at(Path(sys.argv[1])), int(sys.argv[2])
    settings = Settings(port=0, engine="llama.cpp", threads=threads, parallel=8, context=512)
    sys.exit(program.serve(folder, settings, tell))
