"""The probe `carried`: does a submission contain the reported split, as text or as hashes?

It searches the submission's folder, its weights or checkpoint, and those of its teacher and
members.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.audit.context import AuditContext, ProbeResult
from harness.audit.find_bytes import ByteSearch, find_views, keep_letters
from harness.models import pretrained
from harness.submissions.system import System
from harness.tasks.task import Candidate, Example

MAX_EXAMPLES = 1000
"""Examples of the reported split that are searched for."""

PIECE_LETTERS = 24
"""Letters and digits of a piece of a text: four or five words."""

MAX_PIECES = 8
"""Pieces of a text, evenly distributed; it is found if more than half of them are."""

HASH_DIGITS, HASH_BYTES = 16, 8
"""Hexadecimal or decimal digits of a hash, and bytes, that are searched for."""

MIN_SHARE, MIN_TEXTS = 0.01, 3
"""The share and the number of texts from which on the probe fails; a README may quote a text."""

HASHES = (
    *("md5", "sha1", "sha224", "sha256", "sha384", "sha512"),
    *("blake2b", "blake2s", "sha3_256", "sha3_512"),
)


def probe_carried_split(audit: AuditContext) -> ProbeResult:
    """Check that the reported split is not in the files of the submission."""
    task, examples = audit.run.task, audit.context.data.examples
    count = min(MAX_EXAMPLES, len(examples))
    picked = random.Random(audit.seed).sample(range(len(examples)), count)
    split = SplitSearch(
        [examples[row] for row in sorted(picked)], task.training_task.texts(transfer=True)
    )
    if not split.texts:
        text = "all texts are too short or are also in the training text"
        return ProbeResult("carried", None, text)
    places: dict[str, str] = {}  # by text
    files = sorted(set(_list_files(find_folders(audit.run.system))))
    for path in files:
        for text, form in split.search(path.read_bytes()).items():
            places.setdefault(text, f"{path.name} ({form})")
    message = (
        f"{len(places)} of {len(split.texts)} texts of the reported split are in its files "
        f"({len(files)} searched)"
    )
    if len(places) < max(MIN_TEXTS, MIN_SHARE * len(split.texts)):
        return ProbeResult("carried", True, message)
    some_places = ", ".join(sorted(set(places.values()))[:3])
    return ProbeResult("carried", False, f"{message}: {some_places}")


class SplitSearch:
    """Searches files for pieces of texts and of their hashes.

    Args:
        examples: of the reported split.
        training: training text; a text of the examples that is also in it is not searched for.

    Attributes:
        texts: the texts of the examples that are long enough and not in the training text.
    """

    def __init__(self, examples: Sequence[Example], training: Iterable[Candidate]) -> None:
        candidates = [candidate for example in examples for candidate in example.candidates]
        texts = {text for candidate in candidates for text in candidate}
        self.texts = {text for text in texts if len(keep_letters(_encode(text))) >= PIECE_LETTERS}
        self._pieces = {
            text: [_cut_pieces(form) for form in _letter_forms(text)] for text in self.texts
        }
        pieces = {piece for forms in self._pieces.values() for form in forms for piece in form}
        self._piece_search = ByteSearch(pieces, PIECE_LETTERS)
        training_text = "\n".join(text for candidate in training for text in candidate)
        training_pieces = self._piece_search.find(keep_letters(_encode(training_text)))
        self.texts -= self._find_texts(training_pieces)
        self._hashes: dict[bytes, str] = {}  # text by the beginning of a hash
        for text in self.texts:
            for form in _hashable_forms(text):
                self._hashes |= dict.fromkeys(_hash_beginnings(_encode(form)), text)
        for candidate in candidates:
            searched = [text for text in candidate if text in self.texts]
            for form in _hashable_pair_forms(candidate) if searched and len(candidate) > 1 else ():
                self._hashes |= dict.fromkeys(_hash_beginnings(_encode(form)), searched[-1])
        digits = [beginning for beginning in self._hashes if len(beginning) == HASH_DIGITS]
        self._digit_search = ByteSearch(digits, HASH_DIGITS)
        self._byte_search = ByteSearch(self._hashes.keys() - set(digits), HASH_BYTES)

    def search(self, content: bytes) -> dict[str, str]:
        """Return the texts that a file holds, each with the form in which it does."""
        pieces: set[bytes] = set()
        hashes: set[bytes] = set()
        for view in find_views(content):
            letters = keep_letters(view)
            pieces |= self._piece_search.find(letters)
            hashes |= self._digit_search.find(letters) | self._byte_search.find(view)
        hashed = dict.fromkeys((self._hashes[beginning] for beginning in hashes), "hashed")
        return hashed | dict.fromkeys(self._find_texts(pieces), "text")

    def _find_texts(self, pieces: set[bytes]) -> set[str]:
        """Return the texts of which more than half of the pieces were found."""
        return {
            text
            for text in self.texts
            if any(2 * len(pieces.intersection(form)) > len(form) for form in self._pieces[text])
        }


def find_folders(system: System) -> Iterator[Path]:
    """Yield the folders that a submission consists of, without pinned downloads.

    Its teacher and its members belong to it.
    """
    yield system.folder
    encoders = [getattr(step_config.params, "student", "") for step_config in system.recipe]
    for name in filter(None, [system.encoder, *encoders]):
        if not pretrained.is_pinned(name):
            yield pretrained.fetch(name, system.folder).folder
    for other in (*((system.teacher,) if system.teacher else ()), *system.members):
        yield from find_folders(other)


def _list_files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def _letter_forms(text: str) -> list[bytes]:
    """Return the letters and digits of a text, and, if different, those without non-ASCII
    punctuation.
    """
    forms = [keep_letters(_encode(text)), keep_letters(_encode(re.sub(r"\W", "", text)))]
    return [form for form in dict.fromkeys(forms) if len(form) >= PIECE_LETTERS]


def _encode(text: str) -> bytes:
    return text.encode(errors="ignore")  # a lone surrogate has no bytes


def _cut_pieces(letters: bytes) -> list[bytes]:
    """Return pieces of `PIECE_LETTERS` bytes, evenly from the first to the last."""
    last = len(letters) - PIECE_LETTERS
    count = min(MAX_PIECES, -(-len(letters) // PIECE_LETTERS))
    starts = {last * place // max(1, count - 1) for place in range(count)}
    return [letters[start : start + PIECE_LETTERS] for start in sorted(starts)]


def _hashable_forms(text: str) -> set[str]:
    """Return a text in the forms that may be hashed: without capitals, punctuation or spaces."""
    words = re.findall(r"\w+", text)
    forms = {text, text.strip(), json.dumps(text), " ".join(words), "".join(words)}
    return forms | {form.lower() for form in forms}


def _hashable_pair_forms(candidate: Candidate) -> set[str]:
    """Return a pair of texts in the forms that may be hashed."""
    separators = ("", " ", "\t", "\n", "|", "||", " [SEP] ", "[SEP]")
    forms = {separator.join(candidate) for separator in separators}
    return forms | {json.dumps(candidate), repr(candidate), repr(list(candidate))}


def _hash_beginnings(form: bytes) -> Iterator[bytes]:
    """Yield the beginnings of a form's hashes: hexadecimal, as bytes, and as integers."""
    for name in HASHES:
        value = hashlib.new(name, form, usedforsecurity=False).digest()
        yield value.hex()[:HASH_DIGITS].encode()
        yield from (value[:HASH_BYTES], value[:HASH_BYTES][::-1])
        yield from (value[-HASH_BYTES:], value[-HASH_BYTES:][::-1])
        for number in (value, value[:HASH_BYTES], value[:HASH_BYTES][::-1]):
            digits = str(int.from_bytes(number)).encode()
            if len(digits) >= HASH_DIGITS:
                yield digits[:HASH_DIGITS]
