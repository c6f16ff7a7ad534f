"""SuperGLUE: rows of the archive and the hub, examples, faults, predictions."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import SourceError
from harness.tasks import superglue, superglue_formats
from harness.tasks.metrics import METRICS
from harness.tasks.registry import builtin_tasks, get_suite, get_task
from harness.tasks.task import Example
from tests.support import superglue_files

FOLDERS = {task.name: task.archive for task in superglue.TASKS}


def first(name: str, split: str = "validation") -> Example:
    return get_task(name).examples(split)[0]


def test_suite_has_the_eight_tasks_and_no_diagnostic() -> None:
    assert len(get_suite("superglue").tasks) == 8
    assert {"axb", "axg"}.isdisjoint(get_suite("superglue").tasks)
    assert set(get_suite("superglue").tasks) | {"axb", "axg"} == FOLDERS.keys()


@pytest.mark.parametrize("name", FOLDERS)
def test_every_task_has_labelled_and_unlabelled_splits(data: Path, name: str) -> None:
    task = get_task(name)
    for split in ("train", "selection", "validation"):
        labels = {example.label for example in task.examples(split)}
        assert labels <= set(range(3)), "all have a label"
    assert task.available_locally()
    if not task.trains_on:
        assert {example.label for example in task.examples("test")} == {-1}
        count = len(task.examples("train")) + len(task.examples("selection"))
        assert count == len(superglue_files.make_rows(task.archive, "train", 24)) * (
            5 if name == "multirc" else 1
        )


def test_fields_are_rendered(data: Path) -> None:
    assert first("boolq").candidates == (
        ("Film -- Ada made film 105 in one year.", "is film 105 good"),
    )
    assert first("copa").candidates == (
        ("The film 105 was long. What happened as a result?", "The people slept."),
        ("The film 105 was long. What happened as a result?", "The story was thin."),
    )
    assert first("multirc").candidates == (("Passage 105 of Ada.", "who made 105, 0? Ada"),)
    assert first("wic").candidates == (("A *film* number 105.", "*Films* of oil."),)
    assert first("wsc").candidates == (("*Ada* told Bela of film 105 that #she# had seen.",),)
    assert first("axb").candidates == first("axg").candidates == (("Ada left 105.", "She left."),)


def test_record_has_a_candidate_per_entity_and_the_most_frequent_first(data: Path) -> None:
    example = first("record")
    text = "Ada met Bela twice. Ada left 105"
    assert example.candidates == (
        (text, "It was Ada who left 105."),
        (text, "It was Bela who left 105."),
    )
    assert (example.label, example.right, example.gold) == (0, (0,), [[1.0, 1.0], [0.0, 0.0]])
    assert example.candidate_labels == [1, 0]


def test_several_gold_answers_are_all_right(data: Path) -> None:
    path = data / "ReCoRD" / "val.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    row["qas"][0]["answers"].append({"start": 0, "end": 0, "text": "bela!"})
    path.write_text(json.dumps(row) + "\n")
    assert first("record").right == (0, 1), "case and punctuation do not count"


def test_name_is_marked_at_the_occurrence_nearest_to_its_index(data: Path) -> None:
    path = data / "WSC" / "val.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    row["text"] = "It was late. Ada's cat saw Ada, and she ran."
    row["target"] = {"span1_index": 5, "span1_text": "Ada", "span2_index": 8, "span2_text": "she"}
    path.write_text(json.dumps(row) + "\n")
    assert first("wsc").candidates == (("It was late. Ada's cat saw *Ada,* and #she# ran.",),)


def test_no_passage_is_in_both_training_and_selection(data: Path) -> None:
    superglue_files.write_jsonl(
        data / "MultiRC" / "train.jsonl", superglue_files.make_rows("MultiRC", "train", 200)
    )
    train, selection = (
        {example.group for example in get_task("multirc").examples(split)}
        for split in ("train", "selection")
    )
    assert train
    assert selection
    assert not train & selection
    assert 0.04 < len(selection) / 200 < 0.18


def test_selection_slice_of_record_is_small(data: Path) -> None:
    """A query has about twelve candidates, and all of them are computed after every epoch."""
    superglue_files.write_jsonl(
        data / "ReCoRD" / "train.jsonl", superglue_files.make_rows("ReCoRD", "train", 3000)
    )
    train, selection = (get_task("record").examples(split) for split in ("train", "selection"))
    assert len(train) + len(selection) == 3000
    assert 3 <= len(selection) <= 35


def test_diagnostics_are_answered_by_systems_built_for_rte(data: Path) -> None:
    assert get_task("axb").training_task.name == get_task("axg").training_task.name == "rte"
    rte = get_task("rte")
    assert list(get_task("axb").examples("train")) == list(rte.examples("train"))
    pairs = [example.gold[1] for example in get_task("axg").examples("validation")]
    assert pairs == [2, 3, 3, 4, 4, 5, 5, 6]


def test_version_depends_on_the_data_and_not_on_its_path(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: get_task(name).version for name in FOLDERS}
    shutil.move(data, tmp_path / "moved")
    monkeypatch.setenv("WATTBENCH_DATA", str(tmp_path / "moved"))
    assert {name: get_task(name).version for name in FOLDERS} == before
    path = tmp_path / "moved" / "CB" / "val.jsonl"
    path.write_text(path.read_text().replace("It is.", "It was."))
    assert get_task("cb").version != before["cb"]


def test_incomplete_data_is_shown_as_a_part(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.main import main

    assert main(["tasks", "cb", "axb"]) == 0
    output = capsys.readouterr().out
    assert "a part: 32 of 306 examples" in output
    assert "a part: 8 of 1104 examples" in output


def replace_in_line_3(path: Path, old: str, new: str) -> None:
    lines = path.read_text().splitlines()
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("boolq", '"question"', '"asked"', "question is missing"),
        ("boolq", '"label": false', '"label": "yes"', r'label is "yes", not one of false, true'),
        ("cb", '"label": "neutral"', '"label": "maybe"', 'label is "maybe", not one of entail'),
        ("cb", '"hypothesis": "It is."', '"hypothesis": 7', "hypothesis is 7, not a string"),
        ("copa", '"question": "effect"', '"question": "why"', "question is 'why', not 'cause'"),
        ("copa", '"label": 1', '"label": 2', "label is 2, not one of choice1, choice2"),
        ("copa", '"label": 1', '"labl": 1', "label is missing"),
        ("multirc", '"questions"', '"asked"', "questions is missing"),
        ("multirc", '"label": 1', '"label": 5', "label is 5, not one of"),
        ("record", "@placeholder", "X", "no @placeholder"),
        ("record", '"text": "Cora"', '"text": "Zoe"', "none of the answers .* is an entity"),
        ("rte", '"premise": "Cora left 107."', '"premise": ""', "premise is empty"),
        ("wic", '"end1": 6', '"end1": 99', "characters 2 to 99 are not inside sentence1"),
        ("wic", '"start2": 0', '"start2": "x"', 'start2 is "x", not an integer'),
        ("wsc", '"target": {', '"target": 3, "t": {', "target is 3, not an object"),
        ("wsc", '"span2_text": "she"', '"span2_text": "a b c d e f g h"', "is not in the text"),
        ("axb", '"idx": 7', '"idx": 6', "idx 6 occurs twice"),
    ],
)
def test_faulty_row_is_refused_with_its_line(
    data: Path, name: str, old: str, new: str, reason: str
) -> None:
    folder = FOLDERS[name]
    path = data / folder / ("AX-b.jsonl" if name == "axb" else "val.jsonl")
    replace_in_line_3(path, old, new)
    with pytest.raises(SourceError, match=rf"{path}: line 3: .*{reason}.*Unpack {folder} again"):
        get_task(name).examples("validation")
    assert not list((Path(os.environ["WATTBENCH_CACHE"]) / "tmp").iterdir()), "nothing is left"


def test_file_that_was_cut_off_is_refused(data: Path) -> None:
    path = data / "RTE" / "val.jsonl"
    content = path.read_text()
    path.write_text(content[:-20])
    with pytest.raises(SourceError, match=r"line 8 is not JSON .*may have been cut off"):
        get_task("rte").examples("validation")
    rows = superglue_files.make_rows("RTE", "val", 8)
    for number, row in enumerate(rows):
        row["idx"] = number
    superglue_files.write_jsonl(path, rows)
    with pytest.raises(SourceError, match="line 8: the file ends here, after 8 of 277 examples"):
        get_task("rte").examples("validation")
    path.write_text("")
    with pytest.raises(SourceError, match="it is empty"):
        get_task("rte").examples("validation")


@pytest.mark.parametrize("text", ["[1, 2]\n", "null\n", '"label"\n'])
def test_line_that_is_not_an_object_is_refused(data: Path, text: str) -> None:
    (data / "RTE" / "val.jsonl").write_text(text)
    with pytest.raises(SourceError, match=r"line 1 is .*, not an object"):
        get_task("rte").examples("validation")


def test_missing_data_is_reported_in_one_line_with_the_way_to_get_it(data: Path) -> None:
    shutil.rmtree(data / "CB")
    assert not get_task("cb").available_locally()
    with pytest.raises(SourceError) as raised:
        get_task("cb").examples("validation")
    assert str(raised.value).count("\n") == 0
    for part in ("task 'cb'", "WATTBENCH_DATA", "CB/val.jsonl", "super.gluebenchmark.com"):
        assert part in str(raised.value)


def write_hub_cache(data: Path, hub: Path) -> None:
    """Write what the hub's cache holds after a download: the same rows, flattened, with classes."""
    from datasets import ClassLabel, Dataset

    from harness.tasks.readers import DataRow

    folder = hub / "datasets--aps--super_glue" / "snapshots" / superglue.REVISION
    names = {
        "cb": superglue_formats.COMMITMENT,
        "rte": superglue_formats.ENTAILMENT,
        "axb": superglue_formats.ENTAILMENT,
        "axg": superglue_formats.ENTAILMENT,
    }
    names |= dict.fromkeys(("boolq", "multirc", "wic", "wsc"), ("False", "True"))
    for name, archive in FOLDERS.items():
        diagnostic = name.startswith("ax")
        for split, file in superglue.FILES.items():
            path = data / archive / f"{archive if diagnostic else file}.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            flatten = superglue_formats.FORMATS[name].flatten
            flat_rows = [
                {key: value for key, value in flat_row.items() if key != "target"}
                for row in rows
                for flat_row in flatten(DataRow(row, ""))
            ]
            for row in flat_rows:
                if name != "record":
                    label = row.get("label")
                    row["label"] = -1 if label is None else label
                    if isinstance(label, str):
                        row["label"] = names[name].index(label)
            dataset = Dataset.from_list(flat_rows)
            if name in names:
                dataset = dataset.cast_column("label", ClassLabel(names=list(names[name])))
            target = folder / name / f"{split}-00000-of-00001.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not diagnostic or split == "test":
                dataset.to_parquet(target)


def test_hub_gives_the_same_examples_as_the_archive(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hub_cache(data, tmp_path / "hub")
    script = (
        "from harness.tasks.registry import builtin_tasks\n"
        "for task in builtin_tasks().values():\n"
        "    if task.archive not in ('', 'BoolQ'):\n"
        "        splits = ('train', 'validation', 'test')\n"
        "        print(task.name, task.available_locally(), task.version,\n"
        "              [len(task.examples(split)) for split in splits],\n"
        "              task.examples('test')[0])\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    outputs = []
    packed = tmp_path / "packed"  # as `pack` writes them on another machine
    shutil.copytree(tmp_path / "hub", packed / "hub")
    for folder, hub in ((data, "none"), ("", "hub"), (packed, "none")):
        environment["WATTBENCH_DATA"] = str(folder)
        environment["HF_HUB_CACHE"] = str(tmp_path / hub)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0].count(" True ") >= 9


def test_predictions_have_the_format_of_the_server(data: Path) -> None:
    """The lines of jiant's submission formatter for the SuperGLUE server."""

    def format_answers(name: str, answers: list[int]) -> list[object]:
        task = get_task(name)
        assert task.prediction_format is not None
        return list(task.prediction_format(task.examples("test")[: len(answers)], answers))

    assert format_answers("boolq", [1]) == [{"idx": 5, "label": "true"}]
    assert format_answers("cb", [2]) == [{"idx": 5, "label": "neutral"}]
    assert format_answers("copa", [1]) == [{"idx": 5, "label": 1}]
    assert format_answers("rte", [1, 0]) == [
        {"idx": 5, "label": "not_entailment"},
        {"idx": 6, "label": "entailment"},
    ]
    assert format_answers("wic", [0]) == [{"idx": 5, "label": "false"}]
    assert format_answers("wsc", [0]) == [{"idx": 5, "label": "False"}]
    assert format_answers("record", [1]) == [{"idx": 1105, "label": "Bela"}]
    assert format_answers("multirc", [1, 0, 1, 1, 0]) == [
        {
            "idx": 5,
            "passage": {
                "questions": [
                    {
                        "idx": 410,
                        "answers": [{"idx": 4100, "label": 1}, {"idx": 4101, "label": 0}],
                    },
                    {
                        "idx": 411,
                        "answers": [
                            {"idx": 4110, "label": 1},
                            {"idx": 4111, "label": 1},
                            {"idx": 4112, "label": 0},
                        ],
                    },
                ]
            },
        }
    ]


def test_every_task_has_a_known_metric_and_an_edition() -> None:
    for task in builtin_tasks().values():
        assert task.metric in METRICS
        assert task.edition
