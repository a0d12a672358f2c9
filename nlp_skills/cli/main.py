"""`nlp-skills`: the table of commands."""

from __future__ import annotations

import os
import sys

import click

from nlp_skills import __version__
from nlp_skills.cli import frame
from nlp_skills.i18n import N_

_ROOM = "nlp_skills.cli"
COMMANDS = {
    "demo": f"{_ROOM}.demo:demo",
    "setup": f"{_ROOM}.machine:setup",
    "doctor": f"{_ROOM}.machine:doctor",
    "recommend": f"{_ROOM}.recommend:recommend",
    "knowledge": f"{_ROOM}.knowledge:knowledge",
    "new-task": f"{_ROOM}.tasks:new_task",
    "tasks": f"{_ROOM}.tasks:tasks",
    "use": f"{_ROOM}.tasks:use",
    "archive": f"{_ROOM}.tasks:archive",
    "unarchive": f"{_ROOM}.tasks:unarchive",
    "data-source": f"{_ROOM}.sources:data_source",
    "generate": f"{_ROOM}.scaffold:generate",
    "regenerate": f"{_ROOM}.data:regenerate",
    "data": f"{_ROOM}.data:data",
    "status": f"{_ROOM}.status:status",
    "validate": f"{_ROOM}.validate:validate",
    "audit": f"{_ROOM}.audit:audit",
    "augment": f"{_ROOM}.audit:augment",
    "review": f"{_ROOM}.review:review",
    "convert": f"{_ROOM}.data:convert",
    "preflight": f"{_ROOM}.training:preflight",
    "estimate": f"{_ROOM}.estimate:estimate",
    "train": f"{_ROOM}.training:train",
    "runs": f"{_ROOM}.runs:runs",
    "logs": f"{_ROOM}.runs:logs",
    "stop": f"{_ROOM}.runs:stop",
    "resume": f"{_ROOM}.runs:resume",
    "learning-curve": f"{_ROOM}.learning_curve:learning_curve",
    "evaluate": f"{_ROOM}.evaluation:evaluate",
    "errors": f"{_ROOM}.errors:errors",
    "report": f"{_ROOM}.report:report",
    "dashboard": f"{_ROOM}.dashboard:dashboard",
    "diagnose": f"{_ROOM}.diagnose:diagnose",
    "new-version": f"{_ROOM}.versions:new_version",
    "promote": f"{_ROOM}.versions:promote",
    "history": f"{_ROOM}.history:history",
    "compare": f"{_ROOM}.compare:compare",
    "export": f"{_ROOM}.export:export",
    "predict": f"{_ROOM}.predict:predict",
    "serve": f"{_ROOM}.serve:serve",
    "serve-key": f"{_ROOM}.serve_key:serve_key",
    "deploy": f"{_ROOM}.deploy:deploy",
    "deployments": f"{_ROOM}.deploy:deployments",
    "undeploy": f"{_ROOM}.deploy:undeploy",
    "lineage": f"{_ROOM}.lineage:lineage",
    "rollback": f"{_ROOM}.retention:rollback",
    "cleanup": f"{_ROOM}.retention:cleanup",
    "du": f"{_ROOM}.retention:du",
    "reproduce": f"{_ROOM}.reproduce:reproduce",
    "plan": f"{_ROOM}.plans:plan",
    "remote": f"{_ROOM}.remote:remote",
}


@click.group(
    cls=frame.LazyGroup,
    lazy=COMMANDS,
    help=N_("From a vague wish to a fine-tuned, measured and versioned language model."),
)
@click.version_option(__version__, prog_name="nlp-skills", cls=frame.Option, help=N_("Show the version and exit."))
def cli() -> None:
    """The root group; its text is in `help`, where it can be translated."""


def main() -> None:
    """Entry point of the `nlp-skills` program."""
    # OpenMP reads this once, when torch or scikit-learn loads: threads that wait must not spin, see training.device.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # No step tells anybody that it ran: the Hub's client would, with each file it fetches.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(frame.run(cli, sys.argv[1:]))


if __name__ == "__main__":
    main()
