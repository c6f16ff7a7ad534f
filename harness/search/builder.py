"""Builds, times and scores the systems of a search, and keeps what was found."""

import json
import time
from pathlib import Path
from typing import Any

import tomli_w

from harness.build import build_missing
from harness.errors import HarnessError
from harness.leaderboard.formatting import format_number
from harness.models import pretrained, tokenization
from harness.optimize.base import Artifact
from harness.optimize.vocabulary import measure_lost_share
from harness.progress import Log, format_seconds_left
from harness.runner.system_run import RunContext, SystemRun
from harness.search.candidate import Shape, Training, make_manifest, make_recipe
from harness.search.found import TEACHER, Found, FoundSystems
from harness.search.request import SearchRequest
from harness.search.scoring import Scorer
from harness.search.speed import Speed, SpeedMeter, measure_size_mb
from harness.store.cache import write_atomically
from harness.submissions.build_time import estimate_build_seconds, format_duration
from harness.submissions.manifest import read_system
from harness.submissions.plan import Plan, PlannedSystem, plan_system
from harness.submissions.system import System

MAX_FINALISTS = 10
"""Systems that are timed again at the end, with their trained weights."""

MAX_LOST_TOKENS = 0.01
"""Share of the tokens of the selection slice that may be lost with their embeddings."""


class Builder:
    """Makes systems in the workspace of a search.

    Args:
        request: what the search is to find.
        context: with the selection slice, and short windows.
        deadline: when the budget is used up, of `time.monotonic`.
        log: takes lines of progress.

    Attributes:
        found: all systems that were built, in earlier processes too.
        not_tried: what was not tried and why, as sentences.
        speed_meter: times systems against the teacher.
        vocabulary: whether embeddings that the task's text does not need are removed.

    Raises:
        HarnessError: the teacher cannot be built, or is no better than the constant answer.
    """

    def __init__(
        self, request: SearchRequest, context: RunContext, deadline: float, log: Log
    ) -> None:
        self._request, self._deadline, self._log = request, deadline, log
        self._check_settings()
        self.found = FoundSystems.read(request.workspace / "found.json")
        self.not_tried: list[str] = []
        self._estimated, self._taken = 30.0, 45.0  # half as long again, until more is known
        self._scorer = Scorer(request.task, context, request.limits.keep)
        self.speed_meter = self._prepare_teacher(context)
        self.vocabulary = request.space.vocabulary and self._has_all_tokens()

    def _check_settings(self) -> None:
        """Check that the scores of an earlier search mean the same, and keep what they depend on.

        Raises:
            HarnessError: the task, the teacher or `--keep` is another one.
        """
        request = self._request
        planned = plan_system(request.teacher, request.task, request.seed)
        settings = {
            "--keep": request.limits.keep,
            "the data of the task": [request.task.name, request.task.version],
            "the teacher, or --seed": planned.key,
        }
        path = request.workspace / "settings.json"
        if path.is_file():
            earlier = json.loads(path.read_bytes())
            if changed := [key for key, value in settings.items() if earlier.get(key) != value]:
                raise HarnessError(
                    f"{', '.join(changed)} differs from the search to resume. Change it back, or "
                    "give another --out."
                )
        write_atomically(path, json.dumps(settings).encode())

    def _prepare_teacher(self, context: RunContext) -> SpeedMeter:
        teacher, task = self._request.teacher, self._request.task
        self._log(f"teacher: {teacher.name}, {teacher.title}")
        started = time.monotonic()
        artifact = self._build(plan_system(teacher, task, self._request.seed))
        seconds = time.monotonic() - started
        meter = SpeedMeter(SystemRun(teacher, task, artifact, {}), context, self._log)
        meter.time_systems({})
        score = self._scorer.set_teacher(teacher, artifact)
        speed = Speed(1.0, 1.0, meter.teacher_memory_mb, measure_size_mb(artifact))
        self.found.add(Found(teacher.name, TEACHER, {}, seconds, score, speed))
        self._log(
            f"teacher: score {score.value:.4f} ± {score.se:.4f} on the selection slice (constant "
            f"answer {self._scorer.majority:.4f}), {format_number(meter.teacher_rate)} "
            f"examples/s, p50 {format_number(meter.teacher_p50_ms)} ms"
        )
        return meter

    def _has_all_tokens(self) -> bool:
        """Return whether the training text has nearly all tokens of the selection slice."""
        artifact, task = self.speed_meter.teacher.artifact, self._request.task
        assert artifact is not None
        tokenizer = tokenization.load_tokenizer(artifact.folder / "tokenizer.json", task.max_length)
        tokenizer.no_truncation()
        lost = measure_lost_share(task, tokenizer)
        if lost > MAX_LOST_TOKENS:
            self.not_tried.append(
                f"removing token embeddings: {lost:.1%} of the tokens of the selection slice are "
                "not in the training text, or the tokenizer is not WordPiece"
            )
        return lost <= MAX_LOST_TOKENS

    def get_seconds_left(self) -> float:
        """Return how much of the budget is left before the finalists are timed again.

        It is below 0 if that is used up.
        """
        finalists = min(len(self.found.systems), MAX_FINALISTS)
        final = (1 + finalists) * self.speed_meter.seconds_per_system
        return self._deadline - final - time.monotonic()

    def write(self, name: str, manifest: dict[str, Any]) -> System:
        """Write a manifest into the workspace, and read it."""
        folder = self._request.get_folder(name)
        write_atomically(folder / "submission.toml", tomli_w.dumps(manifest).encode())
        return read_system(folder, self._request.workspace)

    def write_student(self, name: str, shape: Shape, training: Training) -> System:
        """Write the manifest of a student, and read it."""
        request, size = self._request, shape.size
        start = request.teacher.spec
        if size.start:
            start = pretrained.get_encoder_spec(size.start, Path())
        manifest = make_manifest(
            f"{size.layers} layers, {size.heads} heads, {size.ffn} neurons, {shape.form}",
            {"teacher": request.teacher_name},
            make_recipe(shape, training, start, self.vocabulary),
            shape.serve,
            request.task.address,
        )
        return self.write(name, manifest)

    def plan(self, system: System) -> tuple[PlannedSystem, float]:
        """Return the plan of a system, and the estimated seconds of its build.

        The estimate is corrected by what earlier builds took beside theirs.
        """
        planned = plan_system(system, self._request.task, self._request.seed)
        seconds = sum(estimate_build_seconds(planned.steps).values())
        return planned, seconds * self._taken / self._estimated

    def try_manifest(
        self, name: str, kind: str, details: dict[str, Any], manifest: dict[str, Any]
    ) -> None:
        """Build, time and score a system if there is time for it.

        Args:
            name: of the system.
            kind: what it is.
            details: the columns of a table that describe it.
            manifest: its manifest.
        """
        planned, seconds = self.plan(self.write(name, manifest))
        if seconds > self.get_seconds_left():
            self.not_tried.append(
                f"{name}: it takes {format_duration(seconds)}, and less of the budget is left"
            )
        else:
            self.try_system(name, kind, details, planned)

    def try_system(
        self,
        name: str,
        kind: str,
        details: dict[str, Any],
        planned: PlannedSystem,
        known: Speed | None = None,
    ) -> Found | None:
        """Build, time and score a system; None if that fails, with a line that says why.

        Args:
            name: of the system.
            kind: what it is.
            details: the columns of a table that describe it.
            planned: its plan.
            known: its speed, if it was timed before.
        """
        started = time.monotonic()
        try:
            artifact = self._build(planned)
            seconds = time.monotonic() - started
            timed = {name: known} if known else {}
            timed = timed or self.speed_meter.time_systems({name: (planned.system, artifact)})
            if name not in timed:
                return None
            score = self._scorer.score(planned.system, artifact)
        except HarnessError as error:
            self._log(f"left out: {name}: {error}")
            return None
        found = Found(name, kind, details, seconds, score, timed[name])
        self.found.add(found)
        enough = "enough" if score.keeps_enough else "too little"
        self._log(
            f"{name}: {format_number(found.speed.offline)}x, keeps {score.retained:.1%} of the "
            f"gain, less one standard error {score.retained_low:.1%} ({enough}); "
            f"{self._describe_best()}; "
            f"{format_seconds_left(max(0.0, self.get_seconds_left()))}"
        )
        return found

    def list_admitted(self) -> list[Found]:
        """Return the systems within the limits, the best first."""
        return self.found.find_admitted(self._request.limits, self.speed_meter.teacher_p50_ms)

    def load(self, name: str) -> tuple[System, Artifact]:
        """Return a system of the workspace that was built, and its artifact."""
        system = read_system(self._request.get_folder(name), self._request.workspace)
        artifact = plan_system(system, self._request.task, self._request.seed).find_artifact()
        assert artifact is not None, "every recipe of a search writes an artifact"
        return system, artifact

    def _describe_best(self) -> str:
        best = next(iter(self.list_admitted()), None)
        if best is None or not best.score.keeps_enough:
            return "nothing keeps enough yet"
        return f"best so far {best.name} with {format_number(best.speed.offline)}x"

    def _build(self, planned: PlannedSystem) -> Artifact:
        estimated = sum(estimate_build_seconds(planned.steps).values())
        started = time.monotonic()
        build_missing(Plan((planned,)), self._request.configuration, self._log)
        if estimated:
            self._estimated += estimated
            self._taken += time.monotonic() - started
        artifact = planned.find_artifact()
        assert artifact is not None, "every recipe of a search writes an artifact"
        return artifact
