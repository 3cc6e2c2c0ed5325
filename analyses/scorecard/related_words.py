"""Find which common English words are related, by the unembedding of a language model.

    python -m analyses.scorecard.related_words            writes interp/text/related_words.parquet, in half a minute

In: SmolLM2-135M (`make demo-smollm2` installs it). The words are its N_WORDS first tokens that are a space and two or
more letters a–z: a byte-pair vocabulary lists the commonest first. With W the rows of their unembedding, centred, and
C = WᵀW / n, two words are as near as the cosine of their rows of W C^−½. Without whitening, "each" is the 107th nearest
token to "per"; with it, it is the 5th nearest word. Out: a row per word, with its N_NEAR nearest, itself first.
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from jaxtyping import Float32

import interp.text.related_words
from interp.statistics.directions import unit_rows
from interp.text.related_words import N_NEAR
from models.loading import load_model, smollm2_file

N_WORDS = 8192
WORD = re.compile(r" [a-z]{2,}")
SMALLEST_VARIANCE = 1e-6
"""Added to each variance before its root is divided by, as a share of the largest."""
FILE = Path(interp.text.related_words.__file__).with_suffix(".parquet")


def whitened(rows: Float32[np.ndarray, "word d"]) -> Float32[np.ndarray, "word d"]:
    """Centre the rows, give all directions the same variance, and scale the rows to unit length."""
    centred = rows - rows.mean(0)
    variance, directions = np.linalg.eigh(centred.T @ centred / len(rows))
    scaled = centred @ directions / np.sqrt(variance + SMALLEST_VARIANCE * variance.max())
    return unit_rows(scaled).astype(np.float32)


def main() -> None:
    model = load_model(smollm2_file())
    strings = [model.tokenizer.decode([token]) for token in range(model.d_vocab)]
    ids = [token for token, string in enumerate(strings) if WORD.fullmatch(string)][:N_WORDS]
    with torch.no_grad():
        vectors = whitened(model.W_U.T[ids].float().numpy())
    near = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")[:, :N_NEAR].astype(np.uint16)
    columns = {
        "word": [strings[token].strip() for token in ids],
        "near": pa.FixedSizeListArray.from_arrays(near.reshape(-1), N_NEAR),
    }
    pa.parquet.write_table(pa.table(columns), FILE, compression="zstd")
    print(f"{len(ids):,} words → {FILE}, {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
