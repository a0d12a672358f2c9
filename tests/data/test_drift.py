"""Whether the mix of classes moved: how far, and whether chance explains it."""

from __future__ import annotations

import pytest

from nlp_skills.data import drift


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"),
    # From tables of the chi-square distribution.
    [(3.841, 1, 0.05), (6.635, 1, 0.01), (5.991, 2, 0.05), (7.815, 3, 0.05), (13.277, 4, 0.01), (124.342, 100, 0.05)],
)
def test_the_chi_square_tail_is_that_of_the_tables(statistic: float, freedom: int, p: float) -> None:
    assert drift.chi_square_tail(statistic, freedom) == pytest.approx(p, abs=2e-5)


def test_the_tail_agrees_with_scipy_far_out_too() -> None:
    chi2 = pytest.importorskip("scipy.stats").chi2
    for freedom in (1, 2, 3, 8, 49, 50, 500):
        for statistic in (0.01, 1.0, 30.0, 600.0):
            assert drift.chi_square_tail(statistic, freedom) == pytest.approx(chi2.sf(statistic, freedom), abs=1e-12)


def test_a_move_matters_when_it_is_large_and_not_by_chance() -> None:
    moved = drift.compare({"a": 500, "b": 500}, {"a": 600, "b": 400})
    assert moved is not None
    assert moved.distance == pytest.approx(0.1)
    assert moved.matters
    assert moved.moves()[0] == ("a", 0.5, 0.6)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 5, "b": 5}, {"a": 7, "b": 3}),  # large, but a coin would do it
        ({"a": 50_000, "b": 50_000}, {"a": 51_000, "b": 49_000}),  # certain, but small
        ({"a": 50, "b": 50}, {"a": 50, "b": 50}),
        ({"a": 50, "b": 50, "c": 0}, {"a": 500, "b": 500}),
    ],
)
def test_what_is_small_or_chance_does_not_matter(before: dict[str, int], after: dict[str, int]) -> None:
    moved = drift.compare(before, after)
    assert moved is not None
    assert not moved.matters


def test_a_class_that_came_and_one_that_went_are_moves() -> None:
    moved = drift.compare({"a": 100, "b": 100}, {"a": 100, "c": 100})
    assert moved is not None
    assert (moved.distance, moved.matters) == (0.5, True)
    assert {label for label, _before, _after in moved.moves()[:2]} == {"b", "c"}


def test_there_is_nothing_to_compare_without_rows() -> None:
    assert drift.compare({}, {"a": 1}) is None
    assert drift.compare({"a": 0}, {"a": 1}) is None
