import dataclasses
import gzip
import shutil

import pytest

from interp.checks.errors import TooLargeError
from interp.cli import main
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes, Speed
from interp.pipeline.execution import run_stages
from interp.pipeline.plan import Plan
from interp.pipeline.stages import STAGES
from interp.sae import JumpReLUConfig, MatchingPursuitConfig, MatryoshkaConfig, ReLUConfig
from tests.tiny import TINY

SHARED = {"d_sae": 64, "tokens": 1000}
SPEED = Speed(float32_rate=100.0, bfloat16_rate=400.0, memory=50.0, pace=2.0)


def disk_of(run, stage: str) -> int:
    return sum(file.stat().st_size for file in run.folder(stage).rglob("*") if file.is_file())


def test_a_cost_adds_up_and_takes_the_seconds_of_its_parts():
    cost = Cost(disk=3, scratch=4, memory=5, float32_operations=100, bfloat16_operations=800, moved=25, seconds=1.5)
    assert cost.seconds_on(SPEED) == 100 / 100 + 800 / 400 + 25 / 50 + 1.5 * 2
    other = Cost(disk=1, scratch=9, memory=2, float32_operations=50)
    assert cost + other == Cost(
        disk=4, scratch=9, memory=5, float32_operations=150, bfloat16_operations=800, moved=25, seconds=1.5
    )
    assert other.times(3) == Cost(disk=3, scratch=9, memory=2, float32_operations=150)
    assert cost.operations == 900


def test_operations_of_a_model_are_those_of_its_matrices():
    """By hand: of one block 2 a weight, and of attention, whose scores and sums are n_ctx · d_model each."""
    sizes, d, d_mlp, n_ctx, vocab = Sizes(TINY), 32, 64, 64, 512
    block = 2 * (4 * d * d + 2 * d * d_mlp) + 4 * n_ctx * d
    counted = sizes.forward_cost(10, before=1).operations
    assert 10 * (block - 4 * n_ctx * d) <= counted <= 10 * block  # fused attention goes uncounted
    assert sizes.forward_cost(10, after=1).operations == 10 * 2 * d * vocab
    assert sizes.widths == {"blocks.0.hook_resid_post": d, "blocks.0.mlp.hook_post": d_mlp}
    assert sizes.weights == TINY.model.transformer(vocab).n_parameters
    assert all(weight.requires_grad for weight in sizes.model.parameters())


def test_what_a_run_leaves_on_disk_is_what_was_planned(tiny_run):
    planned = {row.stage: row.cost for row in Plan.of(TINY, tiny_run.path).rows}
    assert [*planned] == [*STAGES]
    assert planned["activations"].disk == pytest.approx(disk_of(tiny_run, "activations"), rel=0.05)
    for stage in ("corpus", "model", "sae"):  # beside weights lie curves and texts of some 30 kB
        assert planned[stage].disk == pytest.approx(disk_of(tiny_run, stage), rel=0.4, abs=3e4), stage
    assert Sizes(TINY).rows == TINY.harvest.tokens and Sizes(TINY).d_sae == TINY.sae.d_sae


@pytest.mark.parametrize(
    ("config", "l0"),
    [
        (JumpReLUConfig(**SHARED, target_l0=19.5), 20),
        (JumpReLUConfig(**SHARED, target_l0=19.5, penalty="l0"), 32),
        (MatchingPursuitConfig(**SHARED, k=5), 5),
        (MatryoshkaConfig(**SHARED, k=7), 7),
        (ReLUConfig(**SHARED), 32),
        (TINY.sae, TINY.sae.k),
    ],
    ids=lambda value: getattr(value, "architecture", value),
)
def test_scans_are_planned_for_the_latents_that_training_aims_at(config, l0):
    assert Sizes(TINY.replace(sae=config)).l0 == l0


def test_the_seconds_follow_the_tokens_and_the_latents():
    def seconds(config, stage):
        return STAGES[stage].cost(Sizes(config)).seconds_on(Speed(1e11, 4e11, 4e10, 1.0))

    more = TINY.replace(sae=dataclasses.replace(TINY.sae, tokens=10 * TINY.sae.tokens))
    assert seconds(more, "sae") == pytest.approx(10 * seconds(TINY, "sae"))
    wider = TINY.replace(sae=dataclasses.replace(TINY.sae, d_sae=640))
    assert seconds(wider, "ranking") - seconds(TINY, "ranking") == pytest.approx(2e-3 * (640 - TINY.sae.d_sae))
    hasty = TINY.replace(effects=dataclasses.replace(TINY.effects, minutes=1e-6))
    assert STAGES["effects"].cost(Sizes(hasty)).operations < 1e7 < STAGES["effects"].cost(Sizes(TINY)).operations
    shorter = TINY.replace(harvest=dataclasses.replace(TINY.harvest, tokens=TINY.harvest.tokens // 2))
    for stage in ("features", "effects", "ranking", "names", "report"):
        assert seconds(shorter, stage) < seconds(TINY, stage), stage
    again = TINY.replace(nulls=dataclasses.replace(TINY.nulls, sae_tokens=6_000))
    assert seconds(again, "nulls") < seconds(TINY, "nulls")


def test_a_text_that_is_read_many_times_is_named(tmp_path):
    assert "reads each row" not in Plan.of(TINY, tmp_path).text(SPEED)
    often = TINY.replace(sae=dataclasses.replace(TINY.sae, tokens=30 * TINY.harvest.tokens))
    assert "The training reads each row 30 times: with more text" in Plan.of(often, tmp_path).text(SPEED)


@pytest.fixture
def small_disk(monkeypatch):
    room = type("Room", (), {"free": 10_000_000})
    monkeypatch.setattr("interp.pipeline.plan.shutil.disk_usage", lambda folder: room)


def test_a_run_that_does_not_fit_the_disk_is_refused_with_numbers_that_fit(small_disk, tmp_path):
    ran = []
    with pytest.raises(ValueError, match=r"the run needs .* MB on the disk of .*, but only 10.0 MB are free") as error:
        run_stages(TINY, tmp_path / "run", progress=lambda stage: ran.append(stage))
    assert ran == [] and not (tmp_path / "run").exists()
    [offered] = str(error.value).split("[harvest] tokens = ")[1:]
    tokens = int(offered.split()[0])
    assert 1_000 < tokens < TINY.harvest.tokens and str(error.value).endswith("would fit")

    def faults(tokens):
        changed = TINY.replace(harvest=dataclasses.replace(TINY.harvest, tokens=tokens))
        return Plan.of(changed, tmp_path / "run").faults()

    assert faults(tokens) == [] and faults(int(1.2 * tokens)) != []


def test_plan_counts_finished_stages_as_free_space(small_disk, tiny_run):
    plan = Plan.of(TINY, tiny_run.path)
    assert plan.free_disk > 16_000_000 + disk_of(tiny_run, "activations")
    assert plan.faults() == []


def test_plan_counts_stages_that_are_made_again_as_free_only_when_the_new_are_whole(small_disk, tiny_run):
    again = TINY.replace(harvest=dataclasses.replace(TINY.harvest, seed=7))
    kept, changed = (Plan.of(config, tiny_run.path) for config in (TINY, again))
    assert kept.disk_needed == kept.total.disk + kept.total.scratch and kept.free_disk == changed.free_disk
    held = disk_of(tiny_run, "activations")
    assert changed.replaced["activations"] == held and changed.replaced["corpus"] == changed.replaced["model"] == 0
    assert changed.disk_needed > kept.disk_needed
    full = dataclasses.replace(changed, free_disk=kept.disk_needed)
    assert full.faults() and not dataclasses.replace(full, free_disk=changed.disk_needed).faults()
    page = Plan.of(TINY, tiny_run.path, outdated=[tiny_run.folder("ranking")]).replaced
    assert [name for name, size in page.items() if size] == ["ranking", "names", "report"]


def test_a_stage_that_another_version_made_is_planned_as_made_again(tiny_run, tmp_path, monkeypatch):
    def refuse(plan):
        raise TooLargeError(" ".join(name for name, size in plan.replaced.items() if size))

    monkeypatch.setattr(Plan, "check", refuse)
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    shutil.rmtree(run / "activations")
    with pytest.raises(TooLargeError, match="^$"):  # made of the same again, so that what reads it is kept
        run_stages(TINY, run, redo=True)
    shutil.copytree(tiny_run.folder("activations"), run / "activations")
    monkeypatch.setitem(STAGES, "sae", dataclasses.replace(STAGES["sae"], version=99))
    with pytest.raises(TooLargeError, match="^sae features .*report$"):
        run_stages(TINY, run, redo=True)


def test_a_dictionary_too_large_for_memory_is_refused_with_the_plans_message(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("interp.pipeline.plan.free_memory", lambda: 100_000_000)
    file = tmp_path / "wide.toml"
    file.write_text("[sae]\nd_sae = 200_000\n")
    asked = [str(file), "--out", str(tmp_path / "run")]
    assert main(["plan", *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 2 + len(STAGES)]] == [*STAGES, "all"]
    [told] = [line.removeprefix("does not fit: ") for line in lines if line.startswith("does not fit: sae")]
    assert told.startswith("sae needs 823.4 MB of memory, but only 100.0 MB are free: [sae] d_sae = ")
    assert not (tmp_path / "run").exists()
    assert main(["run", *asked]) == 2
    assert told in capsys.readouterr().err


def test_a_bad_configuration_is_one_line(tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text("[sae]\nd_saee = 3\n")
    assert main(["plan", str(file)]) == 2
    line = "interp: " + f"{file}: [sae] topk field 'd_saee' does not exist; did you mean d_sae"
    assert capsys.readouterr().err.startswith(line)
    assert main(["plan", str(tmp_path / "none.toml")]) == 2
    for wrong, said in (
        ('[corpus]\nsource = "files"\npaths = ["none/*.txt"]\n', "none/*.txt does not exist: name a text file"),
        ('[harvest]\nhook_name = "blocks.9.hook_resid_post"\n', "the model has no hook 'blocks.9.hook_resid_post'"),
    ):
        file.write_text(wrong)
        capsys.readouterr()
        assert main(["plan", str(file)]) == 2
        assert said in capsys.readouterr().err
    file.write_text('[corpus]\nsource = "files"\npaths = ["none/*.txt"]\n[harvest]\nhook_name = "blocks.9.hook_out"\n')
    for command in ("plan", "run"):
        assert main([command, str(file), *(["--out", str(tmp_path / "run")] if command == "run" else [])]) == 2
        line = capsys.readouterr().err
        assert "none/*.txt does not exist" in line and "; the model has no hook 'blocks.9.hook_out'" in line


def test_text_of_ones_own_is_as_long_as_its_files(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 300)
    (tmp_path / "b.txt").write_text("b" * 500)

    def characters(**corpus):
        return Sizes(RunConfig.from_dict({"corpus": {"source": "files", **corpus}})).characters

    assert characters(paths=[f"{tmp_path}/*.txt"]) == 800
    assert characters(paths=[f"{tmp_path}/*.txt"], characters=600) == 600
    text = " ".join(f"{n} {n * n} times" for n in range(5_000))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(text.encode()))
    assert characters(paths=[f"{tmp_path}/packed.gz"]) >= len(text)
    assert characters(paths=["s3://bucket/a.txt"], characters=10**9) == 10**9


def test_a_stage_of_a_users_own_brings_its_cost(monkeypatch, tmp_path):
    own = dataclasses.replace(STAGES["concepts"], name="probes", cost=lambda sizes: Cost(disk=sizes.rows, memory=1e30))
    plan = Plan.of(TINY, tmp_path, [own])
    assert [(row.stage, row.cost.disk) for row in plan.rows] == [("probes", TINY.harvest.tokens)]
    assert plan.faults() == [f"probes needs 1,000,000,000,000,000,000.0 TB of memory, but only {free(plan)} are free"]


def free(plan) -> str:
    return f"{plan.free_memory / 1e9:,.1f} GB"


def test_runs_of_several_hooks_take_as_many_dictionaries(tmp_path):
    names = ("blocks.0.hook_resid_post", "blocks.0.hook_resid_mid")
    both = TINY.replace(harvest=dataclasses.replace(TINY.harvest, hook_names=names))
    one, two = ({row.stage: row.cost for row in Plan.of(config, tmp_path).rows} for config in (TINY, both))
    assert two["sae"].disk == 2 * one["sae"].disk and two["model"] == one["model"]
    assert two["activations"].disk == pytest.approx(one["activations"].disk * 128 / 96, rel=0.02)
