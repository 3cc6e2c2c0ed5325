"""The check of the pages' scripts finds what otherwise only a reader of the page would notice."""

from tests.script_types import ROOT, checker

WRONG = """"use strict";
report.wrong = (untyped) => {
  report.table.visits(untyped);
  report.data.page.columns.efect[untyped];
  loadFeature("12");
  neverDefined(untyped);
};
"""


def test_names_that_no_script_or_data_file_has_are_found(tmp_path):
    check = checker()
    (tmp_path / "wrong.js").write_text(WRONG)
    named = [
        ROOT / "interp" / "report" / name for name in ("page.js", "table.js")
    ]  # all of them take three times as long
    found = check.compile_scripts(*check.OPTIONS, *check.TYPES, *named, tmp_path / "wrong.js").splitlines()
    places = [int(line.split("wrong.js(")[1].split(",")[0]) for line in found if "wrong.js(" in line]
    assert places == [3, 4, 5, 6], found


def test_a_check_without_its_compiler_says_in_a_line_that_nothing_was_checked(monkeypatch, capsys):
    check = checker()
    monkeypatch.setattr(check, "has_compiler", lambda: False)
    check.main()
    assert capsys.readouterr().out.count("\n") == 1
