"""Write a run's dictionary as a repository of the Hugging Face hub.

In: a run folder. Out: a folder with `sae_weights.safetensors` and `cfg.json` (in SAELens's format, if that has the
architecture), the tables, and a card `README.md` written from the run's numbers. The folder can be uploaded to the hub.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields
from interp.display.verdict_names import MONOSEMANTIC, POLYSEMANTIC, SINGLE_TOKEN
from interp.exchange.results_format import results_format
from interp.features.scan_digests import dictionary_digest
from interp.report.inputs import ReadableRun
from interp.runtime.progress import Progress
from interp.storage.addresses import as_local_path
from interp.storage.files import write_text
from interp.storage.folders import atomic_folder

UPSTREAM_STAGES = ("corpus", "model", "activations", "sae", "features")
"""Stages whose summaries record how the dictionary was made."""
CARD_VERDICTS = (MONOSEMANTIC, POLYSEMANTIC, SINGLE_TOKEN)


@dataclass(frozen=True, kw_only=True)
class HubOptions(CheckedFields):
    repo: str | None = None
    """Upload to this repository, NAME/REPOSITORY (default: write the folder only)."""


@results_format("hub", HubOptions)
def publish_hub(run: ReadableRun, out: Path, options: HubOptions, *, overwrite: bool, progress: Progress) -> Path | str:
    """the dictionary with a card of the run's numbers; nothing is uploaded unless --repo is given"""
    folder = write_hub_folder(run, out, overwrite=overwrite)
    return folder if options.repo is None else upload_to_hub(folder, options.repo)


def write_hub_folder(run: ReadableRun, out: str | Path, *, license: str | None = None, overwrite: bool = False) -> Path:
    """Write the files for an upload to the folder `out`, and return it. Nothing is uploaded.
    run: a `Run` whose dictionary and features are finished.
    license: the hub's name of a license, such as "mit", for the header of the card.
    overwrite: replace the files of another dictionary, and a card that was edited.

    Raises AttributeError for a run without a dictionary, and ValueError for a folder that contains other files.
    """
    sae = run.sae
    made_of = {"kind": "hub folder", "dictionary": dictionary_digest(sae)}
    with atomic_folder(out, made_of, overwrite=overwrite, editable=True) as new:
        sae.save(new)
        if run.has("ranking"):
            shutil.copyfile(run.path_to("ranking"), new / "ranking.parquet")
        if run.has("features"):
            shutil.copyfile(run.path_to("features") / "features.parquet", new / "features.parquet")
        write_text(new / "README.md", model_card(run, license=license))
    return Path(out).expanduser()


def upload_to_hub(folder: str | Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a folder of `write_hub_folder` to the repository `repo_id` ("name/repository"), and return its address.
    The repository is created if it does not exist. The login is that of `huggingface_hub`. Raises ValueError for a
    folder without a dictionary, and without the extra `hub`."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise InterpError(f"uploading needs a package that is missing ({error}): pip install 'interp[hub]'") from None
    folder = as_local_path(folder)
    if not (folder / "cfg.json").is_file():
        raise InterpError(f"{folder} contains no dictionary (no cfg.json): write_hub_folder makes one")
    api = HfApi()
    address = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(folder_path=str(folder), repo_id=repo_id)
    return str(address)


def model_card(run: ReadableRun, *, license: str | None = None) -> str:
    """Describe the dictionary: what it is, how it was made, its quality, and how far to trust its features."""
    sae = run.sae
    facts = run.provenance()
    head = ["---", "tags:", "- sparse-autoencoder", "- interpretability"]
    head += ["library_name: saelens"] if sae.preferred_format == "saelens" else []
    head += [f"license: {license}"] if license else []
    lines = [*head, "---", "", f"# {sae!r}", ""]
    lines += [f"A sparse dictionary of {sae.d_sae:,} latents at `{run.hook_name}`.", ""]
    code = ["from interp import load_sae", "", 'sae = load_sae("FOLDER")']
    code += ['# or: sae_lens.SAE.load_from_disk("FOLDER")'] if sae.preferred_format == "saelens" else []
    lines += ["```python", *code, "```", ""]
    summaries = run.summaries()
    lines += ["## Training", "", *(f"- {name}: {summaries[name]}" for name in UPSTREAM_STAGES if name in summaries), ""]
    if run.has("quality"):
        lines += ["## Quality, on held-out text", "", *_quality(run.quality), ""]
    if run.has("nulls"):
        lines += ["## Verdicts, next to their nulls", "", *_shares(run.nulls.shares), ""]
        meaning = "One meaning: a latent's firings share something in the text. The model need not have learnt it."
        lines += [meaning, ""]
    lines += ["## Made by", "", f"interp, configuration `{facts['config_sha256'][:12]}`, seeds {facts['seed']}."]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return "\n".join([*lines, f"Versions: {versions}.", ""])


def _quality(table: pd.DataFrame) -> list[str]:
    rows = ["| dictionary | L0 | FVU | CE recovered |", "|---|---|---|---|"]
    for row in table.to_dict(orient="records"):
        recovered = "–" if pd.isna(row["ce_recovered"]) else f"{row['ce_recovered']:.3f}"
        rows.append(f"| {row['dictionary']} | {row['l0']:.1f} | {row['fvu']:.3f} | {recovered} |")
    return rows


def _shares(shares: pd.DataFrame) -> list[str]:
    rows = ["| dictionary | " + " | ".join(CARD_VERDICTS) + " |", "|---|---|---|---|"]
    for name, part in shares.groupby("dictionary", sort=False):
        row_of = part.set_index("verdict").to_dict(orient="index")
        cells = [
            f"{row_of[v]['share']:.0%} ({row_of[v]['ci_low']:.0%} to {row_of[v]['ci_high']:.0%})" for v in CARD_VERDICTS
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows
