"""Samples of several dictionaries' latents, side by side in one source of codes."""

import torch

from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare.joined_codes import JoinedCodes, read_in_blocks
from interp.runtime.progress import no_progress

N_ROWS = 6


def sample(folder, parts):
    joint = JoinedCodes(folder, N_ROWS, n_latents=3, seed=0, progress=no_progress)
    for name, dense in parts.items():
        joint.add(name, dense.shape[1], read_in_blocks(SparseCodes.from_dense(dense), N_ROWS))
    return joint


def test_dictionaries_of_similar_names_keep_their_own_codes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    parts = {name: torch.rand(N_ROWS, 4, generator=generator) for name in ("a b", "a-b", "a/b")}
    joint = sample(tmp_path, parts)
    expected = torch.cat([dense[:, joint.chosen[name]] for name, dense in parts.items()], 1)
    torch.testing.assert_close(joint[0:N_ROWS].dense(), expected)
    again = sample(tmp_path, {name: torch.zeros(N_ROWS, 4) for name in parts})
    torch.testing.assert_close(again[0:N_ROWS].dense(), expected)  # found, and not encoded again


def test_rows_that_a_scan_left_out_stay_left_out(tmp_path):
    """Padding is not text in which the latents of a sample are silent."""
    dense = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    scanned = CodeStore.create(tmp_path / "scan", n_rows=N_ROWS, d_sae=4)
    scanned.write_file("0", torch.tensor([0, 1, 3, 4]), SparseCodes.from_dense(dense))
    joint = JoinedCodes(tmp_path / "joint", N_ROWS, n_latents=3, seed=0, progress=no_progress)
    joint.add("scan", 4, read_in_blocks(scanned, N_ROWS))
    assert joint.present(0, N_ROWS).tolist() == [True, True, False, True, True, False]
    torch.testing.assert_close(joint[0:N_ROWS].dense()[[0, 1, 3, 4]], dense[:, joint.chosen["scan"]])
