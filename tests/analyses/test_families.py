"""Families of models at the one door, stage by stage: tiny models with random weights from their `transformers`
configurations. A stage that cannot handle one says so in one line."""

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from analyses.families import BLOCKS, FAMILIES, HOOK, N_CTX, SIZES, D, make_model, text, try_vit, try_whole_t5
from analyses.result_tables import families
from interp import ActivationStore, TopKConfig, harvest, quality_table, rank_features, scan_features, train_sae
from interp.activations.next_tokens import NoNextTokens
from interp.effects import feature_effects, steer
from interp.evaluation.baselines import NeuronDictionary
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_stages
from interp.pipeline.run import Run
from interp.pipeline.run_folder import MissingResultError
from interp.pipeline.stages.neurons import basis_of
from interp.report import write_report
from models import load_model
from tests.foreign_models import TEXTS, foreign_tokenizer

ALIKE = ("Qwen3", "OLMoE", "Qwen3-MoE")
"""Families built as Llama and Mixtral are, as far as a dictionary sees them; `analyses.families` tries them too."""
NO_NEXT = {"BERT": "logits depend on later tokens", "T5": "has no logits"}


@pytest.fixture(scope="module")
def tokens():
    return text()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ALIKE])
def test_every_stage_works_or_says_why_not(family, tokens, tmp_path, caplog):
    model, native = load_model(make_model(family)), BLOCKS.get(family, "model.layers.1")
    store = harvest(model, tokens, [native], tmp_path / "store")
    assert store.hook_names == (HOOK,), "whatever the family calls it"
    sae = train_sae(store, HOOK, TopKConfig(d_sae=24, k=4, tokens=4_000, batch_size=256), out=tmp_path / "sae")
    features = scan_features(sae, store, HOOK, tmp_path / "features", model=model)
    quality = quality_table(model, HOOK, {"SAE": sae, "zero": NeuronDictionary(D, 1)}, tokens[:20])
    assert 0 < quality.fvu[0] < 1 and quality.l0[0] == 4
    if family in NO_NEXT:
        assert NO_NEXT[family] in caplog.text and quality.filter(like="ce_").isna().all(axis=None)
        assert "no logit effects" in features.meta["logit_effects"]
        for refused in (
            lambda: feature_effects(model, HOOK, sae, features, sequences=1),
            lambda: steer(model, HOOK, sae, features, {int(features.table().latent[0]): 1.0}, tokens[:1], n_tokens=2),
        ):
            with pytest.raises(NoNextTokens, match=NO_NEXT[family]):
                refused()
    else:
        with torch.no_grad():
            loss = cross_entropy(model(tokens[:20])[:, :-1].flatten(0, 1), tokens[:20, 1:].flatten())
        assert quality.ce_clean[0] == pytest.approx(float(loss), rel=1e-4) != pytest.approx(quality.ce_spliced[0])
        assert features.table().top_logits.notna().any()
        effects = feature_effects(model, native, sae, features, sequences=2)
        assert np.isfinite(effects.loss_change).any()
        strongest = int(features.table().sort_values("max").latent.iloc[-1])
        assert steer(model, native, sae, features, {strongest: 1.0}, tokens[:1, :4], n_tokens=2).shape == (1, 6)
    if family in ("GPT-2", "T5"):  # they read no more of a model than a scan keeps, which is alike for the others
        page = write_report(features, tmp_path / "page", ranking=rank_features(features, n_shifts=1))
        assert page.is_file()


def test_images_have_a_way_of_their_own(tmp_path):
    sizes = {name: SIZES[name] for name in list(SIZES)[:4]}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)
    vit = transformers.ViTModel(config).eval()
    with pytest.raises(ValueError, match="ViTModel reads pixel_values, not tokens: .* ActivationStore.from_batches"):
        load_model(vit)
    vit.save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match="ViT is not a model of text"):
        load_model(tmp_path / "vit")
    with torch.no_grad():
        rows = vit(torch.randn(64, 3, 16, 16)).last_hidden_state.flatten(0, 1)
    store = ActivationStore.from_batches(rows, tmp_path / "store")
    sae = train_sae(store, "activations", TopKConfig(d_sae=24, k=4, tokens=4_000, batch_size=256))
    assert sae.d_in == D


def test_two_texts_at_once_are_refused_in_words():
    name, sizes = FAMILIES["T5"]
    both = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, vocab_size=99))
    with pytest.raises(ValueError, match="reads two texts: give its encoder alone"):
        load_model(both)


def test_the_table_of_families_says_what_is_left_out_and_what_is_refused(tmp_path):
    vit = try_vit(tmp_path)
    assert [stage for stage, (status, _) in vit.items() if status == "yes"] == ["hooks", "harvest", "SAE", "page"]
    assert "reads pixel_values, not tokens" in vit["load"][1] and "not text" in vit["ranking"][1]
    assert all("rows that are not text" in vit[stage][1] for stage in ("effects", "steer"))
    assert "quality needs a model that reads token ids" in vit["quality"][1]
    assert vit["scan"][0] == "left out" and {vit[stage][0] for stage in ("quality", "effects", "steer")} == {"refused"}
    said = families({"stages": ["load", "scan"], "families": {"ViT": vit, "T5 (whole)": try_whole_t5(tmp_path)}})
    assert "| ViT | refused (1) | left out (2) |" in said and "| T5 (whole) | refused (3) | – |" in said
    assert "3. " in said and "reads two texts" in said


def test_run_without_next_tokens_completes(tmp_path, monkeypatch):
    """What it is compared with, and what is left out by name, with the hook by the family's own name. `test_any_model`
    has a run with next tokens."""
    tokenizer, reason = foreign_tokenizer("gpt2"), NO_NEXT["BERT"]
    make_model("BERT", len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS[:60]), encoding="utf-8")
    text = {"source": "files", "paths": [str(tmp_path / "text.txt")], "val_fraction": 0.2, "document_characters": 200}
    config = RunConfig.from_dict({
        "corpus": text,
        "model": {"source": "huggingface", "name": "./model", "n_ctx": N_CTX},
        "harvest": {"hook_name": BLOCKS["BERT"], "tokens": 2_000},
        "sae": {"d_sae": 24, "k": 4, "tokens": 4_000, "batch_size": 256},
        "quality": {"tokens": 500},
        "effects": {"latents": 4, "sequences": 1},
        "ranking": {"n_shifts": 1},
        "nulls": {"tokens": 1_000, "sae_tokens": 1_000, "latents": 4},
    })  # fmt: skip
    monkeypatch.chdir(tmp_path)
    run_stages(config, "run")
    monkeypatch.chdir("/")
    run, again = Run(tmp_path / "run"), load_model(tmp_path / "run")
    assert all(torch.equal(x, y) for x, y in zip(again.parameters(), run.model.parameters(), strict=True))
    assert run.hook_name == HOOK and basis_of(run).name == "coordinates", "none of them names its neurons"
    assert run.neurons.d_sae == 2 * D
    assert "coordinates" in set(run.nulls.shares.dictionary) and set(run.concepts.rival) <= {"coordinate"}
    assert run.summaries()["neurons"].split()[1].startswith("coordinates")
    assert run.page.is_file()
    assert reason in run.summaries()["effects"] and reason in run.summaries()["model"]
    assert "no loss of next tokens" in run.summaries()["quality"]
    with pytest.raises(MissingResultError, match=f"was left out, as the model.*{reason}"):
        print(run.effects)
