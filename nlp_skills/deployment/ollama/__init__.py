"""Ollama: a version's GGUF file as a model at a server, under a tag of its own, and `latest` for the active one.

In: a version that is about to go out. Out: a folder with its Modelfile and how to use it, and, where a server answers,
the model there, once it was held against the version as it was evaluated.
"""

from nlp_skills.deployment.ollama.target import deploy, move, undeploy

__all__ = ["deploy", "move", "undeploy"]
