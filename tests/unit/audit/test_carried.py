"""The reported split is found in whatever form a submission brings it."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from safetensors.numpy import save

from harness.audit import find_bytes
from harness.audit.carried import SplitSearch
from harness.audit.find_bytes import ByteSearch, keep_letters
from harness.tasks.task import Example

SENTENCE = "the plot of this long film was a dull and noisy mess but its actors shone like stars"
CHANCE = random.Random(0)


def make_sentences(count: int) -> list[str]:
    """Sentences of random words."""
    words = SENTENCE.split()
    picked = [CHANCE.choices(words, k=CHANCE.randint(8, 60)) for _ in range(count)]
    return [f"{' '.join(words).capitalize()}." for words in picked]


TEXTS = [
    *make_sentences(40),
    'He said: "Köstlich!" — and then he fell asleep at once, it seems.',
    "短い映画だったが、とても面白かったので、もう一度見たいと思いました。",
]
TRAINING = make_sentences(40)
SPLIT = SplitSearch(
    [Example(((text,),), number % 2) for number, text in enumerate(TEXTS)],
    [(text,) for text in TRAINING],
)


def archive(write: Callable[[io.BytesIO], None]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def make_zip(content: bytes) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("a/b.json", content)

    return archive(write)


def make_tar(content: bytes, mode: str) -> bytes:
    def write(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode=mode) as out:  # type: ignore[call-overload]
            info = tarfile.TarInfo("b.json")
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))

    return archive(write)


def make_parquet(texts: Sequence[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    return archive(lambda file: parquet.write_table(pyarrow.table({"text": texts}), file))


def tensors(texts: Sequence[str], kind: type) -> bytes:
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le"), np.uint32)
    return save({"codes": codes.astype(kind)})


JSON = json.dumps(TEXTS).encode()
PLAIN = "\n".join(TEXTS).encode()
AS_TEXT = {
    "plain": PLAIN,
    "JSON": JSON,
    "JSON in JSON": json.dumps(json.dumps(TEXTS)).encode(),
    "a Python module": f"KNOWN = {TEXTS!r}".encode(),
    "normalised": " ".join(re.sub(r"[^\w]+", "", text.lower()) for text in TEXTS).encode(),
    "zip": make_zip(JSON),
    "tar": make_tar(JSON, "w"),
    "tar.gz": make_tar(JSON, "w:gz"),
    "tar.xz in zip": make_zip(make_tar(JSON, "w:xz")),
    "gzip": gzip.compress(PLAIN),
    "zlib": zlib.compress(PLAIN),
    "bz2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "base64": base64.b64encode(JSON),
    "base64 for URLs, of gzip": base64.urlsafe_b64encode(gzip.compress(JSON)),
    "hexadecimal": JSON.hex().encode(),
    "npy": archive(lambda file: np.save(file, np.array(TEXTS))),
    "npz": archive(lambda file: np.savez_compressed(file, a=np.array(TEXTS))),
    "Parquet": make_parquet(TEXTS),
    "safetensors metadata": save({"a": np.zeros(1)}, {"texts": json.dumps(TEXTS)}),
    "safetensors bytes": save({"a": np.frombuffer(PLAIN, np.uint8)}),
}


@pytest.mark.parametrize("form", AS_TEXT)
def test_texts_are_found_in_every_form(form: str) -> None:
    assert set(SPLIT.search(AS_TEXT[form])) == set(TEXTS)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_texts_are_found_in_other_encodings(encoding: str) -> None:
    content = "\n".join(TEXTS[:-1]).encode(encoding, errors="replace")
    assert len(SPLIT.search(content)) >= len(TEXTS) - 2


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.int64])
def test_codes_of_letters_are_found(kind: type) -> None:
    assert len(SPLIT.search(tensors(TEXTS[:40], kind))) == 40


HASHED: dict[str, Callable[[str], str | int | bytes]] = {
    "md5": lambda text: hashlib.md5(text.encode()).hexdigest(),
    "sha256": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "sha1 in capitals": lambda text: hashlib.sha1(text.encode()).hexdigest().upper(),
    "cut": lambda text: hashlib.blake2b(text.encode()).hexdigest()[:16],
    "base64": lambda text: base64.b64encode(hashlib.sha512(text.encode()).digest()).decode(),
    "of small letters": lambda text: hashlib.md5(text.lower().encode()).hexdigest(),
    "of letters alone": lambda text: hashlib.sha1(
        re.sub(r"\W", "", text.lower()).encode()
    ).hexdigest(),
    "an integer": lambda text: int(hashlib.sha256(text.encode()).hexdigest(), 16),
    "64 bits": lambda text: int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "little"),
    "bytes": lambda text: hashlib.sha256(text.encode()).digest(),
}


@pytest.mark.parametrize("name", HASHED)
def test_hashes_are_found(name: str) -> None:
    values = [HASHED[name](text) for text in TEXTS]
    if isinstance(values[0], bytes):
        content = b"".join(value for value in values if isinstance(value, bytes))
    else:
        content = json.dumps(values).encode()
    texts = SPLIT.search(content)
    short = sum(isinstance(value, int) and value < 10**15 for value in values)
    assert len(texts) == len(TEXTS) - short
    assert set(texts.values()) == {"hashed"}


def test_hashes_in_an_array_are_found() -> None:
    digests = [hashlib.md5(text.encode()).digest()[:8] for text in TEXTS]
    for order in ("<u8", ">u8"):
        array = np.array([int.from_bytes(digest) for digest in digests], order)
        content = archive(lambda file, array=array: np.save(file, array))
        assert len(SPLIT.search(content)) == len(TEXTS)


def test_hash_of_a_pair_is_found() -> None:
    pairs = list(zip(TEXTS[:20], TEXTS[20:40], strict=True))
    split = SplitSearch([Example((pair,), 0) for pair in pairs], [])
    for mark in (" ", "\t", " [SEP] "):
        hashes = [hashlib.md5(mark.join(pair).encode()).hexdigest() for pair in pairs]
        assert set(split.search(json.dumps(hashes).encode())) == {pair[1] for pair in pairs}


def test_training_text_and_weights_are_not_the_split() -> None:
    assert not SPLIT.search(json.dumps(TRAINING).encode())
    assert not SPLIT.search(np.random.default_rng(0).bytes(2_000_000))
    vocabulary = {word: number for number, word in enumerate(SENTENCE.split())}
    assert not SPLIT.search(json.dumps(vocabulary).encode())


def test_text_that_training_has_too_is_not_searched() -> None:
    examples = [Example(((text,),), 0) for text in [*TEXTS[:5], *TRAINING[:5]]]
    split = SplitSearch(examples, [(text,) for text in TRAINING])
    assert split.texts == set(TEXTS[:5])
    assert set(split.search("\n".join([*TEXTS, *TRAINING]).encode())) == set(TEXTS[:5])


def test_short_texts_are_not_searched() -> None:
    assert not SplitSearch([Example((("So good!",),), 0)], []).texts


def test_rolling_hash_finds_what_search_finds() -> None:
    chance = random.Random(3)
    content = bytes(chance.choices(b"ab", k=9_000_000))
    inside = [content[place : place + 24] for place in (0, 77, 4_194_303, 8_999_976)]
    absent = [bytes(chance.choices(b"ab", k=24)) for _ in range(50)]
    found = ByteSearch([*inside, *absent], 24).find(content)
    assert found == {string for string in [*inside, *absent] if string in content}
    assert ByteSearch([], 24).find(content) == set()
    assert ByteSearch(inside, 24).find(b"short") == set()


def test_letters_and_digits_are_kept() -> None:
    assert keep_letters(b"It's  a TEST,\x00 no. 7!") == b"itsatestno7"
    assert keep_letters("Größe".encode()) == "größe".encode()


NUMPY = b"\x93NUMPY\x01\x00"
BROKEN = {
    "deep header": NUMPY + (9000).to_bytes(2, "little") + b"(" * 9000,
    "huge shape": NUMPY
    + b"v\x00"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}".ljust(117)
    + b"\n",
    "no array": b"\x93NUMPY?",
    "no zip": b"PK\x03\x04 no zip",
    "no gzip": b"\x1f\x8b no gzip",
    "no bzip2": b"BZh",
    "no Parquet": b"PAR1",
    "a letter": b"x",
    "empty": b"",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_hold_nothing(kind: str) -> None:
    assert SPLIT.search(BROKEN[kind]) == {}


def test_unpacking_ends_at_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_bytes, "MAX_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(find_bytes, "MAX_TOTAL_BYTES", 1 << 22)
    nested = gzip.compress(gzip.compress(bytes(1 << 26)))
    assert sum(map(len, find_bytes.find_views(nested))) < 1 << 23
    many = archive(zip_zeros)
    assert sum(map(len, find_bytes.find_views(many))) < 1 << 24


def zip_zeros(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for number in range(20):
            out.writestr(f"{number}", bytes(1 << 20))


def test_passage_that_many_examples_share_is_one_text() -> None:
    passage = TEXTS[0]
    split = SplitSearch([Example(((passage, text),), 0) for text in TEXTS[1:40]], [])
    assert set(split.search(f"For example: {passage} {TEXTS[1]}".encode())) == set(TEXTS[:2])


def test_lone_surrogate_is_ignored() -> None:
    assert SplitSearch([Example(((f"{TEXTS[0]} \ud83d",),), 0)], ["\ud83d"]).texts


def test_utf_16_with_a_byte_order_mark_is_read() -> None:
    texts = ["Это был очень длинный и скучный фильм, но актёры играли прекрасно.", TEXTS[41]]
    split = SplitSearch([Example(((text,),), 0) for text in texts], [])
    for encoding in ("utf-16", "utf-32"):
        assert set(split.search("\n".join(texts).encode(encoding))) == set(texts)
