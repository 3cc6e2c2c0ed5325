"""Byte-level BPE and character tokenizers: round trip, character offsets, display, files."""

import json

import numpy as np
import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Split

from models.tokenizer import _WORDS, Tokenizer

MIXED = "To be <|bos|>, שלום עולם!\r\n\tدرس 日本語のテスト — naïve 😀 e\u0301\x00end"
TEXTS = ["to be or not to be, that is the question", "שלום שלום 日本語 日本", "x = 'a' # b\n"] * 20


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.train_bpe(TEXTS, 320)


def test_a_tokenizer_shows_its_size(bpe):
    assert repr(bpe) == f"Tokenizer({bpe.vocab_size} tokens, bytes)"


def test_bytes_round_trip_any_text(bpe):
    for text in (MIXED, "", "\n\n  \n", "".join(map(chr, range(0x2000)))):
        assert bpe.decode(bpe.encode(text, add_special_tokens=False)) == text


def test_offsets_equal_a_walk_over_the_bytes(bpe):
    """Each token's bytes are found one after the other in the text; a character counts where one of its bytes lies."""
    character_of_byte = [i for i, c in enumerate(MIXED) for _ in c.encode()]
    ids, offsets = bpe.encode_batch([MIXED])[0]
    position = 0
    for token, (start, end) in zip(ids, offsets.tolist(), strict=True):
        n = len(bpe._bytes[token])
        assert (start, end) == (character_of_byte[position], character_of_byte[position + n - 1] + 1)
        position += n
    assert position == len(MIXED.encode())
    split_letters = [pair for pair in offsets.tolist() if offsets.tolist().count(pair) > 1]
    assert split_letters, "the text should have letters that several tokens share"


def test_offsets_equal_those_of_tokenizers(bpe):
    reference = bpe._inner.encode(MIXED, add_special_tokens=False)
    assert bpe.encode(MIXED, add_special_tokens=False) == reference.ids
    assert bpe.encode_batch([MIXED])[0].offsets.tolist() == [list(pair) for pair in reference.offsets]


def test_offsets_of_ascii_and_empty_text(bpe):
    ids, offsets = bpe.encode_batch(["to be"])[0]
    assert ["to be"[a:b] for a, b in offsets] == [bpe.display()[i] for i in ids]
    assert bpe.encode("", add_special_tokens=False) == [] and bpe.encode_batch([""])[0].offsets.shape == (0, 2)


def test_batch_equals_one_by_one(bpe):
    for text, encoding in zip(TEXTS[:3], bpe.encode_batch(TEXTS[:3]), strict=True):
        alone = bpe.encode_batch([text])[0]
        assert encoding.ids == alone.ids
        np.testing.assert_array_equal(encoding.offsets, alone.offsets)


def test_bos_in_a_text_is_text(bpe):
    assert bpe.bos_id == 0 and bpe.display()[0] == "<|bos|>"
    assert bpe.bos_id not in bpe.encode("a <|bos|> b", add_special_tokens=False)
    assert bpe.decode([bpe.bos_id, *bpe.encode("be", add_special_tokens=False)]) == "be"


def test_display_names_stray_bytes(bpe):
    display = bpe.display()
    assert len(display) == bpe.vocab_size <= 320
    hebrew = bpe.encode("ק", add_special_tokens=False)  # not in the training text, so no merge joins its two bytes
    assert [display[i] for i in hebrew] == ["⟨d7⟩", "⟨a7⟩"]
    assert " שלום" in display and "日本" in "".join(display)
    assert not any("\ufffd" in piece for piece in display)
    json.dumps(display, ensure_ascii=False).encode("utf-8")


def test_characters_are_whole_until_a_third_of_the_ids_is_used(bpe):
    frequent = {bpe.display()[i] for text in TEXTS for i in bpe.encode(text)}
    assert not any("⟨" in piece for piece in frequent), "all characters of the texts have ids"
    few = Tokenizer.train_bpe(TEXTS, 257 + 9)
    whole = [piece for piece in few.display() if len(piece) == 1 and not piece.isascii()]
    assert whole == ["ו", "ל", "ם"], "the most frequent, in their order: two bytes are one merge, three are two"
    assert few.decode(few.encode(TEXTS[1])) == TEXTS[1]


def test_merges_stay_within_the_words_of_the_byte_level_tokenizer():
    text = MIXED + "".join(map(chr, range(0x3000))) + " it's I'll\u05e9\u05bc\u05d1 12ab\u0301"
    words = [span for _, span in Split(Regex(_WORDS), "isolated").pre_tokenize_str(text)]
    assert words == [span for _, span in ByteLevel(add_prefix_space=False).pre_tokenize_str(text)]


def test_half_a_letter_decodes_to_a_replacement(bpe):
    assert bpe.decode(bpe.encode("ק", add_special_tokens=False)[:1]) == "\ufffd"


def test_training_is_deterministic_and_small_vocabularies_are_refused():
    again = [Tokenizer.train_bpe(TEXTS, 300).display() for _ in range(2)]
    assert again[0] == again[1]
    with pytest.raises(ValueError, match="vocab_size=256 must be at least 257"):
        Tokenizer.train_bpe(TEXTS, 256)


def test_characters():
    tokenizer = Tokenizer.train_characters(TEXTS)
    assert tokenizer.vocab_size == 2 + len(set("".join(TEXTS)))
    ids, offsets = tokenizer.encode_batch(["to be 日本\nZ"])[0]
    assert offsets.tolist() == [[i, i + 1] for i in range(10)]
    assert ids[-1] == 1 and tokenizer.display()[1] == "<|unk|>"
    assert tokenizer.decode(ids[:-1]) == "to be 日本\n"
    assert tokenizer.bos_id not in tokenizer.encode("<|bos|>", add_special_tokens=False)


@pytest.mark.parametrize("train", [lambda: Tokenizer.train_bpe(TEXTS, 300), lambda: Tokenizer.train_characters(TEXTS)])
def test_saved_and_transformers_tokenizers_agree(train, tmp_path):
    tokenizer = train()
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    fast = tokenizer.to_transformers()
    text = "that is <|bos|> שלום\nto be"
    assert [f.name for f in tmp_path.iterdir()] == ["tokenizer.json"]
    assert loaded.display() == tokenizer.display() and loaded.bos_id == tokenizer.bos_id
    ids = tokenizer.encode(text)
    assert ids == loaded.encode(text) == [tokenizer.bos_id, *fast(text)["input_ids"]]
    assert ids[1:] == tokenizer.encode(text, add_special_tokens=False)
    assert fast.decode(tokenizer.encode("to be, שלום", add_special_tokens=False)) == "to be, שלום"
    assert fast.bos_token_id == fast.pad_token_id == tokenizer.bos_id and len(fast) == tokenizer.vocab_size


def test_loading_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="tokenizer.json does not exist"):
        Tokenizer.load(tmp_path)
