"""Do images show what they were asked for in words? Ways from scratch at equal seconds, and Stable Diffusion's road.

    (cd CACHE && npm pack emoji-datasource-twitter@16.0.0 emoji-datasource-google@16.0.0 emojibase-data@17.0.0)   # 140 MB
    .venv/bin/python benchmarks/text.py --cache CACHE [--jobs 2] [--seconds 400]

Emoji of 32 x 32 in two styles with their captions, parted by code point (benchmarks/texts.py): no picture of a caption that
judges was seen by anything, in no style or tone of skin. MiniLM reads the texts. A judge that is trained apart from the
generators looks for each picture's caption among all that judge (components/evaluation/retrieval.py); beside it stand its own
score on the real pictures, chance, captions that are shuffled, and what the picture of the nearest learnt caption would get.
Every way has genwright's own recipe and the same seconds of one CPU; its last average is judged.

The road (benchmarks/text_road.py): a tiny StableDiffusionPipeline is taught, distilled and exported, and drawn from in turns with
the pipeline that taught it. `--aside` judges by captions of the training side alone: what rules are to be chosen on.

Writes benchmarks/results/text.json and text.md, and docs/pictures/prompts.png: the first captions in the order of their code
points' digests, what each way drew for them by the first seed, and the real pictures. `--again` judges text.json once more.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.shared import RESULTS, ROOT, circumstances
from benchmarks.text_judged import judge, table
from benchmarks.text_pictures import write_picture
from benchmarks.text_road import road, timed
from benchmarks.text_ways import NEAREST, WAYS, Known, nearest, shown, way

PACKAGES = ("torch", "diffusers", "transformers", "onnxruntime-gpu")
SECONDS, SEED = 400.0, 0
ROAD, TIMED = "road", "timed"


def row(what: str, known: Known, run: Path, *, seconds: float) -> dict[str, Any]:
    if what == ROAD:
        return road(run, known, seconds=seconds, seed=SEED)
    if what == TIMED:
        return timed(run, known)
    if what == NEAREST:
        return nearest(run, known)
    return way(run, known, what, seconds=seconds, seed=SEED)


def rows(cache: Path, run: Path, options: Any) -> dict[str, Any]:
    """Each in a process of its own, on one thread; the longest first, and what is timed alone."""

    def one(what: str) -> dict[str, Any]:
        asked = ["--cache", str(cache), "--run", str(run), "--seconds", str(options.seconds), "--row", what]
        asked += ["--samples", str(options.samples)]
        command = [sys.executable, "-W", "ignore", __file__, *asked, *["--aside"] * options.aside]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{what}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(f"{what}: {json.dumps(found)[:300]}", flush=True)
        return found

    jobs = (ROAD, *WAYS, NEAREST)
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(jobs, pool.map(one, jobs), strict=True))
    return found | {TIMED: one(TIMED)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a folder with the three packages")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one CPU, for each way")
    parser.add_argument("--samples", type=int, default=0, help="of each way; by default as many as there are pictures that judge")
    parser.add_argument("--aside", action="store_true", help="judge by captions of the training side; nothing is written")
    parser.add_argument("--again", action="store_true", help="judge text.json once more; nothing is trained")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = RESULTS / "text.json"
    if options.again:
        _write(results, json.loads(results.read_text()))
        return
    if options.cache is None:
        parser.error("--cache FOLDER is needed: a folder with the three packages")
    cache, began = options.cache.resolve(), time.monotonic()
    known = Known.of(cache, aside=options.aside, samples=options.samples)
    with tempfile.TemporaryDirectory() as scratch:
        run = options.run or Path(scratch)
        if options.row:
            import torch

            torch.set_num_threads(1)
            print(json.dumps(row(options.row, known, run, seconds=options.seconds)))
            return
        found = rows(cache, run, options)
        pictures = shown(run, known)
    asked = {
        "seconds": options.seconds, "jobs": options.jobs, "minutes": (time.monotonic() - began) / 60, "made_s": known.took,
        "captions": len(known.parts["judged"]),
        "items": {name: len(part) for name, part in known.parts.items()},
    }  # fmt: skip
    told = circumstances(*PACKAGES) | {"asked": asked, "rows": found}
    if options.aside:
        print(table(told | {"reached": judge(told)}))
        return
    _write(results, told)
    write_picture(pictures, ROOT / "docs" / "pictures" / "prompts.png")


def _write(results: Path, told: dict[str, Any]) -> None:
    results.write_text(json.dumps(told, indent=1) + "\n")  # what was measured is kept, whatever comes of judging it
    prompts = RESULTS / "prompts.json"
    if prompts.exists():
        told |= {"prompts": json.loads(prompts.read_text())["added_ms"]}
    told |= {"reached": judge(told)}
    results.write_text(json.dumps(told, indent=1) + "\n")
    results.with_suffix(".md").write_text(table(told))
    print(results.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
