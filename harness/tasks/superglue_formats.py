"""Formats of SuperGLUE (Wang et al. 2019): from rows to examples, and from answers to its server.

The archive nests the questions of a passage in one row; the Hugging Face hub has one row per
question. Rows of the archive are flattened first, so that both give the same examples.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.tasks.metrics import score_overlap
from harness.tasks.readers import DataRow
from harness.tasks.splits import SELECTION_SHARE
from harness.tasks.task import Example

TRUTH = ("false", "true")
ENTAILMENT = ("entailment", "not_entailment")
COMMITMENT = ("entailment", "contradiction", "neutral")
CHOICE = ("wrong", "right")

Flatten: TypeAlias = Callable[[DataRow], Iterator[dict[str, Any]]]
Render: TypeAlias = Callable[[DataRow, bool], Example]


@dataclass(frozen=True)
class RowFormat:
    """How the rows of a task become examples.

    Attributes:
        folder: the task's folder in the archive.
        sizes: number of examples of train, validation and test in the complete data set.
        key: the field whose text decides whether a row is in the selection slice.
        render: returns the example of a row of the hub; its second argument says whether the row
            must have a label.
        flatten: returns the rows of the hub for a row of the archive.
        selection_share: share of the training split that is the selection slice.
    """

    folder: str
    sizes: tuple[int, int, int]
    key: str
    render: Render
    flatten: Flatten = lambda row: iter((row.values,))
    selection_share: float = SELECTION_SHARE

    @property
    def name(self) -> str:
        """Name of the task, here and in the hub."""
        return self.folder.replace("-", "").lower()


def _render_pair(first: str, second: str, labels: Sequence[str]) -> Render:
    def render(row: DataRow, labelled: bool) -> Example:
        label = row.get_label("label", labels, labelled)
        pair = (row.get_string(first), row.get_string(second))
        return Example((pair,), label, idx=row.get_integer("idx"))

    return render


def _render_copa(row: DataRow, labelled: bool) -> Example:
    questions = {"cause": "What was the cause?", "effect": "What happened as a result?"}
    kind = row.get_string("question")
    if kind not in questions:
        raise row.error(f"question is {kind!r}, not 'cause' or 'effect'")
    text = f"{row.get_string('premise')} {questions[kind]}"
    choices = ("choice1", "choice2")
    candidates = tuple((text, row.get_string(choice)) for choice in choices)
    label = row.get_label("label", choices, labelled)
    return Example(candidates, label, idx=row.get_integer("idx"))


def flatten_multirc(row: DataRow) -> Iterator[dict[str, Any]]:
    """Yield one row per answer."""
    passage = row.get_object("passage")
    for question in passage.get_objects("questions"):
        for answer in question.get_objects("answers"):
            yield {
                "paragraph": passage.get_string("text"),
                "question": question.get_string("question"),
                "answer": answer.values.get("text"),
                "label": answer.values.get("label"),
                "idx": {
                    "paragraph": row.get_integer("idx"),
                    "question": question.get_integer("idx"),
                    "answer": answer.get_integer("idx"),
                },
            }


def _render_multirc(row: DataRow, labelled: bool) -> Example:
    """Each answer is an example; the metric also needs the number of its question in the set."""
    numbers = row.get_object("idx")
    idx = [numbers.get_integer(key) for key in ("paragraph", "question", "answer")]
    label = row.get_label("label", TRUTH, labelled)
    statement = f"{row.get_string('question')} {row.values.get('answer') or ''}".strip()
    gold = [label, idx[0] * 10_000 + idx[1]] if labelled else None
    pair = (row.get_string("paragraph"), statement)
    return Example((pair,), label, group=idx[0], gold=gold, idx=idx)


def flatten_record(row: DataRow) -> Iterator[dict[str, Any]]:
    """Yield one row per query."""
    passage = row.get_object("passage")
    text = passage.get_string("text")
    mentions = [
        text[entity.get_integer("start") : entity.get_integer("end") + 1]
        for entity in passage.get_objects("entities")
    ]
    for query in row.get_objects("qas"):
        answers = query.get_objects("answers") if "answers" in query.values else []
        yield {
            "passage": text,
            "query": query.get_string("query"),
            "entity_spans": {"text": mentions},
            "answers": [answer.get_string("text") for answer in answers],
            "idx": {"passage": row.get_integer("idx"), "query": query.get_integer("idx")},
        }


def _render_record(row: DataRow, labelled: bool) -> Example:
    """A candidate is the query with an entity in its gap, the most frequent entity first."""
    spans = row.values.get("entity_spans")
    mentions = spans["text"] if isinstance(spans, dict) else [span["text"] for span in spans or ()]
    entities = sorted(dict.fromkeys(mentions), key=lambda entity: -mentions.count(entity))
    query, answers = row.get_string("query"), row.values.get("answers") or []
    if "@placeholder" not in query or not entities:
        raise row.error("the query has no @placeholder, or the passage no entities")
    gold = [list(score_overlap(entity, answers)) for entity in entities] if labelled else None
    right = tuple(index for index, (_, exact) in enumerate(gold or ()) if exact)
    if labelled and not right:
        raise row.error(f"none of the answers {answers[:3]} is an entity of the passage")
    text = row.get_string("passage").replace("\n@highlight\n", " ")
    numbers = row.get_object("idx")
    return Example(
        tuple((text, query.replace("@placeholder", entity)) for entity in entities),
        right[0] if right else -1,
        numbers.get_integer("passage"),
        right,
        gold,
        [numbers.get_integer("query"), entities],
    )


def _render_wic(row: DataRow, labelled: bool) -> Example:
    """The word is between asterisks in both sentences."""
    marked = []
    for side in ("1", "2"):
        sentence = row.get_string(f"sentence{side}")
        start, end = row.get_integer(f"start{side}"), row.get_integer(f"end{side}")
        if not 0 <= start < end <= len(sentence):
            raise row.error(f"characters {start} to {end} are not inside sentence{side}")
        marked.append(f"{sentence[:start]}*{sentence[start:end]}*{sentence[end:]}")
    label = row.get_label("label", TRUTH, labelled)
    return Example(((marked[0], marked[1]),), label, idx=row.get_integer("idx"))


def flatten_wsc(row: DataRow) -> Iterator[dict[str, Any]]:
    """Yield the row with the fields of its target."""
    yield row.values | row.get_object("target").values


def _render_wsc(row: DataRow, labelled: bool) -> Example:
    """The name is between asterisks, the pronoun between hashes."""
    words = row.get_string("text").split()
    for side, mark in (("1", "*"), ("2", "#")):
        span = row.get_string(f"span{side}_text").split()
        first = _find_span(words, span, row.get_integer(f"span{side}_index"))
        last = first + len(span) - 1
        if not 0 <= first <= last < len(words):
            raise row.error(f"{' '.join(span)!r} is not in the text")
        words[first] = mark + words[first]
        words[last] += mark
    label = row.get_label("label", TRUTH, labelled)
    return Example(((" ".join(words),),), label, idx=row.get_integer("idx"))


def _find_span(words: Sequence[str], span: Sequence[str], index: int) -> int:
    """Return the occurrence of the span nearest to the stated index; the index if there is none."""
    bare_words = [_strip_punctuation(word) for word in words]
    bare_span = [_strip_punctuation(word) for word in span]
    starts = [
        start
        for start in range(len(words) - len(span) + 1)
        if all(bare_words[start + offset].startswith(word) for offset, word in enumerate(bare_span))
    ]
    return min(starts, key=lambda start: abs(start - index), default=index)


def _strip_punctuation(word: str) -> str:
    return word.strip(".,;:!?\"'*#()").lower()


def _render_gender(row: DataRow, labelled: bool) -> Example:
    """Consecutive rows form a pair: two premises that differ in the gender of a pronoun."""
    example = _render_pair("premise", "hypothesis", ENTAILMENT)(row, labelled)
    pair = int(example.idx) // 2
    return Example(example.candidates, example.label, pair, (), [example.label, pair], example.idx)


_render_entailment = _render_pair("premise", "hypothesis", ENTAILMENT)

FORMATS = {
    row_format.name: row_format
    for row_format in (
        RowFormat(
            "BoolQ", (9427, 3270, 3245), "passage", _render_pair("passage", "question", TRUTH)
        ),
        RowFormat(
            "CB", (250, 56, 250), "premise", _render_pair("premise", "hypothesis", COMMITMENT)
        ),
        RowFormat("COPA", (400, 100, 500), "premise", _render_copa),
        RowFormat("MultiRC", (27243, 4848, 9693), "paragraph", _render_multirc, flatten_multirc),
        RowFormat(  # a tenth would be 120,000 texts after each epoch: hours
            "ReCoRD", (100730, 10000, 10000), "passage", _render_record, flatten_record, 0.005
        ),
        RowFormat("RTE", (2490, 277, 3000), "premise", _render_entailment),
        RowFormat("WiC", (5428, 638, 1400), "sentence1", _render_wic),
        RowFormat("WSC", (554, 104, 146), "text", _render_wsc, flatten_wsc),
        RowFormat(
            "AX-b", (0, 1104, 0), "sentence1", _render_pair("sentence1", "sentence2", ENTAILMENT)
        ),
        RowFormat("AX-g", (0, 356, 0), "premise", _render_gender),
    )
}
"""The format of each task, by its name."""


def format_copa_predictions(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
    """Yield lines with the number of the choice, from 0."""
    for example, answer in zip(examples, answers, strict=True):
        yield {"idx": example.idx, "label": answer}


def format_multirc_predictions(
    examples: Iterable[Example], answers: Sequence[int]
) -> Iterator[Any]:
    """Yield one line per passage, with the labels of the answers to its questions."""
    passages: dict[int, dict[int, list[Any]]] = {}
    for example, answer in zip(examples, answers, strict=True):
        passage, question, number = example.idx
        labelled = passages.setdefault(passage, {}).setdefault(question, [])
        labelled.append({"idx": number, "label": answer})
    for passage, questions in passages.items():
        entries = [
            {"idx": question, "answers": labelled} for question, labelled in questions.items()
        ]
        yield {"idx": passage, "passage": {"questions": entries}}


def format_record_predictions(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
    """Yield lines with the text of the entity."""
    for example, answer in zip(examples, answers, strict=True):
        query, entities = example.idx
        yield {"idx": query, "label": entities[min(answer, len(entities) - 1)]}
