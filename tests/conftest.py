"""What all tests share: one thread a process, and which tests must run in the same worker of pytest-xdist."""

import os
from typing import Any

# Before torch, numpy and their children are loaded: tensors here are small and the cores are shared with the other worker,
# so one thread is several times faster than two that wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

WHOLE_FOLDERS = ("tests/flows/",)  # their files share a production, which takes a minute to make
ALONE = ("tests/flows/test_variants.py",)  # so long that another worker should make its own production


class Together(LoadScopeScheduling):
    """One worker runs all tests of a file, or of a folder that shares a production: their fixtures are made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        whole = WHOLE_FOLDERS if file not in ALONE else ()
        return next((folder for folder in whole if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """In place of `--dist loadgroup`, which xdist 3.8 does not do under pytest 9.2."""
    return Together(config, log)
