"""This process, each stage written down as it begins."""

from pathlib import Path

from components.pipeline import production


def run(job, backends):
    here = production.in_process(backends)

    def call(stage, records):
        with (Path(backends.settings.root) / "stages.txt").open("a") as file:
            file.write(f"{stage.name}\n")
        return here(stage, records)

    return job(call)
