"""A configuration of the whole pipeline that runs in seconds; what several tests share."""

from interp.config import RunConfig

SECTIONS = {
    "corpus": {"source": "mixture", "characters": 160_000, "val_fraction": 0.2},
    "tokenizer": {"vocab_size": 512},
    "model": {"preset": "one-layer", "n_ctx": 64, "d_model": 32, "n_heads": 2, "d_mlp": 64},
    "training": {"tokens": 60_000, "batch_size": 16},
    "harvest": {"tokens": 40_000, "batch_size": 16},
    "sae": {"architecture": "topk", "d_sae": 128, "k": 8, "tokens": 60_000, "batch_size": 512},
    "quality": {"tokens": 8_000, "batch_size": 16},
    "ranking": {"nulls": 2},
}
TINY = RunConfig.from_dict(SECTIONS)
