"""Modules of a page joined into one script: what each form becomes, and what is refused."""

import json
from pathlib import Path

import pytest

from interp.display.scripts import join_scripts
from interp.report.writing import PAGE


def written(folder, **modules):
    for name, text in modules.items():
        path = folder / f"{name.replace('__', '/')}.js"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_joined_modules_run_once_each_in_the_order_of_their_imports(tmp_path, chromium):
    folder = written(
        tmp_path,
        main='import { Box, double as twice } from "./parts/math.js";\nimport { log } from "./log.js";\n'
        "log.push(`main ${twice(new Box().size)}`);\n",
        parts__math='import {\n  log,\n} from "../log.js";\nlog.push("math");\nconst own = 2;\n'
        "export const double = (x) => own * x;\nexport class Box { size = 21; }\n"
        "export async function later() {}\n",
        log="/* What was run. */\nexport const log = [];\n",
        head='import { log } from "./log.js";\nlog.push("head");\n',
    )
    head, page = join_scripts(folder, "head.js"), join_scripts(folder, "main.js")
    chromium.send("Page.navigate", url="about:blank")
    for script in (head, page):
        added = f"Object.assign(document.createElement('script'), {{ textContent: {json.dumps(script)} }})"
        chromium.evaluate(f"document.head.append({added})")
    assert chromium.evaluate("modules['log.js'].log") == ["head", "math", "main 42"]
    assert chromium.evaluate("Object.keys(modules['parts/math.js'])") == ["double", "Box", "later"]
    assert "// parts/math.js\n" in page, "an error is found by the name of its module"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('import log from "./log.js";\n', r"main.js:1: 'import log from"),
        ('import * as log from "./log.js";\n', r"main.js:1: 'import \* as log"),
        ('import { log } from "log";\n', "main.js:1: 'import { log } from \"log\";' is no import or export of a form"),
        ("const x = 1;\nexport { x };\n", "main.js:2: 'export { x };'"),
        ("export default 1;\n", "main.js:1: 'export default 1;'"),
        ("export let x = 1;\n", "main.js:1: 'export let x = 1;'"),
        ('const late = () => import("./log.js");\n', "main.js:1: "),
        ('import { none } from "./log.js";\n', "main.js imports none from log.js, which does not export it"),
        ('import { back } from "./back.js";\n', r"main.js → back.js → main.js: modules import in a circle"),
    ],
)
def test_what_the_joined_script_could_not_do_is_refused(text, why, tmp_path):
    back = 'import { x } from "./main.js";\nexport const back = 1;\n'
    folder = written(tmp_path, main=text, log="export const log = [];\n", back=back)
    with pytest.raises(ValueError, match=why):
        join_scripts(folder, "main.js")


def test_each_module_of_the_page_is_reached_from_where_a_page_begins():
    joined = "".join(join_scripts(PAGE, entry) for entry in ("start.js", "main.js", "live/main.js", "live/widget.js"))
    folder = Path(str(PAGE))
    modules = {path.relative_to(folder).as_posix() for path in folder.rglob("*.js")}
    left = {name for name in modules if f"// {name}\n" not in joined}
    assert len(modules) > 40 and not left, left
