"""Where weights begin: every start is found by its name, and what is fine-tuned begins exactly as its base."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.core.errors import BriefError, RunError, TrainingFailed
from components.core.records import Reading
from components.families import cards, find, find_card, maker
from components.training import start as package
from components.training.checkpoint import restore
from components.training.plan import TrainPlan
from components.training.sampling import TorchSampler
from components.training.start import build, find_start, starts
from components.training.start.finetune import meaning_changes, network_changes, recipe
from components.training.start.scratch import Scratch
from components.training.trainer import Trainer

MEMBERS = sorted("/".join(key) for key in cards())
FAST = {"vae/gaussian"}  # resumed in the fast tests
SLOW = {"gan/sngan", "autoregressive/vq-pixelcnn", "diffusion/cascade", "flow/glow", "vae/vq"}  # and these in the slow ones


def test_each_start_is_found_by_the_name_of_its_file() -> None:
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(starts()) == files == {"scratch", "finetune", "lora", "student", "unchanged", "combine"}
    assert all(find_start(name) is starts()[name] for name in files - {"student"})
    for name in ("student", "nonesuch", ""):
        with pytest.raises(
            BriefError, match=r"override\.mode: '\w*' given; allowed: combine, finetune, lora, scratch, unchanged$"
        ):
            find_start(name)


@pytest.mark.parametrize("kind", ["scratch", "finetune", "lora", "student", "unchanged", "combine"])
def test_a_plan_crosses_into_another_process_with_its_start(make_plan: Any, a_base: Any, kind: str) -> None:
    base = a_base("vae/gaussian")
    known = {"base": base.base, "teacher": base.base, "weights": base.weights, "adversarial": True}
    plan = make_plan(start=starts()[kind].of(**known))
    again = TrainPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert type(again.start) is starts()[kind]
    elsewhere = starts()[kind].of(**known | {"weights": Path("elsewhere")})
    assert elsewhere.identity == plan.start.identity, "where a file lies makes no other start"


@pytest.mark.parametrize("value", [{"kind": "nonesuch"}, {}, {"kind": "scratch", "base": 1}, 3])
def test_what_is_no_start_is_refused(make_plan: Any, value: Any) -> None:
    document = json.loads(make_plan().model_dump_json()) | {"start": value}
    with pytest.raises(ValueError, match="start"):
        TrainPlan.model_validate(document)


FILE = '''
"""Half of what is drawn: a start of a test's own."""

from typing import Literal

from components.training.start import ModelPlan, Start
from components.training.start.scratch import Scratch


class Halved(Start):
    """The weights of scratch, scaled."""

    kind: Literal["halved"] = "halved"
    scale: float = 0.5

    def build(self, plan: ModelPlan):
        import torch

        made = Scratch().build(plan)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(self.scale)
        return made
'''


@pytest.fixture
def dropped_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are starts, too."""
    folder = tmp_path / "more"
    folder.mkdir()
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    starts.cache_clear()
    yield folder
    starts.cache_clear()


def test_a_file_that_is_dropped_in_is_a_start(dropped_in: Path, make_plan: Any, digits: Any, tracker: Any) -> None:
    (dropped_in / "halved.py").write_text(FILE)
    plan = TrainPlan.model_validate(json.loads(make_plan().model_dump_json()) | {"start": {"kind": "halved"}})
    assert TrainPlan.model_validate_json(plan.model_dump_json()) == plan
    made, drawn = build(plan), build(make_plan())
    assert all(torch.equal(one, 0.5 * two) for one, two in zip(made.parameters(), drawn.parameters(), strict=True))
    Trainer(made, plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker).run()
    assert find_start("halved") is type(plan.start)


def test_a_file_without_a_start_of_its_name_is_a_defect(dropped_in: Path) -> None:
    (dropped_in / "empty.py").write_text("from components.training.start.scratch import Scratch\n")
    with pytest.raises(TypeError, match=r"empty\.py: one Start with kind: Literal\['empty'\] is needed"):
        starts()


@pytest.mark.parametrize("family", MEMBERS)
def test_what_is_fine_tuned_begins_exactly_as_its_base(a_base: Any, tuned: Any, family: str) -> None:
    """With classes where it takes them: every weight, and every image that is drawn before a step."""
    conditional = "class" in find_card(*family.split("/")).conditioning
    start = a_base(family, conditional=conditional)
    base, made = restore(start.base, start.weights), build(tuned(start, seed=8))
    assert made.state_dict().keys() == base.state_dict().keys()
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in base.state_dict().items())
    labels = [3, 1, 4, 1] if conditional else None
    drawn = [TorchSampler(each.eval(), subject="x", steps=2)(range(4), labels) for each in (base, made)]
    assert np.array_equal(*drawn)
    assert drawn[0].std() > 0


FEWER = sorted((family, variant) for (family, variant) in cards() if maker(family, variant, "few_step") != variant)


@pytest.mark.parametrize(("family", "variant"), FEWER)
def test_few_steps_of_a_base_of_many_begin_with_its_weights(a_base: Any, tuned: Any, family: str, variant: str) -> None:
    by_class = "class" in cards()[family, variant][0].conditioning
    start = a_base(f"{family}/{variant}", conditional=by_class)
    plan = tuned(start, variant=maker(family, variant, "few_step"))
    made = build(plan)
    assert made.card.variant != variant
    assert (made.config.steps, made.config.width) == (made.card.steps, start.base.config["width"])  # type: ignore[attr-defined]
    kept = restore(start.base, start.weights).state_dict()
    assert kept.keys() == made.state_dict().keys()
    assert all(torch.equal(value, kept[name]) for name, value in made.state_dict().items())


def test_its_first_reading_is_that_of_its_base(a_base: Any, tuned: Any, digits: Any, tracker: Any) -> None:
    """The average begins as the base, too, and a step at a rate of nearly nothing leaves it there.

    Without the mixture, which is fitted to the codes of the new data."""
    start = a_base("vae/gaussian", components=0)
    seen: list[Any] = []
    plan = tuned(start, steps=1, config={"lr_peak": 1e-12})
    Trainer(
        build(plan), plan, split=digits, quality=lambda images: seen.append(images) or Reading(distance=1.0), tracker=tracker
    ).run()
    sampler = TorchSampler(restore(start.base, start.weights), subject="x")
    assert np.array_equal(seen[0], sampler(range(plan.signal_images)))


RESUMED = [
    pytest.param(name, id=name, marks=() if name in FAST else pytest.mark.slow if name in SLOW else pytest.mark.nightly)
    for name in MEMBERS
]


@pytest.mark.parametrize("family", RESUMED)
def test_a_fine_tuning_that_was_killed_ends_with_the_same_bits(forks: Any, a_base: Any, tuned: Any, family: str) -> None:
    start = a_base(family)
    whole = forks.train(tuned(start, folder="whole"))
    plan = tuned(start, folder="killed")
    assert forks.train(plan, at="step", n=4)["exit"] == -signal.SIGKILL
    rest = forks.train(plan)
    assert rest["seen"]["step"] == 3, "it goes on from its last save"
    assert rest["checkpoint"]["weights"] == whole["checkpoint"]["weights"]
    assert rest["readings"][-1] == whole["readings"][-1]
    assert len(set(whole["readings"])) == len(whole["readings"]), "all of it learns"


def test_a_state_of_another_base_is_refused(a_base: Any, tuned: Any, digits: Any, tracker: Any, tmp_path: Path) -> None:
    def trainer(start: Any) -> Trainer:
        plan = tuned(start)
        return Trainer(build(plan), plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker)

    start = a_base("vae/gaussian")
    stopped = trainer(start)
    stopped.stop("to look at")
    with pytest.raises(TrainingFailed):
        stopped.run()
    for other in (a_base("vae/gaussian", seed=4), Scratch()):
        plan = tuned(start).model_copy(update={"start": other})
        made = Trainer(build(plan), plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker)
        with pytest.raises(RunError, match="of another family, config, dataset, seed or start; delete"):
            made.run()
    moved = tmp_path / "moved.safetensors"
    start.weights.rename(moved)
    assert trainer(start.model_copy(update={"weights": moved})).run().steps_total == 6, "on a machine that has it elsewhere"


@pytest.mark.parametrize("family", ["diffusion/edm", "diffusion/ddpm"])
def test_a_base_of_before_a_field_is_what_it_was_before_it(a_base: Any, tuned: Any, family: str) -> None:
    """A field that the base's recipe lacks is that of the class, and never one that the new data would set."""
    newer = {"diffusion/edm": {"mean_data": ()}, "diffusion/ddpm": {"learned_variance": False}}[family]
    start = a_base(family, **newer)
    older = {name: value for name, value in start.base.config.items() if name not in newer}
    known = start.model_copy(update={"base": start.base.model_copy(update={"config": older})})
    base, made = restore(known.base, known.weights), build(tuned(known))
    assert {name: getattr(base.config, name) for name in newer} == newer
    assert {name: getattr(made.config, name) for name in newer} == newer
    drawn = [TorchSampler(each.eval(), subject="x", steps=2)(range(4)) for each in (base, made)]
    assert np.array_equal(*drawn)


def test_the_recipe_is_that_of_the_base(a_base: Any) -> None:
    base = a_base("vae/gaussian", lr_peak=0.02, width=32).base
    assert recipe(base, variant="gaussian") == base.config
    assert (base.config["lr_peak"], base.config["width"]) == (0.02, 32)


@pytest.mark.parametrize(
    ("family", "config", "changes"),
    [
        ("vae/gaussian", {"lr_peak": 1.0, "batch_size": 8, "beta": 2.0}, []),
        ("vae/gaussian", {"lr_peak": 1.0, "width": 32, "latent": 5}, ["width", "latent"]),
        ("vae/gaussian", {"width": 16}, []),
        ("diffusion/edm", {"steps": 7, "guidance": 2.0}, []),
        ("diffusion/edm", {"augment": 0.1}, ["augment"]),
        ("gan/sngan", {"latent": 8}, ["latent"]),
    ],
)
def test_what_would_make_another_network_is_told(a_base: Any, family: str, config: dict[str, Any], changes: list[str]) -> None:
    base = a_base(family).base
    assert network_changes(base, config, variant=base.variant) == changes


def test_a_plan_of_another_network_is_refused_in_one_line(a_base: Any, tuned: Any) -> None:
    plan = tuned(a_base("vae/gaussian"), config={"width": 32})
    with pytest.raises(BriefError, match=r"vae/gaussian is not the network of its base: its weight \S+ is \(") as caught:
        build(plan)
    assert "\n" not in str(caught.value)


def test_weights_that_were_changed_are_refused(a_base: Any, tuned: Any) -> None:
    start = a_base("vae/gaussian")
    start.weights.write_bytes(start.weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(RunError, match="missing or changed since training"):
        build(tuned(start))


GANS = [name for name in MEMBERS if name.startswith("gan/")]


@pytest.mark.parametrize("family", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in GANS])
def test_the_lower_layers_of_a_discriminator_may_rest(a_base: Any, tuned: Any, digits: Any, tracker: Any, family: str) -> None:
    start = a_base(family).model_copy(update={"freeze": True})
    plan = tuned(start)
    made = build(plan)
    rest = {name for name, each in made.named_parameters() if not each.requires_grad}
    assert rest
    assert all(name.startswith("discriminator.") for name in rest)
    assert len(rest) < sum(name.startswith("discriminator.") for name, _ in made.named_parameters())
    before = {name: value.clone() for name, value in made.named_parameters()}
    trainer = Trainer(made, plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker)
    trainer.run()
    changed = {name for name, value in trainer.family.named_parameters() if not torch.equal(value, before[name])}
    assert not changed & rest
    assert {name.partition(".")[0] for name in changed} == {"generator", "discriminator"}
    assert plan.start.identity != start.model_copy(update={"freeze": False}).identity


def test_a_gan_may_be_augmented_when_it_is_fine_tuned_though_its_base_was_not(
    a_base: Any, tuned: Any, digits: Any, tracker: Any
) -> None:
    """Its strength is of this training: it begins at none, rises in the second pass over the data, and is no part of what is
    kept, so the base of before is one still."""
    start, config = a_base("gan/sngan"), {"adaptive": ("shift", "brightness"), "adaptive_target": -1.0}
    assert network_changes(start.base, config, variant="sngan") == []
    plan = tuned(start, steps=18, config=config)
    family: Any = build(plan)
    assert float(family.adaptive.strength) == 0
    trainer = Trainer(family, plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker)
    kept = trainer.run()
    assert float(family.adaptive.strength) > 0
    again: Any = restore(kept, trainer.best_path(kept))
    assert float(again.adaptive.strength) == 0


@pytest.mark.parametrize("family", MEMBERS)
def test_what_weights_mean_is_told_by_fields_that_change_no_shape(a_base: Any, family: str) -> None:
    """What changes a shape is another network, which is refused before."""
    start = a_base(family)
    fields = find(start.base.family, start.base.variant).Config
    assert {*fields.meaning} <= {*fields.model_fields}
    known = start.base.config
    assert meaning_changes(start.base, {name: known[name] for name in fields.meaning}, variant=start.base.variant) == {}
    if "heads" in fields.meaning:
        other = {"heads": 2 * known["heads"], "lr_peak": 0.5}
        assert network_changes(start.base, other, variant=start.base.variant) == []
        assert meaning_changes(start.base, other, variant=start.base.variant) == {"heads": known["heads"]}
