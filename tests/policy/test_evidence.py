"""Measured cases outrank priors: which cases are similar, what is better beyond chance, and what a plan says of it."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.brief import OverrideBrief
from components.core.card import Card
from components.core.records import Case, Decision, EvidenceRow, EvidenceTable, Facts, Machine, Metric, ScoringProtocol
from components.policy.contenders import contenders
from components.policy.decide import decide
from components.policy.evidence import SIMILAR, distance

PROTOCOL = ScoringProtocol(
    extractor="e", extractor_sha256="e" * 64, dataset_md5="d", reference_split="test", reference_count=300, samples=500,
    resizer="none", seed=0, bootstrap=200, level=0.95,
)  # fmt: skip
CASE = Case(modality="image", conditioning="none", side=8, items=1797, tier="tiny", items_seen=120_000, seconds=120, device="cpu")
HERE, LAPTOP = (Machine(training=f"{name}, 2 threads", drawing=f"{name}, 4 threads") for name in ("Xeon", "Celeron"))
SMALL = {"items": 1797, "side": 8, "tier": "tiny", "items_seen": 120_000}


def metric(value: float, half: float, better: Any = "lower") -> Metric:
    return Metric(value=value, low=value - half, high=value + half, n=500, better=better)


def row(name: str, fd: float, *, half: float = 0.1, latency_ms: float = 5.0, run: str = "", **changes: Any) -> EvidenceRow:
    """A measured case of digits."""
    family, _, variant = name.partition("/")
    known: dict[str, Any] = {
        "family": family, "variant": variant, "mode": "scratch", "delivery": "one_pass", "case": CASE, "protocol": PROTOCOL,
        "metrics": {"fd": metric(fd, half), "latency_p95_ms": metric(latency_ms, 0.1)}, "train_s": 120.0, "items_seen": 120_000,
        "genwright": "0.1.0", "model": "digits", "who": "tester", "run_id": run or f"{name} {fd}", "kind": "proof",
        "machine": HERE,
    }  # fmt: skip
    return EvidenceRow(**known | changes)


@pytest.fixture
def planned(cards: dict[tuple[str, str], Card], facts_of: Callable[..., Facts]) -> Callable[..., Decision]:
    def plan(*rows: EvidenceRow, override: OverrideBrief | None = None, **changes: Any) -> Decision:
        evidence = EvidenceTable(rows=rows)
        return decide(facts_of(**SMALL | changes), cards=cards, override=override, evidence=evidence, machine=HERE)

    return plan


def said(decision: Decision) -> str:
    """What the plan says of the evidence."""
    (reason,) = (each for each in decision.reasons if each.rule.startswith("evidence."))
    assert "0049-evidence" in reason.source
    return reason.text


VAE, DIFFUSION, GAN = "vae/gaussian", "diffusion/ect", "gan/dcgan"
FEW = {"delivery": "few_step"}


def test_the_distance_of_two_cases_is_that_of_the_page() -> None:
    assert distance(CASE, CASE) == 0
    assert distance(CASE, CASE.model_copy(update={"side": 16, "items": 4 * 1797})) == pytest.approx(2.0)
    assert distance(CASE, CASE.model_copy(update={"items_seen": 480_000})) == pytest.approx(1.0)
    assert distance(CASE, CASE.model_copy(update={"device": "cuda", "tier": "small"})) == pytest.approx(1.5)
    assert distance(CASE, CASE.model_copy(update={"latency_ms": 10.0})) == pytest.approx(0.5)
    assert math.isinf(distance(CASE, CASE.model_copy(update={"conditioning": "class"})))
    assert math.isinf(distance(CASE, CASE.model_copy(update={"modality": "audio"})))
    by_time = CASE.model_copy(update={"items_seen": None, "seconds": 480.0})
    assert distance(CASE, by_time) == distance(by_time, CASE) == pytest.approx(1.0)


def test_what_was_measured_to_be_better_is_chosen_and_says_so(planned: Callable[..., Decision]) -> None:
    prior = planned()
    assert (prior.family, prior.evidence and prior.evidence.decided) == ("vae", False)
    assert said(prior) == "nothing was measured yet, so the texts' priors decide"
    found = planned(row(VAE, 1.0), row(GAN, 0.5))
    assert (found.family, found.variant) == ("gan", "dcgan")
    assert "measured: gan/dcgan has fd 0.5 ± 0.1 where vae/gaussian has 1 ± 0.1" in said(found)
    assert "the tables alone would choose vae/gaussian" in said(found)
    assert found.evidence is not None
    assert found.evidence.decided
    assert {case.name for case in found.evidence.cases} == {VAE, GAN}
    assert found.overridden is None


@pytest.mark.parametrize(
    ("rows", "because"),
    [
        ((row(VAE, 1.0, half=0.3), row(GAN, 0.6, half=0.3)), "no other one is better beyond chance"),
        ((row(GAN, 0.1),), "none beside vae/gaussian"),
        ((row(VAE, 1.0), row(GAN, 0.1, protocol=PROTOCOL.model_copy(update={"samples": 2000}))), "none beside vae/gaussian"),
        ((row(VAE, 1.0), row(GAN, 0.1, items_seen=480_000, train_s=480.0)), "none beside vae/gaussian"),
        ((row(VAE, 1.0), row(GAN, 0.1, mode="finetune")), "none beside vae/gaussian"),
        ((row(VAE, 1.0, case=CASE.model_copy(update={"side": 64})),), "none is similar"),
        ((row(VAE, 1.0, run="a"), row(VAE, 0.4, run="b"), row(GAN, 0.3)), "no other one is better beyond chance"),
    ],
    ids=["within chance", "one alone", "another protocol", "more work", "another start", "far away", "seeds differ as much"],
)
def test_else_the_tables_decide(planned: Callable[..., Decision], rows: tuple[EvidenceRow, ...], because: str) -> None:
    found = planned(*rows)
    assert found.family == "vae"
    assert because in said(found)
    assert found.evidence is not None
    assert not found.evidence.decided


def test_a_hard_constraint_and_a_goal_outrank_what_was_measured(planned: Callable[..., Decision]) -> None:
    measured = (row(VAE, 1.0), row(GAN, 0.1))
    assert planned(*measured, goal="stability").family == "vae"
    assert "no metric says what the goal stability asks" in said(planned(*measured, goal="stability"))
    assert planned(*measured, goal="latent").family == "vae"


def test_what_was_too_slow_is_not_chosen_and_loses(planned: Callable[..., Decision]) -> None:
    at = CASE.model_copy(update={"latency_ms": 20.0})
    slow = row(GAN, 0.1, latency_ms=30.0, case=at)
    assert planned(row(VAE, 1.0, case=at), slow, latency_ms=20.0).family == "vae"
    found = planned(row(VAE, 1.0, latency_ms=30.0, case=at), row(GAN, 2.0, case=at), latency_ms=20.0)
    assert found.family == "gan"
    assert "where vae/gaussian has 1 ± 0.1 and is too slow (30 ms measured, the limit is 20 ms)" in said(found)
    alone = said(planned(row(VAE, 1.0, latency_ms=30.0, case=at), latency_ms=20.0))
    assert "none beside vae/gaussian, which is too slow (30 ms measured, the limit is 20 ms)" in alone


@pytest.mark.parametrize("runs", ["abc", "cba"])
def test_in_place_of_what_was_too_slow_the_best_of_the_others_is_chosen(planned: Callable[..., Decision], runs: str) -> None:
    at = CASE.model_copy(update={"latency_ms": 20.0})
    slow = row(VAE, 1.0, latency_ms=30.0, case=at, run="o")
    others = {GAN: 30.0, "gan/sngan": 0.3, "gan/wgan-gp": 1.2}
    rows = [row(name, fd, case=at, run=run) for run, (name, fd) in zip(runs, others.items(), strict=True)]
    found = planned(slow, *rows, latency_ms=20.0)
    assert (found.family, found.variant) == ("gan", "sngan")
    unsure = row("gan/sngan", 3.0, half=2.5, case=at, run="d")
    found = planned(slow, rows[0], rows[2], unsure, latency_ms=20.0)
    assert found.variant == "wgan-gp", "what is known less surely is no better for it"


def test_a_slow_machine_of_others_rules_nothing_out_and_corrects_no_time(planned: Callable[..., Decision]) -> None:
    at = CASE.model_copy(update={"latency_ms": 20.0})
    plain = planned(row(VAE, 1.0, case=at), latency_ms=20.0)
    expected = {name: getattr(plain.estimate, name).value for name in ("training_s", "memory_gb", "latency_ms")}
    for machine in (LAPTOP, Machine(), HERE):
        theirs = row(
            VAE, 1.0, latency_ms=30.0, case=at, machine=machine, train_s=5 * expected["training_s"], expected=expected,
            memory_gb=2 * expected["memory_gb"], dry={"training_s": expected["training_s"]},
        )  # fmt: skip
        used = planned(theirs, latency_ms=20.0).evidence
        assert used is not None
        clocked = {"training_s", "latency_ms"} if machine == HERE else set()
        assert set(used.factors) == {"memory_gb"} | clocked
        assert set(used.dry_factors) == clocked - {"latency_ms"}
        found = planned(theirs, row(GAN, 2.0, case=at), latency_ms=20.0)
        assert found.family == ("gan" if machine == HERE else "vae")
    better = planned(row(VAE, 1.0, machine=LAPTOP), row(GAN, 0.5, machine=LAPTOP))
    assert better.family == "gan", "quality counts wherever it was measured"
    as_long = row(GAN, 0.1, items_seen=480_000)
    assert planned(row(VAE, 1.0), as_long).family == "gan"
    assert planned(row(VAE, 1.0), as_long.model_copy(update={"machine": LAPTOP})).family == "vae", "its seconds are others"


def test_a_training_that_was_measured_twice_counts_once(planned: Callable[..., Decision]) -> None:
    again = [row(VAE, 1.0, run="a", record=f"runs/digits/{k}/prove.json") for k in "12"]
    assert EvidenceTable().with_rows(again).rows == tuple(sorted(again, key=lambda each: each.origin))
    assert "has 1.3 ±" in said(planned(*again, row(VAE, 1.6, run="b"), row(GAN, 1.4)))


def test_an_override_still_forces_and_the_plan_says_what_was_measured(planned: Callable[..., Decision]) -> None:
    forced = planned(row(VAE, 1.0), row(GAN, 0.5), override=OverrideBrief(family="vae"))
    assert forced.family == "vae"
    assert forced.overridden is not None
    assert forced.overridden.startswith("gan/dcgan")


def test_the_same_rows_decide_the_same_in_whatever_order(planned: Callable[..., Decision]) -> None:
    rows = [row(VAE, 1.0 + k / 50, run=f"v{k}") for k in range(3)] + [row(GAN, 0.4 + k / 50, run=f"g{k}") for k in range(3)]
    first = planned(*rows)
    random.Random(0).shuffle(rows)
    assert planned(*rows) == first
    far = row("flow/glow", 0.1, case=CASE.model_copy(update={"side": 256}))
    again = planned(*rows, far).evidence
    assert first.evidence is not None
    assert again is not None
    assert again.sha256 == first.evidence.sha256, "only rows that were looked at count"


def test_the_nearest_case_decides_where_two_disagree(planned: Callable[..., Decision]) -> None:
    other, far = PROTOCOL.model_copy(update={"dataset_md5": "other"}), CASE.model_copy(update={"side": 16})
    farther = (row(VAE, 0.1, case=far, protocol=other), row(GAN, 1.0, case=far, protocol=other))
    assert planned(*farther, row(VAE, 1.0), row(GAN, 0.1)).family == "gan"
    assert planned(*farther).family == "vae"
    assert distance(CASE, far) <= SIMILAR


def test_what_similar_trainings_took_corrects_the_estimate(planned: Callable[..., Decision]) -> None:
    plain = planned()
    expected = {name: getattr(plain.estimate, name).value for name in ("training_s", "memory_gb", "latency_ms")}
    took = row(
        VAE, 1.0, train_s=2 * expected["training_s"], memory_gb=0.5 * expected["memory_gb"],
        latency_ms=3 * expected["latency_ms"], expected=expected,
    )  # fmt: skip
    found = planned(took)
    assert found.estimate.training_s.value == pytest.approx(2 * expected["training_s"], rel=0.01)
    assert found.estimate.memory_gb.value == pytest.approx(0.5 * expected["memory_gb"], rel=0.01)
    assert found.estimate.latency_ms.value == pytest.approx(3 * expected["latency_ms"], rel=0.01)
    assert found.estimate.cost_usd.value == pytest.approx(2 * plain.estimate.cost_usd.value, rel=0.01)
    assert found.estimate.training_s.basis.startswith("measured: 2 times the estimate in one measured case like it")
    assert found.evidence is not None
    assert found.evidence.factors["training_s"] == pytest.approx(2.0)
    assert planned(took.model_copy(update={"stopped_by": "compute.minutes"})).estimate.training_s == plain.estimate.training_s
    assert planned(took.model_copy(update={"share": 0.25})).estimate == plain.estimate
    assert planned(row(GAN, 1.0, expected=expected)).estimate == plain.estimate


def test_the_error_of_a_dry_run_is_kept_apart_from_that_of_the_tables(planned: Callable[..., Decision]) -> None:
    plain = planned()
    found = planned(row(VAE, 1.0, train_s=120.0, dry={"training_s": 60.0}), row(GAN, 1.0, dry={"training_s": 1.0}))
    assert found.estimate == plain.estimate
    assert found.evidence is not None
    assert (found.evidence.factors, found.evidence.dry_factors) == ({}, {"training_s": 2.0})


def test_merging_twice_changes_nothing_and_keeps_where_rows_come_from() -> None:
    ours, theirs = EvidenceTable(rows=(row(VAE, 1.0),)), EvidenceTable(rows=(row(GAN, 0.5, who="another team"), row(VAE, 1.0)))
    once = ours.with_rows(theirs.rows)
    assert len(once.rows) == 2
    assert once.with_rows(theirs.rows) == once == once.with_rows(once.rows)
    assert {each.who for each in once.rows} == {"tester", "another team"}
    assert EvidenceTable(rows=once.rows[::-1]).sha256 == once.sha256 != ours.sha256


def test_every_measurement_has_a_row_and_of_one_the_last_stays() -> None:
    proof, rung = row(VAE, 1.0, record="runs/a/prove.json"), row(VAE, 1.0, kind="bakeoff-25", record="runs/a/rung-25-500.json")
    others = (
        proof.model_copy(update={"record": "runs/b/prove.json"}),  # another champion beside it, other gates
        proof.model_copy(update={"protocol": PROTOCOL.model_copy(update={"samples": 4000})}),
        rung.model_copy(update={"record": "runs/a/rung-25-900.json", "protocol": PROTOCOL.model_copy(update={"samples": 900})}),
    )
    assert len(EvidenceTable().with_rows((proof, rung, *others)).rows) == 5
    later = proof.model_copy(update={"measured_at": "2026-12-01T00:00:00.000+00:00", "train_s": 1.0})
    assert EvidenceTable(rows=(proof,)).with_rows([later]).rows == (later,)
    assert EvidenceTable(rows=(later,)).with_rows([proof]).rows == (later,)


ROWS = st.builds(
    lambda name, run, record, at, seconds: row(
        name, 1.0, run=run, record=record, measured_at=f"2026-12-01T00:00:0{at}.000+00:00" if at else "", train_s=seconds
    ),
    st.sampled_from([VAE, GAN]), st.sampled_from("ab"), st.sampled_from(["", "x", "y"]), st.integers(0, 2),
    st.sampled_from([1.0, 2.0]),
)  # fmt: skip
TABLES = st.lists(ROWS, max_size=6).map(lambda rows: EvidenceTable().with_rows(rows))


@settings(max_examples=100, deadline=None)
@given(TABLES, TABLES, TABLES)
def test_tables_merge_in_any_order_to_the_same(one: EvidenceTable, two: EvidenceTable, three: EvidenceTable) -> None:
    merged = one.with_rows(two.rows)
    assert merged == two.with_rows(one.rows) == merged.with_rows(two.rows)
    assert merged.with_rows(three.rows) == one.with_rows(two.with_rows(three.rows).rows)
    assert {each.origin for each in merged.rows} == {each.origin for each in (*one.rows, *two.rows)}
    assert merged.beyond(merged) == 0 <= merged.beyond(one)


def test_contenders_are_one_of_each_family_first_and_the_measured_worse_last(
    cards: dict[tuple[str, str], Card], facts_of: Callable[..., Facts], planned: Callable[..., Decision]
) -> None:
    def names(*rows: EvidenceRow) -> list[str]:
        facts, own = facts_of(**SMALL), planned(*rows)
        return [
            f"{each.family}/{each.variant}" for each in contenders(facts, own, cards=cards, evidence=EvidenceTable(rows=rows))
        ]

    plain = names()
    assert [name.split("/")[0] for name in plain[:4]] == ["diffusion", "gan", "autoregressive", "flow"]
    assert len(plain) == len(set(plain)) > 10
    assert VAE not in plain
    best = plain[1]
    assert names(row(VAE, 1.0), row(best, 5.0))[-1] == best
