"""nlp-skills: from a vague wish to a fine-tuned, measured, versioned LLM.

Importing the package costs nothing: every room is imported by whoever needs it.
"""

__version__ = "0.8.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nlp_skills.deployment.predicting import load_task

__all__ = ["__version__", "load_task"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # So that a script can load a task in a few lines, and whoever does not pays nothing for it.
        if name == "load_task":
            from nlp_skills.deployment.predicting import load_task

            return load_task
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
