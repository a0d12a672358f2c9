"""Other forms of a version's model: merged into its base, and as GGUF files in few or many bits.

In: a version that was trained. Out: models/merged/V and models/gguf/NAME-q8_0.gguf, recorded in exports.json and in the
lineage. What another tool makes is made in a process of its own, with packages of its own, so that neither its memory
nor its modules stay here.
"""

from nlp_skills.deployment.export.ggufs import gguf
from nlp_skills.deployment.export.merging import merged
from nlp_skills.deployment.export.records import current

__all__ = ["current", "gguf", "merged"]
