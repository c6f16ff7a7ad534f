"""Checkpoints of a training loop: all that it takes to go on as if nothing had happened."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = "checkpoint.safetensors"


@dataclass
class Position:
    """Where the loop stands.

    epoch: the one that runs, from 1; update: of all epochs; batch: next one of the epoch.
    losses, seen: sum of the losses and number of examples of this epoch so far.
    seconds: spent on this epoch; best_score: of the best epoch on the selection slice.
    history: of each finished epoch.
    """

    epoch: int = 1
    update: int = 0
    batch: int = 0
    losses: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best_score: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


def save(
    folder: Path,
    position: Position,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:
    """Write one file; a reader sees the old one or the new one, never half."""
    tensors = {f"model.{name}": value for name, value in trained.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f"{FILE}.half"
    plain = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    save_file(plain, half, metadata={"position": json.dumps(asdict(position))})
    half.replace(folder / FILE)


def restore(
    folder: Path, trained: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Position, dict[str, Tensor]] | None:
    """Put model, optimizer and random state back.

    Returns: the position and the best weights so far; None where there is no checkpoint that can be
    read, or one of something else.
    """
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    try:
        with safe_open(folder / FILE, "pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            random = file.get_tensor("random")
            for name in file.keys():  # noqa: SIM118 (no dictionary)
                part, _, rest = name.partition(".")
                if rest:
                    parts[part][rest] = file.get_tensor(name)
        trained.load_state_dict(parts["model"])
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        return None
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        number, _, key = name.partition(".")
        states.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    torch.set_rng_state(random)
    return position, parts["best"]
