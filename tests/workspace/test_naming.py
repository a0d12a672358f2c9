"""Names by three strategies: which are names, how they sort, which is next, and what artefacts are called."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from hypothesis import given
from hypothesis import strategies as st

from nlp_skills import files
from nlp_skills.errors import Usage
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Strategy, Task, Versioning
from nlp_skills.workspace import naming
from nlp_skills.workspace.folder import TaskFolder

STRATEGIES: list[Strategy] = ["semantic", "date", "hybrid"]


def versioning(strategy: Strategy, template: str | None = None) -> Versioning:
    return Versioning(strategy=strategy, naming=template)


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("v1", "semantic"), ("v2.1", "semantic"), ("v3-exp", "semantic"), ("v3-exp2", "semantic"),
        ("v2.1-exp", "semantic"), ("2025-01-07", "date"), ("20250107", "date"), ("2025-01-07-2", "date"),
        ("20250107-12", "date"), ("2025-01-07-exp", "date"), ("2025-01-07-2-exp3", "date"),
        ("v2-20250107", "hybrid"), ("v2_1736236800", "hybrid"), ("v2-20250107-exp", "hybrid"),
        ("v2_1736236800-exp2", "hybrid"),
    ],
)  # fmt: skip
def test_names_by_strategy(name: str, strategy: str) -> None:
    found = naming.parse(name)
    assert found is not None and found.strategy == strategy
    assert naming.is_version(name)
    assert naming.is_experiment(name) == ("exp" in name)


@pytest.mark.parametrize(
    "name",
    [
        "", "v", "V1", "1", "v1 ", " v1", "v01", "v1.", "v1.2.3", "v1-exp1", "v1-exp0", "v1exp", "v3-experiment", "-v1",
        "v-1", "v1\n", "v２", "2025-13-01", "2025-02-30", "20250230", "0000-01-01", "2025-1-7", "2025-01-07-1",
        "2025-01-07-02", "2025/01/07", "250107", "v2-20251301", "v2-2025-01-07", "v2_20250107", "v2_17362368000000",
        "..", "v1/..", "v2.tmp", "current",
    ],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    assert naming.parse(name) is None
    assert not naming.is_version(name) and not naming.is_experiment(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("v2", "major"), ("v2.1", "minor"), ("v2-exp", "exp"), ("v2.1-exp2", "exp"), ("2025-01-07-2", "major"),
     ("2025-01-07-exp", "exp"), ("v2-20250107", "major"), ("v2_1736236800-exp", "exp")],
)  # fmt: skip
def test_how_a_version_came_to_its_name(name: str, kind: str) -> None:
    assert naming.kind(name) == kind


NUMBERS = st.integers(0, 120)
EXPERIMENTS = st.integers(0, 12)
DAYS = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31))
SECONDS = st.integers(10**8, 10**11 - 1)


def suffix(number: int, first: str = "", glue: str = "") -> str:
    return "" if number == 0 else first if number == 1 else f"{first}{glue}{number}"


@given(st.lists(st.tuples(NUMBERS, NUMBERS, EXPERIMENTS), unique=True))
def test_semantic_names_sort_by_number_and_experiments_after_what_they_try_out(parts: list[tuple[int, ...]]) -> None:
    def name(major: int, minor: int, experiment: int) -> str:
        return f"v{major}" + (f".{minor}" if minor else "") + suffix(experiment, "-exp")

    assert sorted((name(*part) for part in parts), key=naming.sort_key) == [name(*part) for part in sorted(parts)]


@given(st.lists(st.tuples(DAYS, st.integers(1, 12), EXPERIMENTS), unique=True), st.sampled_from(["%Y-%m-%d", "%Y%m%d"]))
def test_dates_sort_by_day_and_then_by_number(parts: list[tuple[dt.date, int, int]], form: str) -> None:
    def name(day: dt.date, number: int, experiment: int) -> str:
        return f"{day:{form}}" + (f"-{number}" if number > 1 else "") + suffix(experiment, "-exp")

    assert sorted((name(*part) for part in parts), key=naming.sort_key) == [name(*part) for part in sorted(parts)]


@given(st.lists(st.tuples(NUMBERS, DAYS, EXPERIMENTS), unique=True))
def test_hybrids_sort_by_number_whatever_the_day(parts: list[tuple[int, dt.date, int]]) -> None:
    def name(number: int, day: dt.date, experiment: int) -> str:
        return f"v{number}-{day:%Y%m%d}" + suffix(experiment, "-exp")

    assert sorted((name(*part) for part in parts), key=naming.sort_key) == [name(*part) for part in sorted(parts)]


@given(st.lists(st.tuples(NUMBERS, SECONDS, EXPERIMENTS), unique=True))
def test_hybrids_of_seconds_sort_the_same_way(parts: list[tuple[int, int, int]]) -> None:
    def name(number: int, second: int, experiment: int) -> str:
        return f"v{number}_{second}" + suffix(experiment, "-exp")

    assert sorted((name(*part) for part in parts), key=naming.sort_key) == [name(*part) for part in sorted(parts)]


@given(st.lists(st.from_regex(r"\A(v[0-3](\.[0-2])?|202501(01|02)|2025-01-0[12])(-2)?(-exp2?)?\Z"), unique=True))
def test_no_two_names_share_a_place_in_the_order(names: list[str]) -> None:
    known = [name for name in names if naming.is_version(name)]
    assert len({naming.sort_key(name) for name in known}) == len(known)


def test_strategies_keep_apart_in_the_order() -> None:
    names = ["v2-20250101", "20240101", "v9", "v1_1736236800", "2025-01-01", "v10-exp"]
    ordered = ["v9", "v10-exp", "20240101", "2025-01-01", "v1_1736236800", "v2-20250101"]
    assert sorted(names, key=naming.sort_key) == ordered


@pytest.mark.parametrize(
    ("taken", "kind", "parent", "following"),
    [
        ([], "major", None, "v1"),
        (["v1"], "major", "v1", "v2"),
        (["v1", "v2"], "minor", "v2", "v2.1"),
        (["v1", "v2", "v2.1"], "minor", "v2", "v2.2"),
        (["v1", "v2", "v2.1", "v3"], "minor", "v2.1", "v2.2"),
        (["v2", "v2.9"], "minor", "v2.9", "v2.10"),
        (["v1", "v2", "v3"], "exp", "v3", "v3-exp"),
        (["v3", "v3-exp"], "exp", "v3", "v3-exp2"),
        (["v3", "v3-exp"], "exp", "v3-exp", "v3-exp2"),
        (["v3", "v3-exp2"], "exp", "v3", "v3-exp"),
        (["v2.1"], "exp", "v2.1", "v2.1-exp"),
        (["v3", "v3-exp"], "major", "v3-exp", "v4"),
        (["v3", "v3-exp"], "minor", "v3-exp", "v3.1"),
        (["v9", "v10", "v2"], "major", "v2", "v11"),
        (["v1", "2025-01-07"], "major", "v1", "v2"),
    ],
)
def test_the_next_semantic_name(taken: list[str], kind: naming.Kind, parent: str | None, following: str) -> None:
    assert naming.next_name(versioning("semantic"), taken, kind=kind, parent=parent) == following


def today(form: str) -> str:
    return f"{files.now():{form}}"


@pytest.mark.parametrize(
    ("template", "form", "before"), [(None, "%Y-%m-%d", "2025-01-06"), ("{task}-{yyyymmdd}", "%Y%m%d", "20250106")]
)
def test_the_next_date_is_today_and_the_second_of_a_day_is_numbered(template: str, form: str, before: str) -> None:
    by_date = versioning("date", template)
    day = today(form)
    assert naming.first_name(by_date) == day
    assert naming.next_name(by_date, [before], parent=before) == day
    assert naming.next_name(by_date, [before, day], parent=day) == f"{day}-2"
    assert naming.next_name(by_date, [before, day, f"{day}-2"], parent=day) == f"{day}-3"
    assert naming.next_name(by_date, [before], kind="exp", parent=before) == f"{before}-exp"
    assert naming.next_name(by_date, [before, f"{before}-exp"], kind="exp", parent=before) == f"{before}-exp2"


def test_the_next_hybrid_has_the_next_number_and_today() -> None:
    hybrid = versioning("hybrid")
    assert naming.first_name(hybrid) == f"v1-{today('%Y%m%d')}"
    taken = ["v1-20250105", "v2-20250107", "v2-20250107-exp"]
    assert naming.next_name(hybrid, taken, parent="v1-20250105") == f"v3-{today('%Y%m%d')}"
    assert naming.next_name(hybrid, taken, kind="exp", parent="v2-20250107") == "v2-20250107-exp2"
    begun = int(time.time())
    name = naming.first_name(versioning("hybrid", "{task}_{timestamp}"))
    number, second = name.split("_")
    assert number == "v1" and begun <= int(second) <= time.time()


def test_versions_keep_the_form_they_began_with() -> None:
    assert naming.next_name(versioning("date", "{task}-{date}"), ["20250106"]) == today("%Y%m%d")
    assert naming.next_name(versioning("date", "{task}-{yyyymmdd}"), ["2025-01-06"]) == today("%Y-%m-%d")
    assert naming.next_name(versioning("hybrid"), ["v1_1736236800"]).startswith("v2_")


@pytest.mark.parametrize("strategy", ["date", "hybrid"])
def test_only_semantic_versions_have_minor_numbers(strategy: Strategy) -> None:
    first = naming.first_name(versioning(strategy))
    with pytest.raises(Usage, match="no minor number") as caught:
        naming.next_name(versioning(strategy), [first], kind="minor", parent=first)
    assert caught.value.mend and "--minor" in caught.value.mend


KINDS: st.SearchStrategy[naming.Kind] = st.sampled_from(["major", "minor", "exp"])


@given(st.sampled_from(STRATEGIES), st.lists(st.tuples(KINDS, st.integers(0, 30)), max_size=12))
def test_whatever_comes_next_is_new_and_follows_its_parent(
    strategy: Strategy, steps: list[tuple[naming.Kind, int]]
) -> None:
    by = versioning(strategy)
    names = [naming.first_name(by)]
    for wanted, choice in steps:
        kind = "major" if wanted == "minor" and strategy != "semantic" else wanted
        parent = names[choice % len(names)]
        name = naming.next_name(by, names, kind=kind, parent=parent)
        assert name not in names
        found = naming.parse(name)
        assert found is not None and found.strategy == strategy and naming.kind(name) == kind
        # A major one comes last; what is named after its parent comes after it.
        earlier = names if kind == "major" and strategy != "date" else [parent]
        if not (naming.is_experiment(parent) and kind == "exp"):
            assert all(naming.sort_key(name) > naming.sort_key(other) for other in earlier)
        names.append(name)


def task(strategy: Strategy, template: str | None = None, name: str = "entity-sentiment") -> Task:
    return Task.model_validate(
        {
            "task_name": name, "task_type": "generation", "input_template": "{text}",
            "output_format": {"type": "text", "schema": {"answer": {"type": "string"}}},
            "versioning": {"strategy": strategy, **({"naming": template} if template else {})},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "version", "gguf", "repository", "tag"),
    [
        ("semantic", "v2", "entity-sentiment-v2", "org/entity-sentiment", "v2"),
        ("date", "2025-01-07", "entity-sentiment-2025-01-07", "org/entity-sentiment-2025-01-07", None),
        ("hybrid", "v2-20250107", "entity-sentiment-v2-20250107", "org/entity-sentiment", "v2-20250107"),
    ],
)
def test_artefacts_are_called_as_the_formats_say(
    strategy: Strategy, version: str, gguf: str, repository: str, tag: str | None
) -> None:
    assert naming.artefacts(task(strategy), version) == (
        f"models/adapter/{version}", f"models/merged/{version}", f"models/gguf/{gguf}-q8_0.gguf", repository, tag
    )  # fmt: skip
    other = naming.artefacts(task(strategy), version, quantisation="q4_k_m", owner="me")
    assert other.gguf_path == f"models/gguf/{gguf}-q4_k_m.gguf"
    assert other.hf_repo.startswith("me/")


@pytest.mark.parametrize(
    ("strategy", "template", "version", "name"),
    [
        ("semantic", "{task}-v{n}", "v2.1", "entity-sentiment-v2.1"),
        ("semantic", "{task}-v{n}", "v3-exp2", "entity-sentiment-v3-exp2"),
        ("semantic", "release_{version}", "v2", "release_v2"),
        ("date", "{task}-{yyyymmdd}", "2025-01-07-2", "entity-sentiment-20250107-2"),
        ("date", "{task}.{date}", "20250107-exp", "entity-sentiment.2025-01-07-exp"),
        ("hybrid", "{task}-v{n}", "v2-20250107", "entity-sentiment-v2"),
        ("hybrid", "{task}-v{n}", "v2-20250107-exp", "entity-sentiment-v2-exp"),
        ("hybrid", "{n}.{yyyymmdd}", "v2-20250107-exp2", "2.20250107-exp2"),
        ("hybrid", "{task}_{timestamp}", "v2_1736236800", "entity-sentiment_1736236800"),
        ("hybrid", "v{n}-{yyyymmdd}", "v2_1736236800", "v2-20250107"),
        ("hybrid", "{task}-{version}", "v2-20250107-exp", "entity-sentiment-v2-20250107-exp"),
    ],
)
def test_templates_are_filled(strategy: Strategy, template: str, version: str, name: str) -> None:
    assert naming.model_name(task(strategy, template), version) == name


TEMPLATES: dict[Strategy, list[str]] = {
    "semantic": ["{task}-v{n}", "{version}", "{n}", "{task}.{version}"],
    "date": ["{task}-{date}", "{yyyymmdd}", "{version}"],
    "hybrid": ["{task}-v{n}", "{task}-{n}-{yyyymmdd}", "{version}", "{n}_{timestamp}"],
}


@given(st.sampled_from(STRATEGIES).flatmap(lambda s: st.tuples(st.just(s), st.sampled_from(TEMPLATES[s]))), st.data())
def test_a_template_tells_every_version_from_the_others(chosen: tuple[Strategy, str], data: st.DataObject) -> None:
    strategy, template = chosen
    by = versioning(strategy, template)
    names = [naming.first_name(by)]
    for _step in range(data.draw(st.integers(0, 8))):
        kind: naming.Kind = data.draw(st.sampled_from(["major", "exp"]))
        names.append(naming.next_name(by, names, kind=kind, parent=data.draw(st.sampled_from(names))))
    assert len({naming.model_name(task(strategy, template), name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("strategy", "template", "part"),
    [
        ("semantic", "{task}-{date}", "{date} is not known by strategy semantic; it has {version}, {n}, {task}"),
        ("date", "{task}-v{n}", "{n} is not known by strategy date"),
        ("semantic", "{task}-v", "gives every version the same name; add {version}"),
        ("hybrid", "{task}-{yyyymmdd}", "gives every version the same name; add {version}"),
        ("semantic", "../{n}", "naming is made of letters, digits"),
        ("semantic", "{task} v{n}", "naming is made of letters, digits"),
        ("semantic", "{task-v{n}", "naming is made of letters, digits"),
    ],
)
def test_a_template_that_does_not_fit_is_answered_at_its_line(
    make_task: Callable[..., Path], cli: Callable[..., Ran], strategy: str, template: str, part: str
) -> None:
    path = make_task() / "task.yaml"
    path.write_text(path.read_text() + f"versioning:\n  strategy: {strategy}\n  naming: '{template}'\n")
    line = len(path.read_text().splitlines())
    ran = cli("history")
    assert ran.code == 1
    assert f"sentiment/task.yaml:{line}: wrong value for versioning.naming" in ran.err
    assert part in ran.err


def chosen(path: Path, strategy: str, version: str | None = None) -> None:
    yaml.change(path, {("versioning",): {"strategy": strategy}, **({("version",): version} if version else {})})


@pytest.mark.parametrize("command", [["new-version", "--set", "epochs=5"], ["generate"]], ids=lambda words: words[0])
def test_another_strategy_mid_way_is_refused_and_changes_nothing(
    make_task: Callable[..., Path], cli: Callable[..., Ran], command: list[str]
) -> None:
    root = make_task()
    assert cli("generate").code == 0
    chosen(root / "task.yaml", "date", "2025-01-07" if command == ["generate"] else None)
    lines = (root / "task.yaml").read_text().splitlines()
    before = {path: path.read_bytes() for path in root.rglob("*.yaml")}
    ran = cli(*command)
    assert ran.code == 1
    number = next(number for number, text in enumerate(lines, 1) if "strategy:" in text)
    assert f"sentiment/task.yaml:{number}: versions are named by the strategy semantic here" in ran.err
    assert "set versioning.strategy: semantic" in ran.err
    assert {path: path.read_bytes() for path in root.rglob("*.yaml")} == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_new_task_is_named_by_its_strategy(project: Path, cli: Callable[..., Ran], strategy: Strategy) -> None:
    ran = cli("new-task", "reviews", "--labels", "good,bad", "--strategy", strategy)
    assert ran.code == 0, ran.err
    made = Task.load(project / "reviews" / "task.yaml")
    days = {"semantic": "v1", "date": today("%Y-%m-%d"), "hybrid": f"v1-{today('%Y%m%d')}"}
    templates = {"semantic": "{task}-v{n}", "date": "{task}-{date}", "hybrid": "{task}-{version}"}
    assert made.version == days[strategy]
    assert made.versioning.strategy == strategy and made.versioning.naming == templates[strategy]
    assert cli("generate").code == 0
    assert TaskFolder.at(project / "reviews").version_names() == [made.version]


def test_a_strategy_there_is_none_of_is_a_wrong_call(project: Path, cli: Callable[..., Ran]) -> None:
    ran = cli("new-task", "reviews", "--labels", "good,bad", "--strategy", "dates")
    assert ran.code == 2 and "'semantic', 'date', 'hybrid'" in ran.err
    assert list(project.iterdir()) == []


@pytest.mark.parametrize(
    ("strategy", "template", "written", "first"),
    [
        ("date", None, "v1", "%Y-%m-%d"),
        ("date", "{task}-{yyyymmdd}", "v1", "%Y%m%d"),
        ("date", "{task}-{yyyymmdd}", "'2025-01-07'", "%Y%m%d"),
        ("date", "{task}-{yyyymmdd}", "20250107", "20250107"),
        ("date", None, "2025-01-07", "2025-01-07"),
        ("hybrid", None, "v1", "v1-%Y%m%d"),
        ("semantic", None, "2025-01-07", "v1"),
        ("semantic", None, "first", "v1"),
        ("semantic", None, "v3", "v3"),
    ],
)
def test_generate_names_the_first_version_as_the_strategy_does(
    make_task: Callable[..., Path],
    cli: Callable[..., Ran],
    strategy: str,
    template: str | None,
    written: str,
    first: str,
) -> None:
    path = make_task() / "task.yaml"
    text = path.read_text().replace("version: v1", f"version: {written}  # mine")
    named = f"  naming: '{template}'\n" if template else ""
    path.write_text(f"{text}versioning:\n  strategy: {strategy}\n{named}")
    ran = cli("generate", "--json")
    assert ran.code == 0, ran.err
    assert TaskFolder.at(path.parent).version_names() == [today(first)]
    assert Task.load(path).version == today(first)
    assert "# mine" in path.read_text() and "# A comment a person wrote." in path.read_text()
    assert cli("generate").code == 0
    following = cli("new-version", "--set", "epochs=5", "--json")
    assert following.code == 0, following.err
    found = naming.parse(following.json["version"])
    assert found is not None and found.strategy == strategy


def test_a_name_given_before_the_strategy_was_chosen_is_in_nobodys_way(
    make_task: Callable[..., Path], cli: Callable[..., Ran]
) -> None:
    """The history names v1, which never was: adding a source moved the task before its first version was made."""
    root = make_task()
    entry = {
        "time": "2026-01-05T10:00:00+08:00",
        "from": "created",
        "to": "configuring",
        "version": "v1",
        "reason": "x",
    }
    yaml.change(root / "task.yaml", {("history", 0): entry, ("status",): "configuring"})
    chosen(root / "task.yaml", "hybrid")
    assert cli("generate").code == 0
    ran = cli("new-version", "--set", "epochs=5", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["version"] == f"v2-{today('%Y%m%d')}"
