import shutil
from pathlib import Path

import pytest

from harness.errors import ManifestError
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import plan_system
from harness.tasks.registry import get_task
from tests.support.systems import REPOSITORY

GOOD = """
title = "Mine"
authors = ["Me"]
licence = "MIT"
division = "closed"
tasks = ["sentiment"]
[model]
teacher = "minilm-l6"
[[step]]
use = "export"
[[step]]
use = "quantize"
dtype = "int8"
[serve]
engine = "onnxruntime"
[serve.offline]
batch = 4
"""

OPEN = GOOD.replace('"closed"', '"open"')
FINETUNE = '[[step]]\nuse = "finetune"\n'


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(" = ", "\t=\t").encode(),
        GOOD.replace("[model]\nteacher", "[model]\n'teacher'").encode(),
    ],
)
def test_file_of_any_editor_is_read(project: Path, data: bytes) -> None:
    folder = project / "submissions" / "mine"
    folder.mkdir()
    (folder / "submission.toml").write_bytes(data)
    assert read_system(folder, project).title == "Mine"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD.replace("Mine", "Größe").encode("latin-1"), "line 2 is not UTF-8. Save the file as"),
        (f"{GOOD}batch = 5\n".encode(), r"a key that is there already \(at"),
        (f"x = {'[' * 3000}{']' * 3000}".encode(), "nested too deeply"),
        (f"x = {'9' * 6000}".encode(), "Exceeds the limit .*digits. Correct it there"),
        (b"\x00\xff", "line 1 is not UTF-8"),
    ],
)
def test_file_that_is_not_toml_is_refused_in_one_line(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "submission.toml").write_bytes(data)
    with pytest.raises(ManifestError, match=message) as error:
        read_system(tmp_path, tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_manifest_that_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "submission.toml"
    path.symlink_to("elsewhere.toml")
    with pytest.raises(ManifestError, match=r"a link to elsewhere\.toml, which does not exist"):
        read_system(tmp_path, tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError, match="not a file"):
        read_system(tmp_path, tmp_path)


FAULTS = {
    "unknown key": ("licence", "license", "unknown key 'license'. Did you mean 'licence'?"),
    "unknown key of a step": ("dtype", "dtipe", "step 2 'quantize': unknown key 'dtipe'. Did you"),
    "unknown step": ('"quantize"', '"quantise"', "step 2: step 'quantise' does not exist. Did you"),
    "step without a name": ('use = "export"', "", "step 1: the key 'use' is missing"),
    "missing teacher": ('"minilm-l6"', '"minilm-l7"', "'minilm-l7' does not exist in .*Did you"),
    "two models": ("[[step]]", 'pretrained = "x"\n[[step]]', r"both teacher and pretrained"),
    "unknown task": (
        '"sentiment"',
        '"sentimint"',
        "task 'sentimint' does not exist. Did",
    ),
    "wrong division": (
        '"closed"',
        '"shut"',
        "division = 'shut': choose 'baseline', 'closed' or 'open'",
    ),
    "wrong type": ('dtype = "int8"', "dtype = 8", "dtype = 8: choose 'int8', 'fp16' or 'bf16'"),
    "wrong value": ('"int8"', '"int7"', "dtype = 'int7': choose 'int8'"),
    "wrong order": (
        'use = "export"',
        'use = "quantize"',
        "int8 is made from onnx or stages, but it gets safetensors",
    ),
    "unknown engine": ('"onnxruntime"', '"onnx"', "engine 'onnx' does not exist. Did you"),
    "engine that cannot serve it": ('"onnxruntime"', '"pytorch"', "cannot serve onnx. Choose onnx"),
    "unknown device": (
        "tasks = [",
        'device = "tpu"\ntasks = [',
        "device = 'tpu': choose 'any' or 'gpu'",
    ),
    "compile of another engine": (
        "batch = 4",
        "compile = true",
        "compile: only the engine 'pytorch'",
    ),
    "graphs without a GPU": (
        "batch = 4",
        "cuda_graphs = true",
        "cuda_graphs needs device = 'gpu'",
    ),
    "batch": ("batch = 4", "batch = 0", r"\[serve.offline\] batch = 0: choose 1..4096"),
    "padding": ("batch = 4", 'padding = "most"', "padding = 'most': choose 'longest' or 'max'"),
    "unknown key in serve": (
        "batch = 4",
        "batches = 4",
        r"\[serve.offline\] unknown key 'batches'",
    ),
    "no authors": ('["Me"]', "[]", "authors is missing or empty"),
    "no title": ('"Mine"', '""', "title is missing or empty"),
    "too many heads": (
        'use = "export"',
        'use = "prune"\nheads = 16\nffn = 768\n[[step]]\nuse = "export"',
        "step 1 'prune': heads = 16, but minilm-l6 has 12 heads. Choose 1..12",
    ),
    "step that is not a list": (
        "[[step]]\nuse",
        "[step]\nuse",
        "with two brackets|there already",
    ),
    "scenario that is not a table": ("[serve.offline]\nbatch = 4", "offline = 4", "serve.offline"),
    "not TOML": ("title =", "title", r"\(at line 2, column 7\)"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission beside the shipped baselines."""
    (tmp_path / "baselines").symlink_to(REPOSITORY / "baselines")
    folder = tmp_path / "submissions" / "mine"
    folder.mkdir(parents=True)
    (folder / "submission.toml").write_text(GOOD)
    return folder


def test_manifest_is_read_with_its_overrides(folder: Path) -> None:
    system = read_system(folder)
    assert [step_config.use for step_config in system.recipe] == ["export", "quantize"]
    assert (system.serve["offline"].batch, system.serve["single_stream"].batch) == (4, 1)
    assert system.spec.format == "onnx"


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_reported_with_file_place_and_fix(folder: Path, fault: str) -> None:
    old, new, message = FAULTS[fault]
    assert old in GOOD
    (folder / "submission.toml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ManifestError, match=message) as caught:
        read_system(folder)
    assert str(caught.value).startswith(str(folder / "submission.toml"))


def test_all_faults_are_reported_at_once(folder: Path) -> None:
    text = GOOD.replace('"Mine"', '""').replace("dtype", "dtipe").replace('"closed"', '"shut"')
    (folder / "submission.toml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_system(folder)
    assert len(str(caught.value).splitlines()) == 3


def test_closed_division_rejects_a_step_that_trains(folder: Path) -> None:
    text = GOOD.replace("[[step]]", FINETUNE + "[[step]]", 1)
    (folder / "submission.toml").write_text(text)
    with pytest.raises(ManifestError, match="allows no step that trains, but 'finetune' does"):
        read_system(folder)
    (folder / "submission.toml").write_text(text.replace('"closed"', '"open"'))
    assert read_system(folder).division == "open"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs = 0", r"step 1 'finetune': epochs = 0: choose 1..100"),
        ("epochs = 2.5", "epochs = 2.5 must be an integer"),
        ("epochs = true", "epochs = True must be an integer"),
        ("learning_rate = 0", "learning_rate = 0: choose a number above 0"),
        ("max_length = 600", r"max_length = 600: choose 0..128"),
    ],
)
def test_parameters_are_checked_against_the_encoder(
    folder: Path, tiny_encoder: Path, line: str, message: str
) -> None:
    text = OPEN.replace('teacher = "minilm-l6"', f'pretrained = "{tiny_encoder}"')
    text = text.replace("[[step]]", f"{FINETUNE}{line}\n[[step]]", 1)
    (folder / "submission.toml").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_system(folder)


def test_a_teacher_may_be_a_folder_inside_of_the_submission(folder: Path) -> None:
    teacher = folder / "teacher"
    shutil.copytree(REPOSITORY / "baselines" / "minilm-l6", teacher)
    (folder / "submission.toml").write_text(GOOD.replace('"minilm-l6"', '"./teacher"'))
    system = read_system(folder)
    assert system.teacher is not None
    assert (system.teacher.name, system.teacher.folder.resolve()) == ("teacher", teacher.resolve())
    named = read_system(REPOSITORY / "submissions" / "closed-int8")
    task = get_task("sentiment")
    assert [step.key for step in plan_system(system, task, 0).steps] == [
        step.key for step in plan_system(named, task, 0).steps
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./teacher", "teacher './teacher': there is no submission.toml in .*/mine/teacher"),
        ("../mine", "mine -> mine is a cycle"),
    ],
)
def test_a_path_that_is_no_teacher_is_rejected(folder: Path, path: str, message: str) -> None:
    (folder / "submission.toml").write_text(GOOD.replace('"minilm-l6"', f'"{path}"'))
    with pytest.raises(ManifestError, match=message):
        read_system(folder)


def test_cycle_of_teachers_is_rejected(folder: Path) -> None:
    (folder / "submission.toml").write_text(GOOD.replace('"minilm-l6"', '"mine"'))
    with pytest.raises(ManifestError, match="mine -> mine is a cycle"):
        read_system(folder)


def test_unknown_encoder_is_rejected_with_the_nearest_name(folder: Path) -> None:
    text = OPEN.replace('teacher = "minilm-l6"', 'pretrained = "all-MiniLM-L6-v3"')
    text = text.replace("[[step]]", FINETUNE + "[[step]]", 1)
    (folder / "submission.toml").write_text(text)
    with pytest.raises(
        ManifestError, match=r"neither a pinned encoder nor a folder. Did you mean 'all-MiniLM"
    ):
        read_system(folder)


def test_folder_with_an_at_sign_is_rejected(folder: Path) -> None:
    (folder / "submission.toml").write_text(GOOD)
    with pytest.raises(ManifestError, match=r"rename the folder: in tables an '@' separates"):
        read_system(folder.rename(folder.with_name("mine@soon")))


def test_two_systems_of_one_name_are_rejected(folder: Path) -> None:
    (folder.parent / "null").mkdir()
    (folder.parent / "null" / "submission.toml").write_text(GOOD)
    with pytest.raises(ManifestError, match="has the same name"):
        find_systems(folder.parent.parent)


def test_shipped_systems_are_valid_and_described() -> None:
    folders = find_systems(REPOSITORY)
    assert len(folders) >= 8
    for name, folder in folders.items():
        assert read_system(folder).name == name
        assert (folder / "README.md").read_text().startswith(f"# {name}")


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        ("", (True, True, False)),
        ("spin = true\n", (True, True, True)),
        ("spin = false\n", (False, False, False)),
        ("[serve.server]\nspin = true\n", (True, True, True)),
        ("[serve.single_stream]\nspin = false\n", (False, True, False)),
    ],
)
def test_threads_spin_by_default_where_queries_follow_each_other(
    project: Path, serve: str, expected: tuple[bool, ...]
) -> None:
    folder = project / "submissions" / "mine"
    folder.mkdir()
    text = GOOD.replace("[serve.offline]\nbatch = 4\n", serve)
    (folder / "submission.toml").write_text(text)
    configs = read_system(folder, project).serve
    scenarios = ("single_stream", "offline", "server")
    assert tuple(configs[scenario].spin for scenario in scenarios) == expected
    assert configs["server"].to_dict()["spin"] == expected[2], "the record states it"


@pytest.mark.parametrize("name", ["minilm-l6", "static", "tfidf-logreg", "null"])
def test_system_without_onnxruntime_is_served_alike_in_all_scenarios(
    project: Path, name: str
) -> None:
    """It need not be loaded again for `server`."""
    configs = read_system(find_systems(project)[name], project).serve
    assert not any(config.spin for config in configs.values())
    assert configs["server"] == configs["offline"]


def test_cascade_spins_as_its_members_do(project: Path) -> None:
    configs = read_system(find_systems(project)["cascade"], project).serve
    assert (configs["offline"].spin, configs["server"].spin) == (True, False)
