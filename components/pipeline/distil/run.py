"""From a release to the cheapest student of it that is fast enough and no worse. The stages are those of a production."""

from functools import partial
from typing import Any

from components.core.errors import ExportError
from components.pipeline import existing
from components.pipeline.backends import Backends
from components.pipeline.distil.curve import Curve, Finished, curve_of, keep
from components.pipeline.distil.request import DistillRequest, teacher_of
from components.pipeline.distil.students import expected_total, students
from components.pipeline.lease import check_lease, lease
from components.pipeline.production import After, Call, put_run, run_stages, silent
from components.pipeline.run import Produced
from components.runtime.progress import announce


def distil(
    reference: str, request: DistillRequest, backends: Backends, call: Call, after: After = silent
) -> tuple[Curve, Produced | None]:
    """Train and prove every student that is asked for, keep the curve, and release the fastest that every gate passed.

    `after` is called as for a production, with "train" for a student, and with "left out" and an ExportError for a precision in
    which no graph agrees.
    """
    release, taught, trained = teacher_of(reference, backends)
    total_s, basis = expected_total(release, taught, trained, request, backends)
    announce("Distilling", about_s=total_s, basis=basis)
    finished: list[Finished] = []
    making = students(release, taught, trained, request)
    run = next(making)
    with lease(run.brief.name, backends) as held:
        while True:
            records: dict[str, Any] = {"run": run, "lease": held}
            put_run(run, backends)
            run_stages(records, call, through="train")
            after("student", (run, records["train"]))
            try:
                run_stages(records, call, through="prove")
            except ExportError as error:
                if run.brief.serving.precision == "fp32":
                    raise
                after("left out", error)
            else:
                after("judged", records["prove"])
                finished.append(Finished(run, records["train"], records["export"], records["prove"]))
            try:
                run = making.send(records["train"])
            except StopIteration:
                break
        curve = curve_of(release, finished, request)
        keep(curve, backends, request.name, check=partial(check_lease, held, backends.store))
        if curve.chosen is None:
            return curve, None
        best = finished[curve.chosen]
        if (known := existing.find_existing_result(best.run, backends)) is not None:
            return curve, known
        records = {"run": best.run, "lease": held, "train": best.trained, "export": best.exported, "prove": best.proof}
        run_stages(records, call)
    return curve, records["promote"]
