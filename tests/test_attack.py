"""A seeded share of `analyses.attack`: damage to a finished run, and flipped bits in its codes."""

from random import Random

from analyses import attack, attack_damage
from analyses.attack_damage import RUN_AGAIN


def test_damage_is_refused_by_name_with_its_remedy_and_flipped_codes_crash_nothing(tiny_run, tmp_path):
    options = attack.parse(["--quick", "--out", str(tmp_path), "--workers", "1"])
    rows = [row for kind in ("damage", "codes") for row in attack.attacked(kind, options, tiny_run.path)]
    assert [row for row in rows if row["verdict"] != "ok"] == []
    assert len(rows) == attack.QUICK["damage"] + attack.QUICK["codes"]
    assert sum(row["exit"] == 2 for row in rows) > len(rows) / 2


def test_every_file_that_a_command_reads_is_damaged_in_each_way(tiny_run):
    cases = attack_damage.cases("damage", Random(0), tiny_run.path, None)
    damaged = {next(iter(case.files)).removeprefix("run/") for case in cases}
    files = {file.relative_to(tiny_run.path).as_posix() for file in tiny_run.path.rglob("*") if file.is_file()}
    assert {name for name in files if not name.startswith(attack_damage.UNREAD)} == damaged
    assert len(cases) > 8 * len(damaged)
    assert all(case.verify and (case.wrong or case.words == RUN_AGAIN or "manifest" in case.what) for case in cases)
