"""The Hugging Face Hub: a version's model with its card and records, one repository with a git tag a version.

In: a version on its way, and where to. Out: a repository, private unless told otherwise, of which `revision="v2"` is
that version for ever and the main branch the active one. No rows, no answers, no paths or names of this machine go up.
"""

from nlp_skills.deployment.huggingface.planning import Plan, plan
from nlp_skills.deployment.huggingface.target import deploy, move, undeploy

__all__ = ["Plan", "deploy", "move", "plan", "undeploy"]
