"""The gateway keeps to the description it gives of itself: requests made from that, well-formed and not."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fixtures_serving import Gateway
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

_LIMITED = settings(
    max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_call_does_what_its_description_says(served: Gateway, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 8
    faults = {operation.label: told for operation in operations if (told := _fault(operation, mode))}
    assert not faults, "\n\n".join(f"{label}:\n{told}" for label, told in faults.items())


def _fault(operation: Any, mode: GenerationMode) -> str | None:
    @_LIMITED
    @given(case=operation.as_strategy(generation_mode=mode))
    def held(case: Any) -> None:
        case.call_and_validate(timeout=60)

    # Nothing of a call that takes nothing can be wrong.
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        return None
    try:
        held()
    except BaseExceptionGroup as error:
        return "\n".join(str(one) for one in error.exceptions)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
