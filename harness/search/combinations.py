"""Systems of a search that are no students: static ones, early exits, cascades."""

from collections.abc import Iterator, Sequence
from typing import Any

from harness.schema import read_toml
from harness.search.candidate import FORMS, Shape, list_later_steps, make_manifest
from harness.search.found import ENCODERS, STATIC, Found, FoundSystems
from harness.search.request import SearchRequest

MAX_DROP = 0.005
"""The score that a cascade or an early exit may lose, as in the submission `cascade`."""

FIRST_MEMBERS = 2
"""The fastest systems on the frontier, which are tried before the best student in a cascade: each
of them, and all together."""

PER_CORE = {"instances": "per-core"}

TRAINING_STEPS = ("distill", "vocabulary", "prune")


def make_static_manifest(request: SearchRequest) -> dict[str, Any]:
    """Return the manifest of a static student."""
    serve = {"engine": "static", "offline": PER_CORE, "server": PER_CORE}
    model = {"teacher": request.teacher_name}
    return make_manifest("static student", model, [{"use": "static"}], serve, request.task.address)


def make_converted_manifest(
    request: SearchRequest, shape: Shape, vocabulary: bool
) -> dict[str, Any]:
    """Return the manifest of the teacher itself in another form, without any training.

    Args:
        request: what the search is to find.
        shape: the form, and how it is served.
        vocabulary: whether embeddings that the task's text does not need are removed.
    """
    return make_manifest(
        f"the teacher itself, {shape.form}",
        {"teacher": request.teacher_name},
        list_later_steps(shape, vocabulary),
        shape.serve,
        request.task.address,
    )


def make_exit_manifest(request: SearchRequest, student: Found) -> dict[str, Any] | None:
    """Return the manifest of a student with an exit in the middle.

    Its int8 is dynamic, since the scales of a chain of graphs cannot be fixed, and so one text is
    computed at a time.

    Args:
        request: what the search is to find.
        student: a student of the workspace.

    Returns:
        None if the student has one layer, or is not served by onnxruntime.
    """
    layers, form = int(student.details["layers"]), FORMS[student.details["form"]]
    if layers < 2 or form.engine != "onnxruntime":
        return None
    manifest = read_toml(request.get_folder(student.name) / "submission.toml")
    serve = manifest["serve"]
    quantize = []
    if any(step["use"] == "quantize" for step in form.steps):
        quantize = [{"use": "quantize", "dtype": "int8"}]
        one_by_one = {"batch": 1, "order": "given", "tokens": 0}
        serve = serve | {"offline": serve.get("offline", {}) | one_by_one}
    exits = {"use": "exits", "after": [layers // 2 - 1], "joint": True}
    return manifest | {
        "title": f"{manifest['title']}, with an early exit",
        "step": [
            *(step for step in manifest["step"] if step["use"] in TRAINING_STEPS),
            exits | {"epochs": 2, "learning_rate": 1e-4},
            {"use": "export"},
            *quantize,
            {"use": "calibrate", "max_drop": MAX_DROP},
        ],
        "serve": serve,
    }


def make_cascade_manifest(request: SearchRequest, members: Sequence[Found]) -> dict[str, Any]:
    """Return the manifest of a cascade of systems of the workspace, the fastest first.

    It is served in the batches of its last member, if no answer depends on the batch.
    """
    names = [member.name for member in members]
    serve = {"engine": "cascade", "padding": "longest", "batch": 1}
    forms = [FORMS[member.details["form"]] for member in members if member.kind in ENCODERS]
    offline: dict[str, Any] = {}
    if not any(form.depends_on_batch for form in forms):
        last = read_toml(request.get_folder(names[-1]) / "submission.toml")
        offline = last["serve"].get("offline", {})
    return make_manifest(
        f"cascade of {', '.join(names[:-1])} and {names[-1]}",
        {"members": [f"../{name}" for name in names]},
        [{"use": "cascade", "max_drop": MAX_DROP}],
        {**serve, "offline": offline | PER_CORE, "server": PER_CORE},
        request.task.address,
    )


def list_cascades(found: FoundSystems, students: Sequence[Found]) -> Iterator[tuple[Found, ...]]:
    """Yield some fast systems with a better one as the last member.

    The better one is the fastest student that keeps enough, or else the one that keeps most.

    Args:
        found: all systems.
        students: the students within the limits, the best first.
    """
    if not students:
        return
    best = students[0]
    faster = [
        other
        for other in found.find_frontier()
        if other.kind in (STATIC, *ENCODERS) and other.speed.offline > best.speed.offline
    ][:FIRST_MEMBERS]
    for other in faster:
        yield other, best
    if len(faster) > 1:
        yield *faster, best
