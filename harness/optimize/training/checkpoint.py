"""Checkpoints of a training: all that is needed to continue as if it were never interrupted."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = "checkpoint.safetensors"


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: the current epoch, counted from 1.
        update: number of updates so far, over all epochs.
        batch: number of batches of this epoch that are done.
        losses: sum of the losses of this epoch so far.
        seen: number of training rows of this epoch so far.
        seconds: duration of this epoch so far.
        best_rank: rank of the best epoch, higher for better.
        history: for each finished epoch its loss, figures on the selection slice, seconds and
            examples per second.
    """

    epoch: int = 1
    update: int = 0
    batch: int = 0
    losses: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best_rank: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """The checkpoint of a training in a folder.

    Args:
        folder: outlives an interruption; created with the first checkpoint.
        trained: all modules that are trained.
        optimizer: their optimizer.
    """

    def __init__(self, folder: Path, trained: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.folder, self.trained, self.optimizer = folder, trained, optimizer

    def save(self, progress: Progress, best: dict[str, Tensor]) -> None:
        """Replace the checkpoint atomically. `best` holds the weights of the best epoch."""
        tensors = {f"model.{name}": value for name, value in self.trained.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        contiguous = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{FILE}.half"
        try:
            save_file(contiguous, partial, metadata={"position": json.dumps(asdict(progress))})
            partial.replace(self.folder / FILE)
        finally:
            partial.unlink(missing_ok=True)

    def restore(self) -> tuple[Progress, dict[str, Tensor]] | None:
        """Restore the modules, the optimizer and PyTorch's random state.

        Returns:
            The progress and the weights of the best epoch; None if there is no readable checkpoint,
            or if it belongs to another model.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        try:
            with safe_open(self.folder / FILE, "pt") as file:
                progress = Progress(**json.loads(file.metadata()["position"]))
                random_state = file.get_tensor("random")
                names = list(file.keys())
                cuda_state = file.get_tensor("random_cuda") if "random_cuda" in names else None
                for name in names:
                    part, _, rest = name.partition(".")
                    if rest:
                        parts[part][rest] = file.get_tensor(name)
            self.trained.load_state_dict(parts["model"])
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
            return None
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            number, _, key = name.partition(".")
            states.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        torch.set_rng_state(random_state)
        if cuda_state is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(cuda_state)
        return progress, parts["best"]
