"""The models that three analyses share: pre-trained, tuned on conversations, and optimised for a preference.

    MODELS/seed-S/base      pre-trained on plain statements
    MODELS/seed-S/sft       base, tuned on conversations                          (`instruction_tuning`)
    MODELS/seed-S/dpo-β     sft, optimised on pairs of its own responses          (`preference`)

Each folder holds weights.safetensors, config.json and, written last, stage.json: what the stage depends on and its
training curve. A stage that exists is read back; one of other sizes is made again. MODELS is the folder
`instruction_tuning/models` next to the analysis's own, or the folder that --models names.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from jaxtyping import Int
from torch import Tensor

from analyses.essay.posttraining import (
    ChatTokenizer,
    PostTrainingConfig,
    Sequences,
    mean_response_loss,
    respond,
    tune_on_responses,
)
from analyses.essay.texts.conversations import Turn, heldout_turns, statements, turns
from analyses.record import options
from interp.storage.files import write_json
from models.evaluation import evaluate_loss
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.training import train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class ChatSetting:
    d_model: int = 96
    n_heads: int = 4
    pages: int = 6000
    """Pages of plain text; a tenth is held out."""
    pretrain_tokens: int = 1_000_000
    turns: int = 3000
    heldout: int = 300
    sft_epochs: float = 4.0
    sft_lr: float = 1e-3
    watched: int = 8
    """Points of the curve of tuning."""
    response_tokens: int = 32
    """The length limit, about twice the longest response of the conversations."""


QUICK_MODELS = ChatSetting(32, 2, 300, 10_000, 200, 20, 1.0, 3e-3, 2, 16)


@dataclass(frozen=True)
class World:
    """What the models of a seed read."""

    chat: ChatTokenizer
    train: Int[Tensor, "seq pos"]
    val: Int[Tensor, "seq pos"]
    turns: list[Turn]
    heldout: list[Turn]

    def sequences(self, turns: Sequence[Turn]) -> Sequences:
        return self.chat.sequences([t.prompt for t in turns], [t.response for t in turns])


def make_world(setting: ChatSetting, seed: int) -> World:
    rng = Random(seed)
    pages = list(statements(rng, setting.pages))
    asked, heldout = turns(rng, setting.turns), heldout_turns(rng, setting.heldout)
    spoken = [f" {t.prompt} {t.response}" for t in asked]
    chat = ChatTokenizer(Tokenizer.train_bpe([p.text for p in pages] + spoken, 1280))
    tokens = tokenize(pages, chat.text, 64, deduplicate=False).tokens
    cut = len(tokens) // 10
    return World(chat, tokens[cut:], tokens[:cut], asked, heldout)


def base_model(folder: Path, setting: ChatSetting, seed: int, world: World) -> Transformer:
    """Train a model to predict the next token of plain text. The three marks of a conversation are in the vocabulary,
    but never occur."""
    size = dict(n_layers=2, d_model=setting.d_model, n_heads=setting.n_heads, d_mlp=4 * setting.d_model, n_ctx=64)
    model = Transformer(TransformerConfig(**size, d_vocab=world.chat.vocab_size, seed=seed))

    def train() -> dict[str, Any]:
        config = TrainingConfig(tokens=setting.pretrain_tokens, batch_size=16, lr=4e-3, seed=seed, n_samples=0)
        result = train_model(model, world.train, world.val, config, folder / f"seed-{seed}" / "base", overwrite=True)
        return {"val_loss": result.val_loss}

    stage(folder / f"seed-{seed}" / "base", model, {"setting": asdict(setting), "seed": seed}, train)
    return model


def tuned_model(folder: Path, setting: ChatSetting, seed: int, world: World, base: Transformer) -> Transformer:
    """Tune a model on conversations (SFT). On the way, measure the losses on plain text and held-out responses, and the
    shares of ends and of right answers."""
    model = copy_of(base)

    def train() -> dict[str, Any]:
        sequences = world.sequences(world.turns)
        config = PostTrainingConfig(epochs=setting.sft_epochs, lr=setting.sft_lr, seed=seed)
        curve: list[dict[str, float]] = []
        due = watched_steps(config.steps(len(sequences)), setting.watched)

        def watch(step: int, loss: float) -> None:
            if step in due:
                curve.append({"step": step, **standing(model, world, world.heldout[:150], setting)})

        tune_on_responses(model, sequences, config, watch)
        return {"curve": curve}

    stage(folder / f"seed-{seed}" / "sft", model, {"setting": asdict(setting), "seed": seed}, train)
    return model


def standing(model: Transformer, world: World, asked: Sequence[Turn], setting: ChatSetting) -> dict[str, float]:
    """Return losses in nats a token, shares in 0..1: `<end>` within the limit (drawn at temperature 1), the right
    answer to the letter (drawn at temperature 0)."""
    prompts = world.chat.prompts([turn.prompt for turn in asked])
    drawn, likeliest = (
        respond(model, prompts, world.chat.end_id, setting.response_tokens, temperature=temperature)
        for temperature in (1.0, 0.0)
    )
    right = [turn.is_right(world.chat.decode(ids)) for turn, ids in zip(asked, likeliest.ids, strict=True)]
    return {
        "plain_loss": evaluate_loss(model, world.val[:150], precision="float32"),
        "response_loss": mean_response_loss(model, world.sequences(asked)),
        "ended": sum(drawn.ended) / len(asked),
        "right": sum(right) / len(asked),
    }


def watched_steps(steps: int, n: int) -> set[int]:
    """Return the steps at which the model is measured: 0, the last, and steps between them that are denser at the
    start."""
    return {round(steps * (i / n) ** 2) for i in range(n + 1)}


def copy_of(model: Transformer) -> Transformer:
    copied = Transformer(model.config)
    copied.load_state_dict(model.state_dict())
    return copied


def stage(folder: Path, model: Transformer, depends: dict[str, Any], train: Callable[[], dict[str, Any]]) -> None:
    """Put the weights of a finished stage into `model`, or train it, which `train` does in place."""
    depends = json.loads(json.dumps(depends))
    facts = read_stage(folder)
    if facts.get("depends") == depends:
        model.load_state_dict(Transformer.load(folder).state_dict())
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.json").unlink(missing_ok=True)
    trained_model = train()
    model.save(folder)
    write_json(folder / "stage.json", {**trained_model, "depends": depends})


def read_stage(folder: Path) -> dict[str, Any]:
    file = folder / "stage.json"
    return json.loads(file.read_text()) if file.exists() else {}


def models_folder(doc: str | None, name: str, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Path]:
    """Return the options of an analysis, and the folder of the models: what `--models` says, or the one of
    `instruction_tuning` next to the analysis's own."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--models", type=Path)
    parsed, rest = parser.parse_known_args(arguments)
    o = options(doc, name, rest)
    return o, parsed.models or o.out.parent / "instruction_tuning" / "models"
