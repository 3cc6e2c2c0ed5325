"""Compute the operations of a dictionary, without gradients and independent of any architecture.

`dispatch` chooses the implementation by a tensor's device. `torch_kernels` defines each operation in torch.
`numba_kernels` (with its compiled loops in `numba_loops`) is fast on a CPU, `triton_kernels` on a GPU.
"""
