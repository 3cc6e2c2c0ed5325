"""Install into this environment what `pip install` would with the same arguments:

    .venv/bin/python .ci/install.py -c constraints.txt -e '.[dev]'

uv does it a minute sooner than pip, since it unpacks packages on all cores. It reads none of pip's settings (pip.conf,
PIP_…), so those that say where packages come from are handed to it. Where uv is missing or fails, pip installs them.
Neither compiles modules: of 29,000, few are ever imported.
"""

import ast
import os
import subprocess
import sys

PIP = [sys.executable, "-m", "pip"]
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "only-binary": "--only-binary",
    "no-binary": "--no-binary",
    "trusted-host": "--allow-insecure-host",
    "cert": "--cert",
}
"""What uv calls pip's settings, which may have several values."""
SWITCHES = {"no-index": "--no-index", "no-cache-dir": "--no-cache"}
VARIABLES = {"proxy": "ALL_PROXY", "timeout": "UV_HTTP_TIMEOUT", "default-timeout": "UV_HTTP_TIMEOUT"}


def pip_settings() -> dict[str, str]:
    """Return what pip's files and variables say about all commands or about `install`: the later overrides."""
    listed = subprocess.run([*PIP, "config", "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, value = line.split("=", 1)
        section, key = name.rsplit(".", 1)
        sections.setdefault(section, {})[key] = ast.literal_eval(value)
    return sections["global"] | sections["install"] | sections[":env:"]


def uv_command(settings: dict[str, str]) -> list[str]:
    """Return how uv installs with these settings. Like pip it takes the best version that any index has."""
    command = ["uv", "pip", "install", "--python", sys.executable, "--index-strategy", "unsafe-best-match"]
    for key, option in OPTIONS.items():
        for value in settings.get(key, "").split():
            command += [option, value]
    for key, switch in SWITCHES.items():
        if settings.get(key, "").lower() in ("1", "true", "t", "yes", "y", "on"):
            command.append(switch)
    return command


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment in which it does: like pip it trusts the certificates of the system."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    handed = {variable: settings[key] for key, variable in VARIABLES.items() if key in settings}
    return {"UV_SYSTEM_CERTS": "true", **os.environ, **handed, "PATH": path}


def main() -> None:
    settings, wanted = pip_settings(), sys.argv[1:]
    try:
        status = subprocess.run([*uv_command(settings), *wanted], env=uv_environment(settings)).returncode
    except FileNotFoundError:
        status = 1
    if status:
        status = subprocess.run([*PIP, "install", "--no-compile", *wanted]).returncode
    sys.exit(status)


if __name__ == "__main__":
    main()
