"""A loop is compiled again once another file has changed, whose loop it calls."""

from interp.runtime.compiled_loops import forget_outdated_loops
from tests.forked import run_python

INNER = "from numba import njit\n\n@njit(cache=True)\ndef inner(x):\n    return x + {}\n"
OUTER = "from inner import inner\nfrom numba import njit\n\n@njit(cache=True)\ndef outer(x):\n    return inner(x)\n"


def test_a_loop_that_calls_a_changed_one_is_compiled_again(tmp_path):
    def outer() -> str:
        code = "import sys; sys.path.insert(0, sys.argv[1]); from outer import outer; print(outer(0))"
        return run_python(code, tmp_path, check=True).stdout.strip()

    (tmp_path / "outer.py").write_text(OUTER)
    (tmp_path / "inner.py").write_text(INNER.format(1))
    assert outer() == "1"
    (tmp_path / "inner.py").write_text(INNER.format("1 + 1"))  # longer: Python sees no change within a second otherwise
    kept = set(tmp_path.rglob("*.nbi"))
    assert outer() == "1", "what numba does by itself"
    forget_outdated_loops(tmp_path)
    assert kept and outer() == "2"
    compiled = {index: index.stat().st_mtime_ns for index in tmp_path.rglob("*.nbi")}
    forget_outdated_loops(tmp_path)
    assert compiled == {index: index.stat().st_mtime_ns for index in tmp_path.rglob("*.nbi")}
