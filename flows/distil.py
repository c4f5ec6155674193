"""From a release to the cheapest student of it that is fast enough and no worse. The stages are those of a production."""

from prefect import flow

from components.core.errors import ExportError
from components.runtime.progress import announce
from flows import distilling, standing
from flows.distilling import Curve, Finished, Wish
from flows.embedded import interruptible
from flows.lease import lease
from flows.place import Place
from flows.produce import export, promote, prove, register, seal, train
from flows.runs import Produced


@flow(name="distil")
def distil(reference: str, wish: Wish, show: bool = False) -> tuple[Curve, Produced | None]:
    """Train and prove every student that is wished for, keep the curve, and release the fastest that every gate passed."""
    from flows import show as view

    say = view.Report(enabled=show)
    place = Place()
    with interruptible():
        release, taught, trained = distilling.teacher_of(reference, place)
        total_s, made = distilling.expected_total(release, taught, trained, wish, place)
        announce("Distilling", about_s=total_s, basis=made)
        finished: list[Finished] = []
        students = distilling.students(release, taught, trained, wish)
        run, shared = next(students)
        with lease(run, place):
            while True:
                if shared is not None:
                    distilling.share(shared, run, place)
                own = train(run)
                say.student(run, own)
                try:
                    exported = export(run, own)
                except ExportError as error:
                    if run.brief.serving.precision == "fp32":
                        raise
                    say.left_out(error)
                else:
                    finished.append(Finished(run, own, exported, prove(run, own, exported)))
                    say.judged(finished[-1].proof)
                try:
                    run, shared = students.send(own)
                except StopIteration:
                    break
            curve = distilling.curve_of(release, finished, wish)
            distilling.keep(curve, place, wish.name)
            if curve.chosen is None:
                return curve, None
            best = finished[curve.chosen]
            if (known := standing.standing(best.run, place)) is not None:
                return curve, known
            stored = seal(best.run, best.trained, best.exported, best.proof)
            made = register(best.run, best.trained, stored, best.proof)
            produced: Produced = promote(best.run, best.trained, stored, made, best.proof)
    return curve, produced
