"""The search: the fastest system for a task that keeps enough of its teacher's score.

The teacher is trained, or is the user's model. Every shape of student is timed with random weights;
those that are within the limits and not pointless are trained, the most promising first, until the
budget is used up. Early exits and cascades are made of what was found. The reported split is never
read.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from harness.errors import HarnessError
from harness.leaderboard.formatting import format_number
from harness.optimize.base import Artifact, get_selection
from harness.progress import Log
from harness.runner.system_run import EvalData, RunContext
from harness.search.builder import MAX_FINALISTS, Builder
from harness.search.candidate import (
    FORMS,
    Shape,
    Size,
    Training,
    drop_slower,
    group_by_size,
    with_serving,
)
from harness.search.combinations import (
    list_cascades,
    make_cascade_manifest,
    make_converted_manifest,
    make_exit_manifest,
    make_static_manifest,
)
from harness.search.found import (
    CASCADE,
    CONVERTED,
    ENCODERS,
    EXITS,
    STATIC,
    STUDENT,
    TEACHER,
    Found,
)
from harness.search.request import Outcome, SearchRequest
from harness.search.speed import TIMING, Speed
from harness.search.study import Choice, Proposal, Study, list_as_long, list_epochs
from harness.store.cache import digest
from harness.submissions.build_time import format_duration
from harness.submissions.system import System
from harness.telemetry.energy import EnergyMeter

COMBINATIONS_SHARE = 0.15
"""Share of the budget that is left for early exits and cascades."""

TIMING_SHARE = 1 / 3
"""Largest share of the time left by the teacher in which untrained students are timed."""

STATIC_SHARE = 0.2
"""Largest share of the time left that a static student may take before the others."""

UNTRAINED = Training(1, 0, 2.0, 1e-4)
"""The training of a student that is only timed."""


class Search:
    """One run of a search.

    Args:
        request: what to find.
        log: takes lines of progress.
    """

    def __init__(self, request: SearchRequest, log: Log) -> None:
        self._request, self._log = request, log

    def run(self) -> Outcome:
        """Search until the budget is used up, everything was tried, or the user presses Ctrl-C.

        Raises:
            HarnessError: the teacher cannot be built or is useless, or nothing was found.
        """
        request = self._request
        if request.task.trains_on:
            raise HarnessError(
                f"{request.task.name} has no training split. Search for --task "
                f"{request.task.training_task.name}, whose systems answer it."
            )
        get_selection(request.task)  # or say that there is none
        deadline = time.monotonic() + request.budget
        meter = EnergyMeter(request.configuration)
        try:
            context = RunContext(
                EvalData.load(request.task, "selection"),
                request.configuration,
                meter,
                isolation=request.isolation,
                timing=TIMING,
            )
            self._builder = Builder(request, context, deadline, self._log)
            try:
                self._search()
            except KeyboardInterrupt:
                self._log("interrupted; finishing with what was found")
                self._builder.not_tried.append("what was left when the search was interrupted")
            return self._conclude()
        finally:
            meter.close()

    def _search(self) -> None:
        builder, request = self._builder, self._request
        sizes = request.space.list_sizes(request.teacher.spec)
        speeds: dict[Shape, Speed] = {}
        if sizes:
            seconds = TIMING_SHARE * builder.get_seconds_left()
            servings = request.space.list_servings(sorted(sizes)[len(sizes) // 2])
            forms = self._choose_forms(servings, seconds / 2)
            for shape in forms:
                self._convert_teacher(shape)
            speeds = self._time_sizes(sizes, forms, seconds / 2)
        static_first = self._try_static(STATIC_SHARE)
        shapes = drop_slower({shape: speed.offline for shape, speed in speeds.items()})
        if shapes:
            self._log(f"{len(shapes)} of {len(speeds)} timed shapes may be the best for a score")
            self._train_students(group_by_size(shapes), speeds)
        if not static_first:
            self._try_static(1.0)
        self._try_combinations()

    def _try_static(self, share: float) -> bool:
        """Try a static student if it takes at most a share of the time left; return whether."""
        builder, manifest = self._builder, make_static_manifest(self._request)
        if not self._request.space.static or "static" in builder.found.systems:
            return True
        _, seconds = builder.plan(builder.write("static", manifest))
        if seconds > share * builder.get_seconds_left() and share < 1:
            return False
        builder.try_manifest("static", STATIC, {}, manifest)
        return True

    def _convert_teacher(self, other: Shape) -> None:
        """Try the teacher itself in the form of a shape, and served like it."""
        spec, name = self._request.teacher.spec, f"teacher-{other.form}"
        size = Size(spec.layers or 0, spec.heads or 0, spec.ffn or 0)
        if name not in self._builder.found.systems:
            shape = with_serving(Shape(size, other.form), other)
            manifest = make_converted_manifest(self._request, shape, self._builder.vocabulary)
            self._builder.try_manifest(name, CONVERTED, shape.describe(), manifest)

    def _time_sizes(
        self, sizes: Sequence[Size], forms: Sequence[Shape], seconds: float
    ) -> dict[Shape, Speed]:
        """Return the speed of the shapes that are within the limits, as far as there is time."""
        request, not_tried = self._request, self._builder.not_tried
        for form in sorted(set(request.space.forms) - set(request.space.list_forms())):
            not_tried.append(f"{form}: pip install 'wattbench[{FORMS[form].extra}]'")
        shapes = [with_serving(Shape(size, shape.form), shape) for shape in forms for size in sizes]
        random.Random(request.seed).shuffle(shapes)
        speeds = self._time(shapes, seconds)
        p50 = self._builder.speed_meter.teacher_p50_ms
        admitted = {
            shape: speed for shape, speed in speeds.items() if request.limits.admit(speed, p50)
        }
        if len(admitted) < len(speeds):
            count = len(speeds) - len(admitted)
            least = request.limits.describe_least(speeds.values(), p50)
            not_tried.append(
                f"{count} of {len(speeds)} shapes: they break a limit (of all shapes, {least})"
            )
        return admitted

    def _choose_forms(self, servings: Sequence[Shape], seconds: float) -> list[Shape]:
        """Time one size in all forms, batches and instances, as far as there is time.

        Returns:
            Each form that is not slower and less exact than another one, as it is fastest.
        """
        speeds = self._time(servings, seconds)
        fastest: dict[str, Shape] = {}
        for shape in sorted(speeds, key=lambda shape: -speeds[shape].offline):
            fastest.setdefault(shape.form, shape)
        kept = drop_slower({shape: speeds[shape].offline for shape in fastest.values()})
        for form, shape in fastest.items():
            note = "" if shape in kept else "; left out: another one is faster and as exact"
            self._log(
                f"{form}: {format_number(speeds[shape].offline)}x with batches of {shape.batch} "
                f"and {shape.instances} instances{note}"
            )
        return kept

    def _time(self, shapes: Sequence[Shape], seconds: float) -> dict[Shape, Speed]:
        def make_system(shape: Shape) -> System:
            return self._builder.write_student("untrained", shape, UNTRAINED)

        meter, vocabulary = self._builder.speed_meter, self._builder.vocabulary
        speeds, left_over = meter.time_shapes(shapes, vocabulary, make_system, seconds)
        if left_over:
            self._builder.not_tried.append(
                f"{left_over} of {len(shapes)} untrained students: timing all of them takes more "
                f"than {TIMING_SHARE:.0%} of the time that the teacher left"
            )
        return speeds

    def _train_students(
        self, students: Sequence[Sequence[Shape]], speeds: dict[Shape, Speed]
    ) -> None:
        """Train students in the order that the study proposes.

        Args:
            students: the shapes of each size, the fastest first.
            speeds: of the shapes.
        """
        request, space = self._request, self._request.space
        name = digest([[repr(shapes) for shapes in students], space.model_dump(), request.seed])
        journal = request.workspace / "journal.log"
        study = Study(journal, name[:16], space, len(students), request.seed)
        trainings = len(space.augment) * len(space.temperature) * len(space.learning_rate)
        reserved = COMBINATIONS_SHARE * request.budget if space.exits or space.cascade else 0.0
        lacking: dict[Choice, float] = {}
        while True:
            fastest = self._find_fastest()
            count = sum(speeds[shapes[0]].offline > fastest for shapes in students)
            ended = {choice for choice in study.list_tried() if choice.index < count}
            too_long = {choice: lacking[choice] for choice in lacking if choice.index < count}
            tried = ended | too_long.keys()
            used_up = self._builder.get_seconds_left() <= reserved and too_long
            if len(tried) == count * trainings or used_up:
                break
            proposal = study.propose(count, tried)
            shapes = students[proposal.choice.index]
            rung, seconds = self._train_student(study, proposal, shapes, speeds, reserved)
            if seconds:
                choices = [proposal.choice] if rung else list_as_long(proposal.choice, space)
                lacking |= dict.fromkeys(choices, seconds)
        if too_long:
            self._builder.not_tried.append(
                f"{count * trainings - len(ended)} of {count * trainings} trainings of faster "
                "students, or not to the end: what is left of the shortest takes "
                f"{format_duration(min(too_long.values()))}, and less of the budget is left"
            )
        else:
            self._log("every student that would be faster was trained in every way")

    def _find_fastest(self) -> float:
        """Return the speed of the fastest encoder that keeps enough, 0 if none does."""
        enough = [
            found.speed.offline
            for found in self._builder.list_admitted()
            if found.kind in ENCODERS and found.score.keeps_enough
        ]
        return max(enough, default=0.0)

    def _train_student(
        self,
        study: Study,
        proposal: Proposal,
        shapes: Sequence[Shape],
        speeds: dict[Shape, Speed],
        reserved: float,
    ) -> tuple[int, float]:
        """Train a student, again for longer while that is worth it.

        All its shapes are made of one training, so each of them that would be the fastest is tried.

        Args:
            study: gets the results.
            proposal: the student and its training.
            shapes: of the student, the fastest first.
            speeds: of the shapes.
            reserved: seconds of the budget that are for something else.

        Returns:
            How often it was trained, and the estimated seconds of a training that there was no time
            for, 0 if there was time for all.
        """
        builder, request = self._builder, self._request
        rows = (1 + proposal.choice.augment) * sum(1 for _ in request.task.texts(transfer=True))
        for rung, epochs in enumerate(list_epochs(request.space, rows)):
            training = proposal.choice.make_training(epochs)
            results: list[tuple[float, float]] = []
            for shape in shapes:
                if speeds[shape].offline <= self._find_fastest():
                    break
                name = f"student-{digest([asdict(shape), asdict(training)])[:6]}"
                planned, seconds = builder.plan(builder.write_student(name, shape, training))
                if seconds > builder.get_seconds_left() - reserved and not results:
                    study.finish(proposal, complete=False)
                    return rung, seconds
                details = shape.describe() | training.describe()
                found = builder.try_system(name, STUDENT, details, planned, speeds[shape])
                if found is not None:
                    results.append((found.speed.offline, found.score.margin))
            if not results or not study.report(proposal, rung, results):
                break
        study.finish(proposal)
        return rung, 0.0

    def _try_combinations(self) -> None:
        """Try early exits of the best encoder, and cascades of what was found."""
        builder, request = self._builder, self._request
        students = [found for found in builder.list_admitted() if found.kind in ENCODERS]
        for student in students[:1] if request.space.exits else ():
            if manifest := make_exit_manifest(request, student):
                name, details = f"exits-{student.name}", {"of": student.name}
                builder.try_manifest(name, EXITS, details, manifest)
        if request.space.cascade:
            for members in list_cascades(builder.found, students):
                names = [member.name for member in members]
                manifest = make_cascade_manifest(request, members)
                details = {"of": " > ".join(names)}
                builder.try_manifest(f"cascade-{'-'.join(names)}", CASCADE, details, manifest)

    def _conclude(self) -> Outcome:
        """Time the frontier again with trained weights, and choose."""
        builder, meter = self._builder, self._builder.speed_meter
        frontier = [found for found in builder.found.find_frontier() if found.kind != TEACHER]
        best = {found.name: found for found in (*builder.list_admitted()[:2], *frontier)}
        finalists = dict([*best.items()][:MAX_FINALISTS])
        systems = {name: builder.load(name) for name in finalists}
        for name, speed in meter.time_systems(systems).items():
            builder.found.add(replace(finalists[name], speed=speed))
        chosen, p99_ms = self._choose(systems)
        return Outcome(
            builder.found,
            chosen.name,
            p99_ms,
            meter.teacher_p50_ms,
            meter.teacher_rate,
            tuple(builder.not_tried),
        )

    def _choose(self, systems: dict[str, tuple[System, Artifact]]) -> tuple[Found, float | None]:
        """Return the best of some systems within the limits, and its p99 in ms if there is a limit.

        Raises:
            HarnessError: none is within the limits.
        """
        limit = self._request.limits.p99_ms
        reasons = list(self._builder.not_tried)
        for found in self._builder.list_admitted():
            if found.name not in systems:
                continue
            if limit is None:
                return found, None
            p99_ms = self._builder.speed_meter.measure_p99_ms(*systems[found.name])
            self._log(f"{found.name}: p99 {format_number(p99_ms)} ms")
            if p99_ms is not None and p99_ms <= limit:
                return found, p99_ms
            reasons.append(
                f"{found.name} is too slow to read its p99"
                if p99_ms is None
                else f"the p99 of {found.name} is {format_number(p99_ms)} ms"
            )
        raise HarnessError(
            f"nothing was found ({'; '.join(reasons) or 'everything breaks a limit'}). Give wider "
            "limits, or a larger --budget; with --resume the search goes on."
        )
