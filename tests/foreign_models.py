"""Tiny models of other people's making, on disk as Hugging Face writes them: random weights, a tokenizer trained on
`TEXTS`, and on request a token whose residual norms outgrow all others, as an attention sink's do.

    gpt2    learned positions, tied embeddings, byte-level BPE, no BOS before a text
    llama   RMS norms, gated MLP, grouped heads, BPE with `▁` and byte fallback, BOS before each text
    neox    parallel attention and MLP, byte-level BPE, more rows of the embedding than tokens
    gemma2  norms after attention and MLP, norm weights of 1 + w, Unigram with byte fallback, BOS before each text
"""

import json
import random
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import nn

FAMILIES = ("gpt2", "llama", "neox", "gemma2")
D_MODEL, N_LAYERS, N_CTX, D_MLP = 32, 3, 64, 48
WORDS = "the a river stone light runs over under bright cold water and then sings to old trees while café naïve 水 says"
_PADDING = 7
"""Rows of neox's embedding that no token has."""


def texts(n: int = 120, seed: int = 0) -> list[str]:
    """Sentences of `WORDS`, no two alike."""
    rng, words = random.Random(seed), WORDS.split()
    return [" ".join(rng.choices(words, k=rng.randint(8, 40))).capitalize() + f".\nLine {i}, end" for i in range(n)]


TEXTS = texts()


def write_foreign(family: str, folder: Path, *, sink: float | None = None) -> Path:
    """Return the model and tokenizer of a family in `folder`; `sink`: see `plant_sink`."""
    tokenizer = foreign_tokenizer(family)
    model = foreign_model(family, len(tokenizer))
    if sink is not None:
        plant_sink(model, sink, tokenizer.convert_tokens_to_ids("."))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def write_gguf(model: nn.Module, tokenizer: Any, file: Path) -> None:
    """A Llama with a byte-level tokenizer, in the file format of llama.cpp, which keeps the halves of rotated heads
    side by side."""
    import gguf

    config, written = model.config, json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(written["vocab"], key=written["vocab"].get))
    writer.add_token_types([3, *[1] * (config.vocab_size - 1)])
    writer.add_token_merges([" ".join(pair) for pair in written["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        n_heads = next((n for part, n in heads.items() if part in name), None)
        if n_heads is not None:
            weight = weight.view(n_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def foreign_tokenizer(family: str) -> Any:
    """Return a fast tokenizer of Hugging Face; llama's has a chat template."""
    from transformers import PreTrainedTokenizerFast

    made, special = {
        "gpt2": (_byte_level, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
        "neox": (_byte_level, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
        "llama": (_byte_fallback, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
        "gemma2": (
            _unigram,
            {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
        ),
    }[family]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made(), **special)
    if family == "llama":
        tokenizer.chat_template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    return tokenizer


def foreign_model(family: str, n_tokens: int, *, seed: int = 0, head_dim: int = 6) -> nn.Module:
    """Return a model with random weights everywhere, including norms and biases."""
    import transformers

    sizes = dict(hidden_size=D_MODEL, num_hidden_layers=N_LAYERS, num_attention_heads=4, intermediate_size=D_MLP)
    common = dict(max_position_embeddings=N_CTX, vocab_size=n_tokens, bos_token_id=0, eos_token_id=0)
    gated = dict(num_key_value_heads=2, head_dim=head_dim, pad_token_id=None, tie_word_embeddings=False)
    if family == "gpt2":
        config = transformers.GPT2Config(
            n_embd=D_MODEL,
            n_layer=N_LAYERS,
            n_head=4,
            n_inner=D_MLP,
            n_positions=N_CTX,
            **common | {"vocab_size": n_tokens},
        )
    elif family == "llama":
        config = transformers.LlamaConfig(**sizes, **common, **gated)
    elif family == "neox":
        config = transformers.GPTNeoXConfig(**sizes, **common | {"vocab_size": n_tokens + _PADDING})
    else:
        config = transformers.Gemma2Config(**sizes, **common, **gated, query_pre_attn_scalar=head_dim)
    config._attn_implementation = "eager" if family == "gemma2" else "sdpa"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            norm = weight.ndim == 1 and name.endswith("weight")
            scale = 0.5 if "embed" in name or "wte" in name or "wpe" in name else 0.1
            weight.copy_((family != "gemma2") + 0.1 * noise if norm else scale * noise)
    return model


@torch.no_grad()
def plant_sink(model: nn.Module, factor: float, token: int) -> None:
    """Make the residual stream of one token `factor` times as long as others', from the embedding on: its rows then
    hold nearly all variance at every hook, as an attention sink's do. What is unembedded stays as it was."""
    embedding, unembedding = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding.weight is unembedding.weight:
        unembedding.weight = nn.Parameter(embedding.weight.clone())
        model.config.tie_word_embeddings = False
    embedding.weight[token] *= factor


def _byte_level() -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(TEXTS, trainer)
    return inner


_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _byte_fallback() -> tokenizers.Tokenizer:
    """As Llama's: special tokens, the bytes, then pieces with `▁` for the space, one before each text too."""
    special = ["<unk>", "<s>", "</s>"]
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    inner.train_from_iterator(
        ["".join(c for c in text if ord(c) < 255 and c != "\n") for text in TEXTS],
        trainers.BpeTrainer(vocab_size=360, special_tokens=[*special, *_BYTES], show_progress=False),
    )
    return _with_bytes(inner, special, "<s>")


def _unigram() -> tokenizers.Tokenizer:
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[*special, *_BYTES], unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator(["".join(c for c in t if ord(c) < 255 and c != "\n") for t in TEXTS], trainer)
    return _with_bytes(inner, special, "<bos>")


def _with_bytes(trained: tokenizers.Tokenizer, special: list[str], bos: str) -> tokenizers.Tokenizer:
    """Return the trained pieces in a model that falls back on bytes; BOS before each text."""
    written = json.loads(trained.to_str())
    written["model"]["byte_fallback"] = True
    written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] in special]
    inner = tokenizers.Tokenizer.from_str(json.dumps(written))
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        if bos == "<s>"
        else [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, inner.token_to_id(bos))]
    )
    return inner
