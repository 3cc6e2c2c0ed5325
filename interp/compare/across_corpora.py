"""Find the features that differ between two corpora, document by document, at a false discovery rate of 5 %.

In: scans of two texts by one dictionary, or one scan and a mask that divides its documents. Out: `Corpora`, whose table
has a row per latent. One document counts as one draw, because the tokens of a document depend on one another
(`features.by_document`). Let m_ij be the largest activation of latent j in document i, and t_j the median of m_ij over
the documents of both corpora, which is 0 for a latent that fires in at most half of them.

    share_a, share_b     of the documents of A and of B, the share in which m_ij > t_j
    difference           share_a − share_b, with its 95 % interval over documents (Newcombe's)
    p                    of the permutation null: the documents of A are redrawn, so that their number among those above
                         t_j is hypergeometric, and both its tails are summed exactly
    q                    the share of false discoveries among the latents whose p is as small or smaller (Benjamini &
                         Hochberg); a latent differs if q ≤ FALSE_DISCOVERIES

Only latents above t_j in at least ten documents are tested. This choice, and t_j, do not depend on which
documents are A's, so the null is exact at any size. The null of the whole answer is `by_chance`: how many latents
differ when the documents are assigned to A at random.

Sources: the median test (Mood 1950) with Fisher's exact tails, where p is twice the smaller tail; Newcombe 1998 (method
10) for the intervals; Benjamini & Hochberg 1995. Cost: one pass over the codes of both corpora, and more if there are
several blocks of latents. Memory: COUNTS_AT_ONCE (`document_counts`) entries of documents and latents, and a number per
latent.
Limits: more latents fire in a longer document, whatever its content. If the corpora's documents differ in length (a
warning), `n_first` compares their beginnings. Pieces of one work are not independent documents: use the work as the
document. Latents with the same meaning are found together, so a theme counts as often as the dictionary splits it. Each
interval covers one latent; the largest of many differences are larger than they will be in new documents. Corpora from
two sources differ in everything in which the sources differ, which may be more than the question that you have in mind.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.compare.document_counts import DocumentCounts, ScannedDocuments, count_documents
from interp.compare.latent_universality import MIN_FIRED
from interp.display.byte_parts import join_pieces
from interp.display.cards import Markup, card, mark_line_ends, markup, show_rule, show_table
from interp.features.by_document import Documents
from interp.features.examples import rows_around
from interp.features.feature_store import FeatureStore
from interp.features.label_masks import as_mask
from interp.features.scan_checks import same_dictionary
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.cutoffs import MIN_F1
from interp.statistics.estimates import share_difference
from interp.statistics.permutation import permutation_p
from interp.text.rules import read_rule
from interp.text.short_rules import clauses_of, segments_of

FALSE_DISCOVERIES = 0.05
SHUFFLES = 20
MAX_LENGTH_RATIO = 1.25
"""Ratio of the median lengths of the two corpora's documents above which a warning is due."""
_BEFORE, _AFTER = 12, 6
_N_PRINTED_LATENTS = 10
_N_CHARACTERS = 120
"""The width of a printed line."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpora:
    table: pd.DataFrame
    """A row per latent: first the latents that differ, by descending size of the difference, whatever its sign.
    Columns: latent, differs, difference, low, high, share_a, share_b, threshold (t_j), mean_a and mean_b (of m_ij), p
    and q (NaN if it was not tested), words, rule, rule_json and f1 (from the ranking), in_a and in_b (if it differs,
    the text around its strongest firings in either corpus, each from another document)."""
    names: tuple[str, str]
    n_documents: tuple[int, int]
    lengths: tuple[float, float]
    """Median tokens of a document."""
    by_chance: float
    """Number of latents that differ when the documents are assigned to A at random: the mean of SHUFFLES draws."""
    unit: str

    @property
    def differing(self) -> pd.DataFrame:
        """The rows of the latents that differ."""
        return self.table[self.table["differs"]]

    def __repr__(self) -> str:
        lines = [
            *self._title().split("\n"),
            *(f"  latent {row.latent} {row.words}" for row in self.differing.head(_N_PRINTED_LATENTS).itertuples()),
        ]
        return "\n".join(line if len(line) <= _N_CHARACTERS else f"{line[: _N_CHARACTERS - 1]}…" for line in lines)

    def _repr_html_(self) -> str:
        a, b = self.names
        sides = [
            [Markup("<br>".join(map(markup, texts))) for texts in self.differing[name]] for name in ("in_a", "in_b")
        ]
        words = map(_show_words, self.differing.to_dict("records"))
        rows = list(zip(self.differing["latent"], words, *sides, strict=True))[:_N_PRINTED_LATENTS]
        note = f"{len(self.differing) - len(rows):,} more in `differing`." if len(self.differing) > len(rows) else ""
        head = ("latent", "what differs", f"in {a}", f"in {b}")
        return card(self._title(), show_table(head, rows) if rows else "", note)

    def _title(self) -> str:
        sides = " and ".join(
            f"{name} ({n:,} {self.unit})" for name, n in zip(self.names, self.n_documents, strict=True)
        )
        n_tested = int(self.table["p"].notna().sum())
        return (
            f"{len(self.differing):,} of {n_tested:,} latents differ between {sides},\n"
            f"at most {FALSE_DISCOVERIES:.0%} of them falsely in expectation; with the documents shuffled "
            f"{self.by_chance:.1f} do"
        )


@shows_progress
def corpora(
    features_a: FeatureStore,
    features_b: FeatureStore | None = None,
    *,
    in_a: Bool[Tensor, "seq pos"] | None = None,
    documents: Int[Tensor, "seq pos"]
    | tuple[Int[Tensor, "seq pos"] | None, Int[Tensor, "seq pos"] | None]
    | None = None,
    ranking: pd.DataFrame | None = None,
    names: tuple[str, str] = ("A", "B"),
    n_first: int | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Corpora:
    """Compare A with B. These are two scans, or the documents of one scan: in A, `in_a` marks more than half of the
    tokens.

    documents: the id of the document at each position, below 0 for none (`LabelledTokens.document_ids`); for two scans,
    a pair of these. Without it, each sequence is a document.
    ranking: the ranking of these latents, for the rules.
    n_first: compare only the first n_first tokens of each document, and leave out shorter documents. None compares all
    tokens.
    seed: of the null of the answer.

    Raises ValueError if the scans use two dictionaries, if both or neither of `features_b` and `in_a` are given, if
    `documents` is a pair for one scan or one tensor for two, or if a corpus has fewer than two documents.
    """
    if (features_b is None) == (in_a is None):
        raise InterpError("give features_b, a second scan, or in_a, a mask that divides the documents of one: not both")
    check_at_least(1, n_first=n_first)
    if len(names) != 2:
        raise InterpError(f"names={names!r} must be two: of A and of B")
    ids = documents if isinstance(documents, tuple) else (documents, documents)
    if features_b is not None and documents is not None and not isinstance(documents, tuple):
        raise InterpError("documents is one tensor, but there are two scans: give a pair, or None for a scan without")
    if features_b is not None:
        scans, documents_in_a = _corpora_of_two_scans(features_a, features_b, ids, n_first)
    elif isinstance(documents, tuple):
        raise InterpError("documents are a pair, but there is one scan: give the ids of its positions")
    else:
        scans, documents_in_a = _corpora_of_one_scan(features_a, in_a, documents, n_first)
    sizes = int(documents_in_a.sum()), int((~documents_in_a).sum())
    if min(sizes) < 2:
        raise InterpError(
            f"there are {sizes[0]} of {names[0]} and {sizes[1]} of {names[1]} documents: "
            "two of each are needed, and twenty to tell anything"
        )
    lengths = np.concatenate([scan.documents.lengths for scan in scans])
    medians = float(np.median(lengths[documents_in_a])), float(np.median(lengths[~documents_in_a]))
    if max(medians) > MAX_LENGTH_RATIO * min(medians):
        log.warning(
            "documents have %.0f tokens in %s and %.0f in %s (medians); more latents fire in longer ones. "
            "`n_first=%d` compares their beginnings",
            medians[0],
            names[0],
            medians[1],
            names[1],
            min(medians),
        )
    generator = np.random.default_rng(seed)
    shuffled_documents_in_a = np.stack([generator.permutation(documents_in_a) for _ in range(SHUFFLES)], 1)
    counts = count_documents(scans, documents_in_a, shuffled_documents_in_a, progress)
    tests = _test_latents(counts, sizes[0], sum(sizes))
    is_by_sequence = any(ids_of_scan is None for ids_of_scan in ids)
    return Corpora(
        _difference_table(counts, tests, scans, sizes=sizes, names=names, rules=_rules(ranking, scans)),
        names,
        sizes,
        medians,
        tests.by_chance,
        f"sequences of {features_a.n_ctx} tokens" if is_by_sequence else "documents",
    )


def _scanned_documents(
    features: FeatureStore, ids: Int[Tensor, "seq pos"] | None, n_first: int | None
) -> ScannedDocuments:
    return ScannedDocuments(features, Documents.of(features.codes, features.tokens.shape, ids).beginnings(n_first))


def _corpora_of_two_scans(
    features_a: FeatureStore,
    features_b: FeatureStore,
    ids: tuple[Int[Tensor, "seq pos"] | None, Int[Tensor, "seq pos"] | None],
    n_first: int | None,
) -> tuple[list[ScannedDocuments], Bool[np.ndarray, " document"]]:
    """Return the documents of two scans, each of which is a corpus, and which of them are A's."""
    if not same_dictionary(features_a, features_b):
        raise InterpError(
            f"{features_a.path} and {features_b.path} are scans by two dictionaries, or of two hooks, "
            "whose latents are unrelated: scan both texts with one dictionary"
        )
    scans = [_scanned_documents(features_a, ids[0], n_first), _scanned_documents(features_b, ids[1], n_first)]
    sizes = [len(scan.documents.ids) for scan in scans]
    return scans, np.arange(sum(sizes)) < sizes[0]


def _corpora_of_one_scan(
    features: FeatureStore, in_a: Tensor | None, ids: Int[Tensor, "seq pos"] | None, n_first: int | None
) -> tuple[list[ScannedDocuments], Bool[np.ndarray, " document"]]:
    """Return the documents of one scan, and which of them are A's."""
    assert in_a is not None
    if tuple(in_a.shape) != tuple(features.tokens.shape):
        raise InterpError(f"in_a is {tuple(in_a.shape)}, the tokens scanned are {tuple(features.tokens.shape)}")
    scan = _scanned_documents(features, ids, n_first)
    return [scan], scan.documents.share(as_mask(in_a, "in_a").reshape(-1)) > 0.5


class _Tests(NamedTuple):
    p: Float64[np.ndarray, " d_sae"]
    """NaN if a latent was not tested."""
    q: Float64[np.ndarray, " d_sae"]
    by_chance: float
    """Number of latents that differ after a shuffle, averaged over the shuffles."""


def _test_latents(counts: DocumentCounts, n_a: int, n: int) -> _Tests:
    """Test whether each latent is above its threshold in more of A's n_a documents, or of B's, than of all n."""
    from scipy.stats import false_discovery_control  # whoever reads a run's configuration would wait for it

    total = counts.above.sum(1)
    tested = (total >= MIN_FIRED) & (n - total >= 1)

    def adjusted_p(above_a: Int64[np.ndarray, " latent"]) -> tuple[np.ndarray, np.ndarray]:
        p = permutation_p(above_a, total[tested], n_a, n)
        return p, false_discovery_control(p) if len(p) else p

    p = np.full(len(total), np.nan)
    q = np.full(len(total), np.nan)
    p[tested], q[tested] = adjusted_p(counts.above[tested, 0])
    by_chance = [int((adjusted_p(above_a)[1] <= FALSE_DISCOVERIES).sum()) for above_a in counts.shuffled[tested].T]
    return _Tests(p, q, float(np.mean(by_chance)))


def _rules(ranking: pd.DataFrame | None, scans: Sequence[ScannedDocuments]) -> pd.DataFrame:
    """Return the rule and its F1 by latent; "" and NaN without a ranking, or with one that has no rules (`rank_codes`).
    Raises ValueError for the ranking of another dictionary."""
    features = scans[0].features
    none = pd.DataFrame({"rule": "", "rule_json": "", "f1": np.nan}, index=range(features.d_sae))
    if ranking is None:
        return none
    ranked_by = ranking.attrs.get("features", {}).get("dictionary")
    scanned_by = features.inputs.get("dictionary")
    if (ranked_by and scanned_by and ranked_by != scanned_by) or ranking["latent"].max() >= features.d_sae:
        raise InterpError(
            f"the ranking belongs to another dictionary than {features.path}: `interp rank` makes its own"
        )
    if "explanation" not in ranking:
        return none
    ranking_by_latent = ranking.set_index("latent").reindex(range(features.d_sae))
    return none.assign(
        rule=ranking_by_latent["explanation"].fillna(""),
        rule_json=ranking_by_latent.get("explanation_json", none["rule_json"]),
        f1=ranking_by_latent["explanation_f1"],
    )


def _difference_table(
    counts: DocumentCounts,
    tests: _Tests,
    scans: Sequence[ScannedDocuments],
    *,
    sizes: tuple[int, int],
    names: tuple[str, str],
    rules: pd.DataFrame,
) -> pd.DataFrame:
    differences = np.array([share_difference(above, sizes) for above in counts.above.tolist()]).reshape(-1, 3)
    shares = counts.above / np.array(sizes)
    differs = tests.q <= FALSE_DISCOVERIES
    facts_of_latents = zip(shares.tolist(), counts.thresholds.tolist(), rules["rule"], rules["f1"], strict=True)
    rows = pd.DataFrame({
        "latent": np.arange(len(shares)),
        "differs": differs,
        **dict(zip(("difference", "low", "high"), differences.T, strict=True)),
        **dict(zip(("share_a", "share_b"), shares.T, strict=True)),
        "threshold": counts.thresholds,
        **dict(zip(("mean_a", "mean_b"), counts.means.T, strict=True)),
        "p": tests.p,
        "q": tests.q,
        "words": [_words(*facts, names) for facts in facts_of_latents],
        "rule": rules["rule"],
        "rule_json": rules["rule_json"],
        "f1": rules["f1"],
        "in_a": _snippets(scans, counts.strongest[:, 0], differs),
        "in_b": _snippets(scans, counts.strongest[:, 1], differs),
    })  # fmt: skip
    order = np.lexsort((rows["latent"], -rows["difference"].abs(), ~differs))
    return rows.iloc[order].reset_index(drop=True)


def _words(shares: Sequence[float], threshold: float, rule: str, f1: float, names: tuple[str, str]) -> str:
    does = "fires" if threshold == 0 else f"reaches more than {threshold:.3g}"
    sentence = f"{does} in {shares[0]:.0%} of {names[0]} and {shares[1]:.0%} of {names[1]}"
    return f"{sentence}: {rule} (F1 {f1:.2f})" if rule and f1 >= MIN_F1 else sentence


def _show_words(row: Mapping[Any, Any]) -> Markup:
    """Return the words of a row of the table, with the rule in them as displays show rules."""
    before, rule, after = row["words"].rpartition(row["rule"] or "\0")
    shown = show_rule(segments_of(clauses_of(read_rule(rule, row["rule_json"]))))
    return Markup(f"{markup(before)}{shown}{markup(after)}")


def _snippets(
    scans: Sequence[ScannedDocuments], strongest: Int64[np.ndarray, "d_sae snippet"], shown: Bool[np.ndarray, " d_sae"]
) -> pd.Series:
    """Return the text around the strongest firings of each shown latent in one corpus."""
    texts: list[list[str]] = [[] for _ in shown]
    for latent in np.flatnonzero(shown):
        texts[latent] = [_snippet(scans, row) for row in strongest[latent].tolist() if row >= 0]
    return pd.Series(texts, dtype=object)


def _snippet(scans: Sequence[ScannedDocuments], row: int) -> str:
    """Return the tokens around a row, with the firing token in double brackets, which no text of a language has."""
    features = scans[0].features
    if row >= features.tokens.numel():
        row -= features.tokens.numel()
        features = scans[1].features
    start, stop = rows_around(row, features.n_ctx, _BEFORE, _AFTER)
    tokens = features.tokens.reshape(-1)[start:stop].tolist()
    pieces = join_pieces([features.vocab[token] for token in tokens])
    return mark_line_ends("".join(f"⟦{text}⟧" if row - start in positions else text for text, positions in pieces))
