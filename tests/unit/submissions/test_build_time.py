from pathlib import Path

from harness.submissions.build_time import estimate_build_seconds
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.tasks.registry import get_task


def test_estimate_grows_with_the_number_of_epochs(project: Path) -> None:
    folder = project / "submissions" / "distilled"
    task = get_task("sentiment")
    few = estimate_build_seconds(plan_system(read_system(folder, project), task, 0))
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 3", "epochs = 30"))
    many = estimate_build_seconds(plan_system(read_system(folder, project), task, 0))
    assert many > 1.2 * few > 0
