"""Several adapters of one base: listed, combined by a brief, served by name, and stale once the base has a new champion."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import yaml
from roads import served

from components.core.brief import Brief
from components.core.errors import BriefError, UnknownModel
from components.core.records import ClassCondition
from components.operations.checks import stale as stale_champions
from components.operations.finding import Installation
from components.pipeline import existing, pretrained, proof, release_commands, resolve
from components.pipeline.adapters import check_adapters, with_adapters
from components.pipeline.backends import Backends
from components.pipeline.descendants import adapters_of
from components.pipeline.loaded_model import load_model, training_of
from components.pipeline.run import Base, Run, record_key
from components.registry.mlflow_store import connect
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
EDM = {"family": "diffusion", "variant": "edm", "config": TINY["diffusion/edm"] | {"widths": [1, 1], "attention": True}}
ADDED = {"models:/thin@champion": 0.75, "models:/bold@champion": 0.5}


@pytest.fixture
def road(first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A road with a base, `letters`, and two adapters of it."""
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    made = first.road.beside(tmp_path / "road")
    made.produce_here(made.brief(name="letters", goal="quality", override=EDM))
    made.produce_here(adapter(made, "thin", rank=2))
    made.produce_here(adapter(made, "bold", rank=3, seed=4))
    return made


def adapter(road: Any, name: str, *, rank: int, seed: int = 0, model: str = "models:/letters@champion") -> Any:
    wanted = {"model": model, "in_domain": True, "lora": {"rank": rank, "alpha": 2 * rank}}
    return road.brief(name=name, pretrained=wanted, override={"mode": "lora"}, compute=WORK, seed=seed)


WORK = {"items_seen": 1000, "device": "cpu", "threads": 1}


def combined(road: Any, added: dict[str, float] = ADDED, *, name: str = "both", model: str = "models:/letters@champion") -> Any:
    wanted = {"model": model, "in_domain": True, "adapters": added}
    return road.brief(name=name, pretrained=wanted, override={"mode": "combine"}, compute=WORK)


def drawn(road: Any, *models: str) -> dict[str, Any]:
    """What one server of these models draws from one seed, by name, and the bundle that its reply names."""
    found = {}
    with served(road, *models) as address:
        for model in models:
            asked = {"model": model, "count": 2, "seed": 7, "format": "npy"}
            reply = httpx.post(f"{address}/v1/generate", json=asked, timeout=60)
            assert reply.status_code == 200, reply.text
            assert reply.headers["X-Model"] == model
            found[model] = (reply.headers["X-Bundle-Sha256"], reply.content)
    return found


@pytest.fixture
def an_adapter(home: Path, registered_as: Any) -> Any:
    """Registers a release of digits/1 as if LoRA had made it of that; `changes`: of its run."""

    def make(model: str, *, classes: tuple[str, ...] = (), **changes: Any) -> Run:
        backends = Backends(Settings(home=home))
        release = backends.versions.resolve("digits/1")
        lineage = release_commands.bundle_of(release, backends)[1].lineage
        known, trained = training_of(release, lineage, backends)
        base = Base(model="digits", version=1, bundle_sha256=release.bundle_sha256, checkpoint=trained.checkpoint)
        decision = known.decision.model_copy(update={"mode": "lora"})
        brief = known.brief.model_copy(update={"name": model, "seed": changes.pop("seed", 0)})
        run = known.model_copy(update={"brief": brief, "decision": decision, "base": base} | changes)
        spec = trained.checkpoint.spec
        if classes:
            spec = spec.model_copy(update={"condition": ClassCondition(classes=classes)})
        kept = trained.model_copy(update={"checkpoint": trained.checkpoint.model_copy(update={"spec": spec})})
        backends.workspace.write(record_key(run, "run"), run)
        backends.workspace.write(record_key(run, "train"), kept)
        own = {"run_key": run.key("seal"), "base": release.bundle_sha256, "decision": run.decision}
        registered_as(model, lineage=lineage.model_copy(update=own))
        return run

    return make


PLAIN = {
    "name": "both",
    "modality": "image",
    "goal": "latent",
    "data": {"path": "nowhere", "items": 900, "side": 8},
    "compute": {"device": "cpu"},
    "override": {"mode": "combine"},
}


def written(adapters: Any, **changes: Any) -> Path:
    given = {"model": "models:/digits@champion", "in_domain": True} | ({} if adapters is None else {"adapters": adapters})
    path = Path("brief.yaml")
    path.write_text(yaml.safe_dump(PLAIN | {"pretrained": given} | changes))
    return path


@pytest.mark.parametrize(
    ("adapters", "changes", "names"),
    [
        (None, {}, ("mode: combine given, and no pretrained.adapters", "write pretrained: ")),
        ({}, {}, ("pretrained.adapters", "at least 1 item")),
        (
            {"models:/thin/1": 0.5},
            {"override": {"mode": "finetune"}},
            ("pretrained.adapters: given", "write override: {mode: combine}"),
        ),
        ({"models:/thin/1": float("nan")}, {}, ("brief.yaml", "thin/1")),
        ({"models:/thin/1": float("inf")}, {}, ("brief.yaml", "thin/1")),
        ({"models:/thin/1": 2.5}, {}, ("pretrained.adapters.models:/thin/1", "less than or equal to 2", "2.5")),
        ({"models:/thin/1": -3}, {}, ("pretrained.adapters.models:/thin/1", "greater than or equal to -2")),
        ({"models:/thin/1": "much"}, {}, ("pretrained.adapters.models:/thin/1", "number", "much")),
        ({"thin": 0.5}, {}, ("pretrained.adapters: 'thin' given", "allowed: models:/NAME@ALIAS or models:/NAME/VERSION")),
        ({f"models:/a{n}/1": 0.1 for n in range(17)}, {}, ("pretrained.adapters", "at most 16")),
        ({"models:/none@champion": 1}, {}, ("pretrained.adapters: models:/none@champion", "no model named 'none'")),
        ({"models:/thin/7": 1}, {}, ("pretrained.adapters: models:/thin/7", "no such version", "thin/1")),
        ({"models:/thin@champion": 1}, {}, ("pretrained.adapters: models:/thin@champion", "thin has no champion")),
        (
            {"models:/digits@champion": 1},
            {},
            ("digits/1 is no adapter, it was made by scratch", "allowed: releases by LoRA of digits/1"),
        ),
        ({"models:/thin/1": 1}, {"override": {"mode": "combine", "family": "gan"}}, ("mode: combine is impossible", "not a gan")),
        (
            {"models:/thin/1": 1},
            {"override": {"mode": "combine", "config": {"width": 32}}},
            ("override.config: width", "another network"),
        ),
        ({"models:/thin/1": 1}, {"conditioning": "class"}, ("conditioning: class given", "trained with conditioning: none")),
        ({"models:/thin@candidate": 1}, {"name": "thin"}, ("is what this brief makes", "allowed: models:/thin/1")),
    ],
    ids=str,
)
def test_what_cannot_be_combined_is_refused_in_one_line(
    cli: "Command", home: Path, an_adapter: Any, adapters: Any, changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    an_adapter("thin")
    backends = Backends(Settings(home=home))
    backends.versions.set_alias("thin", "candidate", 1)
    cli("produce", written(adapters, **changes)).refused(2, *names)
    assert not (home / "work").exists()


def test_adapters_of_other_weights_and_one_given_twice_are_refused(cli: "Command", home: Path, an_adapter: Any) -> None:
    made = an_adapter("thin")
    assert made.base is not None
    weights = made.base.checkpoint.weights.model_copy(update={"sha256": "f" * 64})
    checkpoint = made.base.checkpoint.model_copy(update={"weights": weights})
    an_adapter("other", base=made.base.model_copy(update={"checkpoint": checkpoint, "version": 2}))
    names = ("other/1 is an adapter of digits/2 (weights ffffffffffff)", "pretrained.model is digits/1 (weights ")
    do = "write pretrained.model: models:/digits/2, or `genwright retrain` the brief of other/1"
    cli("produce", written({"models:/thin/1": 1, "models:/other/1": 1})).refused(2, *names, do)
    Backends(Settings(home=home)).versions.set_alias("thin", "best", 1)
    twice = written({"models:/thin/1": 1, "models:/thin@best": 0.5})
    cli("produce", twice).refused(2, "models:/thin/1 and models:/thin@best are both thin/1", "give it one weight")


def test_classes_that_are_not_the_same_are_refused(cli: "Command", home: Path, an_adapter: Any, a_run: Any) -> None:
    """Two adapters of a base without names for its classes may have given them other ones."""
    runs = [an_adapter(name, classes=classes) for name, classes in (("cats", ("cat", "dog")), ("cars", ("car", "bus")))]
    backends = Backends(Settings(home=home))
    brief = Brief.model_validate(
        PLAIN | {"pretrained": {"model": "models:/digits/1", "adapters": {"models:/cats/1": 1, "models:/cars/1": 1}}}
    )
    base = with_adapters(runs[0].base, brief, backends, opened=pretrained.opened)
    with pytest.raises(BriefError, match=r"the classes of c\w+/1 are \w+, \w+, and those of c\w+/1 \w+, \w+; allowed: the same"):
        check_adapters(brief, "combine", None, base)
    alone = base.model_copy(update={"adapters": tuple(each for each in base.adapters if each.model == "cats")})
    check_adapters(brief, "combine", None, alone)
    with pytest.raises(BriefError, match=r"the classes of cats/1 are cat, dog, and those of nowhere one, two"):
        check_adapters(brief, "combine", a_run.dataset.model_copy(update={"classes": ("one", "two")}), alone)


def test_a_plan_of_a_combination_says_that_nothing_is_trained(cli: "Command", home: Path, an_adapter: Any) -> None:
    an_adapter("thin")
    decision = cli("plan", written({"models:/thin/1": 0.5}), "--json").json()
    assert (decision["mode"], decision["variant"]) == ("combine", "gaussian")
    assert decision["budget"]["text"] == "nothing: the adapters are added to the base as they are"
    assert decision["estimate"]["training_s"]["value"] == 0
    assert [refusal for refusal in decision["refusals"] if "nowhere: not a prepared dataset" not in refusal] == []
    assert "adapters combined" in cli("plan", written({"models:/thin/1": 0.5})).out


def test_weights_and_digests_are_in_the_key_and_the_order_is_not(home: Path, an_adapter: Any) -> None:
    runs = {name: an_adapter(name, seed=seed) for seed, name in enumerate(("thin", "bold"), 1)}
    backends = Backends(Settings(home=home))

    def key(**weights: float) -> Any:
        named = {f"models:/{name}/1": weight for name, weight in weights.items()}
        brief = Brief.model_validate(PLAIN | {"pretrained": {"model": "models:/digits/1", "adapters": named}})
        return with_adapters(runs["thin"].base, brief, backends, opened=pretrained.opened).training

    assert key(thin=0.5, bold=1.0) == key(bold=1.0, thin=0.5)
    assert key(thin=0.5) != key(thin=0.6)
    assert "adapters" not in runs["thin"].base.training, "keys of what has none are as before"


def test_the_list_of_adapters_and_what_makes_them_stale(cli: "Command", home: Path, an_adapter: Any, registered_as: Any) -> None:
    """Those of this base alone: by its name, by a version, by its weights."""
    backends = Backends(Settings(home=home))
    mlflow = connect(backends.settings.mlflow_uri)
    for name, base in (("thin", "digits/1"), ("bold", "digits/1"), ("others", "digits_2/1"), ("foreign", "digits@abc")):
        an_adapter(name)
        mlflow.set_model_version_tag(name, "1", "base", base)
    tuned = an_adapter("tuned", decision=an_adapter("again").decision.model_copy(update={"mode": "finetune"}))
    assert tuned.decision.mode == "finetune"
    mlflow.set_model_version_tag("tuned", "1", "base", "digits/1")
    rows = cli("adapters", "digits/1", "--json").json()
    assert [(row["model"], row["version"], row["base"], row["stale"]) for row in rows] == [
        ("bold", 1, "digits/1", None), ("thin", 1, "digits/1", None),
    ]  # fmt: skip
    assert rows[0]["metrics"]["coverage"]["n"] > 0
    assert [row["model"] for row in cli("adapters", "digits", "--json").json()] == ["bold", "foreign", "thin"]
    assert [row["model"] for row in cli("adapters", "digits@abc", "--json").json()] == ["foreign"]
    assert cli("adapters", "thin").out == "thin: nothing was adapted from it\n"
    assert cli("adapters", "thin/1").out == "thin/1: nothing was adapted from it\n"
    cli("adapters", "digits/9").refused(2, "digits/9: no such version")
    cli("adapters", "nonesuch").refused(2, "no model named 'nonesuch'", "digits")
    cli("adapters", "it's").refused(2, "it's")

    release = backends.versions.resolve("digits/1")
    lineage = release_commands.bundle_of(release, backends)[1].lineage
    registered_as("digits", lineage=lineage.model_copy(update={"run_id": "another precision"}))
    cli("promote", "digits/2", "--force", "--why", "a test")
    assert "stale" not in cli("adapters", "digits/1").out, "its weights are the same"
    registered_as("digits", lineage=lineage.model_copy(update={"checkpoint_sha256": "f" * 64}))
    cli("promote", "digits/3", "--force", "--why", "a test")
    because = "stale: its base is no longer digits's champion, version 3 is"
    told = cli("adapters", "digits/1").out
    assert f"thin/1 is {because}" in told
    assert f"bold/1 is {because}" in told
    assert because in cli("explain", "thin/1").out
    assert doctors_lines(home)[0].startswith("ok:"), "no adapter is a champion, so nothing stale is served"
    cli("promote", "thin/1", "--force", "--why", "a test")
    line, *others = doctors_lines(home)
    assert line == f"warn: thin/1 is {because}"
    assert others == ["ok: 1 champion made of what is champion now, or of nothing else"]
    cli("rollback", "digits", "--to", "1")
    assert "stale" not in cli("adapters", "digits/1").out
    assert doctors_lines(home) == ["ok: 2 champions made of what is champion now, or of nothing else"]


def doctors_lines(home: Path) -> list[str]:
    """What `genwright doctor` says of stale champions."""
    found = stale_champions.check(Installation(Backends(Settings(home=home)), None, home))
    return [f"{each.verdict}: {each.what}" for each in found]


def test_a_look_for_a_new_base_asks_for_all_that_a_brief_combines(home: Path, an_adapter: Any) -> None:
    an_adapter("thin")
    backends = Backends(Settings(home=home))
    backends.versions.set_alias("thin", "champion", 1)

    def of(model: str, *names: str) -> str:
        given = {"model": model, "adapters": dict.fromkeys(names, 0.5)} if names else {"model": model}
        told = {"pretrained": given, "schedule": {"on_new_base": True}}
        return pretrained.bundles_begun_with(Brief.model_validate(PLAIN | told), backends)

    alone, with_thin = of("models:/digits@champion"), of("models:/digits@champion", "models:/thin@champion")
    assert len({alone, with_thin, of("models:/digits/1", "models:/thin@champion")}) == 3
    assert of("models:/digits@champion", "models:/thin/1") == alone
    with pytest.raises(UnknownModel, match=r"pretrained\.adapters: models:/none@champion: "):
        of("models:/digits@champion", "models:/none@champion")
    with pytest.raises(ValueError, match="on_new_base"):
        of("models:/digits/1", "models:/thin/1")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_adapters_are_listed_combined_served_by_name_and_followed(road: Any) -> None:
    backends = road.backends()
    made = road.produce_here(combined(road))
    assert made.promoted
    assert made.train_s == 0
    run = resolve.resolve(combined(road, dict(reversed(ADDED.items()))), backends)
    assert existing.find_existing_result(run, backends) is not None, "in another order they are the same"
    weights = {name: load_model(name, backends).family.state_dict() for name in ("letters", "thin", "bold", "both")}
    for key, value in weights["both"].items():
        base, thin, bold = (weights[name][key] for name in ("letters", "thin", "bold"))
        assert np.allclose(value, base + 0.75 * (thin - base) + 0.5 * (bold - base), atol=1e-6)

    lineage = made.bundle.bundle.lineage
    releases = {name: backends.versions.resolve(name) for name in weights}
    assert lineage.base == releases["letters"].bundle_sha256
    told = {each.model: (each.bundle, each.weight) for each in lineage.adapters}
    assert told == {"thin": (releases["thin"].bundle_sha256, 0.75), "bold": (releases["bold"].bundle_sha256, 0.5)}
    mlflow = connect(backends.settings.mlflow_uri)
    tracked, tags = mlflow.get_run(made.release.run_id), mlflow.get_model_version("both", "1").tags
    assert {each.model_id for each in tracked.inputs.model_inputs} == {
        backends.versions.model_id(name, 1) for name in ("letters", "thin", "bold")
    }
    assert (tracked.data.params["adapter.thin/1"], tracked.data.params["adapter.bold/1"]) == ("0.75", "0.5")
    assert (tags["mode"], tags["base"], tags["base_weights"]) == ("combine", "letters/1", lineage.base_weights)
    assert set(tags["adapters"].split(", ")) == {"thin/1 0.75", "bold/1 0.5"}
    entry = backends.registry.ledger.last("both")
    assert entry is not None
    assert {each["model"] for each in entry.evidence["adapters"]} == {"thin", "bold"}
    assert "0.75 thin/1" in backends.workspace.open(made.page).read_text()
    files = {file.name for file in made.bundle.bundle.files}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    folder, _ = release_commands.bundle_of(made.release, backends)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 5
    assert [each.path for each in mlflow.list_artifacts(made.release.run_id, "adapter")], "in MLflow, too"

    one = road.produce_here(combined(road, {"models:/thin@champion": 1.0, "models:/bold@champion": 0.0}, name="one"))
    none = road.produce_here(combined(road, {"models:/thin@champion": 0.0}, name="none"))
    replies = drawn(road, "letters", "thin", "bold", "both", "one", "none")
    assert {name: sha256 for name, (sha256, _) in replies.items() if name in releases} == {
        name: release.bundle_sha256 for name, release in releases.items()
    }
    assert (replies["one"][0], replies["none"][0]) == (one.bundle.sha256, none.bundle.sha256)
    images = {name: content for name, (_, content) in replies.items()}
    assert images["one"] == images["thin"], "at 1 it is its release, to the byte of what is served"
    assert images["none"] == images["letters"], "at 0 it is the base"
    assert len({images[name] for name in ("letters", "thin", "bold", "both")}) == 4

    found = {each.model: each for each in adapters_of("letters", backends)}
    assert set(found) == {"thin", "bold", "both", "one", "none"}
    assert {each.base for each in found.values()} == {"letters/1"}
    assert {each.stale for each in found.values()} == {None}
    assert {each.base_weights for each in found.values()} == {lineage.base_weights}
    assert found["thin"].data_md5 == run.dataset.md5
    assert found["thin"].aliases == ("champion",)
    assert {"fd", "coverage"} <= found["thin"].metrics.keys()
    _goes_stale_and_is_followed(road, lineage.base_weights)


def _goes_stale_and_is_followed(road: Any, before: str | None) -> None:
    """A new champion of the base: all are stale, `retrain` follows an alias and says so, and what is not yet of it is refused."""
    backends = road.backends()
    assert road.produce_here(road.brief(name="letters", goal="quality", override=EDM, seed=1)).promoted
    because = "stale: its base is no longer letters's champion, version 2 is"
    assert all(each.stale is not None and because in each.stale for each in adapters_of("letters", backends))
    assert because in road.cli("explain", "thin").stdout

    refused = road.cli("produce", str(road.write(combined(road))))
    assert refused.returncode == 2
    for words in (
        "models:/",
        "is an adapter of letters/1 (weights",
        "letters/2 (weights",
        "write pretrained.model: models:/letters/1",
    ):
        assert words in refused.stderr

    pinned = road.cli("retrain", str(road.write(adapter(road, "thin", rank=2, model="models:/letters/1"))))
    assert pinned.returncode == 0, pinned.stderr
    assert "no stage depends on what changed in the brief (data, pretrained)" in pinned.stdout
    assert f"{because}: a brief that names an alias follows it" in pinned.stdout

    followed = road.cli("retrain", str(road.write(adapter(road, "thin", rank=2))))
    assert followed.returncode == 0, followed.stderr
    assert f"thin version 1, its champion, is {because}; this run begins with letters/2" in followed.stderr
    now = {(each.model, each.version): each for each in adapters_of("letters", backends)}
    assert now["thin", 2].stale is None
    assert now["thin", 2].base == "letters/2"
    assert now["thin", 2].base_weights != before
    told = road.cli("adapters", "letters").stdout
    assert "thin/2" in told
    assert "stale" in told
    both = now["both", 1].stale
    assert both is not None
    assert "the adapter of thin in it is no longer its champion, version 2 is" in both
    rows = json.loads(road.cli("adapters", "letters", "--json").stdout)
    assert [(row["model"], row["version"]) for row in rows] == sorted(now)
