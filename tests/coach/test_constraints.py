"""Constraints as people write them, in both languages."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_skills.coach.constraints import Constraints, read


@pytest.mark.parametrize(
    ("entries", "meant"),
    [
        (
            [{"資料量": "500 筆已標註"}, {"GPU": "遠端 A100 x1"}, {"時程": "2 週內上線"}],
            Constraints(rows=500, gpu="A100", remote=True, hours=336),
        ),
        (
            ["rows: 1,200 labelled", "GPU: none, CPU only", "deadline: two weeks"],
            Constraints(rows=1200, gpu="", hours=336),
        ),
        (["資料量：3 千筆", "GPU：RTX 4090", "期限：三天"], Constraints(rows=3000, gpu="RTX 4090", hours=72)),
        (["GPU: 2x L4 24GB", "data: 3k"], Constraints(rows=3000, gpu="L4 24GB")),
        (["GPU: Frobnicator 9000"], Constraints(gpu="Frobnicator 9000")),
        (["資料: 沒有"], Constraints(rows=0)),
        (["data: a lot", "GPU: we will see", "somebody must sign this"], Constraints(gpu="we will see")),
        ([], Constraints()),
    ],
)
def test_what_is_meant(entries: list[Any], meant: Constraints) -> None:
    assert read(entries) == meant
