"""What all tests share: one thread a process, and which tests must run in the same worker of pytest-xdist."""

import os
from pathlib import Path

# Before torch, numpy and their children are loaded: tensors here are small and the cores are shared with the other worker,
# so one thread is several times faster than two that wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import pytest  # noqa: E402

HERE = Path(__file__).parent
WHOLE_FOLDERS = ("flows",)  # their files share a production, which takes a minute to make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one file, or of one folder that shares a production, in one worker: their fixtures are made once."""
    for item in items:
        folder, *rest = item.path.relative_to(HERE).parts
        group = folder if folder in WHOLE_FOLDERS else "/".join([folder, *rest])
        item.add_marker(pytest.mark.xdist_group(group))
