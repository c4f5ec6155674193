"""Versions and aliases in a real registry: one bundle has one version, whoever registers it and however often."""

from typing import Any

import pytest

from components.core.errors import RegistryError, UnknownModel
from components.registry.versions import Versions


def test_a_bundle_has_one_version(versions: Versions, run_id: str, bundle_of: Any) -> None:
    first = versions.register("digits", **bundle_of(1), run_id=run_id, description="the first", tags={"brief": "b1"})
    assert (first.model, first.version, first.bundle_sha256, first.run_id) == ("digits", 1, f"{1:064x}", run_id)
    assert versions.register("digits", **bundle_of(1), run_id=run_id) == first
    assert versions.register("digits", **bundle_of(2), run_id=run_id).version == 2
    assert versions.register("faces", **bundle_of(1), run_id=run_id).version == 1
    assert versions.models() == ["digits", "faces"]
    found = versions._client.get_model_version("digits", "1")
    assert (found.description, found.tags) == (
        "the first",
        {"brief": "b1", "bundle_sha256": f"{1:064x}", "bundle_uri": f"s3://bundles/{1:064x}"},
    )


def test_many_processes_register_one_bundle(versions: Versions, run_id: str, forks: Any, tracking_uri: str) -> None:
    job = {"tracking_uri": tracking_uri, "run_id": run_id, "sha256": f"{5:064x}"}
    for together in (True, True, False):
        forks.start("register", **job, together=together)
    assert [forks.result() for _ in range(3)] == [0, 0, 0]
    assert [release.bundle_sha256 for release in versions.releases("digits")] == [f"{5:064x}"]


def test_doubles_are_settled_unless_an_alias_holds_them(versions: Versions, run_id: str, bundle_of: Any) -> None:
    bundle = bundle_of(1)
    versions.register("digits", **bundle, run_id=run_id)
    for _ in range(2):  # as if two more processes had registered at the same moment
        versions._client.create_model_version("digits", bundle["uri"], run_id, tags={"bundle_sha256": bundle["sha256"]})
    versions.set_alias("digits", "champion", 3)
    assert versions.register("digits", **bundle, run_id=run_id).version == 1
    assert [release.version for release in versions.releases("digits")] == [1, 3]


def test_references_are_resolved(three: Versions) -> None:
    three.set_alias("digits", "candidate", 3)
    three.set_alias("digits", "champion", 2)
    assert three.resolve("digits").version == 2
    assert three.resolve("digits@candidate").version == 3
    assert three.resolve("digits/1").version == 1
    assert three.resolve("digits").aliases == ("champion",)
    assert three.by_alias("digits", "previous") is None
    three.drop_alias("digits", "champion")
    three.drop_alias("digits", "champion")
    assert three.by_alias("digits", "champion") is None


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("nobody", "no model named 'nobody'; allowed: digits"),
        ("", "no model named ''; allowed: digits"),
        ("nobody@champion", "no model named 'nobody'; allowed: digits"),
        ("it's", 'no model named "it\'s"; allowed: digits'),
        ("digits/x", "'digits/x': 'x' is not a version; allowed: NAME, NAME@ALIAS or NAME/VERSION"),
        ("digits/9", "digits/9: no such version of a bundle; allowed: digits/1, digits/2, digits/3 (@candidate = 3)"),
        ("digits@best", "digits has no best; allowed: digits/1, digits/2, digits/3 (@candidate = 3)"),
        (
            "digits",
            "digits has no champion; allowed: digits/1, digits/2, digits/3 (@candidate = 3); "
            "promote one: genwright promote digits",
        ),
    ],
)
def test_what_does_not_exist_is_told_in_one_line(three: Versions, reference: str, line: str) -> None:
    three.set_alias("digits", "candidate", 3)
    with pytest.raises(UnknownModel) as caught:
        three.resolve(reference)
    assert str(caught.value) == line
    assert caught.value.exit_code == 2


def test_an_empty_registry_says_so(versions: Versions) -> None:
    with pytest.raises(UnknownModel, match="no model named 'digits'; allowed: none yet: genwright produce BRIEF makes the first"):
        versions.resolve("digits")


def test_an_alias_needs_a_version(three: Versions) -> None:
    with pytest.raises(UnknownModel, match="digits/9: no such version; allowed: digits/1"):
        three.set_alias("digits", "champion", 9)


def test_versions_that_genwright_did_not_register_are_left_alone(three: Versions) -> None:
    three._client.create_model_version("digits", "s3://elsewhere")
    assert [release.version for release in three.releases("digits")] == [1, 2, 3]
    three.set_alias("digits", "champion", 4)
    assert three.by_alias("digits", "champion") is None
    assert three.aliases("digits") == {"champion": 4}
    line = r"digits@champion is version 4, which genwright did not make; allowed: digits/1.*; put .*: genwright reconcile digits"
    with pytest.raises(UnknownModel, match=line):
        three.resolve("digits")
    with pytest.raises(UnknownModel, match="digits/4: no such version of a bundle"):
        three.resolve("digits/4")


def test_a_name_that_mlflow_refuses_is_one_line(versions: Versions, run_id: str, bundle_of: Any) -> None:
    with pytest.raises(RegistryError, match="MLflow says") as caught:
        versions.register("a/b", **bundle_of(1), run_id=run_id)
    assert "\n" not in str(caught.value)
