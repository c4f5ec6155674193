"""Small families of every kind, each exported once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from specs import image_data, text_data

from components.core.family import Family
from components.export.graph import Graph, export_graph
from components.families import cards, find
from components.runtime.session import GraphSampler

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
SLOWER: dict[str, dict[str, Any]] = {"diffusion/edm": {"attention": True}}  # for the cases of the slow suite
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
QUICK = {  # exported in the fast suite: what draws in one pass; a loop over steps or pixels takes torch ten seconds to trace
    "autoencoder/plain",
    "vae/gaussian",
    "gan/sngan",
    "flow/realnvp",
}


LIKE_ANOTHER = {  # they draw as another variant does, or by parts that two others have
    "autoencoder/denoising",
    "autoregressive/pixelcnn",
    "autoregressive/pixelcnn-pp",
    "autoregressive/vq-pixelcnn",
    "autoregressive/vq-transformer",
    "diffusion/cascade",
    "diffusion/ddpm",
    "diffusion/dit",
    "diffusion/ect",
    "diffusion/latent",
    "diffusion/latent-ect",
    "diffusion/lcm",
    "diffusion/ldm",
    "diffusion/mmdit",
    "diffusion/mmdit-lcm",
    "diffusion/unclip",
    "gan/wgan-gp",
    "vae/beta",
}
ODD_SLOW = {"vae/gaussian", "flow/glow"}


@dataclass(frozen=True)
class Exported:
    family: Family
    path: Path
    graph: Graph

    def asked(self, labels: Sequence[int]) -> Any:
        """What the items of these classes are asked for by: of each a text of another length, where it is a text."""
        asked = self.family.spec.condition
        if asked is None or self.family.spec.classes:
            return list(labels)
        texts = asked.examples(3)
        for known, text in enumerate(texts, start=1):
            text[..., known:, :] = 0
        return texts[list(labels)]

    def session(self, *, batch: int = 16) -> GraphSampler:
        return GraphSampler(
            self.path,
            spec=self.family.spec,
            noise=self.family.noise_inputs(),
            condition=self.graph.condition,
            output=self.graph.output,
            batch=batch,
            threads=1,
        )


def built(name: str, *, conditional: bool | str = False, side: tuple[int, int, int] = (8, 8, 1)) -> Family:
    """A small family whose every weight matters: none is left at the zero or the one it started from. `conditional`: by class, or
    by "text"."""
    height, width, channels = side
    shape = {"channels": channels, "height": height, "width": width}
    if conditional == "text":
        spec = text_data(**shape, negative=find(*name.split("/")).card.steers)
    else:
        spec = image_data(**shape, classes=("a", "b", "c"), conditional=bool(conditional))
    torch.manual_seed(0)
    config = TINY.get(name, {}) | ({} if side == (8, 8, 1) else SLOWER.get(name, {}))
    family = find(*name.split("/")).build(config, spec)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
        for buffer_name, buffer in family.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.add_(torch.rand(buffer.shape, generator=rng))
    return family.eval()


def _cases() -> list[Any]:
    """Every variant with a graph, with classes where it takes them, without them on images of odd sides, and by text."""
    found = []
    for key, (card, _, _) in sorted(cards().items()):
        name = "/".join(key)
        if not card.exports:
            continue
        odd = (5, 7, 3) if card.discrete else (9, 13, 3)  # the first is drawn value by value
        for conditional, side, marks in (
            ("class" in card.conditioning, (8, 8, 1), () if name in QUICK else NIGHTLY if name in LIKE_ANOTHER else SLOW),
            (False, odd, SLOW if name in ODD_SLOW else NIGHTLY),
            *((("text", (8, 8, 1), NIGHTLY),) if "text" in card.conditioning else ()),
        ):
            kind = conditional if conditional == "text" else "class" if conditional else "none"
            case = f"{name}-{'x'.join(map(str, side))}-{kind}"
            found.append(pytest.param((name, conditional, side), id=case, marks=marks))
    return found


@pytest.fixture(scope="session")
def export(made_once: Callable[..., Path]) -> Callable[..., Exported]:
    """Exports each case once, for all files and workers."""
    known: dict[Any, Exported] = {}

    def make(name: str, conditional: bool | str = False, side: tuple[int, int, int] = (8, 8, 1)) -> Exported:
        key = (name, conditional, side)
        if key not in known:
            family = built(name, conditional=conditional, side=side)

            def fill(folder: Path) -> None:
                export_graph(family, folder / "model.onnx").write(folder / "graph.json")

            case = "-".join(map(str, ("export", *name.split("/"), conditional, *side)))
            folder = made_once(case, fill)
            known[key] = Exported(family, folder / "model.onnx", Graph.read(folder / "graph.json"))
        return known[key]

    return make


@pytest.fixture(params=_cases())
def exported(request: pytest.FixtureRequest, export: Callable[..., Exported]) -> Exported:
    return export(*request.param)


@pytest.fixture(params=[case for case in _cases() if case.values[0][1]])
def class_exported(request: pytest.FixtureRequest, export: Callable[..., Exported]) -> Exported:
    """With classes, or texts."""
    return export(*request.param)


def _large() -> list[Any]:
    """Each case with large batches: one of them where each value is drawn after the other, hundreds of evaluations a batch."""
    return [
        pytest.param((*case.values[0], batch), id=f"{case.id}-{batch}", marks=case.marks)
        for case in _cases()
        for batch in ((65,) if cards()[*case.values[0][0].split("/")][0].discrete else (64, 65, 130))
    ]


@pytest.fixture(params=_large())
def large(request: pytest.FixtureRequest, export: Callable[..., Exported]) -> tuple[Exported, int]:
    """A graph, and the size of a large batch."""
    *case, batch = request.param
    return export(*case), batch


@pytest.fixture(scope="session")
def exported_names() -> set[str]:
    """The variants that `exported` goes through, in the fast and the slow tests together."""
    return {case.values[0][0] for case in _cases()}


@pytest.fixture(scope="session")
def make_family() -> Callable[..., Family]:
    return built
