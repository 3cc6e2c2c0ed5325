"""Sparse probing: how well do a few latents predict what a piece of text is?

In: text labelled by construction, with separate works for choosing and for testing. It is cut into pieces of `PIECE`
tokens. Each label is a task: does any token of the piece carry it? A label of parts (a stage direction) is compared
with other pieces of the documents that contain it, a label of whole documents (Arabic) with all pieces.

The k latents are those whose mean activation over the piece depends most on the label (F statistic) on the text for
choosing, of which each seed draws `DRAWN`; a logistic probe is then fitted on them. Out: the AUROC on the other text
for k of `KS`, averaged over the tasks, and over the hard ones alone: those that five counts of tokens predict with less
than `HARD`.

A dictionary is compared, with the same tasks and the same k (`baselines`), with the model's own activations and the
counts of tokens, and with all of either; and with random features (`random_features`): random directions whose
thresholds let each fire as often as the corresponding latent.

Limits: a mean over all tasks hides that a few tokens predict most of them, so the hard ones are given separately. And a
dictionary is scored by its best latents, however many of the others mean nothing. (Gurnee et al. 2023, arXiv
2305.01610; SAEBench, arXiv 2503.09532; 2502.16681 shows why raw activations must be compared.)
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from interp.activations.hooks import Model, evaluating, hooked_rows, module_of, resolve_hooks
from interp.activations.outliers import is_within
from interp.codes.dictionary import Dictionary
from interp.sae import SAE
from interp.sae.architectures.thresholds import Threshold
from models.tokens import LabelledTokens

PIECE = 32
KS = (1, 5)
DRAWN = 2 / 3
HARD = 0.95
"""AUROC."""
FEWEST = 8
"""Pieces with and without the label that a task has at least, in either text: the AUROC of eight is known to 0.1."""
WHOLE = 0.9
"""Share of the pieces of a label's documents beyond which it is a label of whole documents."""
ROWS = 4096
"""Encoded at once."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of a labelled text, with what the model computes at their tokens."""

    x: Float[Tensor, "row d_in"]
    piece_of_row: Int[Tensor, " row"]
    """The piece that each row is of."""
    counts: scipy.sparse.csr_matrix
    """[piece, d_vocab]"""
    marked: Mapping[str, Bool[np.ndarray, " piece"]]
    """For each label, the pieces with a token that carries it."""
    compared: Mapping[str, Bool[np.ndarray, " piece"]]
    """For each label, the pieces that belong to its task."""

    @property
    def lengths(self) -> Int[Tensor, " piece"]:
        """Rows of each piece."""
        return torch.bincount(self.piece_of_row, minlength=self.counts.shape[0])

    def rarer(self, label: str) -> int:
        """Return the number of pieces of a label's task that have it, or that do not have it, whichever is smaller."""
        if label not in self.marked:
            return 0
        marks = self.marked[label][self.compared[label]]
        return int(min(marks.sum(), (~marks).sum()))


def read_pieces(
    model: Model, hook: str, text: LabelledTokens, exclude: Sequence[int], limit: float | None, d_vocab: int
) -> Pieces:
    """Cut a text into pieces and run the model over it, up to the hook. Tokens with ids in `exclude`, and those whose
    activation is longer than the limit, are in no piece. Raises ValueError if pieces do not fill the sequences."""
    if text.n_ctx % PIECE:
        raise ValueError(f"sequences of {text.n_ctx} tokens cannot be cut into pieces of {PIECE}")
    n = text.tokens.numel() // PIECE
    module, hooks = module_of(model), resolve_hooks(model, [hook])
    with evaluating(module):
        x = torch.cat([hooked_rows(module, part, hooks)[hook].float() for part in text.tokens.split(16)])
    kept = ~torch.isin(text.tokens, torch.tensor(exclude)).flatten()
    if limit is not None:
        kept &= is_within(x, limit)
    x = x[kept]
    piece_of_row = (torch.arange(text.tokens.numel()) // PIECE)[kept]
    ids = text.tokens.flatten()[kept].numpy()
    ones = np.ones(len(ids), np.float32)
    counts = scipy.sparse.coo_matrix((ones, (piece_of_row.numpy(), ids)), shape=(n, d_vocab)).tocsr()
    documents = text.document_ids.view(n, PIECE)
    marked, compared = {}, {}
    for label, mask in text.labels.items():
        marked[label] = mask.view(n, PIECE).any(1).numpy()
        holding = torch.isin(documents, text.document_ids[mask].unique()).any(1).numpy()
        is_whole = marked[label][holding].mean() > WHOLE if holding.any() else True
        compared[label] = np.ones(n, bool) if is_whole else holding
    return Pieces(x, piece_of_row, counts, marked, compared)


class Tasks:
    """The labels that pieces of two texts can be probed for: often enough there, and often enough not there."""

    def __init__(self, choose: Pieces, test: Pieces):
        self.choose, self.test = choose, test
        self.labels = [label for label in choose.marked if min(choose.rarer(label), test.rarer(label)) >= FEWEST]
        everything = np.ones(choose.counts.shape[0], bool)
        solved = {
            label: self._auroc(choose.counts, test.counts, label, everything, [max(KS)])[0] for label in self.labels
        }
        self.hard = [label for label in self.labels if solved[label] < HARD]

    def scored(self, seen: Any, unseen: Any, seed: int, ks: Sequence[int | None] = KS) -> dict[str, Any]:
        """Return the mean AUROC over all tasks and over the hard ones, by k, and that of each task. `seen` and `unseen`
        are matrices [piece, predictor] of the two texts; a k of None takes all predictors."""
        drawn = np.random.default_rng(seed).random(seen.shape[0]) < DRAWN
        auroc_of_task = {label: self._auroc(seen, unseen, label, drawn, ks) for label in self.labels}
        names = ["all" if k is None else f"k={k}" for k in ks]
        means: dict[str, Any] = {}
        for kind, labels in (("", self.labels), ("hard, ", self.hard)):
            mean_auroc = np.mean([auroc_of_task[label] for label in labels], 0) if labels else np.full(len(ks), np.nan)
            means |= {kind + name: float(mean) for name, mean in zip(names, mean_auroc, strict=True)}
        return means | {"tasks": auroc_of_task, "hard": self.hard}

    def _auroc(self, seen: Any, unseen: Any, label: str, drawn: Any, ks: Sequence[int | None]) -> list[float]:
        chosen_pieces, tested_pieces = self.choose.compared[label] & drawn, self.test.compared[label]
        x, y = seen[chosen_pieces], self.choose.marked[label][chosen_pieces]
        order, aurocs = strongest(x, y), []
        for k in ks:
            probe = make_pipeline(
                StandardScaler(with_mean=False), LogisticRegression(max_iter=500, class_weight="balanced")
            )
            score = probe.fit(x[:, order[:k]], y).decision_function(unseen[tested_pieces][:, order[:k]])
            aurocs.append(float(roc_auc_score(self.test.marked[label][tested_pieces], score)))
        return aurocs


def probing(dictionary: Dictionary, tasks: Tasks, seed: int) -> dict[str, Any]:
    """Return how well the latents of a dictionary do (`Tasks.scored`)."""
    return tasks.scored(pooled(dictionary, tasks.choose), pooled(dictionary, tasks.test), seed)


def baselines(tasks: Tasks, seed: int) -> dict[str, dict[str, Any]]:
    """Return the scores of the baselines that any dictionary should beat."""
    choose, test = tasks.choose, tasks.test
    return {
        "activations": tasks.scored(mean_rows(choose), mean_rows(test), seed, (*KS, None)),
        "token counts": tasks.scored(choose.counts, test.counts, seed, (*KS, None)),
    }


def strongest(x: Any, y: Bool[np.ndarray, " row"]) -> Int[np.ndarray, " column"]:
    """Return the columns in the order of how much they go with a label, by their F statistic."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of columns that are constant
        statistic = np.nan_to_num(f_classif(x, y)[0], nan=-1.0, posinf=np.finfo(float).max)
    return np.argsort(-statistic, kind="stable")


def pooled(dictionary: Dictionary, pieces: Pieces) -> scipy.sparse.csr_matrix:
    """Return the mean activation of each latent over each piece [piece, d_sae]."""
    total = torch.zeros(pieces.counts.shape[0], dictionary.d_sae)
    for start in range(0, len(pieces.x), ROWS):
        codes = dictionary.codes(pieces.x[start : start + ROWS])
        piece_of_entry = pieces.piece_of_row[start : start + ROWS][codes.rows]
        total.index_put_((piece_of_entry, codes.latents.long()), codes.values.float(), accumulate=True)
    return scipy.sparse.csr_matrix((total / pieces.lengths.clamp(min=1)[:, None]).numpy())


def mean_rows(pieces: Pieces) -> Float[np.ndarray, "piece d_in"]:
    """Return the mean activation of the model over each piece."""
    total = torch.zeros(pieces.counts.shape[0], pieces.x.shape[1]).index_add_(0, pieces.piece_of_row, pieces.x)
    return (total / pieces.lengths.clamp(min=1)[:, None]).numpy()


def random_features(dictionary: Dictionary, x: Float[Tensor, "row d_in"], seed: int) -> SAE:
    """Return a dictionary of random features: z = ReLU((x − m) w_j − t_j) with random unit directions w_j and the mean
    m of the rows. t_j lets latent j fire on these rows as often as that of the dictionary. It decodes along the same
    directions."""
    drawn = torch.randn(dictionary.d_sae, x.shape[1], generator=torch.Generator().manual_seed(seed))
    W = torch.nn.functional.normalize(drawn, dim=1)
    fired = torch.zeros(dictionary.d_sae)
    for rows in x.split(ROWS):
        codes = dictionary.codes(rows)
        fired += torch.bincount(codes.latents[codes.fires], minlength=dictionary.d_sae)
    mean, n = x.mean(0), fired.long()
    thresholds = torch.empty(dictionary.d_sae)
    for block in torch.arange(dictionary.d_sae).split(256):
        pre = ((x - mean) @ W[block].T).sort(0, descending=True).values
        thresholds[block] = pre.gather(0, n[block].clamp(max=len(x) - 1)[None])[0]  # the first that does not fire
        thresholds[block[n[block] == 0]] = torch.finfo(torch.float32).max / 2
    relu = Threshold(torch.zeros(dictionary.d_sae))
    return SAE(W_enc=W.T, W_dec=W, b_enc=-thresholds, b_dec=mean, encoder=relu)
