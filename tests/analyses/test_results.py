"""The page of results holds what was measured, and names what was not."""

import json

import pytest

from analyses import result_tables, results

SPEED = {
    "speed": {
        "medium": [
            {
                "name": "interp TopK",
                "ms": 50.0,
                "tokens_per_second": 40960.0,
                "l0": 32.0,
                "rounds": 20,
                "ratios": {"saelens_topk": 11.0, "saelens_own": 11.0, "sparsify": 4.0, "floors": 2.0},
                "peak_mb": 157.0,
            }
        ]
    }
}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS_FOLDER", tmp_path / "results")
    folder = tmp_path / "runs" / "bench_sae"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(SPEED))
    speed = next(section for section in results.SECTIONS if section.folder == "bench_sae")
    results.take_over(speed, folder)
    return {"bench_sae": json.loads(results.kept_file(speed).read_text())}


def test_results_page_gives_each_measurement_with_its_command(kept):
    page = results.page(kept)
    assert "| interp TopK | 50 | 40,960 | 32 | 11 | 11 | 4 | 2 | 157 |" in page
    assert "`python -m analyses.bench.sae --out runs/bench_sae`" in page and kept["bench_sae"]["machine"] in page


def test_what_was_not_measured_is_named_with_its_command(kept):
    _, missing = results.page(kept).split("## Not measured")
    assert missing.count("\n- ") == len(results.SECTIONS) - 1 and "`make essay`" in missing


def test_the_index_has_a_row_for_each_question_with_its_command_and_result(kept):
    rows = results.index(kept).splitlines()
    speed = next(row for row in rows if "`python -m analyses.bench.sae`" in row)
    assert speed.startswith("| How long does a training step") and "TopK 50 ms, 11.0 × as fast" in speed
    scorecard = next(row for row in rows if "`python -m analyses.scorecard`" in row)
    assert scorecard.endswith("|  |"), "not measured"
    claims = {"universal_features": {"claims": [{"holds": True, "found": "r 0.5; of neurons 0.3."}]}}
    rows = results.index({"compare": {"results": claims}}).splitlines()
    assert any(row.endswith("| The claim holds: r 0.5. |") for row in rows)
    nested = [{"holds": True, "found": "r 0.5 (0.4 to 0.6) (lowest 0.3 (0.2 to 0.4); 12 edges); of neurons 0.3."}]
    whole = "The claim holds: r 0.5 (0.4 to 0.6) (lowest 0.3 (0.2 to 0.4); 12 edges)."
    assert result_tables.claims_in_short({"claims": nested}) == whole


def test_a_cell_ends_where_its_text_ends():
    head, _, row = result_tables.table(["token", "n"], [["`<|bos|>`\nx", 3]]).splitlines()
    assert row == "| `<\\|bos\\|>` x | 3 |" and head.count("|") == 3


def test_commands_are_run_in_order_and_one_that_fails_keeps_its_old_result(kept, tmp_path, monkeypatch):
    write = "mkdir -p runs/{0} && echo '{{\"speed\": {{}}}}' > runs/{0}/results.json"
    commands = {"bench_sae": write.format("bench_sae"), "bench_harvest": "test -e runs/bench_sae/results.json && false"}
    commands |= {"bench_memory": "python -m json.tool $A_FOLDER_THAT_NOBODY_NAMED"}
    sections = [each._replace(command=commands.get(each.folder, "")) for each in results.SECTIONS]
    monkeypatch.setattr(results, "SECTIONS", [each for each in sections if each.command])
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for name in ("PAGE", "README", "INDEX"):
        monkeypatch.setattr(results, name, tmp_path / f"{name}.md")
        (tmp_path / f"{name}.md").touch()
    monkeypatch.setattr(results, "page", lambda kept: "")
    monkeypatch.setattr(results, "IN_PROSE", ())
    monkeypatch.setattr(results, "index", lambda kept: "")
    with pytest.raises(SystemExit) as ended:
        results.main(["--measure"])
    assert commands["bench_harvest"] in str(ended.value) and commands["bench_memory"] in str(ended.value)
    assert json.loads((results.RESULTS_FOLDER / "bench_sae.json").read_text())["results"] == {"speed": {}}
    assert not (results.RESULTS_FOLDER / "bench_memory.json").exists()


def test_a_folder_without_results_changes_nothing(kept, tmp_path, capsys):
    results.take_over(results.SECTIONS[0], tmp_path / "nowhere")
    assert not results.kept_file(results.SECTIONS[0]).exists() and "has no results" in capsys.readouterr().out


def test_one_script_measured_anew_leaves_what_is_kept_of_the_others(kept, tmp_path):
    compare = next(section for section in results.SECTIONS if section.folder == "compare")
    claim = {"row": "1", "text": "A claim.", "holds": None}
    for folder, name, found in (("first", "one", "1 %"), ("first", "other", "2 %"), ("second", "other", "3 %")):
        file = tmp_path / folder / name / "results.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"claims": [claim | {"found": found}]}))
    results.take_over(compare, tmp_path / "first", "alone")
    assert "later" not in json.loads(results.kept_file(compare).read_text())
    results.take_over(compare, tmp_path / "second", "under load")
    content = json.loads(results.kept_file(compare).read_text())
    assert content["note"] == "alone" and content["later"].keys() == {"other"}
    page = results.page({"compare": content})
    assert "| one | 1 | A claim. | 1 % |" in page and "| other | 1 | A claim. | 3 % |" in page
    assert f"`other` is of a later run: {results.measured(content['later']['other'])}." in page and "under load" in page
    results.take_over(compare, tmp_path / "first")
    assert "later" not in json.loads(results.kept_file(compare).read_text()), "all are new"


def test_readme_is_filled_between_its_marks():
    text = "before\n<!-- speed -->\nold\n<!-- /speed -->\nafter"
    filled = results.filled(text, "speed", result_tables.speed_in_short(SPEED))
    assert "old" not in filled and "TopK 50 ms, 11.0 × as fast as SAELens's own. TopK is 4.0 × as fast" in filled
    assert results.filled(filled, "speed", "old") == text
    beside = result_tables.speed_beside_peers(SPEED)
    assert "| TopK | 50 ms | 550 ms | 11.0 × |" in beside and "sparsify, which has TopK, takes 200 ms." in beside


def test_results_keep_names_of_files_and_not_where_they_lay():
    found = {"model": {"name": "/home/someone/model.gguf"}, "files": ["/a/b.txt", "a/b.txt", 1.5, None, "blocks.0"]}
    found["said"], said = (
        "interp: /a/b-1/c.txt is damaged, see https://d.org/e/f, 9%/8%",
        "interp: c.txt is damaged, see https://d.org/e/f, 9%/8%",
    )
    kept = {"model": {"name": "model.gguf"}, "files": ["b.txt", "a/b.txt", 1.5, None, "blocks.0"], "said": said}
    assert results.without_places(found) == kept


@pytest.mark.parametrize(
    ("rates", "words"), [([6e-3], "tokens, L0 and learning rate"), ([4e-3, 6e-3], "tokens and L0")]
)
def test_one_learning_rate_for_both_trainers_is_said(rates, words):
    row = {"dead_share": [0.1, 0.0], "faint_share": [0.0, 0.0]}
    rows = [row | {"trainer": "SAELens"}, row | {"trainer": "interp", "fvu_ratio": [0.9, 0.1]}]
    said = result_tables.quality_in_short({"rows": rows, "settings": {"rates": rates}})
    assert said.startswith(f"At equal {words}, the FVU is 0.90 × SAELens's")
