"""`explore`: a run's page with its model behind it."""

from pathlib import Path
from typing import Annotated

from interp.pipeline.run_folder import Run


def explore_command(
    run: Annotated[Path, "a finished run folder"],
    *,
    port: Annotated[int, "of this machine; 0: any that is free"] = 8000,
) -> None:
    """run → its page with the model behind it

    Type a text and see which features fire at each token and what each adds to the next one; hold features and compare
    what the model writes. Stars, labels and notes are kept in RUN/notes.json. Only this machine is served; from another
    one, `ssh -L 8000:127.0.0.1:8000 MACHINE` brings the page there."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port {port} must be in 0..{(1 << 16) - 1}")
    opened = Run(run)
    from interp.explorer import Explorer

    with Explorer(opened, port) as server:
        print(f"{server.address}  (Ctrl-C ends it)", flush=True)
        server.serve_forever()
