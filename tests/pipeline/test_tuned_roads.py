"""Whole roads of what begins with a base: brief, training, gates, release, a server on the channel, and back by a rollback."""

import io
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import made_elsewhere
import numpy as np
import pytest
import torch
import yaml
from roads import ApartRoad, begin_with, digits, lay, paper, served, trained_in_a_fork

from components.core.arrays import Stored
from components.families import cards
from components.pipeline import existing, production, proof, release_commands, resolve
from components.pipeline.loaded_model import load_model
from components.pipeline.run import Produced, Run, Trained, folder_of, record_key
from components.registry.mlflow_store import connect
from components.runtime.session import GraphSampler
from components.training.folder import STATE
from components.training.start.finetune import Finetune
from components.training.state import load_state
from components.training.trainer import Trainer

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
MEMBERS = sorted("/".join(key) for key in cards())
VARIANTS = [name for name in MEMBERS if name != "vae/gaussian"]  # whose road is the first one here
SEEDS = [7, 8, 9]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)


def asked(address: str) -> tuple[str, bytes]:
    """The version that a server replies with, and its items of SEEDS."""
    reply = httpx.post(f"{address}/v1/generate", json={"seeds": SEEDS, "format": "npy"}, timeout=60)
    assert reply.status_code == 200, reply.text
    return str(reply.headers["X-Version"]), reply.content


def until(address: str, version: int) -> bytes:
    """The server's items once it has taken this version over, which it looks for now."""
    end = time.monotonic() + 60
    assert httpx.post(f"{address}/v1/look").status_code < 300
    while (said := asked(address))[0] != str(version):
        assert time.monotonic() < end, said[0]
        time.sleep(0.2)
    return said[1]


def drawn(road: Any, made: Produced) -> Stored:
    """The same items by the graph of the bundle itself. With classes item k is of class seed_k modulo their number."""
    folder, bundle = release_commands.bundle_of(made.release, road.backends())
    classes = len(bundle.spec.classes) if bundle.spec.conditional else 0
    return GraphSampler.of(folder, bundle, threads=1)(SEEDS, [seed % classes for seed in SEEDS] if classes else None)


def walk(road: Any, one: Produced, make: Any) -> Produced:
    """A server on the channel draws what the bundle of version 1 draws; then what that of the next release does, which `make`
    makes; and after a rollback again, byte for byte, what it did before. Returns the second."""
    model = one.release.model
    assert (one.release.version, one.promoted, one.gates.verdict) == (1, True, "pass")
    with served(road, model) as address:
        before = until(address, 1)
        assert np.array_equal(np.load(io.BytesIO(before)), drawn(road, one))
        second: Produced = make()
        assert (second.release.version, second.promoted) == (2, True)
        after = np.load(io.BytesIO(until(address, 2)))
        assert np.array_equal(after, drawn(road, second))
        assert not np.array_equal(after, drawn(road, one)), "another model"
        release_commands.rollback(model, road.backends())
        assert until(address, 1) == before
    assert road.backends().versions.resolve(model).bundle_sha256 == one.bundle.sha256
    return second


def again(road: Any, brief: Any) -> Any:
    """Makes a second release of a brief: another seed, so another training."""
    return lambda: road.produce_here(brief.model_copy(update={"seed": 5}))


@pytest.mark.slow
def test_a_release_is_fine_tuned_on_other_data_to_a_champion_with_its_lineage(two: Any) -> None:
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
    assert own == given | {"decay_from": Finetune.decay_from}
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
    told = {name: getattr(run.decision, name) for name in ("estimate", "evidence", "reasons")}  # as nothing was measured then
    assert again.model_copy(update={"decision": again.decision.model_copy(update=told)}) == run
    assert existing.find_existing_result(again, backends) is not None, "unchanged: nothing is trained"
    scratch = resolve.resolve(paper(two, pretrained=None), backends)
    assert scratch.base is None
    assert scratch.key("train") != run.key("train")


@pytest.mark.slow
def test_a_training_that_was_killed_makes_the_very_bundle_and_it_is_served_and_rolled_back(
    two: Any, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole fine-tuning of a release of ours: undisturbed, and in another home killed and gone on with. The second release is of
    another champion of the base."""
    whole = two.produce_here(paper(two))
    assert whole.gates.verdict == "pass"
    road = ApartRoad(two.folder)
    first.road.new_home(road.home)
    begin_with(first, road)

    run = resolve.resolve(paper(road), road.backends())
    assert trained_in_a_fork(run.brief, road, kill_at=23) == -signal.SIGKILL
    state = load_state(folder_of(run, road.backends().home, "train") / "train" / STATE)
    assert state is not None
    assert state["run"]["step"] == 23
    resumed, begun = Trainer._resume, []
    monkeypatch.setattr(Trainer, "_resume", lambda trainer: (resumed(trainer), begun.append(trainer.step))[0])
    one = road.produce_here(paper(road))
    assert begun == [state["run"]["step"]], "it goes on, and does not begin again"
    assert one.bundle == whole.bundle, "digest for digest"

    known = resolve.resolve(paper(road), road.backends())

    def on_another_base() -> Produced:
        assert road.produce_here(road.brief(seed=1)).promoted
        moved = resolve.resolve(paper(road), road.backends())
        assert moved.base is not None
        assert (moved.base.name, moved.key("train") == known.key("train")) == ("digits/2", False)
        pinned = resolve.resolve(paper(road, pretrained={"model": "models:/digits/1", "in_domain": True}), road.backends())
        assert pinned.key("train") == known.key("train")
        return road.produce_here(paper(road))

    walk(road, one, on_another_base)
    release_commands.rollback("digits", road.backends())
    assert resolve.resolve(paper(road), road.backends()).key("train") == known.key("train"), "the base that it had before"


@pytest.mark.nightly
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_fine_tuned_from_a_release_of_its_own(two: Any, trains_here: Any, name: str) -> None:
    """With classes; the policy's LoRA is overridden where it would take it."""
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
    assert known.checkpoint.config == run.base.checkpoint.config | {"decay_from": Finetune.decay_from}


@pytest.mark.nightly
def test_lora_of_our_edm_is_proved_released_served_and_rolled_back(two: Any) -> None:
    """By the policy's own choice, twice; the adapter lies in the bundle as peft reads it, and in MLflow's run."""
    from peft import PeftModel
    from safetensors.torch import load_file

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

    reload = bundle.adapter
    assert reload is not None
    assert (reload.network, reload.difference) == ("UNet2DModel", 0)
    assert reload.text in backends.workspace.open(made.page).read_text()
    assert params["adapter_loaded"] == reload.text
    walk(two, made, again(two, brief))


@pytest.mark.nightly
def test_what_was_fine_tuned_is_a_base_again(two: Any) -> None:
    backends = two.backends()
    two.produce_here(two.brief())
    two.produce_here(paper(two, name="once"))
    brief = paper(two, name="twice", pretrained={"model": "models:/once@champion"})
    two.produce_here(brief)
    once, twice = (load_model(name, backends).family.config for name in ("once", "twice"))
    assert once == twice
    lineage = backends.versions.resolve("twice")
    assert release_commands.bundle_of(lineage, backends)[1].lineage.base == backends.versions.resolve("once").bundle_sha256


@pytest.mark.nightly
def test_a_gan_is_fine_tuned_with_a_discriminator_that_rests_in_part(two: Any) -> None:
    """FreezeD (Mo et al. 2020), with the augmentation that its base had."""
    config = TINY["gan/sngan"] | {"shift": 0.2, "cutout": 0.3}
    gan = {"family": "gan", "variant": "sngan", "config": config}
    base = two.produce_here(two.brief(name="sn", override=gan))
    wanted = {"model": "models:/sn@champion", "in_domain": True, "freeze": True}
    brief = paper(two, name="sn-paper", goal="quality", pretrained=wanted, override={"mode": "finetune"})
    one = two.produce_here(brief)
    assert (one.bundle.bundle.variant, one.bundle.bundle.lineage.base) == ("sngan", base.bundle.sha256)
    theirs, ours = (load_model(name, two.backends()).family for name in ("sn", "sn-paper"))
    rests = {id(each) for each in ours.lower_layers()}
    resting = [name for name, each in ours.named_parameters() if id(each) in rests]
    assert resting
    assert all(torch.equal(theirs.get_parameter(name), ours.get_parameter(name)) for name in resting)
    moved = [name for name, each in ours.named_parameters() if id(each) not in rests]
    assert any(not torch.equal(theirs.get_parameter(name), ours.get_parameter(name)) for name in moved)
    walk(two, one, again(two, brief))


@pytest.mark.nightly
def test_a_model_of_eight_classes_learns_two_more(two: Any) -> None:
    images, labels = digits()
    lay(two, "eight", images[labels < 8], labels[labels < 8])
    edm = {"family": "diffusion", "variant": "edm", "config": TINY["diffusion/edm"]}
    eight = {"path": "data/eight", "repo": str(two.folder)}
    base = two.produce_here(two.brief(name="eight", conditioning="class", data=eight, override=edm))
    assert base.bundle.bundle.spec.classes == tuple("01234567")
    wanted = {"model": "models:/eight@champion", "in_domain": True}
    brief = two.brief(name="ten", conditioning="class", pretrained=wanted, override={"mode": "finetune"})
    one = two.produce_here(brief)
    assert one.bundle.bundle.spec.classes == tuple("0123456789")
    assert one.bundle.bundle.lineage.base == base.bundle.sha256
    walk(two, one, again(two, brief))


@pytest.mark.nightly
def test_a_folder_of_diffusers_is_fine_tuned_served_and_rolled_back(two: Any) -> None:
    made_elsewhere.write_folder(two.folder / "base")
    wanted = {"model": str(two.folder / "base"), "in_domain": True}
    brief = two.brief(name="from-folder", pretrained=wanted, override={"mode": "finetune", "config": {"steps": 5}})
    one = two.produce_here(brief)
    assert one.bundle.bundle.lineage.foreign is not None
    walk(two, one, again(two, brief))
