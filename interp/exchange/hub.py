"""A dictionary for other tools: a run's as a repository of the Hugging Face hub, and one that scikit-learn trains.

Hub. In: a run folder. Out: a folder with `sae_weights.safetensors` and `cfg.json` (as SAELens reads them, where it has
the architecture), `README.md`, a card written from the run's own numbers, and its tables; then, where asked, the hub.

    codes = SAETransformer(n_components=256, k=8).fit_transform(X)     [row, feature] → [row, component], k a row fire
    X_hat = transformer.inverse_transform(codes)

It trains one of `interp.sae`'s dictionaries, kept as `sae_`, on rows in memory; a training too large for that, or one
that is to resume, is `train_sae` on an ActivationStore.
"""

import dataclasses
import shutil
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from interp.activations import ActivationStore
from interp.activations.hooks import UNNAMED
from interp.codes.sparse_codes import SparseCodes
from interp.report.inputs import FinishedRun
from interp.sae import train_sae
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig, config_from_dict
from interp.storage.files import digest, write_text
from interp.storage.folders import whole_folder

UPSTREAM = ("corpus", "model", "activations", "sae", "features")
"""Stages whose summaries say how the dictionary was made."""
SHARES = ("monosemantic", "polysemantic", "single-token")


def write_hub_folder(run: FinishedRun, out: str | Path, *, license: str | None = None, overwrite: bool = False) -> Path:
    """Write what is to be uploaded to the folder `out`, and return it; nothing leaves the machine. run: a `Run` whose
    dictionary and features are finished. license: a name of the hub's, such as "mit", for the card's head. overwrite:
    also in the place of another dictionary's, and of a card that was edited.

    Raises FileNotFoundError for a run without a dictionary, ValueError for a folder that holds other things.
    """
    sae = run.sae
    made_of = {"kind": "hub folder", "dictionary": digest(*sae.parameters())}
    with whole_folder(out, made_of, overwrite=overwrite, editable=True) as new:
        sae.save(new, format=sae.preferred_format)
        if run.manifest("ranking") is not None:
            shutil.copyfile(run.path_to("ranking"), new / "ranking.parquet")
        if run.manifest("features") is not None:
            shutil.copyfile(run.path_to("features") / "features.parquet", new / "features.parquet")
        write_text(new / "README.md", model_card(run, license=license))
    return Path(out)


def upload_to_hub(folder: str | Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a folder of `write_hub_folder` to the repository `repo_id` ("name/repository"), made if it is not there,
    with the login of `huggingface_hub`; returns its address. Raises ValueError for a folder without a dictionary."""
    from huggingface_hub import HfApi

    folder = Path(folder)
    if not (folder / "cfg.json").is_file():
        raise ValueError(f"{folder} holds no dictionary (no cfg.json): write_hub_folder makes one")
    api = HfApi()
    address = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(folder_path=str(folder), repo_id=repo_id)
    return str(address)


def model_card(run: FinishedRun, *, license: str | None = None) -> str:
    """Tells what the dictionary is, where it is from, how good it is and how far its features can be trusted."""
    sae, facts = run.sae, run.provenance()
    head = ["---", "tags:", "- sparse-autoencoder", "- interpretability"]
    head += ["library_name: saelens"] if sae.preferred_format == "saelens" else []
    head += [f"license: {license}"] if license else []
    lines = [*head, "---", "", f"# {sae!r}", ""]
    lines += [f"A sparse dictionary of {sae.d_sae:,} latents at `{run.hook_name}`.", ""]
    code = ["from interp import load_sae", "", 'sae = load_sae("FOLDER")']
    code += ['# or: sae_lens.SAE.load_from_disk("FOLDER")'] if sae.preferred_format == "saelens" else []
    lines += ["```python", *code, "```", ""]
    reached = run.summaries()
    lines += ["## Training", "", *(f"- {name}: {reached[name]}" for name in UPSTREAM if name in reached), ""]
    if run.manifest("quality") is not None:
        lines += ["## Quality, on held-out text", "", *_quality(run.quality), ""]
    if run.manifest("nulls") is not None:
        lines += ["## Verdicts, beside their nulls", "", *_shares(run.nulls.shares), ""]
        lines += ["One meaning: a latent's firings share something in the text; not that the model learnt it.", ""]
    lines += ["## Made by", "", f"interp, configuration `{facts['config_sha256'][:12]}`, seeds {facts['seed']}."]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return "\n".join([*lines, f"Versions: {versions}.", ""])


class SAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """n_components: latents, None for four a feature. k: how many fire on a row, None for an eighth of them, 32 at
    most. epochs: passes over the rows. options: further fields of the architecture's config (`TopKConfig`, …), such as
    {"lr": 1e-3}. sparse_output: give CSR.

    Fitted: `components_` [component, feature], the directions; `sae_`; `n_features_in_`. Fitting raises ValueError for
    rows that are not finite, for fewer than two, and for parameters beyond their limits.
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
        """Train on the rows of X [row, feature]; y is not looked at."""
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        fields: dict[str, Any] = {"architecture": self.architecture, "tokens": int(self.epochs) * len(X)}
        fields["d_sae"] = 4 * X.shape[1] if self.n_components is None else self.n_components
        fields["batch_size"] = min(int(self.batch_size), len(X))
        fields["seed"] = int(check_random_state(self.random_state).randint(2**31 - 1))
        if "k" in {field.name for field in dataclasses.fields(ARCHITECTURES.get(self.architecture, SAEConfig))}:
            fields["k"] = self.k if self.k is not None else min(32, max(1, fields["d_sae"] // 8))
        config = config_from_dict(fields | (self.options or {}))
        rows = torch.from_numpy(np.array(X, np.float32))
        with TemporaryDirectory() as folder:
            store = ActivationStore.from_batches(rows, folder, dtype="float32", seed=config.seed)
            self.sae_ = train_sae(store, UNNAMED, config)
        self.components_ = self.sae_.W_dec.numpy(force=True).copy()
        self._n_features_out = len(self.components_)
        return self

    def transform(self, X: Any) -> Any:
        """Codes [row, component], at least 0, in the dtype of X; CSR with `sparse_output`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        codes = self.sae_.codes(torch.from_numpy(np.array(X, np.float32))).scipy().astype(X.dtype)
        return codes if self.sparse_output else codes.toarray()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows [row, feature] that the codes X [row, component] stand for. Raises ValueError for codes of another
        number of components."""
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=(np.float64, np.float32))
        sparse = scipy.sparse.csr_matrix(codes, dtype=np.float32)
        return self.sae_.decode(SparseCodes.from_scipy(sparse)).numpy(force=True).astype(codes.dtype)

    def score(self, X: Any, y: None = None) -> float:
        """Share of the variance of X that the reconstruction keeps, 1 − FVU: for choosing k and n_components."""
        rows = np.asarray(X, float)
        left = np.square(rows - self.inverse_transform(self.transform(X))).sum()
        return 1.0 - float(left / max(float(np.square(rows - rows.mean(0)).sum()), np.finfo(float).tiny))


def _quality(table: pd.DataFrame) -> list[str]:
    rows = ["| dictionary | L0 | FVU | CE recovered |", "|---|---|---|---|"]
    for row in table.to_dict(orient="records"):
        rows.append(f"| {row['dictionary']} | {row['l0']:.1f} | {row['fvu']:.3f} | {row['ce_recovered']:.3f} |")
    return rows


def _shares(shares: pd.DataFrame) -> list[str]:
    rows = ["| dictionary | " + " | ".join(SHARES) + " |", "|---|---|---|---|"]
    for name, part in shares.groupby("dictionary", sort=False):
        by = part.set_index("verdict")
        cells = [f"{by['share'][v]:.0%} ({by['ci_low'][v]:.0%} to {by['ci_high'][v]:.0%})" for v in SHARES]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows
