"""Make the subject of the benchmarks of harvest and report: a transformer with random weights, Shakespeare's plays, and
SAELens's harvest.

The transformer has two layers, d_model 128, MLP 512, vocabulary 4096, context 128.
"""

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.corpus import CorpusConfig, load_documents
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.transformer import Transformer, TransformerConfig

HOOK, N_CTX, D_VOCAB, D_MLP = "blocks.1.mlp.hook_post", 128, 4096, 512


class Timing(NamedTuple):
    wall: float
    cpu: float


class PeerHarvest(NamedTuple):
    timing: Timing
    n_stored: int


def two_layers(tokenizer: Tokenizer) -> Transformer:
    return Transformer(
        TransformerConfig(n_layers=2, d_model=128, n_heads=4, d_mlp=D_MLP, d_vocab=tokenizer.vocab_size, n_ctx=N_CTX)
    )


def shakespeare(n_tokens: int) -> tuple[torch.Tensor, Tokenizer]:
    documents = load_documents(CorpusConfig(source="shakespeare", characters=4 * n_tokens))
    tokenizer = Tokenizer.train_bpe((document.text for document in documents), D_VOCAB)
    return tokenize(documents, tokenizer, N_CTX, deduplicate=False).tokens[: n_tokens // N_CTX], tokenizer


def transformers_tokenizer(tokenizer: Tokenizer, folder: Path):
    """Save the tokenizer and read it again, because TransformerLens reads a tokenizer once more from its folder."""
    from transformers import AutoTokenizer

    tokenizer.to_transformers().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def saelens_harvest(out: Path, model: Any, tokens: Tensor, hook: str) -> PeerHarvest:
    """Harvest a hook of a HookedTransformer on tokens [seq, pos] with SAELens's runner, in its own batches."""
    import sae_lens.cache_activations_runner as module
    from datasets import Dataset

    shutil.rmtree(out, ignore_errors=True)
    config = module.CacheActivationsRunnerConfig(
        dataset_path="tokens",
        model_name="model",
        model_batch_size=32,
        hook_name=hook,
        d_in=model.cfg.d_mlp,
        training_tokens=tokens.numel(),
        context_size=tokens.shape[1],
        new_cached_activations_path=str(out),
        shuffle=True,
        prepend_bos=False,
        streaming=False,
        device="cpu",
    )
    load, module.load_model = module.load_model, lambda *_, **__: model
    dataset = Dataset.from_dict({"input_ids": tokens.tolist()})
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        cached = module.CacheActivationsRunner(config, dataset).run()
    finally:
        module.load_model = load
    spent = Timing(time.perf_counter() - wall, time.process_time() - cpu)
    return PeerHarvest(spent, len(cached) * tokens.shape[1])


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
