"""What is fine-tuned from a release made here: the whole road, lineage and keys, and what is refused before time is spent."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import torch
import yaml
from roads import served
from sklearn.datasets import load_digits
from specs import image_item

from components.core.brief import Brief, PretrainedBrief
from components.core.errors import BriefError, DataError, UnknownModel
from components.core.records import ClassCondition, Dataset
from components.families import cards
from components.pipeline import existing, production, proof, release_commands, resolve
from components.pipeline.backends import Backends
from components.pipeline.loaded_model import load_model
from components.pipeline.pretrained import bundles_begun_with, check_base
from components.pipeline.run import Run, Trained, record_key
from components.registry.mlflow_store import connect
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
MEMBERS = sorted("/".join(key) for key in cards())
ROADS = [name for name in MEMBERS if name != "vae/gaussian"]  # whose road is above


@pytest.fixture(scope="module")
def two(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A road on which the digits are produced, and in data/paper lie the same in black on white."""
    from components.data.prepare import prepare
    from components.data.versions import track

    road = first.road.beside(tmp_path_factory.mktemp("two") / "road")
    shutil.copytree(first.left / "store", road.home / "store")
    shutil.copy(first.left / "mlflow.db", road.home / "mlflow.db")
    raw = load_digits()
    images = 255 - (raw.images * 255 / 16).round().astype(np.uint8)
    np.savez(road.folder / "paper.npz", images=images, labels=raw.target)
    prepare(road.folder / "paper.npz", road.folder / "data" / "paper", cache=road.home / "data", progress=False)
    track(road.folder / "data" / "paper")
    return road


def paper(road: Any, **changes: Any) -> Any:
    """The brief that fine-tunes the champion of `digits` on the other data."""
    known = {"name": "paper", "data": {"path": "data/paper", "repo": str(road.folder)}, "goal": "latent", "override": None}
    return road.brief(**known | {"pretrained": {"model": "models:/digits@champion", "in_domain": True}} | changes)


def test_a_look_for_a_new_base_asks_which_bundle_its_alias_names(home: Path) -> None:
    backends = Backends(Settings(home=home))
    brief = Brief.model_validate({"name": "paper", "modality": "image", "data": {"path": "x"}})

    def of(model: str) -> str:
        return bundles_begun_with(brief.model_copy(update={"pretrained": PretrainedBrief(model=model)}), backends)

    assert of("models:/digits@champion") == of("models:/digits") == backends.versions.resolve("digits").bundle_sha256
    with pytest.raises(UnknownModel, match=r"pretrained\.model: models:/letters@champion: "):
        of("models:/letters@champion")
    for model in ("models:/digits/1", "hf:org/digits"):
        with pytest.raises(BriefError, match=r"names no release that can be another one later; allowed: models:/NAME@ALIAS"):
            of(model)


@pytest.mark.slow
def test_a_release_is_fine_tuned_on_other_data_to_a_champion_with_its_lineage(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    backends = two.backends()
    base = two.produce_here(two.brief())  # known already
    made = two.produce_here(paper(two))
    run = backends.workspace.read(f"runs/paper/{made.run_key}/run.json", Run)
    assert run is not None
    assert run.base is not None
    assert (run.decision.family, run.decision.variant, run.decision.mode) == ("vae", "gaussian", "finetune")
    assert run.decision.overridden is None

    trained = {name: load_model(name, backends) for name in ("digits", "paper")}
    assert run.base.checkpoint.weights.sha256 == base.bundle.bundle.lineage.checkpoint_sha256
    given, own = run.base.checkpoint.config, trained["paper"].family.config.model_dump(mode="json")
    assert own == given
    assert own["width"] == 16, "the base's, and no default"

    lineage = made.bundle.bundle.lineage
    assert (lineage.base, lineage.teacher) == (base.bundle.sha256, None)
    mlflow = connect(backends.settings.mlflow_uri)
    tracked = mlflow.get_run(made.release.run_id)
    params = tracked.data.params
    assert [each.model_id for each in tracked.inputs.model_inputs] == [backends.versions.model_id("digits", 1)]
    assert tracked.info.run_name.startswith("vae/gaussian: finetune of digits/1, data ")
    assert (params["mode"], params["base"], params["base_sha256"]) == ("finetune", "digits/1", base.bundle.sha256)
    assert mlflow.get_model_version("paper", "1").tags["base"] == "digits/1"
    entry = backends.registry.ledger.last("paper")
    assert entry is not None
    assert entry.evidence["base"] == base.bundle.sha256
    assert made.promoted
    assert "digits/1, bundle" in backends.workspace.open(made.page).read_text()

    again = resolve.resolve(paper(two), backends)
    assert again == run
    assert existing.find_existing_result(again, backends) is not None, "unchanged: nothing is trained"
    scratch = resolve.resolve(paper(two, pretrained=None), backends)
    assert scratch.base is None
    assert scratch.key("train") != run.key("train")


@pytest.mark.slow
def test_another_champion_is_another_base_and_what_it_gave_is_rolled_back(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    backends = two.backends()
    one = two.produce_here(paper(two))
    known = resolve.resolve(paper(two), backends)
    assert two.produce_here(two.brief(seed=1)).promoted
    moved = resolve.resolve(paper(two), backends)
    assert moved.base is not None
    assert (moved.base.name, moved.key("train") == known.key("train")) == ("digits/2", False)
    pinned = resolve.resolve(paper(two, pretrained={"model": "models:/digits/1", "in_domain": True}), backends)
    assert pinned.key("train") == known.key("train")
    second = two.produce_here(paper(two))
    assert (second.release.version, second.promoted) == (2, True)
    release_commands.rollback("paper", backends)
    assert backends.versions.resolve("paper").bundle_sha256 == one.bundle.sha256
    release_commands.rollback("digits", backends)
    assert resolve.resolve(paper(two), backends).key("train") == known.key("train"), "the base that it had before"


@pytest.mark.nightly
@pytest.mark.parametrize("name", ROADS)
def test_every_variant_is_fine_tuned_from_a_release_of_its_own(
    two: Any, trains_here: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With classes; the policy's LoRA is overridden where it would take it."""
    for delivery in proof.SAMPLES:
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    family, variant = name.split("/")
    backends, model = two.backends(), name.replace("/", "-")
    own = {"family": family, "variant": variant, "config": TINY.get(name, {})}
    base = two.produce_here(two.brief(name=model, conditioning="class", override=own))
    brief = paper(
        two, name=f"{model}-paper", conditioning="class", goal="balanced",
        pretrained={"model": f"models:/{model}@champion", "in_domain": True}, override={"family": family, "mode": "finetune"},
    )  # fmt: skip
    run = resolve.resolve(brief, backends)
    assert (run.decision.family, run.decision.variant, run.decision.mode) == (family, variant, "finetune")
    with trains_here():
        made = production.produce(run, backends, production.in_process(backends))
    assert made.promoted
    assert made.bundle.bundle.lineage.base == base.bundle.sha256
    assert made.bundle.bundle.variant == variant
    known = backends.workspace.read(record_key(run, "train"), Trained)
    assert known is not None
    assert run.base is not None
    assert known.checkpoint.config == run.base.checkpoint.config


@pytest.mark.nightly
def test_lora_of_our_edm_is_proved_released_served_and_rolled_back(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the policy's own choice, twice; the adapter lies in the bundle as peft reads it, and in MLflow's run."""
    from peft import PeftModel
    from safetensors.torch import load_file

    for delivery in proof.SAMPLES:
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    backends = two.backends()
    config = TINY["diffusion/edm"] | {"widths": [1, 1], "attention": True}
    edm = {"family": "diffusion", "variant": "edm", "config": config}
    base = two.produce_here(two.brief(name="unet", goal="quality", override=edm))
    wanted = {"model": "models:/unet@champion", "in_domain": True, "lora": {"rank": 4, "alpha": 8}}
    brief = paper(two, name="unet-paper", goal="balanced", pretrained=wanted)
    run = resolve.resolve(brief, backends)
    assert (run.decision.variant, run.decision.mode, run.decision.overridden) == ("edm", "lora", None)
    made = two.produce_here(brief)
    assert made.promoted
    bundle = made.bundle.bundle
    assert bundle.lineage.base == base.bundle.sha256
    assert existing.find_existing_result(resolve.resolve(brief, backends), backends) is not None, "unchanged: nothing is trained"
    other = paper(two, name="unet-paper", goal="balanced", pretrained=wanted | {"lora": {"rank": 2}})
    assert resolve.resolve(other, backends).key("train") != run.key("train"), "another rank is another training"

    folder, _ = release_commands.bundle_of(made.release, backends)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in folder.iterdir()}
    unet, released = load_model("unet", backends).family, load_model("unet-paper", backends).family
    before = unet.get_submodule("denoiser.net")
    assert before.state_dict().keys() == released.get_submodule("denoiser.net").state_dict().keys(), "plain layers"
    merged = PeftModel.from_pretrained(before, folder).merge_and_unload().state_dict()
    given = released.get_submodule("denoiser.net").state_dict()
    assert all(torch.allclose(value, given[name], atol=1e-6) for name, value in merged.items())
    assert any(".lora_B." in name for name in load_file(folder / "adapter_model.safetensors"))
    mlflow = connect(backends.settings.mlflow_uri)
    assert {file.path for file in mlflow.list_artifacts(made.release.run_id, "adapter")} == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }
    params = mlflow.get_run(made.release.run_id).data.params
    assert (params["mode"], params["base"], params["lora.rank"]) == ("lora", "unet/1", "4")

    again = two.produce_here(brief.model_copy(update={"seed": 5}))
    assert (again.release.version, again.promoted) == (2, True)
    assert "2" in ask(two, "unet-paper")
    release_commands.rollback("unet-paper", backends)
    assert "1" in ask(two, "unet-paper")


def ask(road: Any, model: str) -> str:
    """The version that a server of this model draws two items with."""
    with served(road, model) as address:
        reply = httpx.post(f"{address}/v1/generate", json={"count": 2, "seed": 7, "format": "npy"}, timeout=60)
        assert reply.status_code == 200, reply.text
        return str(reply.headers["X-Version"])


@pytest.mark.nightly
def test_what_was_fine_tuned_is_a_base_again(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)
    backends = two.backends()
    two.produce_here(two.brief())
    two.produce_here(paper(two, name="once"))
    brief = paper(two, name="twice", pretrained={"model": "models:/once@champion"})
    two.produce_here(brief)
    once, twice = (load_model(name, backends).family.config for name in ("once", "twice"))
    assert once == twice
    lineage = backends.versions.resolve("twice")
    assert release_commands.bundle_of(lineage, backends)[1].lineage.base == backends.versions.resolve("once").bundle_sha256


PLAIN = {
    "name": "tuned",
    "modality": "image",
    "goal": "latent",
    "data": {"path": "nowhere", "items": 900, "side": 8},
    "compute": {"minutes": 1, "device": "cpu"},
    "pretrained": {"model": "models:/digits@champion", "in_domain": True},
}


def written(**changes: Any) -> Path:
    path = Path("brief.yaml")
    path.write_text(yaml.safe_dump({name: value for name, value in (PLAIN | changes).items() if value is not None}))
    return path


def lora(mode: str | None = None, **settings: Any) -> dict[str, Any]:
    """A brief with settings of LoRA."""
    own = {"pretrained": {"model": "models:/digits@champion", "in_domain": True, "lora": settings}}
    return own | ({"override": {"mode": mode}} if mode else {})


def test_a_plan_says_what_will_be_fine_tuned(cli: "Command", home: Path) -> None:
    decision = cli("plan", written(), "--json").json()
    assert (decision["variant"], decision["mode"]) == ("gaussian", "finetune")
    assert len(decision["refusals"]) == 1, "but for the data"
    assert "nowhere: not a prepared dataset" in decision["refusals"][0]
    assert "digits/1" in cli("plan", written()).out


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"data": {"path": "nowhere", "items": 900, "side": 16}}, ("makes items of 8x8x1", "data.side is 16", "mode: scratch")),
        ({"conditioning": "class"}, ("conditioning: class given", "trained with conditioning: none", "allowed: none")),
        ({"override": {"variant": "beta"}}, ("variant: beta given", "vae/gaussian", "allowed: gaussian")),
        ({"override": {"config": {"width": 32, "lr_peak": 0.1}}}, ("override.config: width", "digits/1", "width: 16")),
        ({"override": {"config": {"nonsense": 1}}}, ("override.config.nonsense", "allowed: ")),
        ({"pretrained": {"model": "models:/digits@champion", "family": "gan"}}, ("family: gan given", "vae model")),
        ({"pretrained": {"model": "models:/digits/7"}}, ("models:/digits/7", "no such version", "digits/1")),
        ({"pretrained": {"model": "models:/none@champion"}}, ("models:/none@champion", "no model named", "digits")),
        ({"pretrained": {"model": "models:/none/1", "family": "vae"}}, ("models:/none/1", "no model named")),
        ({"name": "digits"}, ("is what this brief makes", "models:/digits/1")),
        ({"override": {"mode": "student"}}, ("override.mode: 'student'", "combine, finetune, lora, scratch, unchanged")),
        ({"override": {"mode": "finetune"}, "pretrained": None}, ("no pretrained model is given", "allowed: scratch")),
        (lora(rank=2), ("pretrained.lora: given", "decided is finetune", "write override: {mode: lora}")),
        (lora("lora", rank=1000), ("pretrained.lora.rank: 1000 for vae/gaussian", "allowed: 1 to ")),
        (lora("lora", targets=["to_q"]), ("pretrained.lora.targets: no layer of vae/gaussian is 'to_q'", "allowed: ")),
        (
            {"pretrained": {"model": "models:/digits@champion", "in_domain": True, "freeze": True}},
            ("pretrained.freeze: true, and vae/gaussian has no discriminator of convolutions", "leave it out"),
        ),
        (lora("lora", rank=0), ("pretrained.lora.rank", "given: 0")),
        (lora("lora", ranks=2), ("pretrained.lora.ranks: unknown key", "allowed: rank, alpha, targets, dropout, rslora, dora")),
    ],
    ids=str,
)
def test_what_cannot_be_fine_tuned_is_refused_before_time_is_spent(
    cli: "Command", home: Path, changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    """By `produce` with exit code 2; a plan says the same, or ends likewise where the brief itself is wrong."""
    path = written(**changes)
    planned = cli("plan", path, "--json")
    if planned.code == 0:
        refusals = planned.json()["refusals"]
        assert [name for name in names if name not in refusals[0]] == [], refusals
    else:
        planned.refused(2, *names)
    cli("produce", path).refused(2, *names)
    assert not (home / "work").exists()
    assert {each.name for each in Path().iterdir()} == {"brief.yaml"}


def test_a_base_whose_training_or_weights_are_lost_is_refused(cli: "Command", home: Path, registered_as: Any) -> None:
    registered_as("copy")  # a bundle alone
    names = ("models:/copy/1", "its checkpoint", "is not in", "GENWRIGHT_STORE")
    cli("produce", written(pretrained={"model": "models:/copy/1", "in_domain": True})).refused(2, *names)
    for path in (home / "store" / "artifacts").glob("*/weights.safetensors"):
        path.unlink()
    cli("produce", written()).refused(2, "models:/digits@champion", "its checkpoint", "is not in", "genwright train --run")


def test_data_of_another_shape_or_number_of_classes_is_refused(two: Any) -> None:
    """As measured, where nothing was declared."""
    backends = two.backends()
    two.produce_here(two.brief())
    run = resolve.resolve(paper(two), backends)
    base, brief = run.base, run.brief
    assert base is not None
    check_base(brief, run.facts, run.decision, run.dataset, base)

    def changed(**values: Any) -> Dataset:
        return run.dataset.model_copy(update=values)

    with pytest.raises(DataError, match="makes items of 8x8x1, and data/paper holds 8x8x3; allowed: 8x8x1; prepare the data so"):
        check_base(brief, run.facts, run.decision, changed(item=image_item(8, 8, 3)), base)
    check_base(brief, run.facts, run.decision, changed(classes=("one", "two")), base)
    spec = base.checkpoint.spec.model_copy(update={"condition": ClassCondition(classes=tuple("0123456789"))})
    by_class = base.model_copy(update={"checkpoint": base.checkpoint.model_copy(update={"spec": spec})})
    asked = brief.model_copy(update={"conditioning": "class"})
    check_base(asked, run.facts, run.decision, changed(classes=tuple("abcdefghij")), by_class)
    check_base(asked, run.facts, run.decision, changed(classes=("one", "two")), by_class)
    for mode in ("lora", "unchanged"):
        other = run.decision.model_copy(update={"mode": mode})
        for classes in (("one", "two"), tuple("1023456789")):
            with pytest.raises(
                DataError, match=f"knows 10 classes, .* and {mode} keeps what stands for a class as it is; allowed"
            ):
                check_base(asked, run.facts, other, changed(classes=classes), by_class)
    with pytest.raises(BriefError, match=r"conditioning: none given, and .* was trained with conditioning: class"):
        check_base(brief, run.facts, run.decision, run.dataset, by_class)


def test_a_student_that_its_own_loss_does_not_teach_is_refused(two: Any) -> None:
    two.produce_here(two.brief())
    run = resolve.resolve(paper(two), two.backends())
    assert run.base is not None
    checkpoint = run.base.checkpoint.model_copy(update={"family": "diffusion", "variant": "ddpm"})
    student = run.base.model_copy(update={"checkpoint": checkpoint, "teacher": "many/4"})
    with pytest.raises(
        BriefError, match=r"learnt to draw in few steps from many/4.*write models:/many/4, and `genwright distil`"
    ):
        check_base(run.brief, run.facts, run.decision, run.dataset, student)
    tuned = checkpoint.model_copy(update={"variant": "ect"})
    check_base(run.brief, run.facts, run.decision, run.dataset, student.model_copy(update={"checkpoint": tuned}))
