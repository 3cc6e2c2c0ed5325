"""Hidden states as vLLM writes them, one file per prompt, compared with a harvest of the same model and tokens."""

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp import ActivationStore, OverwriteError, TopKConfig, harvest, scan_features, train_sae
from tests.stored_rows import rows_of

LAYERS = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"]


@pytest.fixture(scope="module")
def prompts(tiny_run):
    """Return the first sequences of the tiny run, cut at different lengths."""
    tokens = tiny_run.store.tokens
    lengths = [tokens.shape[1], 5, 1, 9]
    return [tokens[i, :length].long() for i, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def written(tiny_run, prompts, tmp_path_factory):
    """Return a folder of files in vLLM's format: hidden_states [token, layer, d], token_ids [token], and its lock
    files."""
    folder, model = tmp_path_factory.mktemp("vllm"), tiny_run.model
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            _, cache = model.run_with_cache(prompt[None])
        states = torch.stack([cache[name][0] for name in LAYERS], 1).bfloat16()
        file = folder / f"{i}-8f3a.safetensors"
        save_file({"hidden_states": states.contiguous(), "token_ids": prompt}, file)
        (folder / f"{file.name}.lock").touch()
    return folder


def test_hidden_states_are_a_store_of_what_a_harvest_sees(tiny_run, written, prompts, tmp_path):
    store = ActivationStore.from_hidden_states(written, LAYERS, tmp_path / "store", model_name="tiny")
    n_ctx = store.n_ctx
    assert n_ctx == max(map(len, prompts)) and len(store) == sum(map(len, prompts))
    assert store.excluded["position"] == store.n_ids - len(store)
    for i, prompt in enumerate(prompts):
        assert store.tokens[i].tolist() == prompt.tolist() + [0] * (n_ctx - len(prompt))
    for hook in LAYERS:
        rows = rows_of(store, hook)
        assert sorted(rows) == [i * n_ctx + pos for i, prompt in enumerate(prompts) for pos in range(len(prompt))]
        for i, prompt in enumerate(prompts):
            alone = harvest(tiny_run.model, prompt[None], [hook], tmp_path / f"{hook}-{i}", max_norm=None)
            for pos, expected in rows_of(alone, hook).items():
                torch.testing.assert_close(rows[i * n_ctx + pos].float(), expected.float(), rtol=0.02, atol=0.02)


def test_a_dictionary_is_trained_and_scanned_on_hidden_states(tiny_run, written, tmp_path):
    store = ActivationStore.from_hidden_states(written, LAYERS, tmp_path / "store")
    sae = train_sae(store, LAYERS[1], TopKConfig(d_sae=8, k=2, tokens=len(store), batch_size=8))
    features = scan_features(
        sae, store, LAYERS[1], tmp_path / "features", model=tiny_run.model, vocab=tiny_run.tokenizer.display()
    )
    assert features.meta["n_tokens"] == len(store)


def test_long_prompts_are_cut_and_files_come_in_the_order_named(written, prompts, tmp_path):
    files = sorted(written.glob("*.safetensors"))
    store = ActivationStore.from_hidden_states(files[::-1], LAYERS, tmp_path / "store", n_ctx=4)
    expected = []
    for prompt in prompts[::-1]:
        expected += [part.tolist() + [0] * (4 - len(part)) for part in prompt.split(4)]
    assert store.tokens.tolist() == expected
    whole = ActivationStore.from_hidden_states(files[::-1], LAYERS, tmp_path / "whole")
    cut, uncut = rows_of(store, LAYERS[0]), rows_of(whole, LAYERS[0])
    assert [cut[i].tolist() for i in sorted(cut)] == [uncut[i].tolist() for i in sorted(uncut)]


def test_from_hidden_states_resumes_to_the_same_bytes(written, tmp_path):
    whole = ActivationStore.from_hidden_states(written, LAYERS, tmp_path / "whole")

    def stop(done, total, note):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ActivationStore.from_hidden_states(written, LAYERS, tmp_path / "cut", progress=stop)
    cut = ActivationStore.from_hidden_states(written, LAYERS, tmp_path / "cut")
    assert cut.digest == whole.digest


def test_states_of_another_checkpoint_are_other_work(written, tmp_path):
    """They have the same prompts, names and sizes, and here the same times."""
    files = [tmp_path / file.name for file in sorted(written.glob("*.safetensors"))]
    for own, file in zip(files, sorted(written.glob("*.safetensors")), strict=True):
        shutil.copy2(file, own)
    store = ActivationStore.from_hidden_states(files, LAYERS, tmp_path / "store")
    before, changed = files[1].stat(), load_file(files[1])
    save_file({**changed, "hidden_states": 2 * changed["hidden_states"]}, files[1])
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files[1].stat().st_size == before.st_size
    with pytest.raises(OverwriteError, match="holds other work: not the same files"):
        ActivationStore.from_hidden_states(files, LAYERS, tmp_path / "store")
    new = ActivationStore.from_hidden_states(files, LAYERS, tmp_path / "store", overwrite=True)
    rows = rows_of(new, LAYERS[0])
    row = new.n_ctx  # the first token of the second prompt
    assert torch.equal(rows[row], changed["hidden_states"][0, 0] * 2) and new.digest != store.digest


def test_files_that_are_not_of_one_extraction_are_refused(written, tmp_path):
    good, n = sorted(written.glob("*.safetensors")), 3
    file, out = tmp_path / "bad.safetensors", tmp_path / "store"

    def refused(message, files=None, names=LAYERS, **options):
        with pytest.raises(ValueError, match=message):
            ActivationStore.from_hidden_states([good[0], file] if files is None else files, names, out, **options)
        assert not out.exists() and not (tmp_path / "store.unfinished").exists()

    states, tokens = torch.zeros(n, 2, 16, dtype=torch.bfloat16), torch.arange(n)
    refused("bad.safetensors does not exist")
    file.write_bytes(good[0].read_bytes()[:-9])
    refused("bad.safetensors is damaged")
    save_file({"hidden_states": states}, file)
    refused("holds hidden_states, not hidden_states and token_ids")
    save_file({"hidden_states": states, "token_ids": torch.arange(n + 1)}, file)
    refused(r"hidden_states \(3, 2, 16\), not floats \[4, layer, d\]")
    save_file({"hidden_states": states[:0], "token_ids": tokens[:0]}, file)
    refused(r"token_ids \(0,\), not the ids")
    save_file({"hidden_states": states[:, :, :8].contiguous(), "token_ids": tokens}, file)
    refused("holds states of width 8, .* of width")
    save_file({"hidden_states": torch.full_like(states, torch.nan), "token_ids": tokens}, file)
    refused("activation nan at sequence 0", files=[file])
    refused("holds 2 layers, hook_names names 1", files=good, names=LAYERS[:1])
    refused("names a hook twice", files=good, names=[LAYERS[0], LAYERS[0]])
    refused("n_ctx=0 must be at least 1", files=good, n_ctx=0)
    refused("is not a folder", files=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refused("empty holds no .safetensors file", files=tmp_path / "empty")
    refused("files names none", files=[])
