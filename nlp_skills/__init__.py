"""nlp-skills: from a vague wish to a fine-tuned, measured, versioned LLM.

Importing the package costs nothing: every room is imported by whoever needs it.
"""

__version__ = "0.6.0"
