"""What all tests share: one thread a process, and which tests must run in the same worker of pytest-xdist."""

import os
from collections import Counter
from typing import Any

# Before torch, numpy and their children are loaded: tensors here are small and the cores are shared with the other worker,
# so one thread is several times faster than two that wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

WHOLE_FOLDERS = ("tests/flows/",)  # their files share a production, which takes a minute to make
ALONE = ("tests/flows/test_variants.py",)  # so long that another worker should make its own production


def scope_of(nodeid: str) -> str:
    """What one worker runs whole: the tests of a file, or of a folder that shares a production; their fixtures are made once."""
    file = nodeid.partition("::")[0]
    whole = WHOLE_FOLDERS if file not in ALONE else ()
    return next((folder for folder in whole if file.startswith(folder)), file)


class Together(LoadScopeScheduling):
    """One worker runs all tests of a scope; scopes are begun in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """In place of `--dist loadgroup`, which xdist 3.8 does not do under pytest 9.2."""
    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Productions first, which take longest, then the scopes of many tests: so that no worker waits for another at the end."""
    count = Counter(scope_of(item.nodeid) for item in items)
    items.sort(key=lambda item: (not item.nodeid.startswith(WHOLE_FOLDERS), -count[scope_of(item.nodeid)]))
