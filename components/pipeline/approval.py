"""The tag that people set on a version in MLflow before it may be promoted, where the settings require one."""

from components.core.records import Release
from components.pipeline.backends import Backends
from components.registry.aliases import was_champion


def missing_tag(release: Release, backends: Backends) -> str:
    """The tag that a version still waits for, as NAME or NAME=VALUE; empty where it has it, where none is required, and for what
    was champion before."""
    tag = backends.judge.tag
    if tag is None or not backends.judge.lacks_tag(release):
        return ""
    return "" if was_champion(release, backends.registry.ledger.entries(release.model)) else tag.text


def how_to_approve(release: Release, tag: str) -> str:
    """What a person does next."""
    name = f"{release.model}/{release.version}"
    return (
        f"set the tag {tag} on version {release.version} of {release.model} in MLflow: `genwright watch` promotes it then, "
        f"or `genwright promote {name}`"
    )
