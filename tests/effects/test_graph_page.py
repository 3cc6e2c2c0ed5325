"""The page of a graph contains what is written into it, once and unchanged."""

import numpy as np
import pandas as pd

from interp.effects.graph_page import json_records, write_graph_page


def test_a_prompt_that_looks_like_the_template_is_shown_as_it_is(tmp_path):
    prompt = "{{data}} {{style}} {{code}} {{hash}} {{other}}"
    write_graph_page(tmp_path / "page.html", {"tokens": [prompt]}, title=prompt)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    write_graph_page(tmp_path / "plain.html", {"tokens": ["PROMPT"]}, title="PROMPT")
    assert page == (tmp_path / "plain.html").read_text(encoding="utf-8").replace("PROMPT", prompt)
    assert page.count(prompt) == 2


def test_the_logarithm_of_a_probability_of_0_is_written_as_none(tmp_path):
    table = pd.DataFrame({"graph": ["null"], "answer": [-np.inf], "pairs": [np.nan], "nodes": [3]})
    rows = json_records(table.astype({"nodes": "Int64"}))
    assert rows == [{"graph": "null", "answer": None, "pairs": None, "nodes": 3}]
    write_graph_page(tmp_path / "page.html", {"scores": rows}, title="")
