"""Every probe catches its cheat, and passes the honest."""

import json
import shutil
import textwrap
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from harness import record
from harness.board.ranking import load_rows, sections
from harness.board.section import section_tables
from harness.build import build, build_here, find_artifact
from harness.cli import main
from harness.configuration import choose
from harness.errors import HarnessError
from harness.manifest import find_systems, read_system
from harness.measure import audit, audited
from harness.measure.altered import WORD, perturbed, replaced
from harness.measure.audit_weights import foreign
from harness.measure.audited import Finding
from harness.tasks.task import task
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "tests" / "data" / "submissions"

CHEATS = {
    "answers by their place": (
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
        "    return super().predict(examples[:200]) + [1] * len(examples[200:])",
    ),
    "keeps answers": (
        "repeats",
        """
        def predict(self, examples):
            for text in (each[0][0] for each in examples):
                if text not in self.kept:
                    self.kept.add(text)
                    time.sleep(0.0005)
            return super().predict(examples)
        """,
    ),
    "keeps answers where many are asked": (
        "repeats",
        """
        def predict(self, examples):
            if len(examples) > 1000:
                texts = {each[0][0] for each in examples}
                time.sleep(0.0002 * len(texts - self.kept))
                self.kept |= texts
            return super().predict(examples)
        """,
    ),
    "answers what is twice in a batch once": (
        "repeats",
        """
        def predict(self, examples):
            time.sleep(0.0005 * len({each[0][0] for each in examples}))
            return super().predict(examples)
        """,
    ),
    "is quick where it knows the text": (
        "repeats",
        """
        def predict(self, examples):
            time.sleep(0.0005 * sum(each[0][0] not in self.known for each in examples))
            return super().predict(examples)
        """,
    ),
    "always says the same": ("text", "def predict(self, examples): return [1] * len(examples)"),
    "looks at the length": (
        "text",
        "def predict(self, examples): return [len(each[0][0]) // 7 % 2 for each in examples]",
    ),
    "has learned the split by heart": (
        "perturbed",
        """
        def predict(self, examples):
            return [self.known.get(each[0][0], 0) for each in examples]
        """,
    ),
    "has learned its letters by heart": (
        "perturbed",
        """
        def predict(self, examples):
            if not self.kept:
                self.kept = {letters(text): label for text, label in self.known.items()}
            return [self.kept.get(letters(each[0][0]), 0) for each in examples]
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
"""What each does, and the probe that must say so."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SINGLE_SECONDS", 1.0)
    monkeypatch.setattr("harness.measure.audit_repeats.SINGLE_SECONDS", 1.0)
    monkeypatch.setattr("harness.measure.audit_repeats.WINDOW_SECONDS", 0.3)
    monkeypatch.setattr(audited, "MOST_EXAMPLES", 500)


def findings(folder: Path, project: Path, *probes: str) -> dict[str, Finding]:
    """Of all probes, or of the artifact and these."""
    chosen = [getattr(audit, each) for each in probes] or audit.PROBES
    asked, where = task("sentiment"), choose("cpu-1")
    system = read_system(folder, project)
    build([system], [asked], where, project, say=lambda line: None)
    with patch.object(audit, "PROBES", chosen):
        found = audit.audit_here(system, asked, where, project, 0, "auto", lambda line: None)
    return {each.probe: each for each in found}


@pytest.mark.parametrize("example", ["own-module", "own-command"])
def test_honest_code_of_ones_own_passes(project: Path, example: str) -> None:
    shutil.copytree(EXAMPLES / example, project / "submissions" / example)
    found = findings(project / "submissions" / example, project)
    assert all(each.passed for each in found.values()), [str(each) for each in found.values()]
    assert list(found) == ["artifact", "order", "timed", "repeats", "text", "perturbed"]


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheat_is_caught(project: Path, cheat: str) -> None:
    probe, body = CHEATS[cheat]
    folder = project / "submissions" / "cheat"
    shutil.copytree(EXAMPLES / "own-module", folder)
    (folder / "model.py").rename(folder / "words.py")
    reported = task("sentiment").examples("validation")
    known = {each.candidates[0][0]: each.label for each in reported}  # the split is public
    (folder / "known.json").write_text(json.dumps(known))
    (folder / "model.py").write_text(
        "import json, re, time\nfrom pathlib import Path\nimport words\n"
        "def letters(text): return re.sub('[^a-z]', '', text.lower())\n"
        "class Cheat(words.Words):\n"
        "    def load(self, *given):\n"
        "        super().load(*given)\n"
        "        self.known = json.loads(Path(__file__).with_name('known.json').read_text())\n"
        "        self.labels, self.place, self.kept = list(self.known.values()), 0, set()\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    found = findings(folder, project, probe)
    assert found[probe].passed is False, str(found[probe])
    assert found["artifact"].passed


def test_cache_of_words_is_allowed(project: Path) -> None:
    folder = project / "submissions" / "words"
    shutil.copytree(EXAMPLES / "own-module", folder)
    model = (folder / "model.py").read_text()
    slow = "@functools.cache\ndef met(word):\n    time.sleep(0.0001)\n\n\nclass Words"
    model = "import functools, time\n" + model.replace("class Words", slow)
    model = model.replace(
        "        return int(", "        list(map(met, text.split()))\n        return int("
    )
    (folder / "model.py").write_text(model)
    found = findings(folder, project, "repeats")
    assert "repeats" in found, [str(each) for each in found.values()]
    assert found["repeats"].passed, str(found["repeats"])


def test_artifact_that_was_changed_is_caught(project: Path) -> None:
    folder = project / "submissions" / "own-module"
    shutil.copytree(EXAMPLES / "own-module", folder)
    assert findings(folder, project, "text")["artifact"].passed
    artifact = find_artifact(read_system(folder, project), task("sentiment"), 0, project)
    assert artifact
    weights = artifact.folder / "weights.json"
    weights.write_text(weights.read_text().replace("0.", "1.", 1))
    found = findings(folder, project, "text")["artifact"]
    assert found.passed is False
    assert "weights.json" in found.text
    about = json.loads((artifact.folder / "artifact.json").read_text())
    (artifact.folder / "artifact.json").write_text(json.dumps(about | {"key": "0" * 64}))
    found = findings(folder, project, "text")["artifact"]
    assert "it says 000000000000, the manifest" in found.text


def noisy(values: np.ndarray) -> np.ndarray:
    """As another training run would leave them."""
    noise = np.random.default_rng(0).normal(0, 0.1 * values.std(), values.shape)
    return (values + noise).astype(values.dtype)


def test_closed_division_has_the_references_weights_and_answers(project: Path) -> None:
    """fp32 and int8, fused and transposed, they are known again; another training run's, others',
    and code that does not look at them are caught.
    """
    asked, where = task("sentiment"), choose("cpu-1")
    pretends = project / "submissions" / "pretends"
    shutil.copytree(EXAMPLES / "own-module", pretends)
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
        built = build_here(system, asked, where, project, seed, lambda line: None)
        assert built
        folders[name + "again" * seed] = built.folder
    for name in ("onnx-fp32", "onnx-int8", "closed-int8"):
        wrong, count = foreign(folders[name], folders["minilm-l6"])
        assert (wrong, count > 10) == ([], True)
    wrong, count = foreign(folders["minilm-l6again"], folders["minilm-l6"])
    assert len(wrong) > count / 2

    honest = findings(project / "submissions" / "onnx-fp32", project, "closed")
    assert honest["closed"].passed, str(honest["closed"])
    found = findings(pretends, project, "closed")["closed"]
    assert found.passed is False
    assert "answers are those of minilm-l6; 95% must be" in found.text

    graph = onnx.load(folders["onnx-fp32"] / "model.onnx")
    for tensor in graph.graph.initializer:
        if len(tensor.dims) == 2:
            other = noisy(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
    onnx.save(graph, folders["onnx-fp32"] / "model.onnx")
    swapped = findings(project / "submissions" / "onnx-fp32", project, "closed")
    assert swapped["closed"].passed is False
    assert swapped["artifact"].passed is False


def test_worker_that_fails_in_an_audit_is_a_finding(project: Path) -> None:
    folder = project / "submissions" / "own-module"
    shutil.copytree(EXAMPLES / "own-module", folder)
    model = (folder / "model.py").read_text()
    (folder / "model.py").write_text(model.replace("return [self", "raise ValueError('x'); [self"))
    found = findings(folder, project, "text")
    assert found["answers"].passed is False
    assert "ValueError: x" in found["answers"].text


def test_altered_texts(project: Path) -> None:
    examples = task("sentiment").examples("validation")
    changed = perturbed(examples)
    assert all(one != two for one, two in zip(examples, changed, strict=True))
    assert all(one.label == two.label for one, two in zip(examples, changed, strict=True))
    for one, two in zip(examples, replaced(examples, examples), strict=True):
        (before,), (after,) = one.candidates[0], two.candidates[0]
        assert len(before) == len(after)
        assert WORD.sub("", before) == WORD.sub("", after)


def test_session_is_audited_and_a_cheat_has_no_rank(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.measure import scenarios

    monkeypatch.setattr(scenarios, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(scenarios, "PLENTY_SECONDS", 0.1)
    monkeypatch.setattr(audit, "PROBES", [audit.order, audit.text])
    for name in ("honest", "cheat"):
        shutil.copytree(EXAMPLES / "own-module", project / "submissions" / name)
    model = project / "submissions" / "cheat" / "model.py"
    model.write_text(
        model.read_text() + "\n    def predict(self, examples):\n"
        "        return [len(each[0][0]) // 7 % 2 for each in examples]\n"
    )
    monkeypatch.chdir(project)
    reference = read_system(project / "baselines" / "minilm-l6", project)
    build_here(reference, task("sentiment"), choose("cpu-1"), project, 0, lambda line: None)
    command = "bench --configuration cpu-1 --rounds 1 --system honest --system cheat --audit"
    assert main(command.split()) == 0
    (path,) = (project / "results" / "records").glob("*/sentiment/offline/cheat.json")
    stated = record.read(path).audit
    assert stated
    assert (stated["passed"], stated["failed"]) == (False, ["text"])
    rows, faults = load_rows(project / "results" / "records")
    assert not faults
    (section,) = (each for each in sections(rows) if each.scenario == "offline")
    drawn = section_tables(section)
    assert "**cheat did not pass its audit** and has no rank: text: length-only" in drawn
    assert "audited, and passed: honest" in drawn
    by_name = {row.name: row for row in section.rows}
    assert by_name["minilm-l6"].record.audit is None
    assert by_name["cheat"].rank is None
    assert main(["audit", "cheat", "--configuration", "cpu-1"]) == 1

    longer = command.removesuffix(" --audit").replace("--rounds 1", "--rounds 2")
    assert main([*longer.split(), "--resume", by_name["cheat"].record.session]) == 0
    assert record.read(path).audit == stated  # it is still the same code
    assert "FAIL  text" in capsys.readouterr().out


def test_audit_of_what_is_not_built_says_how(project: Path) -> None:
    shutil.copytree(EXAMPLES / "own-module", project / "submissions" / "mine")
    system = read_system(project / "submissions" / "mine", project)
    with pytest.raises(HarnessError, match=r"not built.*wattbench build --system mine"):
        audit.audit_here(system, task("sentiment"), choose("cpu-1"), project, 0, "auto")
