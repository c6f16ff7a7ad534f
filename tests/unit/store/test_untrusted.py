"""Files from third parties: what is accepted, and what is refused before it is opened."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from harness.errors import SourceError
from harness.models.pretrained import compute_key
from harness.store import untrusted

DATA = b'{"a": 1}'


def write_tar(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """Write an archive of members with their content, or with the target of a link."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """Write the same as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if isinstance(content, str):
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


WriteArchive = Callable[..., Path]
WRITERS = {"weights.tar.gz": write_tar, "weights.zip": write_zip}


@pytest.fixture(params=WRITERS)
def write_archive(tmp_path: Path, request: pytest.FixtureRequest) -> WriteArchive:
    return lambda *members: WRITERS[request.param](tmp_path / request.param, *members)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    return folder


def test_content_of_the_only_folder_of_an_archive_is_unpacked(
    write_archive: WriteArchive, out: Path
) -> None:
    untrusted.unpack(write_archive(("model/config.json", DATA), ("model/more/a.json", DATA)), out)
    assert {str(path.relative_to(out)) for path in out.rglob("*.json")} == {
        "config.json",
        "more/a.json",
    }
    assert (out / "config.json").read_bytes() == DATA


REFUSED = {
    "escapes": ([("../escaped.json", DATA)], "leads out of the archive's own folder"),
    "escapes from within": ([("a/../../escaped.json", DATA)], "leads out of the archive"),
    "is absolute": ([("/tmp/wattbench-escaped.json", DATA)], "leads out of the archive"),
    "links": ([("link.json", "/etc/passwd")], "a link or not a regular file"),
    "writes through a link": ([("d", "/tmp"), ("d/x.json", DATA)], "a link or not a regular file"),
    "holds a pickle": ([("pytorch_model.bin", DATA)], "pickles are never loaded"),
    "holds code": ([("config.json", DATA), ("modeling.py", DATA)], "a format that is not allowed"),
    "writes twice": ([("a.json", DATA), ("a.json", DATA)], "each file once"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("archive", REFUSED)
def test_archive_is_refused(write_archive: WriteArchive, out: Path, archive: str) -> None:
    members, reason = REFUSED[archive]
    with pytest.raises(SourceError, match=reason):
        untrusted.unpack(write_archive(*members), out)
    outside = [path for path in out.parent.parent.rglob("*escaped*") if out not in path.parents]
    assert not outside
    assert not Path("/tmp/wattbench-escaped.json").exists()


def test_sizes_are_bounded(
    write_archive: WriteArchive, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = write_archive(*((f"{n}.json", b"0" * 1_000_000) for n in range(5)))
    assert bomb.stat().st_size < 100_000
    monkeypatch.setattr(untrusted, "UNPACKED_BYTES", 3 << 20)
    with pytest.raises(SourceError, match="unpacks to more than 3 MiB"):
        untrusted.unpack(bomb, out)
    assert sum(path.stat().st_size for path in out.iterdir()) <= 3 << 20
    monkeypatch.setattr(untrusted, "MEMBERS", 3)
    with pytest.raises(SourceError, match="more than 3 files"):
        untrusted.unpack(write_archive(*((f"x{n}.json", DATA) for n in range(4))), out)
    monkeypatch.setattr(untrusted, "FILE_BYTES", 10)
    with pytest.raises(SourceError, match="at most 0 MiB are allowed"):
        untrusted.unpack(write_archive(("a.json", DATA)), out)


def test_damaged_archive_is_refused(write_archive: WriteArchive, out: Path) -> None:
    file = write_archive(("a.json", os.urandom(5000)))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(SourceError, match="not an archive that can be read"):
        untrusted.unpack(file, out)


def test_impossible_file_name_is_refused(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a.json")
        info.pax_headers = {"path": "a\0b.json"}
        archive.addfile(info, io.BytesIO())
    with pytest.raises(SourceError, match="not an archive that can be read"):
        untrusted.unpack(tmp_path / "x.tar", out)


@pytest.mark.parametrize(
    ("offset", "value", "fault"), [(8, 1, "encrypted"), (10, 97, "compression")]
)
def test_zip_that_cannot_be_opened_is_refused(
    tmp_path: Path, out: Path, offset: int, value: int, fault: str
) -> None:
    """Change one byte of a member's entry in the central directory."""
    path = write_zip(tmp_path / "x.zip", ("a.json", DATA))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(data)
    with pytest.raises(SourceError, match=f"not an archive that can be read .*{fault}"):
        untrusted.unpack(path, out)


def test_device_in_a_tar_is_refused(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        info = tarfile.TarInfo("null.json")
        info.type = tarfile.CHRTYPE
        archive.addfile(info)
    with pytest.raises(SourceError, match="not a regular file"):
        untrusted.unpack(tmp_path / "w.tar", out)


def write_graph(folder: Path, location: str, inside: str = "") -> Path:
    """Write an ONNX graph with external weights.

    Args:
        folder: where the graph is written.
        location: the path of the weights.
        inside: '' for weights of the graph itself, `branch` for those of a branch of an If,
            `function` for those of a function.
    """
    weights = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "b", [], [y], [weights]
    )
    functions = []
    if inside == "function":
        imports, node = [helper.make_opsetid("", 20)], helper.make_node("Constant", [], ["y"])
        node.attribute.add(name="value", type=AttributeProto.TENSOR).t.CopyFrom(weights)
        functions = [helper.make_function("own", "f", [], ["y"], [node], imports)]
        branch = helper.make_graph([helper.make_node("f", [], ["y"], domain="own")], "g", [], [y])
    if inside == "branch":
        c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([node], "g", [c], [y])
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(branch, functions=functions).SerializeToString())
    return path


@pytest.mark.parametrize("inside", ["", "branch", "function"])
def test_external_weights_must_be_beside_the_graph(out: Path, inside: str) -> None:
    secret = out.parent / "secret"
    secret.write_bytes(b"0" * 16)
    for location in ("../secret", str(secret), "missing.data"):
        with pytest.raises(SourceError, match="not a file beside it"):
            untrusted.find_external_files(write_graph(out, location, inside))
    (out / "model.data").write_bytes(b"0" * 16)
    graph = write_graph(out, "model.data", inside)
    assert untrusted.find_external_files(graph) == [out / "model.data"]
    untrusted.check_folder(out)
    (out / "model.data").unlink()
    (out / "model.data").symlink_to(secret)
    with pytest.raises(SourceError, match=r"model.data: a link or not a regular file"):
        untrusted.check_folder(out)


def test_file_that_is_not_a_graph_is_refused(out: Path) -> None:
    (out / "model.onnx").write_bytes(b"not protobuf at all")
    with pytest.raises(SourceError, match="not an ONNX graph"):
        untrusted.find_external_files(out / "model.onnx")


def test_checkpoint_with_weights_outside_of_it_is_not_adopted(
    out: Path, tiny_encoder: Path
) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(tiny_encoder / name, out / name)
    write_graph(out, "../../etc/passwd")
    with pytest.raises(SourceError, match="not a file beside it"):
        compute_key(str(out), out)


def test_no_code_of_a_model_is_ever_trusted_and_no_pickle_loaded() -> None:
    """The whole package: never trust_remote_code, torch.load or pickle."""
    package = Path(untrusted.__file__).parents[1]
    for path in package.rglob("*.py"):
        text = path.read_text()
        for word in ("trust_remote_code=True", "torch.load(", "import pickle", "allow_pickle=True"):
            assert word not in text, path
