"""The dictionary as a scikit-learn transformer: the checks of the library itself, and what is particular to it."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from interp import SAETransformer


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Return sums of two of twelve directions."""
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(12, 8))
    chosen = np.array([generator.choice(12, 2, replace=False) for _ in range(400)])
    return directions[chosen].sum(1)


@pytest.mark.filterwarnings("ignore")
def test_every_check_of_scikit_learn_passes():
    """None is expected to fail; the one of array APIs skips itself unless SCIPY_ARRAY_API is set."""
    results = check_estimator(SAETransformer(epochs=2), on_skip=None)
    assert {result["check_name"] for result in results if result["status"] == "skipped"} <= {"check_array_api_input"}
    assert len(results) > 35


def test_codes_are_sparse_reconstruct_the_rows_and_are_the_dictionarys(rows):
    transformer = SAETransformer(24, k=2, epochs=60, batch_size=64, random_state=0)
    codes = transformer.fit_transform(rows)
    assert codes.shape == (400, 24) and codes.dtype == rows.dtype and codes.min() >= 0
    assert ((codes > 0).sum(1) <= 2).all()
    assert (
        transformer.components_.shape == (24, 8) and list(transformer.get_feature_names_out())[0] == "saetransformer0"
    )
    expected = codes.astype(np.float32) @ transformer.components_ + transformer.sae_.b_dec.numpy()
    assert np.allclose(transformer.inverse_transform(codes), expected, atol=1e-5)
    kept = 1 - np.square(rows - transformer.inverse_transform(codes)).sum() / np.square(rows - rows.mean(0)).sum()
    assert transformer.score(rows) == pytest.approx(kept) and kept > 0.7
    sparse = clone(transformer).set_params(sparse_output=True).fit(rows).transform(rows)
    assert scipy.sparse.issparse(sparse) and np.array_equal(sparse.toarray(), codes), "the same seed, the same codes"
    assert np.allclose(transformer.inverse_transform(sparse), transformer.inverse_transform(codes))


def test_transformer_works_in_a_pipeline_and_a_grid_search(rows):
    search = GridSearchCV(SAETransformer(16, epochs=5, random_state=0), {"k": [1, 4]}, cv=2)
    search.fit(rows)
    assert search.best_params_ == {"k": 4}
    gated = SAETransformer(16, architecture="jumprelu", epochs=2, options={"target_l0": 4.0}, random_state=0)
    assert make_pipeline(StandardScaler(), gated).fit_transform(rows).shape == (400, 16)


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(n_components=4, k=9), "k=9 must be in 1..d_sae=4"),
        (dict(epochs=0), "epochs=0 must be at least 1"),
        (dict(architecture="none"), "architecture 'none' does not exist"),
        (dict(options={"lr": -1}), "lr=-1 must be above 0"),
        (dict(architecture="jumprelu", k=4), "jumprelu field 'k' does not exist"),
    ],
)
def test_fit_refuses_unusable_rows_and_options(rows, given, said):
    with pytest.raises(ValueError, match=said):
        SAETransformer(**given).fit(rows)


def test_codes_of_another_width_are_refused(rows):
    transformer = SAETransformer(16, epochs=1, random_state=0).fit(rows)
    with pytest.raises(ValueError, match="16"):
        transformer.inverse_transform(np.ones((2, 5)))
