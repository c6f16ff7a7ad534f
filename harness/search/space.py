"""The space of a search, as a TOML file declares it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from harness.errors import HarnessError
from harness.models import pretrained
from harness.models.model_spec import ModelSpec
from harness.schema import Faults, Number, Schema, read_toml, to_tuple
from harness.search.candidate import FORMS, FormName, Shape, Size
from harness.store.cache import expand_home

DEFAULT_SPACE = Path(__file__).with_name("space.toml")

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[Number, Field(gt=0)]


class PrunedSize(Schema):
    """What pruning leaves in each layer of a student."""

    heads: int = Field(ge=0, description="attention heads; 0 for all")
    ffn: int = Field(ge=0, description="feed-forward neurons; 0 for all")


class Space(Schema):
    """The content of a space file; `space.toml` says what each key means."""

    layers: Annotated[tuple[Positive, ...], BeforeValidator(to_tuple)]
    students: Annotated[tuple[str, ...], BeforeValidator(to_tuple)]
    sizes: Annotated[tuple[PrunedSize, ...], BeforeValidator(to_tuple), Field(min_length=1)]
    vocabulary: bool
    forms: Annotated[tuple[FormName, ...], BeforeValidator(to_tuple), Field(min_length=1)]
    batches: Annotated[tuple[Positive, ...], BeforeValidator(to_tuple), Field(min_length=1)]
    instances: Annotated[
        tuple[Positive | Literal["per-core"], ...], BeforeValidator(to_tuple), Field(min_length=1)
    ]
    epochs: Annotated[tuple[Positive, ...], BeforeValidator(to_tuple), Field(min_length=1)]
    augment: Annotated[
        tuple[Annotated[int, Field(ge=0, le=20)], ...],
        BeforeValidator(to_tuple),
        Field(min_length=1),
    ]
    temperature: Annotated[tuple[Rate, ...], BeforeValidator(to_tuple), Field(min_length=1)]
    learning_rate: Annotated[tuple[Rate, ...], BeforeValidator(to_tuple), Field(min_length=1)]
    static: bool
    exits: bool
    cascade: bool

    def list_sizes(self, teacher: ModelSpec) -> list[Size]:
        """Return the sizes of students that can be made of a teacher, each once.

        Raises:
            HarnessError: there is none, or an encoder to start from does not exist.
        """
        sizes: dict[Size, None] = {}
        starts = [*(("", layers) for layers in self.layers), *((name, 0) for name in self.students)]
        for start, layers in starts:
            spec = pretrained.get_encoder_spec(start, Path()) if start else teacher
            if layers > (spec.layers or 0):
                continue  # 0: all layers of the encoder
            for size in self.sizes:
                heads, ffn = size.heads or spec.heads or 0, size.ffn or spec.ffn or 0
                if heads <= (spec.heads or 0) and ffn <= (spec.ffn or 0):
                    sizes[Size(layers or spec.layers or 0, heads, ffn, start)] = None
        if not sizes and not self.static:
            raise HarnessError(
                f"the space has no student that is smaller than the teacher ({teacher.layers} "
                f"layers, {teacher.heads} heads, {teacher.ffn} neurons). Give smaller layers or "
                "sizes."
            )
        return list(sizes)

    def list_forms(self) -> list[FormName]:
        """Return the forms whose engine is installed."""
        extras = {form: FORMS[form].extra for form in self.forms}
        return [form for form, extra in extras.items() if not extra or find_spec(extra)]

    def list_servings(self, size: Size) -> list[Shape]:
        """Return a size in all forms, batches and instances."""
        return [
            Shape(size, form, batch, instances)
            for form in self.list_forms()
            for batch in self.batches
            for instances in self.instances
            if batch == 1 or not FORMS[form].depends_on_batch
        ]


def read_space(path: str = "") -> Space:
    """Read a space file; the default one if the path is ''.

    Raises:
        ManifestError: every fault, one per line.
    """
    file = expand_home(path) if path else DEFAULT_SPACE
    content = read_toml(DEFAULT_SPACE) | read_toml(file)
    faults = Faults(file)
    sizes = content.get("sizes")
    if isinstance(sizes, list):
        content["sizes"] = tuple(
            faults.check(PrunedSize, size, "sizes: ") if isinstance(size, dict) else size
            for size in sizes
        )
    space = faults.check(Space, content)
    faults.raise_any()
    assert space is not None
    if list(space.epochs) != sorted(set(space.epochs)):
        faults.add(f"epochs = {list(space.epochs)}: name each number once, in order.")
    faults.raise_any()
    return space
