"""What a careful lead of annotators would look for by hand: wrong labels, contradictions, personal data, disagreement.

In: the splits, data_source.yaml, the raw rows. Out: docs/data_audit.json, docs/data_card.md, docs/data_report.html.
It judges nothing and stops nothing; that is `validate`.
"""

from nlp_skills.data.audit.whole import Audit, audit

__all__ = ["Audit", "audit"]
