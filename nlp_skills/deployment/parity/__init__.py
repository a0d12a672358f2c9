"""Whether what goes out answers as the version did when it was evaluated: the prompts first, then the answers.

In: an export, or anything that renders prompts and gives answers to the test rows. Out: parity.json of the version. A
model that reads another prompt than it was trained on, or that lost too much to few bits, is found here, not by users.
"""

from nlp_skills.deployment.parity.answer_check import answers
from nlp_skills.deployment.parity.checking import measured, of_export
from nlp_skills.deployment.parity.prompt_check import prompts
from nlp_skills.deployment.parity.records import record, refuse, verdict

__all__ = ["answers", "measured", "of_export", "prompts", "record", "refuse", "verdict"]
