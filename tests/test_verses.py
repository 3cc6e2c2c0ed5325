"""Verses of a SWORD module: read from files written by hand, and every number checked."""

import struct
import zlib

import pytest

from interp.benchmark.lemma_text import lemma_text
from models.verses import MODULES, Word, read_verses, words_of

VERSE = 'The <w lemma="strong:G0976" n="1">book</w> <note>no</note>of <w lemma="strong:G2424 strong:G5547">the son</w>.'


def write(folder, verses, *, damage=lambda blocks, places, packed: (blocks, places, packed)):
    text, places = b"", b""
    for verse in verses:
        own = verse.encode()
        places += struct.pack("<IIH", 0, len(text), len(own))
        text += own
    packed = zlib.compress(text)
    files = damage(struct.pack("<III", 0, len(packed), len(text)), places, packed)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("ot", "nt"):
        for kind, content in zip("svz", files, strict=True):
            (folder / f"{part}.bz{kind}").write_bytes(content)


def test_words_carry_their_lemma_and_notes_are_left_out():
    assert words_of(VERSE) == [
        Word("The", ""), Word("book", "G0976"), Word("of", ""), Word("the", ""), Word("son", "G2424"), Word(".", "")
    ]  # fmt: skip


def test_verses_of_both_testaments_are_read_in_order(tmp_path):
    write(tmp_path / MODULES["english"][0], ["", VERSE, "Amen"])
    verses = read_verses("english", tmp_path)
    assert [len(verse) for verse in verses] == [0, 6, 1] * 2 and verses[2] == [Word("Amen", "")]


def test_a_module_that_is_not_there_names_its_packages(tmp_path):
    with pytest.raises(ValueError, match="apt-get install sword-text-kjv sword-text-sparv"):
        read_verses("spanish", tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s, v, z: (s[:-1], v, z), "no whole number"),
        (lambda s, v, z: (s, struct.pack("<IIH", 7, 0, 4), z), "block 7 of 1"),
        (lambda s, v, z: (s, struct.pack("<IIH", 0, 5, 60_000), z), "ends beyond"),
        (lambda s, v, z: (struct.pack("<III", 9, 1 << 30, 4), v, z), "cannot be"),
        (lambda s, v, z: (struct.pack("<III", 0, len(z), 1 << 30), v, z), "cannot be"),
        (lambda s, v, z: (s, v, z[:4] + b"\0" + z[5:]), "install it again"),
    ],
)
def test_a_damaged_module_is_refused(tmp_path, damage, said):
    write(tmp_path / MODULES["english"][0], [VERSE], damage=damage)
    with pytest.raises(ValueError, match=said):
        read_verses("english", tmp_path)


def test_a_lemma_holds_at_its_words_in_both_languages():
    english = [[("God", "G2316"), ("spake", "G2980")], [("men", "G0444"), ("and", ""), ("all", "")]] * 200
    spanish = [[("Dios", "G2316"), ("habló", "G2980")], [("hombres", "G0444"), ("y", ""), ("todos", "")]] * 200
    text = lemma_text([english, spanish], n_seq=100, n_ctx=12)
    flat = [text.vocab[token] for token in text.tokens.reshape(-1)]
    by_name = {factor.name: factor for factor in text.factors}
    assert {flat[row] for row in by_name["lemma G2316"].rows} == {" god", " dios"}
    assert by_name["token ' god'"].tags == {f"token {text.vocab.index(' god')}", "lemma G2316"}
    with pytest.raises(ValueError, match="languages of 400, 399 verses"):
        lemma_text([english, spanish[1:]], n_seq=100, n_ctx=12)
    with pytest.raises(ValueError, match="ask for fewer"):
        lemma_text([english, spanish], n_seq=1000, n_ctx=12)
