"""Two real processes sum, gather and divide work as one would, and both report the failure of one."""

import json
import os

import pytest
import torch

from interp.runtime.processes import Processes, processes, slice_of_part
from tests.forked import run_python
from tests.launched import launch

TALK = """
import atexit, json, torch
from pathlib import Path
from interp import DamagedError
from interp.activations.next_tokens import NoNextTokens
from interp.pipeline.run_folder import MissingResultError
from interp.runtime.processes import processes, slice_of_part

def numbers(rank, dtype=torch.float32):
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(rank)).to(dtype)

if __name__ == "__main__":
    world, found = processes(), {}
    assert processes() == world
    found["place"] = [world.rank, world.count, world.is_first]
    found["sum"] = world.sum_(numbers(world.rank)).tolist()
    turned = numbers(world.rank).T
    assert world.sum_(turned) is turned
    found["turned"] = turned.tolist()
    for dtype in ("bfloat16", "int64", "bool"):
        rows = numbers(world.rank, getattr(torch, dtype))[: 3 + 2 * world.rank]
        found[dtype] = world.all_gather(rows).tolist()
    found["one has none"] = world.all_gather(torch.full((2 * world.rank, 3), 4.0)).tolist()
    found["none"] = list(world.all_gather(torch.zeros(0, 3)).shape)
    found["scalars"] = world.all_gather(torch.tensor([world.rank])).tolist()
    found["share"] = [len(range(n)[slice_of_part(n, world.rank, world.count)]) for n in (0, 1, 5, 8)]

    def work():
        if world.rank == 1:
            raise error("no good:\\n1 in 2")
        return "done"

    for error in (ValueError, DamagedError, NoNextTokens, MissingResultError, FileNotFoundError, KeyError):
        try:
            world.all_do(work)
        except Exception as seen:
            found[error.__name__] = [type(seen).__name__, str(seen)]

    def refuses():
        raise ValueError("/data/\\udcff exists")

    try:
        world.first_does(refuses)
    except ValueError as seen:
        found["not UTF-8"] = str(seen)
    found["well"] = world.all_do(lambda: "done")
    found["results"] = world.gather_results(lambda: {"rank": world.rank})
    found["divided"] = [world.divide([lambda n=n: (n, world.rank) for n in range(tasks)]) for tasks in (0, 1, 5)]

    def nested(fails):
        if fails == "before" and world.rank == 1:
            raise KeyError("before")
        squares = world.divide([(lambda: 1), work if fails == "in it" else (lambda: 4)])
        if fails == "after" and world.rank == 1:
            raise ValueError("after")
        return world.sum_(torch.tensor(world.all_do(lambda: sum(squares)))).item()

    error = OSError
    for fails in ("before", "in it", "after", "never"):
        try:
            found[fails] = world.all_do(lambda: world.all_do(lambda: nested(fails)))
        except Exception as seen:
            found[fails] = [type(seen).__name__, str(seen)]
    atexit._run_exitfuncs()
    found["left"] = not torch.distributed.is_initialized()
    Path(sys.argv[1], f"{world.rank}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> list[dict]:
    """Return what each process has found."""
    folder = tmp_path_factory.mktemp("talk")
    launch(TALK, folder, folder=folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


TORCHRUN = """
import json, torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from interp.runtime.processes import processes

def meet():
    world = processes()
    return [world.rank, world.count, world.is_first, *world.sum_(torch.tensor([1.0, world.rank])).tolist()]

standalone = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "meet"}
config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork", **standalone)
print(json.dumps(elastic_launch(config, meet)()))
"""


def test_processes_that_torchrun_starts_find_one_another():
    """It starts a function as it does a script, for which Python would import all again, twice."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = run_python(TORCHRUN, environment=environment, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"0": [0, 2, True, 2.0, 1.0], "1": [1, 2, False, 2.0, 1.0]}


def test_a_script_leaves_the_group_before_it_ends(said):
    """One that ended with the threads of the group still there was aborted more often than not."""
    assert [found["left"] for found in said] == [True, True]


def numbers(rank: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(rank)).to(dtype)


def test_processes_sum_to_the_same_everywhere(said):
    total = numbers(0) + numbers(1)
    assert [found["place"] for found in said] == [[0, 2, True], [1, 2, False]]
    for found in said:
        assert found["sum"] == total.tolist() and found["turned"] == total.T.tolist()


def test_processes_divide_tasks_and_all_get_the_results_in_order(said):
    for found in said:
        assert found["results"] == [{"rank": 0}, {"rank": 1}]
        assert found["divided"] == [[], [[0, 0]], [[n, n % 2] for n in range(5)]]
    alone = Processes()
    assert alone.divide([lambda: 1, lambda: 2]) == [1, 2] and alone.gather_results(lambda: 3) == [3]


def test_a_failure_within_divided_work_is_that_of_all_processes(said):
    """Also where one process fails on its own between two exchanges, while the other waits in the next of them."""
    for rank, found in enumerate(said):
        before = ["RuntimeError", "process 1 of 2: KeyError: 'before'"] if rank == 0 else ["KeyError", "'before'"]
        assert found["before"] == before
        assert found["in it"] == ["OSError", "no good:\n1 in 2"]
        assert found["after"] == ["ValueError", "after"]
        assert found["never"] == 10


def test_processes_gather_rows_in_the_order_of_the_ranks(said):
    for found in said:
        for dtype in (torch.bfloat16, torch.int64, torch.bool):
            rows = torch.cat([numbers(0, dtype)[:3], numbers(1, dtype)[:5]])
            assert found[str(dtype).removeprefix("torch.")] == rows.tolist()
        assert found["one has none"] == [[4.0] * 3] * 2 and found["none"] == [0, 3] and found["scalars"] == [0, 1]


def test_rows_are_shared_out_whole_and_evenly(said):
    assert [[found["share"][i] for found in said] for i in range(4)] == [[0, 0], [0, 1], [2, 3], [4, 4]]
    for n, count in ((0, 3), (2, 3), (10, 3), (2048, 7)):
        parts = [list(range(n))[slice_of_part(n, rank, count)] for rank in range(count)]
        assert sum(parts, []) == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ValueError, match=r"part=\(3, 3\) must be"):
        slice_of_part(5, 3, 3)


def test_an_error_in_one_process_is_raised_in_all(said):
    assert said[0]["ValueError"] == said[1]["ValueError"] == ["ValueError", "no good:\n1 in 2"]
    assert said[0]["DamagedError"] == said[1]["DamagedError"] == ["DamagedError", "no good:\n1 in 2"]
    derived = {"NoNextTokens": "InterpError", "MissingResultError": "InterpError", "FileNotFoundError": "OSError"}
    for name, base in derived.items():
        assert said[1][name] == [name, "no good:\n1 in 2"] and said[0][name] == [base, "no good:\n1 in 2"]
    assert said[1]["KeyError"][0] == "KeyError"
    assert said[0]["KeyError"] == ["RuntimeError", f"process 1 of 2: KeyError: {said[1]['KeyError'][1]}"]
    assert [found["not UTF-8"] for found in said] == ["/data/\udcff exists"] * 2
    assert [found["well"] for found in said] == ["done", "done"]


def test_too_little_memory_is_no_lost_process(monkeypatch):
    world, rows = Processes(0, 2), torch.zeros(()).expand(1 << 45)
    with pytest.raises(RuntimeError, match="memory") as error:
        world.all_gather(rows, same_length=True)
    assert "lost contact" not in str(error.value)

    def fails(*_, **__):
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr("torch.distributed.all_reduce", fails)
    with pytest.raises(torch.OutOfMemoryError, match="^none left$"):
        world.sum_(torch.ones(1))


LOST = """
import os, signal, time, torch
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from interp.runtime import processes as module

if __name__ == "__main__":
    how, told = sys.argv[1], Path(sys.argv[2])
    module._TIMEOUT = timedelta(seconds=3 if how == "stuck" else 60)
    world = module.processes()
    world.all_gather(torch.zeros(1))
    if world.rank == 1:
        while how == "stuck" and not told.exists():
            time.sleep(0.01)
        if how == "interrupted":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
            with suppress(KeyboardInterrupt):
                world.all_do(lambda: signal.raise_signal(signal.SIGINT))
        os._exit(0)  # the launcher sees no failure that it would end the other for
    try:
        world.all_do(lambda: None) if how == "interrupted" else world.sum_(torch.ones(3))
    except RuntimeError as error:
        told.write_text(str(error))
"""


@pytest.mark.parametrize("how", ["gone", "stuck", "interrupted"])
def test_a_process_that_is_lost_leaves_the_others_with_an_error(tmp_path, how):
    launch(LOST, how, tmp_path / "told", folder=tmp_path, check=False)
    assert "process 0 of 2 lost contact with the others: one has failed or hangs" in (tmp_path / "told").read_text()


def test_without_a_launcher_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    world, x = processes(), torch.ones(2)
    assert world == Processes(0, 1) and world.is_first
    assert world.sum_(x) is x and world.all_gather(x) is x and x.tolist() == [1, 1]
    assert world.all_do(lambda: "done") == "done"
    with pytest.raises(KeyError):
        world.all_do(lambda: {}["no"])


def test_nothing_speaks_at_import():
    code = """
import interp.runtime.processes, interp.activations, interp.activations.harvesting, threading, torch
assert not torch.distributed.is_initialized()
assert not [t for t in threading.enumerate() if 'shards' in t.name]
"""
    launched = {"RANK": "0", "WORLD_SIZE": "2"}
    run_python(code, environment=os.environ | launched, check=True, anew=("interp", "models"))
