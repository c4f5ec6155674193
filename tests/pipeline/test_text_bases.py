"""A Stable Diffusion made elsewhere, from captions to a release: adapted, distilled, and used by plain diffusers.

The first test is what briefs/product-photos-lora.yaml asks for, at tiny size.
"""

import io
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import made_from_text
import numpy as np
import pytest
from elsewhere import run_elsewhere
from roads import LENIENT_BY_TEXT, ApartRoad, First, Road, digits, served, trained_in_a_fork

from components.core.brief import Brief
from components.core.bundles import read_bundle
from components.core.records import Bundle, EmbeddingCondition
from components.delivery.bundles import fetch_bundle
from components.pipeline import platforms, proof, training
from components.pipeline.run import Run, Trained, record_key
from components.runtime.prompts import Prompts
from components.runtime.session import opened
from components.training.adapter.files import OF_PIPELINE
from components.training.trainer import Trainer

COUNT, STEPS = 200, 4
SMALL: dict[str, Any] = {  # of one level, whose graph is traced sooner
    "block_out_channels": (16,), "down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",),
}  # fmt: skip
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


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)


@pytest.fixture
def road(tmp_path: Path, first: First) -> Road:
    """Digits with two captions each, and a tiny Stable Diffusion that knows the words."""
    from PIL import Image

    from components.data.prepare import prepare
    from components.data.versions import track

    made, source = Road(tmp_path / "road"), tmp_path / "pictures"
    first.road.new_home(made.home)
    shutil.copy(first.road.folder / "empty.db", made.folder)
    source.mkdir()
    images, labels = digits()
    rows = []
    for at, (image, label) in enumerate(zip(images[:COUNT], labels[:COUNT], strict=True)):
        Image.fromarray(image).save(source / f"{at:04d}.png")
        word = made_from_text.DIGITS[label]
        rows.append(json.dumps({"file_name": f"{at:04d}.png", "text": [f"a handwritten {word}", f"a scanned {word} {at % 40}"]}))
    (source / "metadata.jsonl").write_text("\n".join(rows))
    prepare(source, made.folder / "data" / "digits", cache=made.home / "data", progress=False)
    track(made.folder / "data" / "digits")
    made_from_text.write_stable_diffusion(made.folder / "tiny", **SMALL)
    return made


def tuned(road: Road, *, items: int = 640, **changes: Any) -> Brief:
    """The brief of a LoRA from captions."""
    asked = {"conditioning": "text", "pretrained": {"model": "tiny", "in_domain": True, "lora": {"rank": 4, "alpha": 16}}}
    small = {"items_seen": items, "device": "cpu", "threads": 1}
    given = {"mode": "lora", "config": {"steps": STEPS, "lr_peak": 1e-2}}
    return road.brief(**asked | {"compute": small, "override": given} | changes)


def produced(road: Road, **changes: Any) -> tuple[Path, Bundle]:
    """The bundle of what a brief makes."""
    ran = road.cli("produce", str(road.write(tuned(road, **changes))))
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


def asked(address: str, **body: Any) -> Any:
    """The items of a request, as numbers."""
    reply = httpx.post(f"{address}/v1/generate", json=body | {"format": "npy"}, timeout=60)
    assert reply.status_code == 200, reply.text
    return np.load(io.BytesIO(reply.content))


@pytest.mark.slow
def test_it_is_adapted_killed_and_gone_on_with_reloaded_gated_released_and_asked_by_prompt(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the policy's own choice, LoRA. The training that SIGKILL ends in mid-step makes what the undisturbed one does."""
    monkeypatch.chdir(road.folder)  # what the brief's paths are relative to
    recipe = {"steps": 1, "lr_peak": 1e-2, "batch_size": 16}
    brief = tuned(road, items=64, override={"config": recipe}, gates=LENIENT_BY_TEXT)
    assert trained_in_a_fork(brief, road, kill_at=2) == -signal.SIGKILL
    apart = ApartRoad(road.folder)
    apart.home.mkdir()
    for known in ("encoders", "embeddings", "extractors"):
        shutil.copytree(road.home / known, apart.home / known)
    shutil.copy(road.folder / "empty.db", apart.home / "mlflow.db")
    with monkeypatch.context() as patch:  # of the one that is released it is asked below
        patch.setattr(training, "_reloaded", lambda *_: None)
        whole = apart.train_here(brief).checkpoint

    resumed, begun = Trainer._resume, []
    monkeypatch.setattr(Trainer, "_resume", lambda trainer: (resumed(trainer), begun.append(trainer.step))[0])
    made = road.produce_here(brief)
    assert begun == [2], "it goes on, and does not begin again"
    run = road.backends().workspace.read(f"runs/digits/{made.run_key}/run.json", Run)
    kept = road.backends().workspace.read(record_key(run, "train"), Trained)
    assert kept is not None
    assert (kept.checkpoint.weights, kept.checkpoint.adapter) == (whole.weights, whole.adapter), "digest for digest"
    assert (run.decision.variant, run.decision.mode, run.decision.overridden) == ("ldm", "lora", None)

    bundle = made.bundle.bundle
    adapter = bundle.adapter
    assert adapter is not None, "a process of torch, peft and diffusers alone has loaded it by load_lora_weights"
    assert [each.partition(" ")[0] for each in adapter.loaded_by] == ["peft", "diffusers"]
    assert (adapter.network, adapter.difference) == ("UNet2DConditionModel", 0)
    assert adapter.merged_difference is not None
    assert adapter.merged_difference < 1e-5
    assert "; asked with texts it draws images that differ by " in adapter.text
    assert adapter.text_difference is not None, "and its pipeline was asked in words"
    assert adapter.text_difference < 1e-4
    assert (made.gates.verdict, made.promoted, made.release.version) == ("pass", True, 1)

    with served(road, "digits") as address:
        one = asked(address, prompt=TEXT, negative=UNWANTED, seeds=[7])
        several = asked(address, prompt=[TEXT, "a scanned seven"], negative=[UNWANTED, ""], seeds=[7, 8])
        assert np.array_equal(one[0], several[0]), "alone and beside another, the same bytes"
        assert not np.array_equal(one, asked(address, prompt="a scanned one", negative=UNWANTED, seeds=[7]))
        assert not np.array_equal(one, asked(address, prompt=TEXT, seeds=[7])), "what is unwanted is heard"


@pytest.mark.nightly
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


@pytest.mark.nightly
@pytest.mark.parametrize(("base", "variant"), [("tiny", "lcm"), ("flow", "mmdit-lcm")])
def test_its_student_draws_in_two_steps(road: Road, tmp_path: Path, base: str, variant: str) -> None:
    made_from_text.write_flow(road.folder / "flow")
    produced(road, override={"mode": "finetune", "config": {"steps": STEPS, "lr_peak": 1e-3}}, pretrained={"model": base})
    ran = road.cli("distil", "digits/1", "--steps", "2", "--widths", "1", "--precisions", "fp32", "--minutes", "0.3")
    assert ran.returncode in (0, 3), ran.stdout + ran.stderr
    backends = road.backends()
    release = backends.versions.get("digits-distilled", 1)
    bundle = read_bundle(fetch_bundle(backends.store, release.bundle_sha256, backends.home.bundles))
    assert (bundle.variant, bundle.noise[0].shape) == (variant, (2, 4, 4, 4))
    asked = bundle.spec.condition
    assert isinstance(asked, EmbeddingCondition)
    assert not asked.negative, "its guidance is distilled in"
    platforms.write_deployment("digits-distilled/1", backends, form="diffusers", to=tmp_path / "out")
    card = (tmp_path / "out" / "digits-distilled" / "README.md").read_text()
    assert "guidance_scale=1, " in card
    assert ("sigmas=[1.0, 0.5], " if base == "flow" else "num_inference_steps=2)") in card


@pytest.mark.nightly
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
