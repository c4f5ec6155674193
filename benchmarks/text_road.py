"""Stable Diffusion's road, tiny: an AutoencoderKL and a UNet2DConditionModel of diffusers, asked through MiniLM; taught,
distilled to few steps with its guidance within, exported, and drawn in turns with the pipeline that taught it.

Its autoencoder is trained here, as it comes with a base elsewhere. All else is genwright's: the U-Net is taught as a
`diffusion/ldm`, the student is a `diffusion/lcm`.

B batch, L tokens, D features.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text_ways import BATCH, METRICS, Known, cells, keep_shown, restored, train
from benchmarks.texts import LENGTH, SIDE, Captioned

CODEC: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": SIDE, "layers_per_block": 1, "norm_num_groups": 8,
    "block_out_channels": [16, 32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel", "sample_size": SIDE // 4, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
    "block_out_channels": [32, 64], "norm_num_groups": 8, "cross_attention_dim": 384, "attention_head_dim": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2, "up_block_types": ["CrossAttnUpBlock2D"] * 2,
}  # fmt: skip
CODEC_SHARE, CODEC_RATE, CODEC_BATCH = 0.25, 2e-3, 16  # of the seconds of a way, before them
STUDENT_SHARE = 1.7
STUDENT_STEPS = 4
PAIRED = 2  # samples of each caption more than of the other ways: what the student loses is to be told narrowly
GRAPH = "graph.json"
TEACHER, STUDENT = "Stable Diffusion, tiny", f"its student in {STUDENT_STEPS} steps"
PIPELINE_STEPS = (50, 20)  # by which it teaches, the default of a StableDiffusionPipeline; and what is often taken
ROUNDS, ROUND_S = 5, 3.0


def codec_of(split: Captioned, *, seconds: float, seed: int) -> tuple[Any, int]:
    """An AutoencoderKL after so many seconds of one CPU, its scale measured; and the steps."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from torch.nn import functional as F

    torch.manual_seed(seed)
    codec = AutoencoderKL(**CODEC)
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 127.5 - 1
    optimizer = torch.optim.Adam(codec.parameters(), lr=CODEC_RATE)
    steps, began = 0, time.process_time()
    while (done := (time.process_time() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = CODEC_RATE * min(1.0, (steps + 1) / 50, 2 * (1 - done))
        clean = images[torch.randint(len(images), (CODEC_BATCH,))]
        posterior = codec.encode(clean).latent_dist
        loss = F.mse_loss(codec.decode(posterior.sample()).sample, clean) + 4e-7 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        steps += 1
    with torch.no_grad():
        codes = codec.eval().encode(images[torch.randperm(len(images))[:512]]).latent_dist.mode()
    codec.register_to_config(scaling_factor=1 / float(codes.std()))
    return codec, steps


def taught(folder: Path, known: Known, *, seconds: float, seed: int) -> tuple[Any, dict[str, Any]]:
    """The checkpoint of the teacher, in `folder`, and what it took."""
    import torch

    from components.runtime.prompts import Prompts

    codec, codec_steps = codec_of(known.parts["of the judge"], seconds=CODEC_SHARE * seconds, seed=seed)
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in codec.config.items() if name[0] != "_"}
    config = {
        "network": NETWORK,
        "autoencoder": own | {"_class_name": "AutoencoderKL"},
        "width": NETWORK["block_out_channels"][0],
    }

    def ready(family: Any) -> None:
        family.autoencoder.net.load_state_dict(codec.state_dict())
        family.denoiser.net.none_LD.copy_(torch.from_numpy(Prompts.open(known.encoder).nothing()))

    made = train(folder, known, variant="ldm", seconds=seconds, seed=seed, config=config, ready=ready)
    return made, {"codec_steps": codec_steps, "train_s": made.train_s, "steps": made.steps_total}


def student_of(folder: Path, teacher: Any, taught_in: Path, known: Known, *, seconds: float, seed: int) -> Any:
    from components.training.distillation import recipe, student_card
    from components.training.folder import best_weights
    from components.training.start.student import Student

    start = Student(teacher=teacher, weights=best_weights(taught_in, teacher.weights))
    config = recipe(teacher, steps=STUDENT_STEPS)
    return train(folder, known, variant=student_card(teacher).variant, seconds=seconds, seed=seed, config=config, start=start)


def road(run: Path, known: Known, *, seconds: float, seed: int) -> dict[str, Any]:
    """The student's graph beside its teacher, each caption on the same seeds: what both find, and what is lost."""
    from components.core.errors import ExportError
    from components.evaluation.pair import Contender, score_pair
    from components.export.graph import export_graph
    from components.export.parity import check_parity
    from components.training.sampling import TorchSampler

    teacher, told = taught(run / "teacher", known, seconds=seconds, seed=seed)
    student = student_of(run / "student", teacher, run / "teacher", known, seconds=STUDENT_SHARE * seconds, seed=seed)
    family, began = restored(student, run / "student"), time.process_time()
    graph = export_graph(family, run / "model.onnx")
    graph.write(run / GRAPH)
    told |= {"export_s": time.process_time() - began, "bytes": (run / "model.onnx").stat().st_size}
    try:
        told["parity"] = check_parity(family, run / "model.onnx", graph).worst
    except ExportError:  # a figure that is missed, not the end of the bench
        told["parity"] = float("inf")
    sampler = graph_sampler(run, family)
    judged = known.parts["judged"]
    drawing = TorchSampler(restored(teacher, run / "teacher"), subject="torch:teacher", batch=BATCH)
    beside = score_pair(
        Contender(sampler, condition=family.spec.condition), Contender(drawing, condition=known.condition),
        dataset=judged.dataset, train=known.parts["learnt"], reference=judged, extractor=known.extractor,
        samples=PAIRED * known.samples,
        looks=1, reference_split="judged", judge=known.judge,
    )  # fmt: skip
    keep_shown(run, TEACHER, drawing, known)
    keep_shown(run, STUDENT, sampler, known)
    return {
        TEACHER: cells(beside.champion, METRICS),
        STUDENT: cells(beside.candidate, (*METRICS, "text_lost")),
        "told": told
        | {"student_s": student.train_s, "student_steps": student.steps_total, "guidance": teacher.config["guidance"]},
    }


def graph_sampler(run: Path, family: Any) -> Any:
    from components.export.graph import Graph
    from components.runtime.session import GraphSampler

    graph = Graph.read(run / GRAPH)
    return GraphSampler(
        run / "model.onnx", spec=family.spec, noise=family.noise_inputs(), condition=graph.condition, output=graph.output,
        batch=BATCH, threads=1,
    )  # fmt: skip


def timed(run: Path, known: Known) -> dict[str, Any]:
    """Images a second from texts, one core: the graph and MiniLM's, and the pipeline in its steps; in turns."""
    import torch

    from components.core.noise import draw
    from components.core.records import Checkpoint
    from components.runtime.prompts import Prompts
    from components.training.folder import FINISHED

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    teacher, student = (Checkpoint.read(run / each / FINISHED) for each in ("teacher", "student"))
    family, small = restored(teacher, run / "teacher"), restored(student, run / "student")
    pipeline, prompts = pipeline_of(family), Prompts.open(known.encoder)
    sampler = graph_sampler(run, small)
    texts = [said[0] for said in known.parts["judged"].captions[:BATCH]]
    guidance = teacher.config["guidance"]
    noise = torch.from_numpy(next(iter(draw(family.noise_inputs(), [*range(4)]).values())))
    rows = torch.from_numpy(prompts(texts[:4]))
    none = torch.from_numpy(prompts.nothing()).expand(4, -1, -1)
    said = pipeline(
        prompt_embeds=rows, negative_prompt_embeds=none, latents=noise, guidance_scale=guidance, output_type="np",
        num_inference_steps=teacher.config["steps"],
    ).images  # fmt: skip
    with torch.inference_mode():
        own = family.sampler().eval()(noise, rows).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    ways: dict[str, Callable[[], Any]] = {"graph": lambda: sampler([*range(BATCH)], prompts(texts))}
    for steps in PIPELINE_STEPS:
        ways[f"pipeline, {steps} steps"] = lambda steps=steps: pipeline(
            texts, num_inference_steps=steps, guidance_scale=guidance, output_type="np"
        )
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, drawn in ways.items():
            began, images = time.perf_counter(), 0
            while not images or time.perf_counter() - began < ROUND_S:
                drawn()
                images += BATCH
            if number:
                rates[name].append(images / (time.perf_counter() - began))
    return {"images_per_s": rates, "pipeline_differs": float(np.abs(own - said).max() * 2)}


def pipeline_of(family: Any) -> Any:
    """diffusers' StableDiffusionPipeline of the teacher, with MiniLM as transformers has it for what reads its texts. Its rows of
    padding are zero here, as the teacher learnt."""
    from transformers import AutoTokenizer, BertModel

    from components.encoders.minilm import minilm_folder

    class Reads(BertModel):
        def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> Any:
            rows_BLD = super().forward(input_ids, attention_mask=attention_mask).last_hidden_state
            return (rows_BLD * attention_mask[..., None],)

    encoder = Reads.from_pretrained(minilm_folder()).eval()
    encoder.config.use_attention_mask = True
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    tokenizer.model_max_length = LENGTH
    pipeline = family.pipeline()
    pipeline.register_modules(text_encoder=encoder, tokenizer=tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
