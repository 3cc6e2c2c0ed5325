import json
from dataclasses import replace

import pytest

from analyses import result_tables
from analyses.bench import plan
from interp.pipeline.costs import Cost


def test_planned_and_measured_costs_are_shown_with_the_largest_factor(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(plan.Speed, "measure", lambda: plan.Speed(1e11, 4e11, 4e10, 1.0))
    results = plan.main([str(tiny_run.path), "--out", str(tmp_path)])
    assert json.loads((tmp_path / "results.json").read_text()) == results
    *stages, whole = results["runs"][tiny_run.path.name]
    assert len(stages) == 13 and whole["stage"] == "all"
    assert whole["measured_seconds"] == pytest.approx(sum(row["measured_seconds"] for row in stages))
    assert whole["measured_memory"] == max(row["measured_memory"] for row in stages)
    sae = next(row for row in stages if row["stage"] == "sae")
    assert sae["planned_disk"] == 4 * 2 * 32 * 64
    assert "| stage, tiny | seconds planned | measured |" in result_tables.plan(results)
    rows = [{"stage": name, "planned_seconds": 10.0, "measured_seconds": took} for name, took in (("a", 30), ("b", 12))]
    rows += [{"stage": "c", "planned_seconds": 9.0, "measured_seconds": 1}, {**rows[1], "stage": "all"}]
    told = result_tables.plan_in_short({"runs": {"tiny": rows}})
    assert told == "Planned seconds are off by a factor of 1.20 for tiny as a whole (at most 3.00 for a stage: a)."


def test_the_factor_of_bookkeeping_makes_the_plan_the_measured_seconds():
    speed, cost = plan.Speed(1e3, 1e3, 1e3, 2.0), Cost(float32_operations=4e3, seconds=3.0)
    factor = plan.bookkeeping_factor(cost, speed, 25.0)
    assert factor == pytest.approx((25 - 4) / 6)
    assert replace(cost, seconds=factor * cost.seconds).seconds_on(speed) == pytest.approx(25)
    assert plan.bookkeeping_factor(cost, speed, 3.0) is None
    assert plan.bookkeeping_factor(Cost(moved=1.0), speed, 3.0) is None


def test_the_table_on_paper_is_that_of_its_formulas():
    table = {row["what"]: row for row in plan.on_paper(plan.Assumed())}
    assert table["activations on disk"]["8"] == "4.6 TB" and 10**9 * (2304 * 2 + 4) / 1e12 == pytest.approx(
        4.6, abs=0.05
    )
    encoding, moved = 2 * 2304 * 1e15, 28 * 2 * 2304 * 1e6 * 1e9 / 65536 + 24 * 1e9 * 64 * 2304
    seconds = encoding / (8 * 0.4 * 989e12) + moved / (8 * 0.6 * 3.35e12)
    assert table["training, on the devices"]["8"] == f"{seconds / 60:.1f} min"
    assert table["training, bytes a device"]["8"] == f"{(16 * 2 * 2304 * 1e6 / 8 + 8 * 2 * 2304 * 65536) / 1e9:.1f} GB"
    assert plan.Assumed().speed(64).bfloat16_rate == 8 * plan.Assumed().speed(8).bfloat16_rate
    assert Cost(bfloat16_operations=plan.Assumed().speed(8).bfloat16_rate).seconds_on(plan.Assumed().speed(8)) == 1
