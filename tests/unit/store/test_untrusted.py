"""Files that others send: what is taken, and what is refused before it is opened."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from harness.errors import SourceError
from harness.store import untrusted

DATA = b'{"a": 1}'


def tar(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """Members with their content, or with what they link to."""
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


def packed(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """The same as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if isinstance(content, str):
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


Pack = Callable[..., Path]
PACKS = {"weights.tar.gz": tar, "weights.zip": packed}


@pytest.fixture(params=PACKS)
def pack(tmp_path: Path, request: pytest.FixtureRequest) -> Pack:
    return lambda *members: PACKS[request.param](tmp_path / request.param, *members)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    return folder


def test_files_come_out_of_the_one_folder_that_an_archive_holds(pack: Pack, out: Path) -> None:
    untrusted.place(pack(("model/config.json", DATA), ("model/more/a.json", DATA)), out)
    assert {str(path.relative_to(out)) for path in out.rglob("*.json")} == {
        "config.json",
        "more/a.json",
    }
    assert (out / "config.json").read_bytes() == DATA


REFUSED = {
    "escapes": ([("../escaped.json", DATA)], "leads out of the archive's own folder"),
    "escapes from within": ([("a/../../escaped.json", DATA)], "leads out of the archive"),
    "is absolute": ([("/tmp/wattbench-escaped.json", DATA)], "leads out of the archive"),
    "links": ([("link.json", "/etc/passwd")], "a link or no regular file"),
    "writes through a link": ([("d", "/tmp"), ("d/x.json", DATA)], "a link or no regular file"),
    "holds a pickle": ([("pytorch_model.bin", DATA)], "pickles are never loaded"),
    "holds code": ([("config.json", DATA), ("modeling.py", DATA)], "a format that is not taken"),
    "writes twice": ([("a.json", DATA), ("a.json", DATA)], "each file once"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("archive", REFUSED)
def test_archive_is_refused(pack: Pack, out: Path, archive: str) -> None:
    members, reason = REFUSED[archive]
    with pytest.raises(SourceError, match=reason):
        untrusted.place(pack(*members), out)
    outside = [path for path in out.parent.parent.rglob("*escaped*") if out not in path.parents]
    assert not outside
    assert not Path("/tmp/wattbench-escaped.json").exists()


def test_sizes_are_bounded(pack: Pack, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = pack(*((f"{n}.json", b"0" * 1_000_000) for n in range(5)))
    assert bomb.stat().st_size < 100_000
    monkeypatch.setattr(untrusted, "UNPACKED_BYTES", 3 << 20)
    with pytest.raises(SourceError, match="unpacks to more than 3 MiB"):
        untrusted.place(bomb, out)
    assert sum(path.stat().st_size for path in out.iterdir()) <= 3 << 20
    monkeypatch.setattr(untrusted, "MEMBERS", 3)
    with pytest.raises(SourceError, match="more than 3 files"):
        untrusted.place(pack(*((f"x{n}.json", DATA) for n in range(4))), out)
    monkeypatch.setattr(untrusted, "FILE_BYTES", 10)
    with pytest.raises(SourceError, match="at most 0 may be"):
        untrusted.place(pack(("a.json", DATA)), out)


def test_damaged_archive_is_said(pack: Pack, out: Path) -> None:
    file = pack(("a.json", os.urandom(5000)))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(SourceError, match="not an archive that can be read"):
        untrusted.place(file, out)


def test_name_that_no_file_can_have_is_refused(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a.json")
        info.pax_headers = {"path": "a\0b.json"}
        archive.addfile(info, io.BytesIO())
    with pytest.raises(SourceError, match="not an archive that can be read"):
        untrusted.place(tmp_path / "x.tar", out)


@pytest.mark.parametrize(("at", "value", "fault"), [(8, 1, "encrypted"), (10, 97, "compression")])
def test_zip_that_cannot_be_opened_is_said(
    tmp_path: Path, out: Path, at: int, value: int, fault: str
) -> None:
    """at: the field of a member's entry in the archive's directory that is changed."""
    path = packed(tmp_path / "x.zip", ("a.json", DATA))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + at] = value
    path.write_bytes(data)
    with pytest.raises(SourceError, match=f"not an archive that can be read .*{fault}"):
        untrusted.place(path, out)


def test_device_in_a_tar_is_refused(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        info = tarfile.TarInfo("null.json")
        info.type = tarfile.CHRTYPE
        archive.addfile(info)
    with pytest.raises(SourceError, match="no regular file"):
        untrusted.place(tmp_path / "w.tar", out)


def graph(folder: Path, location: str, inside: str = "") -> Path:
    """An ONNX graph whose weights are said to lie in a file.

    inside: the `branch` of an If, or a `function`.
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
def test_weights_of_a_graph_lie_beside_it(out: Path, inside: str) -> None:
    secret = out.parent / "secret"
    secret.write_bytes(b"0" * 16)
    for location in ("../secret", str(secret), "missing.data"):
        with pytest.raises(SourceError, match="no file beside it"):
            untrusted.check_graph(graph(out, location, inside))
    (out / "link.data").symlink_to(secret)
    with pytest.raises(SourceError, match="no file beside it"):
        untrusted.check_graph(graph(out, "link.data", inside))
    (out / "model.data").write_bytes(b"0" * 16)
    untrusted.check_graph(graph(out, "model.data", inside))


def test_what_is_no_graph_is_said(out: Path) -> None:
    (out / "model.onnx").write_bytes(b"not protobuf at all")
    with pytest.raises(SourceError, match="not an ONNX graph"):
        untrusted.check_graph(out / "model.onnx")


def test_checkpoint_whose_graph_looks_elsewhere_is_not_adopted(
    out: Path, tiny_encoder: Path
) -> None:
    from harness.optimize.adopt import _graph

    with pytest.raises(SourceError, match="no file beside it"):
        _graph(graph(out, "../../etc/passwd"))


def test_no_code_of_a_model_is_ever_trusted_and_no_pickle_loaded() -> None:
    """The whole package: never trust_remote_code, torch.load or pickle."""
    package = Path(untrusted.__file__).parents[1]
    for path in package.rglob("*.py"):
        text = path.read_text()
        for word in ("trust_remote_code=True", "torch.load(", "import pickle", "allow_pickle=True"):
            assert word not in text, path
