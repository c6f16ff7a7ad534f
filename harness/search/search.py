"""The search: the fastest system for a task that keeps enough of its teacher's score.

The teacher is trained, or is the user's model. Every shape of student is timed with random weights;
those that are within the limits and not pointless are trained, the most promising first, until the
budget is used up. Early exits and cascades are made of what was found. The reported split is never
read.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from harness.build import build_missing
from harness.errors import HarnessError
from harness.leaderboard.formatting import format_number
from harness.models import pretrained
from harness.optimize.base import Artifact
from harness.progress import Log, format_seconds_left
from harness.runner.evaluate import EvalData, RunContext, SystemRun
from harness.schema import read_toml
from harness.search.candidate import (
    FORMS,
    Shape,
    Training,
    drop_slower,
    make_manifest,
    make_recipe,
    with_serving,
)
from harness.search.found import (
    CASCADE,
    EXITS,
    STATIC,
    STUDENT,
    TEACHER,
    Found,
    FoundSystems,
    Limits,
)
from harness.search.scoring import Scorer
from harness.search.space import Space
from harness.search.speed import TIMING, Speed, SpeedMeter, measure_size_mb
from harness.search.study import Proposal, Study
from harness.store.cache import digest, write_atomically
from harness.submissions.build_time import estimate_build_seconds
from harness.submissions.manifest import read_system
from harness.submissions.plan import Plan, PlannedSystem, plan_system
from harness.submissions.system import System
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter

COMBINATIONS_SHARE = 0.15
"""Share of the budget that is left for early exits and cascades."""

FRONTIER_SIZE = 8
"""Systems that are timed again at the end, with their trained weights."""

MAX_DROP = 0.005
"""The score that a cascade or an early exit may lose, as in the systems `cascade`."""


@dataclass(frozen=True)
class SearchRequest:
    """What a search is to find.

    Attributes:
        task: the task.
        teacher: the system that students learn from; in PyTorch, not padded.
        teacher_name: what manifests in the workspace call it.
        space: what may be chosen.
        limits: what the chosen system must satisfy.
        budget: seconds; a build that has begun is finished.
        configuration: the hardware setting.
        isolation: one of `sandbox.KINDS`.
        workspace: a folder for the manifests and the state.
        seed: the training seed, and that of the sampler.
    """

    task: Task
    teacher: System
    teacher_name: str
    space: Space
    limits: Limits
    budget: float
    configuration: Configuration
    isolation: str
    workspace: Path
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        found: all systems that were built.
        chosen: the name of the chosen one.
        p99_ms: the 99th percentile of its latencies in ms, if there is a limit.
        teacher_p50_ms: the median latency of the teacher in ms.
        teacher_rate: examples per second of the teacher in `offline`.
        not_tried: what was not tried and why, as sentences.
    """

    found: FoundSystems
    chosen: str
    p99_ms: float | None
    teacher_p50_ms: float
    teacher_rate: float
    not_tried: tuple[str, ...]


class Search:
    """One run of a search.

    Args:
        request: what to find.
        log: takes lines of progress.
    """

    def __init__(self, request: SearchRequest, log: Log) -> None:
        self._request, self._log = request, log
        self._deadline = time.monotonic() + request.budget
        self._meter = EnergyMeter(request.configuration)
        data = EvalData.load(request.task, "selection")
        self._context = RunContext(
            data,
            request.configuration,
            self._meter,
            isolation=request.isolation,
            timing=TIMING,
        )
        self._scorer = Scorer(request.task, self._context, request.limits.keep)
        self.found = FoundSystems.read(request.workspace / "found.json")
        self._not_tried: list[str] = []

    def run(self) -> Outcome:
        """Search until the budget is used up, everything was tried, or the user presses Ctrl-C.

        Raises:
            HarnessError: the teacher cannot be built or is useless, or nothing was found.
        """
        try:
            self._prepare_teacher()
            try:
                self._search()
            except KeyboardInterrupt:
                self._log("interrupted; finishing with what was found")
                self._not_tried.append("what was left when the search was interrupted")
            return self._conclude()
        finally:
            self._meter.close()

    def _prepare_teacher(self) -> None:
        request = self._request
        planned = plan_system(request.teacher, request.task, request.seed)
        self._log(f"teacher: {request.teacher.name}, {request.teacher.title}")
        started = time.monotonic()
        artifact = self._build(planned)
        seconds = time.monotonic() - started
        if artifact.format != "safetensors":
            raise HarnessError(
                f"{request.teacher.name} is of the format {artifact.format}, which no student can "
                "be cut from. Give a BERT or MPNet."
            )
        run = SystemRun(request.teacher, request.task, artifact, {})
        self._speed_meter = SpeedMeter(run, self._context, self._log)
        self._speed_meter.time_systems({})
        score = self._scorer.set_teacher(request.teacher, artifact)
        size = measure_size_mb(artifact)
        self.found.add(
            Found(
                request.teacher.name,
                TEACHER,
                {},
                seconds,
                score,
                Speed(1.0, 1.0, self._speed_meter.teacher_memory_mb, size),
            )
        )
        self._log(
            f"teacher: score {score.value:.4f} ± {score.se:.4f} on the selection slice (constant "
            f"answer {self._scorer.majority:.4f}), {self._speed_meter.teacher_rate:.0f} "
            f"examples/s, p50 {self._speed_meter.teacher_p50_ms:.1f} ms"
        )

    def _search(self) -> None:
        space = self._request.space
        speeds = self._time_shapes()
        if space.static:
            self._try_static()
        students = drop_slower({shape: value.offline for shape, value in speeds.items()})
        if students:
            self._log(f"{len(students)} of {len(speeds)} timed shapes may be the best for a score")
            self._train_students(students, speeds)
        self._try_combinations()

    # timing of shapes

    def _time_shapes(self) -> dict[Shape, Speed]:
        """Return the speed of the shapes that are within the limits."""
        request = self._request
        sizes = request.space.list_sizes(request.teacher.spec)
        if not sizes:
            return {}
        middle = sorted(sizes)[len(sizes) // 2]
        servings = self._time(request.space.list_servings(middle))
        fastest: dict[str, Shape] = {}
        for shape in sorted(servings, key=lambda shape: -servings[shape].offline):
            fastest.setdefault(shape.form, shape)
        forms = drop_slower({shape: servings[shape].offline for shape in fastest.values()})
        for form, shape in fastest.items():
            note = "" if shape in forms else "; not tried, another form is faster and as exact"
            self._log(
                f"{form}: {format_number(servings[shape].offline)}x with batches of {shape.batch} "
                f"and {shape.instances} instances{note}"
            )
        missing = set(request.space.forms) - set(request.space.list_forms())
        for form in sorted(missing):
            self._not_tried.append(f"{form}: pip install 'wattbench[{FORMS[form].extra}]'")
        shapes = [with_serving(Shape(size, shape.form), shape) for shape in forms for size in sizes]
        speeds = self._time(shapes)
        p50 = self._speed_meter.teacher_p50_ms
        admitted = {
            shape: value for shape, value in speeds.items() if request.limits.admit(value, p50)
        }
        if len(admitted) < len(speeds):
            self._not_tried.append(
                f"{len(speeds) - len(admitted)} of {len(speeds)} shapes, which break a limit"
            )
        return admitted

    def _time(self, shapes: Sequence[Shape]) -> dict[Shape, Speed]:
        return self._speed_meter.time_shapes(
            shapes, self._request.space.vocabulary, self._make_timed_system
        )

    def _make_timed_system(self, shape: Shape) -> System:
        """Return a system that is served as a shape is; its recipe is never run."""
        training = Training(1, 0, 2.0, 1e-4)
        return self._write_student("untrained", shape, training)

    # students

    def _train_students(self, students: Sequence[Shape], speeds: dict[Shape, Speed]) -> None:
        """Train students in the order that the study proposes."""
        request, space = self._request, self._request.space
        name = digest([[repr(shape) for shape in students], space.model_dump(), request.seed])
        study = Study(
            request.workspace / "journal.log", name[:16], space, len(students), request.seed
        )
        combinations = len(space.augment) * len(space.temperature) * len(space.learning_rate)
        reserved = COMBINATIONS_SHARE * request.budget if space.exits or space.cascade else 0.0
        while True:
            faster = self._count_faster(students, speeds)
            tried = {choice for choice in study.list_tried() if choice.index < faster}
            untried = faster * combinations - len(tried)
            if not untried:
                self._log("every student that would be faster was trained in every way")
                break
            proposal = study.propose(faster, tried)
            left = self._deadline - reserved - time.monotonic()
            student = students[proposal.choice.index]
            if not self._train_student(study, proposal, student, speeds, left):
                self._not_tried.append(
                    f"{untried} trainings of faster students: the budget is used up"
                )
                break

    def _count_faster(self, students: Sequence[Shape], speeds: dict[Shape, Speed]) -> int:
        """Return how many students are faster than the fastest system that keeps enough."""
        best = max(
            (
                found.speed.offline
                for found in self.found.systems.values()
                if found.kind == STUDENT and found.score.keeps_enough
            ),
            default=0.0,
        )
        return sum(speeds[shape].offline > best for shape in students)

    def _train_student(
        self,
        study: Study,
        proposal: Proposal,
        shape: Shape,
        speeds: dict[Shape, Speed],
        seconds_left: float,
    ) -> bool:
        """Train a student for longer and longer, and return whether there was time for it."""
        started = time.monotonic()
        for rung, epochs in enumerate(self._request.space.epochs):
            training = proposal.choice.make_training(epochs)
            name = f"student-{proposal.trial.number}-epochs-{epochs}"
            system = self._write_student(name, shape, training)
            planned = plan_system(system, self._request.task, self._request.seed)
            needed = sum(estimate_build_seconds(planned.steps).values())
            if needed > seconds_left - (time.monotonic() - started):
                return False
            details = shape.describe() | {
                "epochs": epochs,
                "copies": training.augment,
                "temperature": training.temperature,
                "rate": f"{training.learning_rate:g}",
            }
            found = self._try_system(name, STUDENT, details, planned, speeds[shape])
            if found is None:
                break
            if not study.report(proposal, rung, found.speed.offline, found.score.margin):
                break
        study.finish(proposal)
        return True

    def _write_student(self, name: str, shape: Shape, training: Training) -> System:
        request = self._request
        encoder = shape.size.start
        start = pretrained.get_encoder_spec(encoder, Path()) if encoder else request.teacher.spec
        recipe = make_recipe(shape, training, start, request.space.vocabulary)
        size = shape.size
        title = f"{size.layers} layers, {size.heads} heads, {size.ffn} neurons, {shape.form}"
        manifest = make_manifest(
            title,
            {"teacher": request.teacher_name},
            recipe,
            shape.serve,
            request.task.address,
        )
        return self._write(name, manifest)

    # other kinds

    def _try_static(self) -> None:
        serve = {"engine": "static", "offline": {"instances": "per-core"}}
        manifest = make_manifest(
            "static student",
            {"teacher": self._request.teacher_name},
            [{"use": "static"}],
            serve | {"server": {"instances": "per-core"}},
            self._request.task.address,
        )
        self._try_manifest("static", STATIC, {}, manifest)

    def _try_combinations(self) -> None:
        """Try early exits of the best student, and cascades of what was found."""
        space, task = self._request.space, self._request.task.address
        good = [
            found
            for found in self.found.find_admitted(
                self._request.limits, self._speed_meter.teacher_p50_ms
            )
            if found.kind == STUDENT
        ]
        if space.exits and good and int(good[0].details["layers"]) > 1:
            best = good[0]
            manifest = self._add_exits(best)
            if manifest:
                self._try_manifest(f"exits-{best.name}", EXITS, {"of": best.name}, manifest)
        if not space.cascade:
            return
        for members in self._list_cascades(good):
            names = [member.name for member in members]
            serve = {"engine": "cascade", "padding": "longest", "batch": 1}
            per_core = {"instances": "per-core"}
            manifest = make_manifest(
                f"cascade of {' and '.join(names)}",
                {"members": [f"../{name}" for name in names]},
                [{"use": "cascade", "max_drop": MAX_DROP}],
                {**serve, "offline": per_core, "server": per_core},
                task,
            )
            self._try_manifest(
                f"cascade-{'-'.join(names)}", CASCADE, {"of": " > ".join(names)}, manifest
            )

    def _list_cascades(self, good: Sequence[Found]) -> Iterator[tuple[Found, Found]]:
        """Yield pairs of a fast system and a better one; the teacher in PyTorch is left out."""
        best = next((found for found in good if found.score.keeps_enough), None)
        best = best or max(good, key=lambda found: found.score.value, default=None)
        if best is None:
            return
        faster = [
            found
            for found in self.found.find_frontier()
            if found.kind in (STATIC, STUDENT) and found.speed.offline > best.speed.offline
        ]
        for found in faster[:2]:
            yield found, best

    def _add_exits(self, found: Found) -> dict[str, Any] | None:
        """Return the manifest of a student with an exit in the middle; None if it cannot be."""
        manifest = read_toml(self._folder(found.name) / "submission.toml")
        trained = [
            step for step in manifest["step"] if step["use"] in ("distill", "vocabulary", "prune")
        ]
        is_int8 = found.details["form"] == "onnxruntime-int8"
        if found.details["form"] not in ("onnxruntime-int8", "onnxruntime-fp32"):
            return None
        after = int(found.details["layers"]) // 2 - 1
        exits = {
            "use": "exits",
            "after": [max(0, after)],
            "joint": True,
            "epochs": 2,
            "learning_rate": 1e-4,
        }
        quantize = [{"use": "quantize", "dtype": "int8"}] if is_int8 else []
        calibrate = {"use": "calibrate", "max_drop": MAX_DROP}
        return manifest | {
            "title": f"{manifest['title']}, with an early exit",
            "step": [*trained, exits, {"use": "export"}, *quantize, calibrate],
        }

    # what all of them share

    def _try_manifest(
        self, name: str, kind: str, details: dict[str, Any], manifest: dict[str, Any]
    ) -> None:
        """Build, time and score a system if there is time for it."""
        planned = plan_system(self._write(name, manifest), self._request.task, self._request.seed)
        needed = sum(estimate_build_seconds(planned.steps).values())
        if needed > self._deadline - time.monotonic():
            self._not_tried.append(f"{name}: it would take {needed / 60:.0f} min")
            return
        self._try_system(name, kind, details, planned, None)

    def _try_system(
        self,
        name: str,
        kind: str,
        details: dict[str, Any],
        planned: PlannedSystem,
        known: Speed | None,
    ) -> Found | None:
        """Build, time and score a system; None if that fails, with a line that says why."""
        started = time.monotonic()
        try:
            artifact = self._build(planned)
            seconds = time.monotonic() - started
            timed = known or self._speed_meter.time_systems({name: (planned.system, artifact)}).get(
                name
            )
            if timed is None:
                return None
            score = self._scorer.score(planned.system, artifact)
        except HarnessError as error:
            self._log(f"left out: {name}: {error}")
            return None
        found = Found(name, kind, details, seconds, score, timed)
        self.found.add(found)
        left = max(0.0, self._deadline - time.monotonic())
        enough = "enough" if score.keeps_enough else "too little"
        self._log(
            f"{name}: {format_number(timed.offline)}x, keeps {score.retained:.1%} of the gain "
            f"({enough}); {self._describe_best()}; {format_seconds_left(left)}"
        )
        return found

    def _describe_best(self) -> str:
        admitted = self.found.find_admitted(self._request.limits, self._speed_meter.teacher_p50_ms)
        best = next(iter(admitted), None)
        if best is None or not best.score.keeps_enough:
            return "nothing keeps enough yet"
        return f"best so far {best.name} with {format_number(best.speed.offline)}x"

    def _build(self, planned: PlannedSystem) -> Artifact:
        build_missing(Plan((planned,)), self._request.configuration, self._log)
        artifact = planned.find_artifact()
        assert artifact is not None, "every recipe of a search writes an artifact"
        return artifact

    def _folder(self, name: str) -> Path:
        return self._request.workspace / "submissions" / name

    def _write(self, name: str, manifest: dict[str, Any]) -> System:
        folder = self._folder(name)
        write_atomically(folder / "submission.toml", tomli_w.dumps(manifest).encode())
        return read_system(folder, self._request.workspace)

    # the end

    def _conclude(self) -> Outcome:
        """Time the frontier again with trained weights, and choose."""
        request, meter = self._request, self._speed_meter
        frontier = [found for found in self.found.find_frontier() if found.kind != TEACHER]
        admitted = self.found.find_admitted(request.limits, meter.teacher_p50_ms)
        finalists = {found.name: found for found in (*admitted[:2], *frontier[:FRONTIER_SIZE])}
        systems = {}
        for name in finalists:
            system = read_system(self._folder(name), request.workspace)
            artifact = plan_system(system, request.task, request.seed).find_artifact()
            assert artifact is not None
            systems[name] = system, artifact
        for name, timed in meter.time_systems(systems).items():
            self.found.add(replace(finalists[name], speed=timed))
        admitted = [
            found
            for found in self.found.find_admitted(request.limits, meter.teacher_p50_ms)
            if found.name in systems
        ]
        p99_ms = None
        for found in admitted:
            if request.limits.p99_ms is None:
                break
            p99_ms = meter.measure_p99_ms(*systems[found.name])
            if p99_ms is not None and p99_ms <= request.limits.p99_ms:
                break
            self._log(f"{found.name}: p99 is {p99_ms or float('inf'):.1f} ms, above the limit")
        else:
            if admitted:
                raise HarnessError("nothing that was found is within --p99-ms.")
        if not admitted:
            raise HarnessError(
                "nothing was found within the limits. Give a larger --budget, or wider limits; the "
                "same command with --resume goes on."
            )
        return Outcome(
            self.found,
            found.name if request.limits.p99_ms is not None else admitted[0].name,
            p99_ms,
            meter.teacher_p50_ms,
            meter.teacher_rate,
            tuple(self._not_tried),
        )
