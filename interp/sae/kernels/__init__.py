"""The operations of a dictionary, computed; no gradient and no architecture is known here.

`dispatch` chooses the implementation for where a tensor lives: `torch_kernels` says in torch what each operation is,
`numba_kernels` (with its compiled loops in `numba_loops`) and `triton_kernels` are fast on a CPU and on a GPU.
"""
