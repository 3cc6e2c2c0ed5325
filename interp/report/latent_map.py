"""Draw the map of the latents: place decoder directions in the plane, so that neighbours by angle are close, and name
its parts.

t-SNE (van der Maaten 2014) with the cosine metric, seeded, on one thread, so that the same decoder gives the same map.
If there are too few latents for its neighbourhoods, they are projected on their first two principal components.
A kind of text is named at the place where its latents are densest. A cluster is named by a token, or by words beside
tokens, that the rules of many of its latents have, and those of few others.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from interp.checks.errors import InterpError
from interp.display.segments import to_text, tokens_of
from interp.report.inputs import ReportInputs
from interp.report.json_text import number
from interp.statistics.cutoffs import MIN_F1
from interp.statistics.directions import unit_rows
from interp.text.predicate_kinds import AROUND, SUBJECT, TOPIC
from interp.text.short_rules import Clause, segments_of

MIN_FOR_TSNE = 20
PERPLEXITY = 30.0
"""About how many neighbours a latent stays close to. On the demo's map, 26 % of a latent's ten nearest by angle are
among its ten nearest, and 36 % of these fire in the same kind of text. With UMAP, in as much time, it is 19 % and
34 %."""
LATENTS_EACH = (100, 30)
"""Average number of latents per cluster, for the whole map and for a closer view of it. Still closer, features have
names of their own."""
MAX_CLUSTERS = 500
MAX_NAME = 24
"""Largest number of characters of a name."""
BANDWIDTH = 0.05
"""Bandwidth of the densities that decide the place of a name, on a map whose farthest latent is at distance 1."""
MAX_DENSITY_POINTS = 1000
"""Largest number of points from which a density is computed."""
MIN_LATENTS_OF_NAME = 2
MIN_SHARE_OF_NAME = 0.1
MIN_LIFT_OF_NAME = 3.0
"""Requirements for a cluster's token: the least number of its latents whose rules have it, their least share, and the
least ratio of this share to that among all latents."""
ASPECT_RATIO = 4 / 3
"""The ratio of the map's width to its height, which is about that of its frame on a screen. The axes of t-SNE have no
meaning."""
_UNINFORMATIVE_TOKEN = re.compile(r"[\W_]*[a-zA-Z0-9]?[\W_]*|[a-z]{2,3}")
"""A token of at most one letter, or a short ending of a word. Such names are uninformative."""


DECIDERS = ("the token alone", "the tokens around", "the kind of text", "the place", "no rule")
"""What decides whether a latent fires, by its rule."""


def map_payload(
    inputs: ReportInputs,
    kinds: Sequence[str | None],
    rules: Sequence[Sequence[Clause]],
    decides: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return the latents that fire, with their coordinates. Without decoder directions, return the reason why there is
    no map.
    kinds: the kind of text of each latent (`latent_facts.surroundings`). rules: that of each as it is shown. decides:
    `what_decides` of each."""
    W_dec = inputs.features.W_dec
    latents = np.flatnonzero(inputs.table["n_active"] > 0).tolist()
    if W_dec is None or not latents:
        why = "this feature store has no decoder directions (W_dec)" if W_dec is None else "no feature fires"
        return {"missing": f"There is no map: {why}."}
    points = decoder_layout(np.asarray(W_dec, dtype=np.float32)[latents], seed=seed)
    x, y = ([number(value, 4) for value in axis] for axis in points.T)
    return {
        "latents": latents,
        "x": x,
        "y": y,
        "way": "t-SNE" if len(latents) >= MIN_FOR_TSNE else "PCA",
        "names": map_names(
            points, [kinds[latent] for latent in latents], [rules[latent] for latent in latents], seed=seed
        ),
        "deciders": DECIDERS,
        "decides": [DECIDERS.index(decides[latent]) for latent in latents],
    }


def what_decides(rule: Sequence[Clause], f1: float | None, named_by: str | None) -> str:
    """Return which of DECIDERS the rule of a latent names, or the label that describes it better: of what it says
    beside the token, the first.
    f1: of the rule; None where it is not known. named_by: `naming.Kind`."""
    alone, around, text, place, nothing = DECIDERS
    if named_by == "label":
        return text
    atoms = [clause.atom for clause in rule if clause.atom is not None]
    if not atoms or (f1 is not None and f1 < MIN_F1):
        return nothing
    subject = next((atom.subject for atom in atoms if atom.subject != SUBJECT), SUBJECT)
    if subject == SUBJECT:
        return alone
    if subject in (TOPIC, "label"):
        return text
    return around if subject == AROUND or subject.startswith("token ") else place


def decoder_layout(W_dec: Float[np.ndarray, "latent d_in"], *, seed: int = 0) -> Float[np.ndarray, "latent 2"]:
    """Return coordinates without a unit. They are centred, and the farthest latent is at distance 1. A map of t-SNE is
    ASPECT_RATIO times as wide as high. Raises ValueError for non-finite rows."""
    if not np.isfinite(W_dec).all():
        bad = np.flatnonzero(~np.isfinite(W_dec).all(1))
        raise InterpError(f"W_dec has non-finite rows (the first: {bad[0]}); the map needs finite directions")
    rows = unit_rows(W_dec.astype(np.float32))
    points = _pca(rows) if len(rows) < MIN_FOR_TSNE else _tsne(rows, seed)
    points = points - points.mean(0) if len(points) else points
    return (points / max(float(np.linalg.norm(points, axis=1).max(initial=0.0)), 1e-12)).astype(np.float32)


def _tsne(rows: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    tsne = TSNE(
        metric="cosine",
        perplexity=min(PERPLEXITY, (len(rows) - 1) / 3),
        angle=0.8,  # half as long as with the usual 0.5, and as many neighbours are kept
        max_iter=500,  # 1,000 keep no more
        random_state=seed,
    )
    with threadpool_limits(1):  # a layout depends on the last digits, which depend on the number of threads
        points = tsne.fit_transform(rows)
    low, high = np.quantile(points, [0.02, 0.98], axis=0)
    return points / np.maximum(high - low, 1e-12) * np.array([ASPECT_RATIO, 1.0])


def _pca(rows: np.ndarray) -> np.ndarray:
    points = np.zeros((len(rows), 2), np.float32)
    if len(rows) > 1:
        u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        points[:, : min(2, len(s))] = (u * s)[:, :2]
    return points


def map_names(
    points: Float[np.ndarray, "latent 2"],
    kinds: Sequence[str | None],
    rules: Sequence[Sequence[Clause]],
    *,
    seed: int = 0,
) -> list[list]:
    """Return [x, y, name, level] of each name. First come the kinds of text, the commonest first, at level 0. Then
    comes a token, or words of a rule, for each cluster of k-means, where level is an index of LATENTS_EACH. The rules
    of many of the cluster's latents, and of few others, have it. Each is used once, for the cluster of the coarsest
    level in which most latents have it. The other clusters get their next best, or none. A name is placed where the
    latents that have it are most concentrated."""
    from sklearn.cluster import KMeans

    n_of_kind = Counter(kind for kind in kinds if kind is not None)
    named_points = list[list]()
    for kind, n in n_of_kind.most_common():
        if n < len(points):
            x, y = _home(points[[i for i, latent_kind in enumerate(kinds) if latent_kind == kind]], points)
            named_points.append([number(x), number(y), kind.replace("_", " "), 0])
    marks_of = [_marks(rule) for rule in rules]
    overall = Counter(mark for marks in marks_of for mark in marks)
    used = set[ClusterName]()
    for level, n_latents in enumerate(LATENTS_EACH):
        k = min(MAX_CLUSTERS, len(points) // n_latents)
        if k < 2 or not overall:
            continue
        cluster = KMeans(k, n_init=1, random_state=seed).fit_predict(points)
        candidates = list[tuple[int, ClusterName, int]]()
        for c in range(k):
            members = np.flatnonzero(cluster == c)
            counts = Counter(mark for i in members for mark in marks_of[i])
            least = max(MIN_LATENTS_OF_NAME, MIN_SHARE_OF_NAME * len(members))
            telling = {mark: n for mark, n in counts.items() if n >= least}
            lift = MIN_LIFT_OF_NAME * len(members) / len(points)
            candidates += [(-n, mark, c) for mark, n in telling.items() if n >= lift * overall[mark]]
        done = set[int]()
        for _, mark, c in sorted(candidates):
            if mark not in used and c not in done:
                used.add(mark)
                done.add(c)
                x, y = _home(points[[i for i in np.flatnonzero(cluster == c) if mark in marks_of[i]]], points)
                named_points.append([number(x), number(y), [mark.text] if mark.is_token else mark.text, level])
    return named_points


def _home(points: Float[np.ndarray, "latent 2"], every: Float[np.ndarray, "other 2"]) -> Float[np.ndarray, " 2"]:
    """Return the point at which the density of the points, times their share of the density of all, is largest. If
    there are many points, evenly spaced samples give the densities."""
    sample, others = (some[:: math.ceil(len(some) / MAX_DENSITY_POINTS)].astype(np.float64) for some in (points, every))

    def density(some: np.ndarray) -> np.ndarray:
        squared = ((sample[:, None] - some[None]) ** 2).sum(-1)
        return np.exp(-squared / (2 * BANDWIDTH**2)).mean(1)

    own_density, among = density(sample) * len(points), density(others) * len(every)
    return sample[(own_density**2 / np.maximum(among, own_density)).argmax()]


class ClusterName(NamedTuple):
    """What rules may have in common."""

    text: str
    is_token: bool


def _marks(rule: Sequence[Clause]) -> set[ClusterName]:
    """Return the whole tokens that a rule names, and the words that end it, such as "at the start of a word". Long and
    uninformative tokens are left out, and the kind of text, which has a name of its own."""
    tokens = list(tokens_of(segments_of(rule)))
    texts = {token.text for token in tokens if not token.pieces}
    marks = {
        ClusterName(text, is_token=True)
        for text in texts
        if not _UNINFORMATIVE_TOKEN.fullmatch(text) and len(text) <= MAX_NAME
    }
    ends = list(takewhile(lambda clause: not any(tokens_of(clause.segments)), reversed(rule)))[::-1]
    words = [to_text(clause.segments) for clause in ends if clause.atom is not None and clause.atom.kind != "label"]
    if tokens and words:  # of a rule that names a token: words without it tell nothing
        marks.add(ClusterName(" ".join(["tokens", *words]), is_token=False))
    return marks
