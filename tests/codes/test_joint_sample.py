"""Samples of several dictionaries' latents, side by side in one source of codes."""

import torch

from interp.codes.joint_sample import JointSample, read_in_blocks
from interp.codes.sparse_codes import SparseCodes
from interp.runtime.progress import no_progress

N_ROWS = 6


def sample(folder, parts):
    joint = JointSample(folder, N_ROWS, n_latents=3, seed=0, progress=no_progress)
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
