"""Memory that the largest task needs: a file of the size of ReCoRD's training split."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

QUERIES, PASSAGES, ENTITIES, WORDS = 100_730, 65_709, 10, 220
MAX_BYTES = 10**9


def write_record_split(path: Path) -> None:
    """Write passages of about 1,500 characters with ten entities and one or two queries each."""
    generator = random.Random(0)
    words = [
        "".join(generator.choices("abcdefghijklmnop", k=generator.randint(2, 10)))
        for _ in range(5000)
    ]
    names = [f"{word.capitalize()} Smith" for word in dict.fromkeys(words[:500])]
    number = 0
    with path.open("w") as file:
        for passage in range(PASSAGES):
            entities = generator.sample(names, ENTITIES)
            text = " ".join(generator.choices(words, k=WORDS) + entities)
            spans = [
                {"start": text.index(name), "end": text.index(name) + len(name) - 1}
                for name in entities
            ]
            count = 1 + (passage < QUERIES - PASSAGES)
            answers = [{**span, "text": name} for span, name in zip(spans, entities, strict=True)]
            queries = [
                {
                    "query": f"It was @placeholder, {number}.",
                    "answers": answers[:1],
                    "idx": number + offset,
                }
                for offset in range(count)
            ]
            number += count
            row = {"passage": {"text": text, "entities": spans}, "qas": queries, "idx": passage}
            file.write(json.dumps(row) + "\n")
    assert number == QUERIES


SCRIPT = """
import random, sys
from pathlib import Path
from harness.models import tokenization
from harness.optimize.training import tokens
from harness.tasks.registry import get_task

examples = get_task("record").examples("train")
choices = sum(len(example.candidates) for example in examples)
tokenizer = tokenization.load_tokenizer(Path(sys.argv[1]), 512)
rows = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(examples[:4_000]))
generator = random.Random(0)
for _ in range(100):
    rows.batch(generator.sample(range(len(rows)), 32))
print(len(examples), choices, len(rows))
print(Path("/proc/self/status").read_text())
"""


def test_training_passages_of_record_are_not_held_in_memory(
    benchmark: BenchmarkFixture, tmp_path: Path, tiny_encoder: Path
) -> None:
    """Peak resident memory for all examples and the token ids of 4,000 of them.

    It includes the pages that are mapped from files.
    """
    (tmp_path / "data" / "ReCoRD").mkdir(parents=True)
    write_record_split(tmp_path / "data" / "ReCoRD" / "train.jsonl")
    environment = {
        **os.environ,
        "WATTBENCH_DATA": str(tmp_path / "data"),
        "WATTBENCH_CACHE": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-c", SCRIPT, str(tiny_encoder / "tokenizer.json")]

    def load() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    output = benchmark.pedantic(load, rounds=1)
    counts, status = output.split("\n", 1)
    examples, choices, rows = map(int, counts.split())
    assert 0.85 * QUERIES < examples < QUERIES, "without the selection slice"
    assert choices == ENTITIES * examples
    assert rows == ENTITIES * 4_000
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    peak_bytes = int(match[1]) * 1024
    benchmark.extra_info["peak_mb"] = peak_bytes / 1e6
    size = (tmp_path / "data" / "ReCoRD" / "train.jsonl").stat().st_size
    assert size > 120e6, "of the size of the real one"
    assert peak_bytes < MAX_BYTES
