"""nlp_skills.data.rows.check, as `nlp-skills validate` calls it for each split."""

from _task import FIELDS, LABEL, LEAST, finish, path

from nlp_skills.data import rows

report = rows.check(path(), FIELDS, {LABEL[0]: {"enum": LABEL[1]}}, min_chars=LEAST, max_faults=10_000)
found: dict[str, list[int]] = {}
for fault in report["faults"]:
    found.setdefault(fault["code"], []).append(fault["line"])
finish(found, report["distribution"])
