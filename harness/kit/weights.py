"""Start weights for a kit, rounded to half the size."""

from pathlib import Path

from harness.errors import SourceError
from harness.models.checkpoint_files import list_files, load_weights
from harness.models.model_spec import WEIGHTS


def round_encoder(folder: Path, out: Path) -> None:
    """Write an encoder with its weights rounded to fp16; a training computes in fp32 with them.

    Args:
        folder: the files of the encoder.
        out: the folder to write.

    Raises:
        SourceError: a weight is too large for fp16.
    """
    import torch
    from safetensors.torch import save_file

    weights = {}
    for name, value in load_weights(folder).items():
        weights[name] = value.half() if value.is_floating_point() else value
        if not torch.isfinite(weights[name]).all():
            raise SourceError(
                f"{folder / WEIGHTS}: {name} has values that fp16 cannot hold. Pack it in fp32."
            )
    out.mkdir(parents=True)
    save_file(weights, out / WEIGHTS, {"format": "pt"})
    for name, path in list_files(folder).items():
        if path.suffix != ".safetensors" and not name.endswith(".safetensors.index.json"):
            (out / name).write_bytes(path.read_bytes())
