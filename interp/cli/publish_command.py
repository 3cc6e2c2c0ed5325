"""`publish`: a finished run in the formats of other tools, and to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated, Literal

from interp.cli.console import Bar
from interp.pipeline.run_folder import Run


def publish_command(
    run: Annotated[Path, "a finished run folder"],
    *,
    out: Annotated[Path, "the folder to write; for embedding-atlas a .parquet file"],
    to: Literal["neuronpedia", "delphi", "embedding-atlas", "hub"],
    model_id: Annotated[str | None, "neuronpedia: its name of the model; delphi: the tokenizer's"] = None,
    layer: Annotated[int, "neuronpedia: of the hook"] = 0,
    sae_set: Annotated[str | None, "neuronpedia: its name of the dictionaries"] = None,
    repo: Annotated[
        str | None, "hub: upload to this repository, NAME/REPOSITORY (default: write the folder only)"
    ] = None,
) -> None:
    """run → files for Neuronpedia, Delphi, Embedding Atlas or the hub

    neuronpedia: a feature's dashboard in JSON, as SAEDashboard writes it. delphi: all firings, as its latent cache.
    embedding-atlas: the decoder's map with neighbours. hub: the dictionary with a card of the run's numbers; it stays
    here unless --repo is given."""
    from interp import exchange

    opened = Run(run)
    if repo and to != "hub":
        raise ValueError(f"--repo {repo} is for --to hub, not for {to}")
    if to == "neuronpedia":
        if not (model_id and sae_set):
            raise ValueError("--to neuronpedia needs --model-id and --sae-set, the names of the source there")
        with Bar("publish") as bar:
            exchange.write_neuronpedia(
                opened.features, out, model_id=model_id, layer=layer, sae_set=sae_set, progress=bar
            )
        print(out)
    elif to == "delphi":
        if not model_id:
            raise ValueError("--to delphi needs --model-id, by which transformers finds the tokenizer")
        with Bar("publish") as bar:
            print(exchange.write_delphi(opened.features, out, model_name=model_id, progress=bar))
    elif to == "embedding-atlas":
        ranking = opened.ranking if opened.manifest("ranking") else None
        print(exchange.write_embedding_atlas(opened.features, out, ranking=ranking))
    else:
        folder = exchange.write_hub_folder(opened, out)
        print(exchange.upload_to_hub(folder, repo) if repo else folder)
