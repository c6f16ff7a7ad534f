"""How much memory the largest task takes: a file of the size of ReCoRD's training split."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

QUERIES, PASSAGES, ENTITIES, WORDS = 100_730, 65_709, 10, 220
MOST_BYTES = 10**9


def write(path: Path) -> None:
    """Passages of some 1,500 letters with ten entities, one or two queries each."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 10))) for _ in range(5000)]
    names = [f"{word.capitalize()} Smith" for word in dict.fromkeys(words[:500])]
    number = 0
    with path.open("w") as file:
        for passage in range(PASSAGES):
            inside = draw.sample(names, ENTITIES)
            text = " ".join(draw.choices(words, k=WORDS) + inside)
            spans = [
                {"start": text.index(name), "end": text.index(name) + len(name) - 1}
                for name in inside
            ]
            count = 1 + (passage < QUERIES - PASSAGES)
            answers = [{**span, "text": name} for span, name in zip(spans, inside, strict=True)]
            asked = [
                {
                    "query": f"It was @placeholder, {number}.",
                    "answers": answers[:1],
                    "idx": number + n,
                }
                for n in range(count)
            ]
            number += count
            row = {"passage": {"text": text, "entities": spans}, "qas": asked, "idx": passage}
            file.write(json.dumps(row) + "\n")
    assert number == QUERIES


SCRIPT = """
import random, sys
from pathlib import Path
from harness.models import tokenization
from harness.optimize.training import tokens
from harness.tasks.registry import get_task

examples = get_task("record").examples("train")
choices = sum(len(each.candidates) for each in examples)
tokenizer = tokenization.load_tokenizer(Path(sys.argv[1]), 512)
rows = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(examples[:4_000]))
draw = random.Random(0)
for _ in range(100):
    rows.batch(draw.sample(range(len(rows)), 32))
print(len(examples), choices, len(rows))
print(Path("/proc/self/status").read_text())
"""


def test_training_passages_of_record_are_not_held_in_memory(
    benchmark: BenchmarkFixture, tmp_path: Path, tiny_encoder: Path
) -> None:
    """Peak resident memory, the pages mapped from files among it: of all examples, and of the token
    ids of 4,000 of them.
    """
    (tmp_path / "data" / "ReCoRD").mkdir(parents=True)
    write(tmp_path / "data" / "ReCoRD" / "train.jsonl")
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

    shown = benchmark.pedantic(load, rounds=1)
    counts, status = shown.split("\n", 1)
    examples, choices, rows = map(int, counts.split())
    assert 0.85 * QUERIES < examples < QUERIES, "without the selection slice"
    assert choices == ENTITIES * examples
    assert rows == ENTITIES * 4_000
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    benchmark.extra_info["peak_mb"] = int(found[1]) * 1024 / 1e6
    size = (tmp_path / "data" / "ReCoRD" / "train.jsonl").stat().st_size
    assert size > 120e6, "of the size of the real one"
    assert int(found[1]) * 1024 < MOST_BYTES
