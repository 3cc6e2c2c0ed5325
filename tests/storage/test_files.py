"""One atomic write, one digest, one seeded hash."""

import hashlib
import json
import os
import warnings

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from numba import njit
from safetensors import safe_open

from interp.checks import free_memory
from interp.checks.errors import InterpError
from interp.runtime.progress import percent_of_steps, split_progress
from interp.statistics.estimates import ratio
from interp.statistics.randomness import splitmix64
from interp.storage.addresses import address_of
from interp.storage.files import (
    digest,
    digest_file,
    digest_json,
    write_atomically,
    write_json,
    write_parquet,
    write_tensors,
    write_text,
)


def test_a_failed_write_leaves_the_last_whole_file(tmp_path):
    file = tmp_path / "note.txt"
    write_text(file, "whole é")
    with pytest.raises(RuntimeError, match="cut"):
        with write_atomically(file) as temporary:
            temporary.write_text("a part")
            assert file.read_text(encoding="utf-8") == "whole é"
            raise RuntimeError("cut")
    assert file.read_text(encoding="utf-8") == "whole é"
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(os, "fsync", lambda handle: names.append(sorted(path.name for path in tmp_path.iterdir())))
    write_text(tmp_path / "note.txt", "whole")
    assert names == [["note.txt.tmp"], ["note.txt"]]  # the file, then its folder


def test_what_is_written_is_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"n": np.int64(3), "x": torch.tensor(0.5), "s": "é"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"n": 3, "x": 0.5, "s": "é"}
    with pytest.raises(TypeError, match="of type .*Path"):
        write_json(tmp_path / "b.json", tmp_path)
    table = pd.DataFrame({"a": [1, 2]}, index=[5, 6])
    write_parquet(tmp_path / "a.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), table.reset_index(drop=True))
    x = torch.arange(6.0).view(2, 3).T  # not contiguous
    write_tensors(tmp_path / "a.safetensors", {"x": x}, {"note": "n"})
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as stored:
        assert torch.equal(stored.get_tensor("x"), x) and stored.metadata() == {"note": "n"}
    for dtype in (torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(InterpError, match=f"numbers of type {dtype} cannot be written"):
            write_tensors(tmp_path / "b.safetensors", {"x": x.to(dtype)})
    assert not (tmp_path / "b.safetensors").exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_digests_are_the_sha256_of_the_bytes(tmp_path):
    x = torch.arange(6, dtype=torch.bfloat16).view(2, 3)
    raw = x.view(torch.uint8).numpy().tobytes()
    assert digest(x) == digest(raw) == digest(x[:1], x[1:]) == hashlib.sha256(raw).hexdigest()
    assert digest(np.arange(3)[::2], "é") == hashlib.sha256(np.array([0, 2]).tobytes() + "é".encode()).hexdigest()
    assert digest(torch.empty(0)) == digest() == hashlib.sha256().hexdigest()
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1}) == digest('{"a": 1, "b": [2]}')
    (tmp_path / "file").write_bytes(raw)
    assert digest_file(tmp_path / "file") == digest(raw)


def test_splitmix_is_the_published_generator_and_equal_when_compiled():
    golden = 0x9E3779B97F4A7C15
    states = np.array([1234567, (1234567 + golden) % 2**64], np.uint64)
    expected = [6457827717110365317, 3203168211198807973]  # the first two draws of the reference code, seed 1234567
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert splitmix64(states).tolist() == expected
    compiled = njit(splitmix64)
    assert [int(compiled(state)) for state in states] == expected


def test_ratio_of_zeros_is_nan_by_default():
    assert np.array_equal(ratio([1, 2], [2, 0]), [0.5, np.nan], equal_nan=True)
    assert ratio(1, np.zeros(2), empty=0.0).tolist() == [0, 0]


def test_free_memory_is_no_more_than_a_process_may_take(monkeypatch):
    assert 0 < free_memory.free_memory() <= psutil.virtual_memory().total
    limit = psutil.Process().memory_info().vms + (1 << 20)
    monkeypatch.setattr(free_memory.resource, "getrlimit", lambda _: (limit, limit))
    assert 0 <= free_memory.free_memory() <= 1 << 20


def group(folder, files, **stat):
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


def test_the_limits_of_a_container_count(tmp_path):
    groups, mount = tmp_path / "cgroup", tmp_path / "groups"
    groups.write_text("7:cpu,cpuacct:/pod/container\n1:name=systemd:/\n0::/pod/container\n")
    assert free_memory.free_in_groups(groups, mount) == []
    of_files = {"active_file": 20, "inactive_file": 300}
    group(mount / "pod" / "container", {"max": 4000, "current": 1000}, anon=680, **of_files)
    assert free_memory.free_in_groups(groups, mount) == [4000 - 1000 + 320], "what it keeps of files is taken back"
    group(mount / "pod", {"max": 3000, "current": 2900}, **dict.fromkeys(of_files, 0))
    assert free_memory.free_in_groups(groups, mount) == [3320, 100], "that of all containers of a pod too"
    groups.write_text(groups.read_text().replace("/pod/container", "/host/outside"))
    group(mount, {"max": 500, "current": 100}, **of_files)
    assert free_memory.free_in_groups(groups, mount) == [720], "a container sees its own group as the first"
    group(mount, {"max": "max"})
    assert free_memory.free_in_groups(groups, mount) == free_memory.free_in_groups(tmp_path / "none", mount) == []


def test_free_memory_is_no_more_than_a_container_may_take(monkeypatch):
    monkeypatch.setattr(free_memory, "free_in_groups", lambda groups, mount: [5 << 20, 3 << 20])
    assert free_memory.free_memory() == 3 << 20


def test_in_percent_reports_steps_in_percent_of_the_work():
    told = []
    tell = percent_of_steps(lambda *step: told.append(step), {"reading": 0.2, "judging": 0.8})
    for step in ((0, 0, "reading"), (7, 14, "reading"), (14, 14, "reading"), (1, 4, "judging"), (1, 2, "saving")):
        tell(*step)
    tell(4, 4, "judging")
    assert told == [
        (0, 100, "reading"),
        (10, 100, "reading"),
        (20, 100, "reading"),
        (40, 100, "judging"),
        (40, 100, "saving"),
        (100, 100, "judging"),
    ]


def test_jobs_that_run_together_are_shown_as_one():
    told = []
    first, second = split_progress(lambda *step: told.append(step), 2)
    first(5, 10, "rows")
    second(20, 20, "rows")
    first(10, 10, "rows")
    assert told == [(5, 20, "rows"), (30, 40, "rows"), (20, 20, "rows")]


def test_the_root_of_an_address_keeps_its_slashes():
    assert address_of("memory://") == "memory://" and address_of("s3:/bucket/a/") == "s3://bucket/a"
    assert address_of("memory://") / "a" == "memory://a" and address_of("file:///") / "a" == "file:///a"
