import torch

from interp.codes.offsets import offsets_from_lengths


def test_lists_lie_one_behind_the_other():
    lists = [[1, 2], [], [3]]
    items = [item for each in lists for item in each]
    lengths = [len(each) for each in lists]
    offsets = offsets_from_lengths(lengths)
    assert [items[start:end] for start, end in zip(offsets, offsets[1:], strict=False)] == lists
    assert offsets_from_lengths([]).tolist() == [0]
    assert torch.equal(offsets_from_lengths(torch.tensor(lengths)), torch.from_numpy(offsets))
