"""A cascade of engines: each answers the examples it is confident about and passes on the others.

Viola & Jones (2001); FrugalGPT: Chen et al. (2023).
"""

from collections.abc import Sequence
from dataclasses import replace

from harness.engines.base import Candidates, Engine, EngineConfig
from harness.engines.confidence import ExitRule, Rows, run_stages
from harness.engines.registry import load_engine
from harness.engines.stages import ExitCounter
from harness.models.answers import Scores


class CascadeEngine:
    """The members are the folders `0`, `1`, ... of the artifact, each served by its own engine."""

    def __init__(self, config: EngineConfig) -> None:
        members = config.metadata["members"]
        self.members: list[Engine] = [
            load_engine(
                replace(
                    config,
                    folder=config.folder / str(number),
                    metadata=member["about"],
                    serve=replace(config.serve, engine=member["engine"], threshold="chosen"),
                )
            )
            for number, member in enumerate(members)
        ]
        self.rule = ExitRule.from_dict(
            config.metadata.get("rule"), len(members), config.serve.threshold
        )
        self.exits = ExitCounter(len(members))
        self.report = self.exits.report

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels], divided by the temperatures of the rule."""

        def score(stage: int, rows: Rows) -> Scores:
            return self.members[stage].scores([examples[row] for row in rows])

        scores, exit_counts = run_stages(self.rule, [len(example) for example in examples], score)
        self.exits.add(exit_counts)
        return scores


def load(config: EngineConfig) -> Engine:
    """Load an artifact of the step `cascade`."""
    return CascadeEngine(config)
