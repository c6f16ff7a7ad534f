"""Whether a submission brings the reported split along: its texts, or hashes of them.

What it brings is its folder, its weights or checkpoint, and the same of its teacher and members.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.audit.context import AuditContext, ProbeResult
from harness.audit.find_bytes import Targets, plain, views
from harness.models import pretrained
from harness.submissions.manifest import System, find_systems, read_system
from harness.tasks.task import Candidate, Example

EXAMPLES = 1000
"""Of the reported split that are looked for."""

WINDOW = 24
"""Letters and digits of a text that are looked for in one piece: four or five words."""

PIECES = 8
"""Pieces of a text, spread over it; more than half of them must be there."""

DIGITS, RAW = 16, 8
"""Hexadecimal or decimal digits of a hash, and bytes, that are looked for."""

SHARE, FEW = 0.01, 3
"""The share of the texts, and their number, from which on the split is carried; a README may quote
one.
"""

HASHES = (
    *("md5", "sha1", "sha224", "sha256", "sha384", "sha512"),
    *("blake2b", "blake2s", "sha3_256", "sha3_512"),
)


def carried(it: AuditContext) -> ProbeResult:
    """The reported split is not in what the submission brings."""
    task = it.row.task
    whole = it.setting.material.examples
    picked = random.Random(it.seed).sample(range(len(whole)), min(EXAMPLES, len(whole)))
    split = ReportedSplit(
        [whole[row] for row in sorted(picked)], task.training_task.texts(transfer=True)
    )
    if not split.texts:
        return ProbeResult("carried", None, "all texts are too short, or in the training text, too")
    places: dict[str, str] = {}  # by text
    files = sorted(set(_files(brought(it.row.system, it.root))))
    for path in files:
        for text, form in split.search(path.read_bytes()).items():
            places.setdefault(text, f"{path.name} ({form})")
    count = len(split.texts)
    message = (
        f"{len(places)} of {count} texts of the reported split are in the {len(files)} files that "
        "it brings"
    )
    if len(places) < max(FEW, SHARE * count):
        return ProbeResult("carried", True, message)
    first = ", ".join(sorted(set(places.values()))[:3])
    return ProbeResult("carried", False, f"{message}: {first}")


class ReportedSplit:
    """What is looked for: pieces of texts, and of their hashes.

    Args:
        examples: of the reported split.
        known: training text. What is in it, too, is no sign.

    Attributes:
        texts: those of the examples that are long enough and not known, each once.
    """

    def __init__(self, examples: Sequence[Example], known: Iterable[Candidate]) -> None:
        candidates = [candidate for example in examples for candidate in example.candidates]
        texts = {text for candidate in candidates for text in candidate}
        self.texts = {text for text in texts if len(plain(_encoded(text))) >= WINDOW}
        self.pieces = {text: [_pieces(form) for form in _letters(text)] for text in self.texts}
        forms = [form for each in self.pieces.values() for form in each]
        self.parts = Targets({piece for form in forms for piece in form}, WINDOW)
        training = "\n".join(text for candidate in known for text in candidate)
        self.texts -= self._whole(self.parts.found(plain(_encoded(training))))
        self.hashes: dict[bytes, str] = {}
        for text in self.texts:
            for form in _forms(text):
                self.hashes |= dict.fromkeys(_hashed(_encoded(form)), text)
        for candidate in candidates:
            own = [text for text in candidate if text in self.texts]
            for form in _joined(candidate) if own and len(candidate) > 1 else ():
                self.hashes |= dict.fromkeys(_hashed(_encoded(form)), own[-1])
        digits = [each for each in self.hashes if len(each) == DIGITS]
        self.digits = Targets(digits, DIGITS)
        self.raw = Targets(self.hashes.keys() - set(digits), RAW)

    def search(self, content: bytes) -> dict[str, str]:
        """The texts that a file holds, each with the form in which it does."""
        pieces: set[bytes] = set()
        hashes: set[bytes] = set()
        for view in views(content):
            letters = plain(view)
            pieces |= self.parts.found(letters)
            hashes |= self.digits.found(letters) | self.raw.found(view)
        hashed = dict.fromkeys((self.hashes[each] for each in hashes), "hashed")
        return hashed | dict.fromkeys(self._whole(pieces), "text")

    def _whole(self, there: set[bytes]) -> set[str]:
        """The texts of which more than half of the pieces are there."""
        return {
            text
            for text in self.texts
            if any(2 * len(there.intersection(form)) > len(form) for form in self.pieces[text])
        }


def brought(system: System, root: Path) -> Iterator[Path]:
    """The folders of all that a submission brings; what is pinned it does not bring."""
    yield system.folder
    encoders = [getattr(step_config.params, "student", "") for step_config in system.recipe]
    for name in filter(None, [system.pretrained, *encoders]):
        if not pretrained.is_pinned(name):
            yield pretrained.fetch(name, system.folder).folder
    known = find_systems(root)
    for name in filter(None, [system.teacher, *system.members]):
        yield from brought(read_system(known[name], root), root)


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def _letters(text: str) -> list[bytes]:
    """As `plain` leaves it, and, where that is another, without punctuation that is not ASCII."""
    forms = [plain(_encoded(text)), plain(_encoded(re.sub(r"\W", "", text)))]
    return [form for form in dict.fromkeys(forms) if len(form) >= WINDOW]


def _encoded(text: str) -> bytes:
    return text.encode(errors="ignore")  # half a character has no bytes


def _pieces(letters: bytes) -> list[bytes]:
    """Pieces of `WINDOW` bytes, evenly from the first to the last."""
    last = len(letters) - WINDOW
    count = min(PIECES, -(-len(letters) // WINDOW))
    starts = {last * place // max(1, count - 1) for place in range(count)}
    return [letters[start : start + WINDOW] for start in sorted(starts)]


def _forms(text: str) -> set[str]:
    """A text as one may hash it: as it is, without capitals, punctuation or blanks."""
    words = re.findall(r"\w+", text)
    forms = {text, text.strip(), json.dumps(text), " ".join(words), "".join(words)}
    return forms | {form.lower() for form in forms}


def _joined(candidate: Candidate) -> set[str]:
    """A pair as one may hash it."""
    forms = {mark.join(candidate) for mark in ("", " ", "\t", "\n", "|", "||", " [SEP] ", "[SEP]")}
    return forms | {json.dumps(candidate), repr(candidate), repr(list(candidate))}


def _hashed(form: bytes) -> Iterator[bytes]:
    """The beginnings of a form's hashes: hexadecimal, as bytes, and as whole numbers."""
    for name in HASHES:
        value = hashlib.new(name, form, usedforsecurity=False).digest()
        yield value.hex()[:DIGITS].encode()
        yield from (value[:RAW], value[:RAW][::-1], value[-RAW:], value[-RAW:][::-1])
        numbers = [value, value[:RAW], value[:RAW][::-1]]
        for number in numbers:
            digits = str(int.from_bytes(number)).encode()
            if len(digits) >= DIGITS:
                yield digits[:DIGITS]
