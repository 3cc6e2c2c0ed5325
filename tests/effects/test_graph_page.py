"""The page of a graph contains what is written into it, once and unchanged."""

from interp.effects.graph_page import write_graph_page


def test_a_prompt_that_looks_like_the_template_is_shown_as_it_is(tmp_path):
    prompt = "{{data}} {{style}} {{code}} {{hash}} {{other}}"
    write_graph_page(tmp_path / "page.html", {"tokens": [prompt]}, title=prompt)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    write_graph_page(tmp_path / "plain.html", {"tokens": ["PROMPT"]}, title="PROMPT")
    assert page == (tmp_path / "plain.html").read_text(encoding="utf-8").replace("PROMPT", prompt)
    assert page.count(prompt) == 2
