"""Which families of models work in every stage, and what does a stage say about a model that it cannot handle?

    python -m analyses.families --out runs/families           (about a minute)

In:  tiny models with random weights, from their `transformers` configurations: nine decoders (dense, mixtures of
     experts and a state space model), two text encoders, T5 as a whole and a ViT.
Out: OUT/results.json: for each family and stage `yes`, `left out` (the stage continues without a part, and says which)
     or `refused` (a ValueError), with the message.

The same models are tested in `tests/analyses/test_families.py`.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from interp import TopKConfig, effects, harvest, quality_table, rank_features, scan_features, train_sae
from interp.activations.hooks import resolve_hooks
from interp.report import write_report
from interp.storage.files import write_json
from models import load_model
from models.from_transformers import auto_classes

D, N_CTX = 16, 16
SIZES = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SIZES |= {"max_position_embeddings": 64}
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
GROUPED = {**SIZES, **IDS, "num_key_value_heads": 1, "head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"n_embd": D, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": 64}
T5 = {"d_model": D, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "pad_token_id": 0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2Config", GPT2 | IDS),
    "GPT-NeoX": ("GPTNeoXConfig", SIZES | IDS),
    "Llama": ("LlamaConfig", GROUPED),
    "Qwen3": ("Qwen3Config", GROUPED),
    "Gemma 3": ("Gemma3TextConfig", GROUPED),
    "Mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "OLMoE": ("OlmoeConfig", SIZES | IDS | EXPERTS),
    "Qwen3-MoE": ("Qwen3MoeConfig", GROUPED | EXPERTS | {"moe_intermediate_size": 8}),
    "Mamba": ("MambaConfig", {"hidden_size": D, "num_hidden_layers": 2, "state_size": 4} | IDS),
    "BERT": ("BertConfig", SIZES | {"pad_token_id": 0}),
    "T5": ("T5Config", T5),
}
BLOCKS = {"GPT-2": "transformer.h.1", "GPT-NeoX": "gpt_neox.layers.1", "Mamba": "backbone.layers.1"}
BLOCKS |= {"BERT": "bert.encoder.layer.1", "T5": "encoder.block.1"}
"""What the family itself calls its second block, where not `model.layers.1`."""
STAGES = ("load", "hooks", "harvest", "SAE", "scan", "ranking", "quality", "effects", "steer", "page")
HOOK = "blocks.1.hook_resid_post"


def make_model(family: str, vocab_size: int = 330) -> Any:
    """Return a model of the family (of T5, its encoder) with random weights. They are so large that the model
    distinguishes tokens."""
    name, sizes = FAMILIES[family]
    config = getattr(transformers, name)(**sizes, vocab_size=vocab_size)
    model: Any = auto_classes(config)[0]._model_mapping[type(config)](config)
    return randomized(model)


def randomized(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def text() -> torch.Tensor:
    """Return tokens [100, N_CTX] in which each token largely determines the next, so that there is something to
    find."""
    steps = torch.randint(1, 4, (100, N_CTX), generator=torch.Generator().manual_seed(1))
    return steps.cumsum(1) % 60 + 1


class Trial:
    """Try the stages of one model, each with the results of the earlier stages."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.answers: dict[str, tuple[str, str]] = {}

    def attempt(self, stage: str, make: Callable[[], Any], left_out: Callable[[Any], str] = lambda result: "") -> Any:
        """Return the result of `make`, or None if it raises ValueError, or if an input is missing.
        left_out: returns the message about the parts that a result lacks."""
        try:
            result = make()
        except ValueError as error:
            self.answers[stage] = "refused", str(error)
            return None
        except _Missing:
            return None
        missing = left_out(result)
        self.answers[stage] = ("left out", missing) if missing else ("yes", "")
        return result

    def go(self, model: Any, inputs: torch.Tensor, hook: str) -> None:
        """Run all stages after load and hooks.
        inputs: token ids, or floats that the model reads directly."""
        config = TopKConfig(d_sae=24, k=4, tokens=4_000, batch_size=256)
        store = self.attempt("harvest", lambda: harvest(model, inputs, [hook], self.folder / "store"))
        name = store.hook_names[0] if store else ""
        sae = self.attempt("SAE", lambda: train_sae(require(store), name, config, out=self.folder / "sae"))
        features = self.attempt(
            "scan",
            lambda: scan_features(require(sae), store, name, self.folder / "features", model=model),
            lambda made: made.meta["logit_effects"] if made.meta["logit_effects"].startswith("no ") else "",
        )
        ranking = self.attempt(
            "ranking",
            lambda: rank_features(require(features), n_shifts=1),
            lambda made: "no verdict on meaning: the rows are not text" if (made.verdict == "no-context").any() else "",
        )
        warned: list[str] = []
        with _warnings_of("interp.evaluation.splice", warned):
            self.attempt(
                "quality",
                lambda: quality_table(model, hook, {"SAE": require(sae)}, inputs[:20]),
                lambda table: "; ".join(warned) if table["ce_clean"].isna().all() else "",
            )
        self.attempt("effects", lambda: effects.feature_effects(model, hook, sae, require(features), sequences=2))
        strongest = 0 if features is None else int(features.table().sort_values("max").latent.iloc[-1])
        prompt = inputs[:1, :4]
        self.attempt(
            "steer", lambda: effects.steer(model, hook, sae, require(features), {strongest: 1.0}, prompt, n_tokens=2)
        )
        self.attempt("page", lambda: write_report(require(features), self.folder / "page", ranking=ranking))


class _Missing(Exception):
    """An input of a stage is missing."""


def require(value: Any) -> Any:
    if value is None:
        raise _Missing
    return value


class _warnings_of:
    """Collect the warnings of a logger within the block in a list."""

    def __init__(self, name: str, lines: list[str]):
        self._logger, self._handler = logging.getLogger(name), logging.Handler()
        self._handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]

    def __enter__(self) -> None:
        self._logger.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)


def try_family(family: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Return, for each stage, whether it works, and its message if it does not."""
    trial = Trial(folder)
    model = trial.attempt("load", lambda: load_model(make_model(family)))
    native = BLOCKS.get(family, "model.layers.1")
    trial.attempt("hooks", lambda: resolve_hooks(require(model), [native, HOOK]))
    trial.go(model, text(), native)
    return trial.answers


def try_whole_t5(folder: Path) -> dict[str, tuple[str, str]]:
    trial = Trial(folder)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**T5, vocab_size=330))
    trial.attempt("load", lambda: load_model(model))
    return trial.answers


def try_vit(folder: Path) -> dict[str, tuple[str, str]]:
    """Try a model of images. `load_model` reads only models of text, but a harvest takes any module with its inputs."""
    trial = Trial(folder)
    sizes = {name: SIZES[name] for name in list(SIZES)[:4]}
    vit = randomized(transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=16, patch_size=8)))
    trial.attempt("load", lambda: load_model(vit))
    hook = [name for name, module in vit.named_modules() if type(module).__name__ == "ViTLayer"][-1]
    trial.answers["hooks"] = "yes", ""
    trial.go(vit, torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1)), hook)
    return trial.answers


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    options = parser.parse_args(arguments)
    trials: dict[str, Callable[[Path], dict[str, tuple[str, str]]]] = {
        "T5 (encoder)" if family == "T5" else family: partial(try_family, family) for family in FAMILIES
    }
    trials |= {"T5 (whole)": try_whole_t5, "ViT": try_vit}
    families: dict[str, Any] = {}
    for name, trial in trials.items():
        with tempfile.TemporaryDirectory() as folder:
            families[name] = trial(Path(folder))
        print(name, {stage: status for stage, (status, _) in families[name].items()}, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    results = {"stages": STAGES, "families": families}
    write_json(options.out / "results.json", results)
    return results


if __name__ == "__main__":
    main()
