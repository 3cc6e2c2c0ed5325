"""Run a script in several processes that know of one another, as `torchrun` does."""

import os
from pathlib import Path

from tests.forked import ROOT, run_python

# Imports what the script needs once, then forks its processes: they find themselves in the environment that `torchrun`
# makes. Where one fails the others are ended, and its status is returned.
LAUNCHER = """
import os, runpy, signal, socket, sys
count, script = int(sys.argv[1]), sys.argv[2]
sys.argv = [script, *sys.argv[3:]]
runpy.run_path(script)
with socket.create_server(("127.0.0.1", 0)) as free:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
left = set()
for rank in range(count):
    if child := os.fork():
        left.add(child)
        continue
    os.environ |= place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    runpy.run_path(script, run_name="__main__")
    os._exit(0)
status = 0
while left:
    child, ended = os.wait()
    left.remove(child)
    if ended and not status:
        status = os.waitstatus_to_exitcode(ended)
        for other in left:
            os.kill(other, signal.SIGKILL)
sys.exit(status if status >= 0 else 128 - status)
"""


def launch(script: str, *args: object, folder: Path, check: bool = True, count: int = 2) -> int:
    """Run a script in that many processes, one thread each; the status of the first that failed, or else 0."""
    file = folder / "script.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n" + script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = run_python(LAUNCHER, count, file, *args, environment=environment)
    assert not check or run.returncode == 0, run.stdout + run.stderr
    return run.returncode
