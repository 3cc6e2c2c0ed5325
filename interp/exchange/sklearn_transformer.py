"""Use a dictionary as a transformer of scikit-learn.

    codes = SAETransformer(n_components=256, k=8).fit_transform(X)     [row, feature] → [row, component], k fire per row
    X_hat = transformer.inverse_transform(codes)

It trains a dictionary of `interp.sae`, which it keeps as `sae_`, on rows in memory. For data larger than memory, or
training that can resume, use `train_sae` on an ActivationStore.
"""

import dataclasses
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from interp.activations import ActivationStore
from interp.activations.hooks import UNNAMED
from interp.checks.limits import PositiveInt, check_value
from interp.codes.sparse_codes import SparseCodes
from interp.sae import train_sae
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig, config_from_dict


class SAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Train a sparse autoencoder on rows, and transform rows to codes.

    n_components: number of latents, by default four per feature.
    k: latents that fire per row, by default an eighth of the latents, and at most 32; only for an architecture that has
        this option.
    epochs: passes over the rows.
    options: further fields of the architecture's config (`TopKConfig`, …), such as {"lr": 1e-3}.
    sparse_output: return CSR matrices.

    After fitting, it has `components_` [component, feature] (the directions), `sae_` and `n_features_in_`. Fitting
    raises ValueError for rows that are not finite, for fewer than two rows, and for parameters out of range.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        k: int | None = None,
        architecture: str = "topk",
        epochs: int = 10,
        batch_size: int = 256,
        options: dict[str, Any] | None = None,
        random_state: Any = None,
        sparse_output: bool = False,
    ):
        self.n_components = n_components
        self.k = k
        self.architecture = architecture
        self.epochs = epochs
        self.batch_size = batch_size
        self.options = options
        self.random_state = random_state
        self.sparse_output = sparse_output

    def fit(self, X: Any, y: None = None) -> "SAETransformer":
        """Train on the rows of X [row, feature]; y is ignored."""
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        for name in ("epochs", "batch_size"):
            check_value(name, getattr(self, name), PositiveInt)
        fields: dict[str, Any] = {"architecture": self.architecture, "tokens": int(self.epochs) * len(X)}
        fields["d_sae"] = 4 * X.shape[1] if self.n_components is None else self.n_components
        fields["batch_size"] = min(int(self.batch_size), len(X))
        fields["seed"] = int(check_random_state(self.random_state).randint(2**31 - 1))
        if self.k is not None:
            fields["k"] = self.k
        elif "k" in {field.name for field in dataclasses.fields(ARCHITECTURES.get(self.architecture, SAEConfig))}:
            fields["k"] = min(32, max(1, fields["d_sae"] // 8))
        config = config_from_dict(fields | (self.options or {}))
        rows = torch.from_numpy(np.array(X, np.float32))
        with TemporaryDirectory() as folder:
            store = ActivationStore.from_batches(rows, folder, dtype="float32", seed=config.seed)
            self.sae_ = train_sae(store, UNNAMED, config)
        self.components_ = self.sae_.W_dec.numpy(force=True).copy()
        self._n_features_out = len(self.components_)
        return self

    def transform(self, X: Any) -> Any:
        """Return the codes [row, component], which are 0 or more, in the dtype of X. With `sparse_output` they are a
        CSR matrix."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        codes = self.sae_.codes(torch.from_numpy(np.array(X, np.float32))).scipy().astype(X.dtype)
        return codes if self.sparse_output else codes.toarray()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows [row, feature] that the codes X [row, component] represent. Raises ValueError for codes of
        another number of components."""
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=(np.float64, np.float32))
        sparse = scipy.sparse.csr_matrix(codes, dtype=np.float32)
        return self.sae_.decode(SparseCodes.from_scipy(sparse)).numpy(force=True).astype(codes.dtype)

    def score(self, X: Any, y: None = None) -> float:
        """Return the share of the variance of X that the reconstruction explains, 1 − FVU. Use it to choose k and
        n_components."""
        rows = np.asarray(X, float)
        residual = np.square(rows - self.inverse_transform(self.transform(X))).sum()
        return 1.0 - float(residual / max(float(np.square(rows - rows.mean(0)).sum()), np.finfo(float).tiny))
