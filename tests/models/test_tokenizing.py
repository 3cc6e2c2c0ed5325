"""Texts to tokens with tokenizers of other makers; `test_corpus` has our own."""

import pytest
import torch

from interp.checks.errors import InterpError
from models import load_tokenizer, tokenize
from models.documents import Document, Span
from models.pretrained_tokenizer import PretrainedTokenizer
from models.tokenizer import Tokenizer, share_encoded_again
from models.tokens import LabelledTokens
from tests.foreign_models import FAMILIES, TEXTS, foreign_tokenizer

OPENING = {"gpt2": "<|endoftext|>", "neox": "<|endoftext|>", "llama": "<s>", "gemma2": "<bos>"}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(family):
    return PretrainedTokenizer(foreign_tokenizer(family))


def test_texts_are_packed_with_what_opens_each(tokenizer, family):
    opening = tokenizer.inner.convert_tokens_to_ids(OPENING[family])
    assert tokenizer.adds_bos == (family in ("llama", "gemma2"))
    got = tokenize(TEXTS, tokenizer, 16)
    expected = [i for text in TEXTS for i in (opening, *tokenizer.inner(text, add_special_tokens=False)["input_ids"])]
    assert got.tokens.dtype == torch.int32 and got.tokens.flatten().tolist() == expected[: got.tokens.numel()]
    assert len(expected) - 16 < got.tokens.numel() and got.tokenizer == tokenizer.digest
    without = tokenize(TEXTS, tokenizer.inner, 16, bos=False).tokens
    assert without.flatten().tolist() == [i for i in expected if i != opening][: without.numel()]
    assert not got.padding.any()
    flat, of = got.tokens.flatten(), got.document_ids.flatten()
    assert tokenizer.decode(flat[of == 7].tolist()) == TEXTS[7]  # no BOS among the letters, no letter lost


def test_one_text_a_row_is_cut_or_padded(tokenizer):
    texts = [TEXTS[0], "The.", "", TEXTS[1] * 3]
    got = tokenize(texts, tokenizer, 24, pack=False, bos=True)
    assert got.tokens.shape == (4, 24)
    for row, padding, text in zip(got.tokens.tolist(), got.padding.tolist(), texts, strict=True):
        expected = [tokenizer.bos_id, *tokenizer.encode(text, add_special_tokens=False)][:24]
        assert row[: len(expected)] == expected and padding == [False] * len(expected) + [True] * (24 - len(expected))
        assert {i for i, pad in zip(row, padding, strict=True) if pad} <= set(tokenizer.special_ids)
    assert (got.row_characters[1:3] == torch.tensor([4, 0])).all()
    bare = tokenize(texts, tokenizer, 24, pack=False, bos=False)
    assert len(bare) == 3 and bare.document_ids[:, 0].tolist() == [0, 1, 3]


def test_padding_is_kept_on_disk(tokenizer, tmp_path):
    got = tokenize(["The.", "One two."], tokenizer, 12, pack=False)
    got.save(tmp_path / "tokens")
    assert torch.equal(LabelledTokens.load(tmp_path / "tokens").padding, got.padding) and got.padding.any()


def test_padding_is_of_no_work(tokenizer):
    for texts in (["The."], ["The.", "One two."], ["The.", "One two.", "Three"]):
        got = tokenize(texts, tokenizer, 12, pack=False)
        for i, name in enumerate(got.document_names):
            assert torch.equal(got.work(name), got.document_ids == i)


def test_one_string_is_not_read_as_a_list_of_characters(tokenizer):
    with pytest.raises(ValueError, match="texts is one string: give a list"):
        tokenize("the café sings", tokenizer, 8)


def test_labels_reach_the_tokens_that_spell_them(tokenizer):
    text = "the café sings under 水 trees"
    spans = (Span(4, 8, "noun"), Span(21, 22, "water"))
    got = tokenize([Document(text, spans, "files", "f")], tokenizer, 8, pack=False, labels=("water", "noun"))
    wide = tokenize([Document(text, spans, "files", "f")], tokenizer, 40, pack=False)
    assert repr(got).endswith("sequences of 8 tokens, 1 documents, 2 labels)")
    with pytest.raises(KeyError, match="no label is named 'verb'; there are water, noun"):
        got.labels["verb"]
    with pytest.raises(ValueError, match=r"labels=\['noun', 'noun'\] must name each label once"):
        tokenize([Document(text, spans, "files", "f")], tokenizer, 8, labels=["noun", "noun"])
    assert got.label_names == ("water", "noun") and wide.label_names == ("noun", "water")
    for label, letters in (("noun", "café"), ("water", "水")):
        ids = wide.tokens[wide.labels[label]].tolist()
        assert tokenizer.decode(ids).strip() == letters


def test_texts_that_say_the_same_count_once():
    tokenizer = Tokenizer.train_characters(TEXTS)
    texts = [TEXTS[0], TEXTS[1], TEXTS[0].upper(), TEXTS[1].replace(" ", "\n  "), TEXTS[2]]
    got = tokenize(texts, tokenizer, 8)
    assert got.document_names == ("text 0", "text 1", "text 4")
    assert len(tokenize(texts, tokenizer, 8, deduplicate=False).document_names) == 5


def test_a_tokenizer_is_saved_and_read_back(tokenizer, family, tmp_path):
    padded = PretrainedTokenizer(tokenizer.inner, d_vocab=tokenizer.vocab_size + 3)
    padded.save(tmp_path)
    read = load_tokenizer(tmp_path)
    assert read.digest == padded.digest == tokenizer.digest and read.display() == padded.display()
    assert read.display()[-1] == f"⟨id {tokenizer.vocab_size + 2}⟩"
    assert all(read.encode(text) == tokenizer.encode(text) == tokenizer.inner.encode(text) for text in TEXTS[:9])
    assert (read.adds_bos, read.bos_id, read.special_ids) == (
        tokenizer.adds_bos,
        tokenizer.bos_id,
        tokenizer.special_ids,
    )
    rows = tokenize(TEXTS, tokenizer, 32).tokens
    drawn = torch.randint(tokenizer.vocab_size, (64, 32), generator=torch.Generator().manual_seed(0))
    assert (
        share_encoded_again(tokenizer, rows) > 0.95
        and share_encoded_again(tokenizer, drawn) < 0.8
        and share_encoded_again(tokenizer, drawn + 400) == 0
    )


def test_word_pieces_are_shown_with_the_space_before_a_word():
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {piece: i for i, piece in enumerate(["[UNK]", "walk", "##ing", "."])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.decoder = tokenizers.decoders.WordPiece()
    tokenizer = PretrainedTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]"))
    assert tokenizer.display() == ["[UNK]", " walk", "ing", " ."]
    with pytest.raises(ValueError, match="bos=True, but the tokenizer has no BOS"):
        tokenize(["walking"], tokenizer, 2, bos=True)
    with pytest.raises(ValueError, match="bos='yes' must be True, False or 'auto'"):
        tokenize(["walking"], tokenizer, 2, bos="yes")
    with pytest.raises(ValueError, match="pack=False needs a tokenizer with"):
        tokenize(["walking"], tokenizer, 8, pack=False)
    assert tokenize(["walking ."], tokenizer, 3).tokens.tolist() == [[1, 2, 3]]  # nothing opens it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "text 1 is None, not a string: leave it out"),
        (float("nan"), "text 1 is nan, not a string"),
        ("a \ud800", "text 1 has half a surrogate pair, character 2: replace it"),
    ],
)
def test_what_is_no_text_is_named(tokenizer, text, message):
    with pytest.raises(InterpError, match=message):
        tokenize(["a b c d e f", text], tokenizer, 2)


def test_a_generator_of_texts_and_no_tokenizer_are_refused(tokenizer):
    with pytest.raises(InterpError, match=r"texts is a generator: give a list of strings, list\(texts\)"):
        tokenize((text for text in ["a b c d e f"]), tokenizer, 2)
    with pytest.raises(InterpError, match="tokenizer is None: give interp's"):
        tokenize(["a b c d e f"], None, 2)
