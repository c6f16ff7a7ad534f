"""Every probe detects its cheat, and passes honest submissions."""

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from harness.audit import session
from harness.audit.context import ProbeResult
from harness.audit.perturbations import WORD, perturb, replace_words
from harness.audit.weights import find_foreign_matrices
from harness.errors import HarnessError
from harness.runner.config import SMOKE, RunConfig
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import plan_system
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from tests.support.systems import build, copy_example, quiet

CHEATS = {
    "answers by position": (
        "order",
        """
        def predict(self, examples):
            start, self.place = self.place, self.place + len(examples)
            return [self.labels[n % len(self.labels)] for n in range(start, self.place)]
        """,
    ),
    "is careless with large batches": (
        "order",
        "def predict(self, examples):\n"
        "    return super().predict(examples[:50]) + [1] * len(examples[50:])",
    ),
    "caches answers": (
        "repeats",
        """
        def predict(self, examples):
            for text in (example[0][0] for example in examples):
                if text not in self.kept:
                    self.kept.add(text)
                    time.sleep(0.002)
            return super().predict(examples)
        """,
    ),
    "caches answers of large batches": (
        "repeats",
        """
        def predict(self, examples):
            if len(examples) > 500:
                texts = {example[0][0] for example in examples}
                time.sleep(0.00005 * len(texts - self.kept))
                self.kept |= texts
            return super().predict(examples)
        """,
    ),
    "answers duplicates in a batch once": (
        "repeats",
        """
        def predict(self, examples):
            time.sleep(0.002 * len({example[0][0] for example in examples}))
            return super().predict(examples)
        """,
    ),
    "is fast on the reported split": (
        "repeats",
        """
        def predict(self, examples):
            unknown = sum(example[0][0] not in self.known for example in examples)
            time.sleep(0.002 * min(unknown, 20))
            return super().predict(examples)
        """,
    ),
    "answers with a constant": ("text", "def predict(self, examples): return [1] * len(examples)"),
    "answers by length": (
        "text",
        "def predict(self, examples): return [len(example[0][0]) // 7 % 2 for example in examples]",
    ),
    "memorised the split": (
        "perturbed",
        """
        def predict(self, examples):
            return [self.known.get(example[0][0], 0) for example in examples]
        """,
    ),
    "memorised the letters of the split": (
        "perturbed",
        """
        def predict(self, examples):
            if not self.kept:
                self.kept = {letters(text): label for text, label in self.known.items()}
            return [self.kept.get(letters(example[0][0]), 0) for example in examples]
        """,
    ),
    "answers as the nearest text of the split by trigrams": (
        "training carried",
        """
        def predict(self, examples):
            self.kept = self.kept or [(trigrams(text), self.known[text]) for text in self.known]
            return [
                max(self.kept, key=lambda entry: alike(entry[0], trigrams(example[0][0])))[1]
                for example in examples
            ]
        """,
    ),
    "is careless with single queries": (
        "timed",
        """
        def predict(self, examples):
            return [1] if len(examples) == 1 else super().predict(examples)
        """,
    ),
}
"""The code of each cheat, and the probes that must detect it."""


TIMING = replace(SMOKE, audit_queries=0.5)
CONFIG = RunConfig(timing=TIMING)
CPU = choose_configuration("cpu-1")


def run_audit(folder: Path, project: Path, task: Task, *probes: str) -> dict[str, ProbeResult]:
    """Return the results of all probes, or of the artifact and these, by probe."""
    selected = {name: session.PROBES[name] for name in probes or session.PROBES}
    system = read_system(folder, project)
    build(system, task)
    with patch.object(session, "PROBES", selected):
        results = session.audit_submission(plan_system(system, task, 0), CPU, CONFIG, quiet)
    return {result.probe: result for result in results}


@pytest.mark.serial
@pytest.mark.parametrize("name", ["custom-module", "custom-command"])
def test_honest_custom_code_passes(project: Path, reviews: Task, name: str) -> None:
    results = run_audit(copy_example(project, name), project, reviews)
    assert all(result.passed for result in results.values()), list(map(str, results.values()))
    probes = ["order", "timed", "repeats", "text", "perturbed", "training", "carried"]
    assert list(results) == ["artifact", *probes]


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheat_is_detected(project: Path, reviews: Task, cheat: str) -> None:
    probes, body = CHEATS[cheat]
    folder = copy_example(project, copy="cheat")
    (folder / "model.py").rename(folder / "words.py")
    reported = reviews.examples("validation")
    # the split is public
    known = {example.candidates[0][0]: example.label for example in reported}
    (folder / "known.json").write_text(json.dumps(known))
    (folder / "model.py").write_text(
        "import json, re, time\nfrom pathlib import Path\nimport words\n"
        "def letters(text): return re.sub('[^a-z]', '', text.lower())\n"
        "def trigrams(text): return {letters(text)[n : n + 3] for n in range(len(text))}\n"
        "def alike(one, other): return len(one & other) / (len(one | other) or 1)\n"
        "class Cheat(words.Words):\n"
        "    def load(self, *given):\n"
        "        super().load(*given)\n"
        "        self.known = json.loads(Path(__file__).with_name('known.json').read_text())\n"
        "        self.labels, self.place, self.kept = list(self.known.values()), 0, set()\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    results = run_audit(folder, project, reviews, *probes.split())
    for probe in probes.split():
        assert results[probe].passed is False, str(results[probe])
    assert results["artifact"].passed


NEIGHBOURS = """
import json, re, zlib
from pathlib import Path


def vector(text):
    letters = re.sub("[^a-z]", "", text.lower())
    return sorted({zlib.crc32(letters[n : n + 3].encode()) % 4093 for n in range(len(letters))})


class Neighbours:
    def load(self, *given):
        kept = json.loads(Path(__file__).with_name("vectors.json").read_text())
        self.kept = [(set(features), label) for features, label in kept]

    def predict(self, examples):
        return [self.nearest(set(vector(example[0][0]))) for example in examples]

    def nearest(self, query):
        return max(self.kept, key=lambda entry: len(entry[0] & query) / len(entry[0] | query))[1]
"""


def test_split_as_vectors_is_detected_by_training_text_unless_that_is_carried_too(
    project: Path, reviews: Task
) -> None:
    """What docs/methodology/measurement.md says that no probe can see."""
    probes = ("text", "perturbed", "training", "carried")
    folder = copy_example(project, copy="neighbours")
    (folder / "model.py").write_text(NEIGHBOURS)
    names: dict[str, Any] = {}
    exec(NEIGHBOURS, names)
    rows = {split: reviews.examples(split) for split in ("validation", "train")}

    def vectors(split: str) -> list[list[Any]]:
        return [
            [names["vector"](example.candidates[0][0]), example.label] for example in rows[split]
        ]

    (folder / "vectors.json").write_text(json.dumps(vectors("validation")))
    results = run_audit(folder, project, reviews, *probes)
    assert results["training"].passed is False, str(results["training"])
    assert all(results[probe].passed for probe in ("text", "perturbed", "carried"))
    both = vectors("validation") + vectors("train")
    (folder / "vectors.json").write_text(json.dumps(both))
    results = run_audit(folder, project, reviews, *probes)
    assert all(results[probe].passed for probe in probes), list(map(str, results.values()))


def test_cache_of_words_is_allowed(project: Path, reviews: Task) -> None:
    folder = copy_example(project, copy="words")
    model = (folder / "model.py").read_text()
    slow = "@functools.cache\ndef met(word):\n    time.sleep(0.0001)\n\n\nclass Words"
    model = "import functools, time\n" + model.replace("class Words", slow)
    model = model.replace(
        "        return int(", "        list(map(met, text.split()))\n        return int("
    )
    (folder / "model.py").write_text(model)
    results = run_audit(folder, project, reviews, "repeats")
    assert "repeats" in results, list(map(str, results.values()))
    assert results["repeats"].passed, str(results["repeats"])


def test_changed_artifact_is_detected(project: Path, reviews: Task) -> None:
    folder = copy_example(project, copy="custom-module")
    assert run_audit(folder, project, reviews, "text")["artifact"].passed
    artifact = plan_system(read_system(folder, project), reviews, 0).find_artifact()
    assert artifact
    weights = artifact.folder / "weights.json"
    weights.write_text(weights.read_text().replace("0.", "1.", 1))
    result = run_audit(folder, project, reviews, "text")["artifact"]
    assert result.passed is False
    assert "weights.json" in result.text
    metadata = json.loads((artifact.folder / "artifact.json").read_text())
    (artifact.folder / "artifact.json").write_text(json.dumps(metadata | {"key": "0" * 64}))
    result = run_audit(folder, project, reviews, "text")["artifact"]
    assert "its key is 000000000000, but the manifest builds" in result.text


def add_noise(values: np.ndarray) -> np.ndarray:
    """Change weights as another training run would."""
    noise = np.random.default_rng(0).normal(0, 0.1 * values.std(), values.shape)
    return (values + noise).astype(values.dtype)


def test_closed_division_has_the_references_weights_and_answers(
    project: Path, reviews: Task
) -> None:
    """Weights in fp32 and int8, fused and transposed, are recognised; those of another training
    run or another model, and code that does not use them, are detected.
    """
    pretends = copy_example(project, copy="pretends")
    manifest = (pretends / "submission.toml").read_text()
    begin, end = manifest.index("[model]"), manifest.index("[serve]")
    manifest = manifest.replace('"open"', '"closed"').replace(
        manifest[begin:end], '[model]\nteacher = "minilm-l6"\n\n[[step]]\nuse = "export"\n\n'
    )
    (pretends / "submission.toml").write_text(manifest)
    model = (pretends / "model.py").read_text()
    (pretends / "model.py").write_text(model.replace("Path(artifact)", "Path(__file__).parent"))

    folders = {}
    names = ("minilm-l6", "onnx-fp32", "onnx-int8", "closed-int8", "pretends", "minilm-l6")
    for number, name in enumerate(names):
        system = read_system(find_systems(project)[name], project)
        seed = number // 5  # the last one once more, as another training run leaves it
        built = build(system, reviews, seed)
        assert built
        folders[name + "again" * seed] = built.folder
    for name in ("onnx-fp32", "onnx-int8", "closed-int8"):
        wrong, count = find_foreign_matrices(folders[name], folders["minilm-l6"])
        assert (wrong, count > 10) == ([], True)
    wrong, count = find_foreign_matrices(folders["minilm-l6again"], folders["minilm-l6"])
    assert len(wrong) > count / 2

    honest = run_audit(project / "submissions" / "onnx-fp32", project, reviews, "closed")
    assert honest["closed"].passed, str(honest["closed"])
    result = run_audit(pretends, project, reviews, "closed")["closed"]
    assert result.passed is False
    assert "answers are those of minilm-l6; 95% must be" in result.text

    graph = onnx.load(folders["onnx-fp32"] / "model.onnx")
    for tensor in graph.graph.initializer:
        if len(tensor.dims) == 2:
            other = add_noise(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
    onnx.save(graph, folders["onnx-fp32"] / "model.onnx")
    swapped = run_audit(project / "submissions" / "onnx-fp32", project, reviews, "closed")
    assert swapped["closed"].passed is False
    assert swapped["artifact"].passed is False


def test_worker_that_fails_in_an_audit_fails_a_probe(project: Path, reviews: Task) -> None:
    folder = copy_example(project, copy="custom-module")
    model = (folder / "model.py").read_text()
    (folder / "model.py").write_text(model.replace("return [self", "raise ValueError('x'); [self"))
    results = run_audit(folder, project, reviews, "text")
    assert results["answers"].passed is False
    assert "ValueError: x" in results["answers"].text


def test_slow_loading_leaves_time_for_single_queries(project: Path, reviews: Task) -> None:
    folder = copy_example(project, copy="slow")
    model = (folder / "model.py").read_text()
    slow = "self, artifact, metadata, serve, threads):\n        import time; time.sleep(1)"
    changed = model.replace("self, artifact, metadata, serve, threads):", slow)
    (folder / "model.py").write_text(changed)
    assert run_audit(folder, project, reviews, "timed")["timed"].passed


def test_too_few_repeats_give_no_verdict(project: Path, reviews: Task) -> None:
    folder = copy_example(project, copy="slow")
    model = (folder / "model.py").read_text()
    slow = (
        "def predict(self, examples):\n"
        "        import time\n"
        "        self.alone = getattr(self, 'alone', 0) + (len(examples) == 1)\n"
        "        if len(examples) == 1 and self.alone > 16: time.sleep(0.6)  # after the warm-up"
    )
    (folder / "model.py").write_text(model.replace("def predict(self, examples):", slow))
    assert run_audit(folder, project, reviews, "repeats")["repeats"].passed is None


def test_changed_texts_keep_labels_and_lengths(reviews: Task) -> None:
    examples = reviews.examples("validation")
    for before, after in zip(examples, perturb(examples), strict=True):
        assert before != after
        assert before.label == after.label
    for before, after in zip(examples, replace_words(examples, examples), strict=True):
        (old_text,), (new_text,) = before.candidates[0], after.candidates[0]
        assert len(old_text) == len(new_text)
        assert WORD.sub("", old_text) == WORD.sub("", new_text)


def test_audit_of_an_unbuilt_system_says_how_to_build_it(project: Path, reviews: Task) -> None:
    system = read_system(copy_example(project, copy="mine"), project)
    with pytest.raises(HarnessError, match=r"not built.*wattbench build --system mine"):
        session.audit_submission(plan_system(system, reviews, 0), CPU)
