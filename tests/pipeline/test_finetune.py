"""What begins with a release made here: what is refused before time is spent."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from roads import digits, lay, paper
from specs import image_item

from components.core.brief import Brief, PretrainedBrief
from components.core.errors import BriefError, DataError, UnknownModel
from components.core.records import ClassCondition, Dataset
from components.pipeline import resolve
from components.pipeline.backends import Backends
from components.pipeline.pretrained import bundles_begun_with, check_base
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command


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
        (
            {"pretrained": {"model": "models:/digits@newest"}},
            ("models:/digits@newest", "digits has no newest", "allowed: digits/1"),
        ),
        ({"modality": "audio"}, ("nor is any other model of audio", "allowed: modality: image")),
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
        (
            {
                "pretrained": {"model": "models:/digits@champion", "in_domain": True, "prior_preservation": 0.25},
                "override": {"mode": "unchanged"},
            },
            ("pretrained.prior_preservation: given, and what was decided is unchanged", "leave it out"),
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
        assert len({*refusals}) == len(refusals), "each is said once"
    else:
        planned.refused(2, *names)
    cli("produce", path).refused(2, *names)
    assert not (home / "work").exists()
    assert {each.name for each in Path().iterdir()} == {"brief.yaml"}


def test_a_base_whose_training_or_weights_are_lost_is_refused(cli: "Command", home: Path, registered_as: Any) -> None:
    registered_as("copy")  # a bundle alone
    names = ("models:/copy/1", "its checkpoint", "is not in", "GENWRIGHT_STORE")
    cli("produce", written(pretrained={"model": "models:/copy/1", "in_domain": True})).refused(2, *names)
    lost = ("models:/digits@champion", "its checkpoint", "is not in", "genwright train --run")
    for path in (home / "store" / "artifacts").glob("*/weights.safetensors"):
        path.write_bytes(path.read_bytes()[:-40])
    cli("produce", written()).refused(2, *lost)
    for path in (home / "store" / "artifacts").glob("*/weights.safetensors"):
        path.unlink()
    cli("produce", written()).refused(2, *lost)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        (
            "colour",
            lambda x: np.stack([x, x, 255 - x], axis=3),
            "makes items of 8x8x1, and data/colour holds 8x8x3; allowed: 8x8x1",
        ),
        ("large", lambda x: x.repeat(2, 1).repeat(2, 2), "makes items of 8x8x1, and data/large holds 16x16x1; allowed: 8x8x1"),
        ("few", lambda x: x[:40], "data/few: 40 items, and a proof needs 64: 32 held out and 32 to train on; add more data"),
    ],
)
def test_data_that_does_not_fit_a_base_or_a_proof_is_refused(two: Any, name: str, make: Any, said: str) -> None:
    """As it lies there, nothing declared, and before anything is trained."""
    images, labels = digits()
    images = make(images[:200])
    lay(two, name, images, labels[: len(images)])
    data = {"path": f"data/{name}", "repo": str(two.folder)}
    for changes in ({}, {"override": {"mode": "lora"}}, {"override": {"mode": "unchanged"}}):
        with pytest.raises(DataError) as caught:
            resolve.resolve(paper(two, data=data, **changes), two.backends())
        assert said in str(caught.value)
        assert caught.value.exit_code == 2


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
