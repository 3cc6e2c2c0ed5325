from interp.codes.offsets import offsets_of_lengths


def test_lists_lie_one_behind_the_other():
    lists = [[1, 2], [], [3]]
    items = [item for each in lists for item in each]
    offsets = offsets_of_lengths([len(each) for each in lists])
    assert [items[start:end] for start, end in zip(offsets, offsets[1:], strict=False)] == lists
    assert offsets_of_lengths([]).tolist() == [0]
