"""Our dictionary on a model from elsewhere, spliced in by SAELens and by us: the same cross-entropy."""

import pytest
import torch
import torch.nn.functional as F

from interp import BatchTopKConfig, evaluate_dictionary, harvest, train_sae
from models import load_model
from tests.foreign_models import TEXTS, write_foreign

HOOK = "blocks.1.hook_resid_post"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_saelens_splices_our_dictionary_as_we_do(family, tmp_path, monkeypatch):
    """On text without the planted sink: SAELens knows no limit and would replace its rows too."""
    import sae_lens
    from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_foreign(family, tmp_path / family, sink=300.0)
    model = load_model(folder)
    sink = model.tokenizer.encode(".", add_special_tokens=False)[-1]
    text = torch.tensor([i for each in TEXTS for i in model.tokenizer.encode(each, add_special_tokens=False)])
    tokens = text[: len(text) // 24 * 24].view(-1, 24)
    store = harvest(model, tokens, [HOOK], tmp_path / "store", exclude=model.special_ids)
    sae = train_sae(store, HOOK, BatchTopKConfig(d_sae=64, k=6, tokens=20_000, batch_size=256, device="cpu"))
    sae.save(tmp_path / "sae")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    about = theirs.cfg.metadata
    assert about.model_name == model.name and about.context_size == 24 and not about.prepend_bos
    assert about.norm_limit == store.norm_limits[HOOK] and about.exclude_special_tokens == sorted(model.special_ids)

    plain = text[text != sink][: 40 * 24].view(-1, 24)
    ours = evaluate_dictionary(model, HOOK, sae, plain)
    assert ours.outlier_share == 0
    bridge = SAETransformerBridge.boot_transformers(str(folder))
    with torch.no_grad():
        logits = bridge.run_with_saes(plain, saes=[theirs])
        clean = bridge(plain)
    for found, expected in ((logits, ours.ce_spliced), (clean, ours.ce_clean)):
        ce = F.cross_entropy(found[:, :-1].flatten(0, 1), plain[:, 1:].flatten())
        assert float(ce) == pytest.approx(expected, abs=1e-3)
    assert abs(ours.ce_spliced - ours.ce_clean) > 2e-3, "the splice must change something for this to mean anything"
