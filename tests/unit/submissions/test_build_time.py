from pathlib import Path

from harness.submissions.build_time import estimate_build_seconds
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.tasks.registry import get_task
from harness.tasks.task import Task


def estimate(folder: Path, project: Path, task: Task) -> float:
    planned = plan_system(read_system(folder, project), task, 0)
    return sum(estimate_build_seconds(planned.steps).values())


def test_estimate_grows_with_the_number_of_epochs(project: Path) -> None:
    folder = project / "submissions" / "distilled"
    task = get_task("sentiment")
    few = estimate(folder, project, task)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 3", "epochs = 30"))
    many = estimate(folder, project, task)
    assert many > 1.2 * few > 0


def test_small_training_set_and_large_model_are_counted(project: Path, data: Path) -> None:
    """COPA has two texts an example; the cap counts examples."""
    folder = project / "baselines" / "minilm-l6"
    manifest = folder / "submission.toml"
    text = manifest.read_text()
    whole = estimate(folder, project, get_task("copa"))
    manifest.write_text(text.replace("epochs = 1", "epochs = 1\nexamples = 2"))
    few = estimate(folder, project, get_task("copa"))
    assert few < whole
