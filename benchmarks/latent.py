"""How few bytes does a VAE need? Produces the demo's brief in an empty home and compresses its held-out digits.

    .venv/bin/python benchmarks/latent.py

Writes benchmarks/results/latent.json: the rate and distortion of each step of the quantiser beside PNG, JPEG and WebP, as
`genwright latent compress` measures them, with hardware and versions.
"""

import json
import os
import subprocess
import tempfile

from benchmarks.shared import RESULTS, ROOT, circumstances

GENWRIGHT = ROOT / ".venv" / "bin" / "genwright"
PACKAGES = ("genwright", "torch", "constriction", "pillow")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        told = {}
        for command in (["produce", "briefs/digits.yaml"], ["latent", "compress", "digits", "--out", f"{home}/picture.png"]):
            done = subprocess.run(
                [GENWRIGHT, *command, "--json"],
                cwd=ROOT,
                env={**os.environ, "GENWRIGHT_HOME": home},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            told[command[0]] = json.loads(done.stdout)
    measured = {name: told["latent"][name] for name in ("items", "points", "picture_codecs")}
    result = {"brief": "digits", "train_s": round(told["produce"]["train_s"], 1), **measured, **circumstances(*PACKAGES)}
    path = RESULTS / "latent.json"
    path.write_text(json.dumps(result | {"command": ".venv/bin/python benchmarks/latent.py"}, indent=2) + "\n")
    for point in measured["points"]:
        print(f"step {point['step']:g}: {point['bits_per_dim']:.3f} bits, {point['psnr_db']:.1f} dB")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
