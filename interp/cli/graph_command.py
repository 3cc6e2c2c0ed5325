"""The command `graph`: an attribution graph of one prompt."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from typer import Argument, Exit, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import OVERWRITE, check_writable_file
from interp.runtime.progress_bar import Bar
from interp.storage.artifacts import find_artifact

if TYPE_CHECKING:
    from interp.report.live.local_server import LocalServer


def graph_command(
    run: Annotated[Path, Argument(help="a run folder; its dictionaries at all hooks are used")],
    prompt: Annotated[str, Argument(help="a text")],
    *,
    out: Annotated[Path, Option(help="the .html file of the page, or .json for the viewers of other tools")] = Path(
        "graph.html"
    ),
    max_latents: Annotated[int, Option(help="number of latents that edges lead into", min=1)] = 1024,
    nodes: Annotated[float, Option(help="share of the influence that the drawn nodes hold", min=0, max=1)] = 0.8,
    checks: Annotated[bool, Option(help="compare it with ablation, and with null graphs")] = True,
    overwrite: Annotated[bool, OVERWRITE] = False,
    serve: Annotated[
        int | None,
        Option(
            help="serve the page on this port of the machine, with latents that you can turn off or up",
            min=0,
            max=(1 << 16) - 1,
        ),
    ] = None,
) -> None:
    """run + prompt → its attribution graph

    Trace the model's next token back through the dictionaries' latents to the tokens of the prompt. The edges into a
    node sum exactly to what it reads. They are shown with the effects measured by ablation, and with null graphs."""
    find_artifact(run, "run")
    check_writable_file("--out", out, ".html", ".json", overwrite=overwrite)
    if nodes == 0:
        raise InterpError("--nodes 0 would draw an empty graph: give a share above 0")
    as_page = out.suffix == ".html"
    if serve is not None and not as_page:
        raise InterpError(f"--serve needs a page: name an .html file, not {out}")
    import pandas as pd

    from interp.effects import attribution_graph, measured_effects, score_graph, token_effects
    from interp.pipeline.readers import open_any
    from interp.report.live.local_server import check_port
    from interp.report.names import names_at_nodes, names_in

    if serve is not None:
        check_port(serve)

    opened = open_any(run, "run")
    model: Any = opened.model.float()  # in half precision the sum of the edges is off by some per cent
    runs = {hook: opened.at(hook) for hook in opened.hooks}
    dictionaries: Any = {hook: hook_run.sae for hook, hook_run in runs.items()}
    effects = beside = None
    with Bar("graph") as bar:
        graph = attribution_graph(model, prompt, dictionaries, max_latents=max_latents, progress=bar)
        if checks and as_page:
            effects = measured_effects(graph, model, dictionaries, progress=bar)
            beside = score_graph(graph, model, dictionaries, effects, progress=bar)
            effects = pd.concat([effects, token_effects(graph, model, dictionaries)], ignore_index=True)
    if as_page:
        rankings = {hook: hook_run.ranking for hook, hook_run in runs.items() if hook_run.has("ranking")}
        features = {hook: hook_run.features for hook, hook_run in runs.items() if hook_run.has("features")}
        names = {hook: names_in(hook_run.names) for hook, hook_run in runs.items() if hook_run.has("names")}
        pages = {hook: hook_run.page for hook, hook_run in runs.items() if hook_run.has("report")}
        graph.to_html(
            out,
            nodes=nodes,
            effects=effects,
            beside=beside,
            features=features,
            rankings=rankings,
            names={hook: [(name.title, name.short) for name in of_hook] for hook, of_hook in names.items()},
            names_here=names_at_nodes(graph, names),
            pages={hook: _address_from(out, page) for hook, page in pages.items()},
            overwrite=overwrite,
        )
    else:
        graph.save(out, nodes=nodes, overwrite=overwrite)
    logits = graph.nodes[graph.nodes["type"] == "logit"].nlargest(3, "activation")
    likeliest = ", ".join(f"{graph.words[t]!r} {p:.0%}" for t, p in zip(logits.latent, logits.activation, strict=True))
    print(f"next          {likeliest}")
    print(f"graph         replacement {graph.replacement:.2f}, completeness {graph.completeness:.2f}")
    if beside is not None:
        known = beside.dropna(axis=1, how="all").rename(columns=lambda name: name.replace("_", " ")).astype(object)
        shown = known.where(known.notna(), "–")
        print(shown.map(lambda cell: f"{cell:.2f}" if isinstance(cell, float) else cell).to_string(index=False))
    print(f"written       {out}")
    if serve is None:
        return
    from interp.report.live import GraphServer

    with GraphServer(out, graph, model, dictionaries, serve) as server:
        serve_page(server)


def _address_from(file: Path, page: Path) -> str:
    """Return the address of a page for links in a file, relative, so that both can be moved together."""
    return quote(Path(os.path.relpath(page.resolve(), file.resolve().parent)).as_posix())


def serve_page(server: "LocalServer") -> None:
    """Print the address of a page, and serve it until Ctrl-C or SIGTERM, which interrupt no work that could be
    resumed."""
    print(f"{server.address}  (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt as end:
        if type(end) is not KeyboardInterrupt:
            raise Exit(143) from None  # as of any process that SIGTERM ends
