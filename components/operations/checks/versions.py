"""Python and the packages, as installed, against what genwright asks for."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from components.operations.finding import Finding, Installation, fail, ok

INSTALL = "make setup, or pip install --upgrade genwright"


def check(_installation: Installation) -> Iterator[Finding]:
    """One line for Python, one for all packages that are as they should be, and one for each that is not."""
    asked, own = metadata("genwright")["Requires-Python"], platform.python_version()
    good = SpecifierSet(asked).contains(own, prereleases=True)
    yield (
        ok(f"Python {own}") if good else fail(f"Python {own}, and genwright asks for {asked}", f"take another Python: {INSTALL}")
    )
    needed = [Requirement(each) for each in requires("genwright") or ()]
    yield from packages([each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})])


def packages(needed: list[Requirement]) -> Iterator[Finding]:
    """Those that are missing or of another version."""
    wrong = 0
    for each in needed:
        try:
            found = version(each.name)
        except PackageNotFoundError:
            wrong += 1
            yield fail(f"{each.name} is not installed", INSTALL)
            continue
        if not each.specifier.contains(found, prereleases=True):
            wrong += 1
            yield fail(f"{each.name} {found}, and genwright asks for {each.specifier}", INSTALL)
    if not wrong:
        yield ok(f"genwright {version('genwright')}, its {len(needed)} packages are of versions that it asks for")
