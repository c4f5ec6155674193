"""A Stable Diffusion made elsewhere, from captions to a release: adapted, distilled, and used by plain diffusers."""

import json
from pathlib import Path
from typing import Any

import made_from_text
import numpy as np
import pytest
from elsewhere import run_elsewhere
from roads import Road, digits

from components.core.bundles import read_bundle
from components.core.records import Bundle, EmbeddingCondition
from components.delivery.bundles import fetch_bundle
from components.pipeline import platforms
from components.runtime.prompts import Prompts
from components.runtime.session import opened
from components.training.adapter.files import OF_PIPELINE

pytestmark = pytest.mark.nightly

COUNT, STEPS = 400, 4
TEXT, UNWANTED = "a handwritten three", "a small grey one"
# Plain diffusers, in a process without genwright: a pipeline, an adapter or none, a text, and the noise to begin with.
PLAIN = """
import sys
import numpy as np, torch
from diffusers import StableDiffusionPipeline

folder, adapter, noise, to, text, unwanted, steps = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(folder)
pipeline.set_progress_bar_config(disable=True)
own = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False}
from diffusers import DDIMScheduler
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **own)
if adapter:
    pipeline.load_lora_weights(adapter)
latents = torch.from_numpy(np.load(noise))
told = {"num_inference_steps": int(steps), "guidance_scale": 7.5, "output_type": "np"}
images = pipeline([text] * len(latents), negative_prompt=[unwanted] * len(latents), latents=latents, **told).images
np.save(to, images.transpose(0, 3, 1, 2) * 2 - 1)
assert "components" not in sys.modules
"""


@pytest.fixture
def road(tmp_path: Path) -> Road:
    """Digits with two captions each, and a tiny Stable Diffusion that knows the words."""
    from PIL import Image

    from components.data.prepare import prepare
    from components.data.versions import track

    made, source = Road(tmp_path / "road"), tmp_path / "pictures"
    source.mkdir()
    images, labels = digits()
    rows = []
    for at, (image, label) in enumerate(zip(images[:COUNT], labels[:COUNT], strict=True)):
        Image.fromarray(image).save(source / f"{at:04d}.png")
        word = made_from_text.DIGITS[label]
        rows.append(json.dumps({"file_name": f"{at:04d}.png", "text": [f"a handwritten {word}", f"a scanned {word} {at % 40}"]}))
    (source / "metadata.jsonl").write_text("\n".join(rows))
    made.folder.mkdir()
    prepare(source, made.folder / "data" / "digits", cache=made.home / "data", progress=False)
    track(made.folder / "data" / "digits")
    made_from_text.write_stable_diffusion(made.folder / "tiny")
    return made


def produced(road: Road, **changes: Any) -> tuple[Path, Bundle]:
    """The bundle of what a brief makes."""
    asked = {"conditioning": "text", "pretrained": {"model": "tiny", "in_domain": True, "lora": {"rank": 4, "alpha": 16}}}
    small = {"items_seen": 640, "device": "cpu", "threads": 1}
    given = {"mode": "lora", "config": {"steps": STEPS, "lr_peak": 1e-2}}
    ran = road.cli("produce", str(road.write(road.brief(**asked | {"compute": small, "override": given} | changes))))
    assert ran.returncode in (0, 3), ran.stdout + ran.stderr
    backends = road.backends()
    release = backends.versions.get("digits", 1)
    folder = fetch_bundle(backends.store, release.bundle_sha256, backends.home.bundles)
    return folder, read_bundle(folder)


def plain(folder: Path, adapter: Path | str, noise: np.ndarray[Any, Any], at: Path) -> Any:
    """What plain diffusers draws."""
    np.save(at / "noise.npy", noise)
    run_elsewhere(PLAIN, folder, adapter, at / "noise.npy", at / "said.npy", TEXT, UNWANTED, str(STEPS), folder=at)
    return np.load(at / "said.npy")


def graph_of(folder: Path, noise: np.ndarray[Any, Any]) -> Any:
    """What the served graph makes of the same, the texts read by the bundle's own encoder."""
    rows = Prompts.open(folder)([TEXT, UNWANTED])[None].repeat(len(noise), axis=0)
    (images,) = opened(folder / "model.onnx", threads=1).run(None, {"noise": noise, "condition": rows})
    return images


def test_a_stable_diffusion_is_adapted_from_captions_and_used_elsewhere(road: Road, tmp_path: Path) -> None:
    folder, bundle = produced(road)
    asked = bundle.spec.condition
    assert isinstance(asked, EmbeddingCondition)
    assert asked.negative
    assert (bundle.variant, bundle.lineage.decision.mode) == ("ldm", "lora")
    assert bundle.lineage.foreign is not None
    assert bundle.lineage.foreign.made_as == "StableDiffusionPipeline"
    assert bundle.adapter is not None
    assert bundle.adapter.difference == 0
    assert bundle.adapter.text_difference is not None
    assert bundle.adapter.text_difference < 1e-4
    assert (folder / OF_PIPELINE).is_file()
    noise = np.random.default_rng(0).standard_normal((3, 4, 4, 4)).astype(np.float32)
    served = graph_of(folder, noise)
    assert np.abs(served - plain(road.folder / "tiny", folder, noise, tmp_path)).max() < 1e-4, "with the adapter"
    assert np.abs(served - plain(road.folder / "tiny", "", noise, tmp_path)).max() > 1e-2, "which changes what is drawn"
    platforms.write_deployment("digits/1", road.backends(), form="diffusers", to=tmp_path / "out")
    assert np.abs(served - plain(tmp_path / "out" / "digits", "", noise, tmp_path)).max() < 1e-4, "as a pipeline of its own"


def test_its_student_draws_in_two_steps(road: Road, tmp_path: Path) -> None:
    produced(road, override={"mode": "finetune", "config": {"steps": STEPS, "lr_peak": 1e-3}}, pretrained={"model": "tiny"})
    ran = road.cli("distil", "digits/1", "--steps", "2", "--widths", "1", "--precisions", "fp32", "--minutes", "0.3")
    assert ran.returncode in (0, 3), ran.stdout + ran.stderr
    backends = road.backends()
    release = backends.versions.get("digits-distilled", 1)
    bundle = read_bundle(fetch_bundle(backends.store, release.bundle_sha256, backends.home.bundles))
    assert (bundle.variant, bundle.noise[0].shape) == ("lcm", (2, 4, 4, 4))
    asked = bundle.spec.condition
    assert isinstance(asked, EmbeddingCondition)
    assert not asked.negative, "its guidance is distilled in"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditioning": "none"}, "conditioning: none given, and pretrained.model: tiny was trained with conditioning: text"),
        (
            {"text": {"encoder": "minilm"}},
            "text.encoder: given, and pretrained.model: tiny learnt to be asked through an",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(road: Road, changes: dict[str, Any], said: str) -> None:
    known = {"conditioning": "text", "pretrained": {"model": "tiny", "in_domain": True}, "override": {"mode": "finetune"}}
    ran = road.cli("produce", str(road.write(road.brief(**known | changes))))
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert said in " ".join((ran.stdout + ran.stderr).split())
