"""Every step takes both architectures, so its tests run on both."""

import pytest

ENCODERS = {"bert": "tiny_encoder", "mpnet": "tiny_mpnet"}
"""The fixture of each architecture."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what depends on the fixture `encoder` once for each architecture, or for those that the
    module names in `ARCHITECTURES`.
    """
    if "encoder" in metafunc.fixturenames:
        names = getattr(metafunc.module, "ARCHITECTURES", tuple(ENCODERS))
        fixtures = [ENCODERS[name] for name in names]
        metafunc.parametrize("encoder", fixtures, indirect=True, ids=names, scope="session")
