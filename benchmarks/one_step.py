"""Is a student in one step as good as its teacher, once it has learnt on from a critic?

    .venv/bin/python benchmarks/one_step.py [mnist] [--teacher 9000] [--student 4000] [--adversarial 2800] [--samples 4000]
        [--folder FOLDER]

Trains an EDM model for so many steps, a consistency student of it as `genwright distil` does, and that on against a critic; the
first two on one thread, the last on all cores; about an hour. `--folder` keeps what was trained, and an interrupted bench goes on
after the last that ended. All three are drawn from by the same seeds and judged as a proof judges them, by both representations
(decision 51): the extractor's features, and those that only a proof sees. So are as many training items, which say what the data
themselves have.

Writes benchmarks/results/one-step-NAME.json and a table beside it. A ratio is one of unbiased distances to the teacher's; what a
training costs is in seconds of the processor, of the last one in seconds of the clock.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.families import dataset_of
from benchmarks.gamed import Shelf
from benchmarks.shared import RESULTS, circumstances, verdict_lines, verdicts

SHOWN = (
    "distance_ratio", "heldout_ratio", "distance", "heldout_distance", "fd", "coverage", "coverage_lost", "recall", "recall_lost",
    "memorised", "duplicates",
)  # fmt: skip


def trained(plan: Any, train: Any, *, steps: int, path: Path) -> tuple[Any, float]:
    """The checkpoint of a training, and its seconds, of the processor on one thread, else of the clock: from the folder, where it
    ended before."""
    from safetensors.torch import save_file

    from components.core.family import Batch
    from components.core.files import sha256_of
    from components.core.records import Artifact, Checkpoint
    from components.training.device import open_device
    from components.training.folder import WEIGHTS
    from components.training.learner import Learner
    from components.training.schedule import learning_rate
    from components.training.start import build
    from components.training.stream import BatchStream

    if path.with_suffix(".json").exists():
        told = json.loads(path.with_suffix(".json").read_text())
        return Checkpoint.model_validate(told["checkpoint"]), told["seconds"]
    clock = time.process_time if plan.threads == 1 else time.monotonic
    learner = Learner(build(plan), plan, open_device("cpu", threads=plan.threads))
    family, began = learner.family, clock()
    stream = BatchStream(train, batch_size=family.config.batch_size, seed=plan.seed)
    for step in range(steps):
        done = step / steps
        rate = learning_rate(family.config, step=step, progress=family.stage_progress(done)) * family.rate_share(done)
        learner.step(Batch(*stream(step), progress=done, step=step, epoch=stream.epoch(step)), rate=rate)
    seconds = clock() - began
    save_file({name: value.contiguous() for name, value in learner.average.family.kept().items()}, path)
    checkpoint = Checkpoint(
        weights=Artifact(name=WEIGHTS, sha256=sha256_of(path), size_bytes=path.stat().st_size), family=plan.family,
        variant=plan.variant, config=family.config.model_dump(mode="json"), spec=plan.spec, dataset_md5=plan.dataset.md5,
        run_id="bench", step=steps, steps_total=steps, train_s=seconds, quality=0.0, stopped_by="items_seen",
    )  # fmt: skip
    told = {"checkpoint": checkpoint.model_dump(mode="json"), "seconds": seconds}
    path.with_suffix(".json").write_text(json.dumps(told))
    return checkpoint, seconds


def all_trained(dataset: Any, train: Any, folder: Path, *, steps: dict[str, int], seed: int) -> dict[str, Any]:
    """The checkpoint of each of the three, the path of its weights and what it cost."""
    from components.core.records import DataSpec
    from components.families import find
    from components.pipeline.distil.students import POST_RATE
    from components.runtime.cpus import usable_cpus
    from components.training.distillation import recipe
    from components.training.plan import TrainPlan
    from components.training.start.scratch import Scratch
    from components.training.start.student import Student

    spec, made = DataSpec.of(dataset), {}
    config, start, variant = find("diffusion", "edm").Config.defaults(spec, light=True), Scratch(), "edm"
    for name, count in steps.items():
        plan = TrainPlan(
            family="diffusion", variant=variant, config=config, spec=spec, dataset=dataset, folder=str(folder), run_id="bench",
            start=start, threads=usable_cpus() if name == "adversarial" else 1, seed=seed, items_seen=1,
        )  # fmt: skip
        path = folder / f"{name}.safetensors"
        checkpoint, seconds = trained(plan, train, steps=count, path=path)
        made[name] = (checkpoint, path, seconds)
        print(f"{name}: {count} steps in {seconds:.0f} s", flush=True)
        critic = name == "student"
        rate = POST_RATE * checkpoint.config["lr_peak"] if critic else None
        config, variant = recipe(checkpoint, steps=1, lr_peak=rate, adversarial=critic), "ect"
        start = Student(teacher=checkpoint, weights=path, adversarial=critic)
    return made


def judged(made: dict[str, Any], dataset: Any, train: Any, extractor: Any, *, samples: int) -> dict[str, Any]:
    """What is SHOWN of the teacher, and beside it of each student and of as many training items, which no model could better."""
    from components.data.joined import held_out
    from components.evaluation.pair import Contender, score_pair
    from components.evaluation.samples import Stock
    from components.pipeline.extractor import load_unseen
    from components.training.checkpoint import restore
    from components.training.sampling import TorchSampler
    from flows.settings import load_backends

    reference = held_out(dataset)
    unseen = load_unseen(None, reference, dataset, load_backends(), device="cpu")
    sides = {
        name: Contender(
            TorchSampler(restore(checkpoint, path).eval(), subject=f"torch:{checkpoint.weights.sha256}", batch=250), stock=Stock()
        )
        for name, (checkpoint, path, _) in made.items()
    }
    found: dict[str, Any] = {}
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:samples])
    sides["data"] = Contender(Shelf("torch:data", train.take(chosen)))
    for name in ("student", "adversarial", "data"):
        pair = score_pair(
            sides[name], sides["teacher"], dataset=dataset, train=train, reference=reference, extractor=extractor, unseen=unseen,
            samples=samples,
        )  # fmt: skip
        for each, card in (("teacher", pair.champion), (name, pair.candidate)):
            found[each] = {metric: card.metrics[metric].model_dump(mode="json") for metric in SHOWN if metric in card.metrics}
    return found


def reached(told: dict[str, Any]) -> dict[str, Any]:
    """What was to be reached in one step, and whether it was."""
    after = told["metrics"]["adversarial"]
    return verdicts(
        {
            "distance over the teacher's, on features that only the proof sees": (after["heldout_ratio"]["value"], "<=", 1.1),
            "the same, the upper end of its interval": (after["heldout_ratio"]["high"], "<=", 1.1),
            "distance over the teacher's, on the extractor's features": (after["distance_ratio"]["value"], "<=", 1.1),
            "coverage lost": (after["coverage_lost"]["value"], "<=", 0.03),
            "recall lost": (after["recall_lost"]["value"], "<=", 0.03),
            "minutes more, on all cores": (told["seconds"]["adversarial"] / 60, "<=", 10.0),
        }
    )


def page(told: dict[str, Any]) -> str:
    """The table of it."""
    lines = [f"# One step beside its teacher, {told['data']}", "", f"{told['hardware']}, {told['date']}:", ""]
    lines += [
        "    " + told["command"],
        "",
        "| | " + " | ".join(told["metrics"]) + " |",
        "|---" * (len(told["metrics"]) + 1) + "|",
    ]

    def shown(each: dict[str, Any], metric: str) -> str:
        found = each.get(metric)
        return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]" if found else ""

    lines += [f"| {metric} | " + " | ".join(shown(each, metric) for each in told["metrics"].values()) + " |" for metric in SHOWN]
    seconds = " | ".join(f"{told['seconds'][name]:.0f}" if name in told["seconds"] else "" for name in told["metrics"])
    lines += [f"| seconds of training | {seconds} |", ""]
    return "\n".join(lines + verdict_lines(told["reached"])) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="mnist", choices=["mnist", "digits"])
    parser.add_argument("--teacher", type=int, default=9000, help="steps")
    parser.add_argument("--student", type=int, default=4000)
    parser.add_argument("--adversarial", type=int, default=2800)
    parser.add_argument("--samples", type=int, default=4000, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept, and gone on from")
    asked = parser.parse_args()
    import torch

    from components.data.shards import open_split

    torch.set_num_threads(1)
    steps = {name: getattr(asked, name) for name in ("teacher", "student", "adversarial")}
    dataset, extractor = dataset_of(asked.data)
    train = open_split(dataset.path, "train")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = all_trained(dataset, train, folder, steps=steps, seed=asked.seed)
        metrics = judged(made, dataset, train, extractor, samples=asked.samples)
    words = " ".join(f"--{name} {count}" for name, count in (steps | {"samples": asked.samples}).items())
    told: dict[str, Any] = {
        "data": asked.data, "steps": steps, "command": f".venv/bin/python benchmarks/one_step.py {asked.data} {words}",
        "seconds": {name: seconds for name, (_, _, seconds) in made.items()}, "metrics": metrics,
    }  # fmt: skip
    told |= circumstances("genwright", "torch", "diffusers")
    told["reached"] = reached(told)
    path = RESULTS / f"one-step-{asked.data}.json"
    path.write_text(json.dumps(told, indent=2) + "\n")
    path.with_suffix(".md").write_text(page(told))
    print(page(told))


if __name__ == "__main__":
    main()
