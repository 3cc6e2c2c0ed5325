"""Fixtures for all tests."""

import fcntl
import gc
import os
import shutil
from pathlib import Path

import pytest

from tests.forked import start_parent

os.environ["HF_HUB_OFFLINE"] = "1"  # before the library is imported: no test asks the network for a model


def pytest_addoption(parser):
    parser.addoption("--changed", action="store_true", help="only files near what differs from main (tests/imports.py)")


def pytest_ignore_collect(collection_path, config):
    if config.getoption("changed") and collection_path.name.startswith("test_"):
        from tests.imports import files_near_changes

        return collection_path not in files_near_changes() or None
    return None


def pytest_configure():
    from interp.runtime.compiled_loops import forget_outdated_loops

    forget_outdated_loops()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Let one worker import the files first, so that the others find compiled what it has compiled. Look for no garbage
    meanwhile, nor later among what they import: it stays, and each search would go through a million objects. Look for
    it less often afterwards, too."""
    with open(__file__) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        gc.disable()
        found = yield
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()
    return found


def pytest_unconfigure():
    gc.unfreeze()  # or else libraries report at the end that their objects have leaked


def pytest_collection_modifyitems(items):
    """Mark the slow tests: those that look at a page, or at a whole run. And let one worker make the tiny run first,
    which compiles the loops, while the other has files of packages that use hardly any, but for those that train or
    scan: neither waits for the run, nor compiles a loop for itself that the other compiles at the same time."""
    for item in items:
        if {"tiny_run", "only_chromium"} & set(item.fixturenames):
            item.add_marker("slow")
    needy = list(dict.fromkeys(item.path for item in items if "tiny_run" in item.fixturenames))
    uncompiled = [Path(__file__).parent / "models", Path(__file__).parent / "analyses" / "essay"]

    def place(item: pytest.Item) -> int:
        if item.path in needy:
            return 0 if item.path == needy[0] else 4
        if isinstance(item, pytest.Function) and {"train_sae", "scan_features"} & vars(item.module).keys():
            return 3
        return next((1 + k for k, folder in enumerate(uncompiled) if folder in item.path.parents), 3)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session):
    """Fork the process that forks others, before pytest changes how warnings and logs are shown."""
    if session.items:  # none where the tests are divided among other processes
        start_parent()
    return (yield)


@pytest.fixture(autouse=True)
def threads_as_they_were():
    """Restore the number of torch's threads, which an analysis may set: the last bits of matmuls depend on it."""
    import torch  # here, since the process that divides the tests among others needs none

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def files_stay_in_memory():
    """Flush no file to the disk, which takes milliseconds each: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Return a finished run of `tests.tiny.TINY`, made once for all workers: read it, and copy what you change."""
    from interp import run_stages
    from tests.tiny import TINY

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with open(folder / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker makes it, the others find it done
        return run_stages(TINY, folder / "tiny")


@pytest.fixture(scope="session")
def few_run(tiny_run):
    """Return a finished run of `tests.tiny.FEW` with the text and the model of the tiny run: read and copied likewise.
    Whatever makes one of its stages again takes a fraction of the time."""
    from interp import run_stages
    from tests.tiny import FEW, copy_stages

    folder = tiny_run.path.with_name("few")
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return run_stages(FEW, folder if folder.exists() else copy_stages(tiny_run, folder))


@pytest.fixture(scope="session")
def wider_scan(tiny_run, tmp_path_factory):
    """Return the folder of a scan of the tiny run's activations by a dictionary of twice as many latents."""
    import dataclasses

    from interp import scan_features, train_sae

    folder, hook = tmp_path_factory.mktemp("wider") / "features", tiny_run.hook_name
    config = dataclasses.replace(tiny_run.config.sae, d_sae=2 * tiny_run.config.sae.d_sae)
    sae = train_sae(tiny_run.store, hook, config)
    scan_features(sae, tiny_run.store, hook, folder, model=tiny_run.model, vocab=tiny_run.tokenizer.display())
    return folder


@pytest.fixture(scope="session")
def only_chromium(tmp_path_factory):
    """Yield a browser for all the tests of a process that look at a page."""
    from tests.chromium import Chromium

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: the data files are checked against the store without it")
    browser = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def chromium(only_chromium):
    only_chromium.size(1400, 900)  # which the test before may have left as small as a phone, and dark
    return only_chromium
