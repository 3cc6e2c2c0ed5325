"""A run's page served with its model: answers checked against the library, refusals, and clicks."""

import fcntl
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from interp import Run, harvest, load_sae
from interp.activations.hooks import evaluating
from interp.checks.errors import InterpError
from interp.cli import main
from interp.codes.dictionary_hooks import DictionaryHooks
from interp.codes.sparse_codes import SparseCodes
from interp.effects import ABLATE, Action, add, dose_response, intervene, pin, steer
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import _write_config
from interp.report.live import Explorer, LiveModel
from interp.report.notes import edit_notes, features_key
from interp.storage.files import digest_json, write_json
from interp.storage.locks import wait_for_lock
from interp.storage.manifests import MANIFEST, write_manifest
from tests.page_requests import post, request

TEXT = "Once upon a time the"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_run) -> Run:
    return Run(shutil.copytree(tiny_run.path, tmp_path_factory.mktemp("explored") / "run"))


@pytest.fixture(scope="module")
def server(run):
    with Explorer(run) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_what_the_dictionary_was_not_trained_on_has_no_latents():
    model = torch.nn.Linear(1, 1)
    model.special_ids = (9,)
    metadata = {"exclude_special_tokens": [7], "exclude_positions": [0, 99]}
    sae = SimpleNamespace(W_dec=torch.zeros(3, 2), d_in=2, metadata=metadata)
    sae.codes = lambda rows: SparseCodes.from_dense(torch.ones(len(rows), 3))
    live = SimpleNamespace(model=model, sae=sae, dictionary_hooks=DictionaryHooks(None, None, "", "", None))
    z = LiveModel._codes(live, torch.tensor([[1, 7, 9, 2]]), torch.zeros(1, 4, 2))
    assert z.toarray().tolist() == [[0, 0, 0]] * 3 + [[1, 1, 1]]


def test_the_server_serves_the_live_page_and_nothing_else_of_the_machine(server):
    status, headers, body = request(server, "GET", "/")
    page = body.decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert (
        status == 200
        and "assets/live.css" in page
        and "connect-src 'self'" in policy
        and "default-src 'none'" in policy
    )
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert request(server, "GET", "/?x=1")[2] == body
    for path in re.findall(r'(?:src|href)="((?:assets|data)/[^"]+)"', page):
        assert request(server, "GET", f"/{path}")[0] == 200
    for path in (
        "/run.toml",
        "/data/../../../run.toml",
        "/data/..",
        "/assets/",
        "/assets/%2e%2e/index.html",
        "/api/no",
    ):
        assert request(server, "GET", path)[0] == 404, path
    assert post(server, "no", {})[0] == 404


@pytest.fixture
def foreign(run, tmp_path) -> Run:
    """Return a run folder that somebody else made, with manifests that fit whatever is in it."""
    return Run(shutil.copytree(run.path, tmp_path / "foreign"))


def sign_again(run: Run) -> None:
    """Make the manifests fit what is in the stage of the page."""
    folder = run.path / "report"
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / "page" / MANIFEST).unlink(missing_ok=True)
    write_manifest(folder, {key: value for key, value in manifest.items() if key not in ("files", "sha256")})


def serving(run: Run, path: str) -> tuple[int, dict, bytes]:
    with Explorer(run) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            return request(server, "GET", path)
        finally:
            server.shutdown()


def test_of_a_foreign_run_only_data_are_served(foreign, tmp_path):
    page, secret = foreign.path / "report" / "page", tmp_path / "secret"
    secret.write_text("mine")
    (page / "index.html").write_text("<script>steal()</script>")
    (page / "assets" / "plotly.js").write_text("steal()")
    (page / "data" / "link.js").symlink_to(secret)
    (page / "data" / "hidden.js").write_text('receive("hidden",1);\n')
    (page / "data" / "code.js").write_text('receive("code",1);steal(1);\n')
    (page / "data" / "map.js").rename(tmp_path / "map.js")
    (page / "data" / "map.js").symlink_to(tmp_path / "map.js")
    sign_again(foreign)
    manifest = json.loads((foreign.path / "report" / MANIFEST).read_text())
    del manifest["files"]["page/data/hidden.js"], manifest["sha256"]
    write_json(foreign.path / "report" / MANIFEST, manifest | {"sha256": digest_json(manifest)})
    status, headers, body = serving(foreign, "/")
    policy = headers["Content-Security-Policy"]
    assert status == 200 and b"steal" not in body and b"assets/live.css" in body
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script-src 'self'" in policy
    assert b"steal" not in serving(foreign, "/assets/plotly.js")[2]
    assert serving(foreign, "/data/page.js")[0] == 200
    for name, answer in {"link.js": 404, "hidden.js": 404, "map.js": 404, "code.js": 400}.items():
        status, _, body = serving(foreign, f"/data/{name}")
        assert status == answer and b"mine" not in body, name


def test_long_notes_can_be_edited_and_what_others_keep_in_the_file_stays(foreign):
    file, key = foreign.path / "notes.json", features_key(foreign.features)
    long = "x" * 30_000
    note = {"star": False, "label": "", "note": long, "colour": "red"}
    write_json(file, {"format": "interp-notes", "features": key, "by": "another", "notes": {"3": note}})
    with Explorer(foreign) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        status, _ = post(server, "notes", {"edits": {"3": {"note": [long, long[1:]]}}})
        assert status == 200 and post(server, "notes", {"edits": {"3": {"note": [long[1:], long * 2]}}})[0] == 400
        server.shutdown()
    kept = json.loads(file.read_text())
    assert kept["by"] == "another" and kept["notes"]["3"] == note | {"note": long[1:]}
    assert foreign.notes.note[0] == long[1:]


def test_notes_that_are_a_pipe_are_refused(foreign):
    os.mkfifo(foreign.path / "notes.json")
    with pytest.raises(ValueError, match=r"notes.json is not a file"):
        Explorer(foreign)


def test_a_port_that_no_computer_has_is_refused(run):
    with pytest.raises(ValueError, match="port 70000 is not available .*0-65535.*: choose another port"):
        Explorer(run, port=70_000)


def test_other_sites_and_other_names_are_refused(server):
    port = server.server_port
    assert request(server, "GET", "/", Host=f"evil.example:{port}")[0] == 403
    assert request(server, "GET", "/data/page.js", Origin="http://evil.example")[0] == 403
    asked = {"text": TEXT}
    assert post(server, "read", asked, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200
    for origin in ("", "null", "http://evil.example", "http://127.0.0.1:1", f"http://localhost:{port}"):
        assert post(server, "read", asked, Origin=origin)[0] == 403, origin
    assert post(server, "read", asked, Host="evil.example", Origin="http://evil.example")[0] == 403
    assert post(server, "read", asked, **{"Content-Type": "text/plain"})[0] == 415


@pytest.mark.parametrize(
    "name, asked, said",
    [
        ("read", {"text": ""}, "no text"),
        ("read", {"text": 1}, "text=1 must be text"),
        ("read", {"text": TEXT, "more": 1}, "more"),
        ("at", {"text": TEXT, "position": 99}, "position 99"),
        ("steer", {"prompt": TEXT, "multiples": {"1": 1e9}, "n_tokens": 1, "temperature": 1, "seed": 0}, "multiples.1"),
        ("steer", {"prompt": TEXT, "multiples": {"99": 1}, "n_tokens": 1, "temperature": 1, "seed": 0}, "99"),
        ("steer", {"prompt": TEXT, "multiples": {"1": 1}, "n_tokens": 9999, "temperature": 1, "seed": 0}, "n_tokens"),
        ("notes", {"edits": {"64": {"star": [False, True]}}}, "latent 64"),
        ("notes", {"edits": {"../1": {"star": [False, True]}}}, "../1"),
        ("notes", {"edits": {"01": {"star": [False, True]}}}, "01"),
        ("read", {"text": "\ud800"}, "an unpaired surrogate"),
        ("without", {"latent": 999_999, "sequence": 0}, "latent 999999 must be"),
        ("notes", {"edits": {"1": {"label": ["", "x" * 20_001]}}}, "label"),
        ("notes", {"edits": {"1": {"note": ["", "\ud800"]}}}, "the note of latent 1 contains an unpaired surrogate"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(server, name, asked, said):
    status, answer = post(server, name, asked)
    assert status == 400 and said in answer["error"] and "\n" not in answer["error"]


def test_what_is_too_long_or_no_json_is_refused_before_it_is_used(server):
    headers = {"Content-Type": "application/json", "Origin": server.address}
    assert request(server, "POST", "/api/read", b"{", **headers)[0] == 400
    assert request(server, "POST", "/api/read", b"[" * 100_000, **headers)[0] == 400
    assert request(server, "POST", "/api/read", b"", **headers, **{"Content-Length": str(1 << 21)})[0] == 413
    assert request(server, "POST", "/api/read", b"", **headers, **{"Content-Length": "-1"})[0] == 411


def test_what_fires_is_what_the_dictionary_makes_of_the_harvested_rows(server, run, tmp_path):
    row = run.harvested.tokens[:1]
    ends = (row[0] == run.tokenizer.bos_id).nonzero().flatten().tolist()[1:]
    text = run.tokenizer.decode(row[0, : min([40, *ends])].tolist())
    _, answer = post(server, "read", {"text": text})
    n = next(
        (i for i, pair in enumerate(zip(answer["tokens"], row[0].tolist(), strict=False)) if pair[0] != pair[1]), 20
    )
    assert n >= 10
    hook = run.config.harvest.hook_name
    store = harvest(run.model, row, [hook], tmp_path / "store", dtype="float32", exclude=run.tokenizer.special_ids)
    shard = store.shard(0, hook)
    z = dict(zip(shard.row_ids.tolist(), run.sae.encode(shard.acts), strict=True))
    assert answer["firing"][0] == [] and 0 not in z, "BOS has no latents"
    for position in range(1, n):
        expected = {int(latent): float(z[position][latent]) for latent in z[position].nonzero()}
        firing = answer["firing"][position]
        assert dict(map(tuple, firing)) == pytest.approx(expected, rel=1e-4)
        assert [value for _, value in firing] == sorted(expected.values(), reverse=True) or len(firing) == 10
    latent, strength, places = answer["features"][0]
    assert strength == pytest.approx(max(value for _, value in places) / run.features[latent].facts["max"])
    assert [[at, dict(map(tuple, answer["firing"][at]))[latent]] for at, _ in places] == places


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", "blocks.0.hook_resid_pre"])
def test_what_a_feature_adds_is_what_ablating_it_by_hand_takes_away(run, hook):
    sae = load_sae(run.path / "sae")
    sae.metadata["hook_name"] = hook
    live = LiveModel(
        SimpleNamespace(features=run.features, sae=sae, tokenizer=run.tokenizer, model=run.model, hook_name=hook)
    )
    tokens, position = live.tokens(TEXT), 4
    found = live.at(TEXT, position)

    def next_token() -> torch.Tensor:
        with evaluating(run.model):
            return run.model(tokens.long())[0, position].softmax(0)

    p = next_token()
    assert [token for token, _ in found["next"]] == p.topk(10).indices.tolist()
    assert len(found["features"]) == len(live.read(TEXT)["firing"][position]) > 3
    for feature in found["features"]:
        with intervene(run.model, hook, sae, {feature["latent"]: ABLATE}, positions=[position]):
            without = next_token()
        assert feature["kl"] == pytest.approx(float((p * (p / without).log()).sum()), rel=1e-3, abs=1e-7)
        for side, sign in (("raises", 1), ("lowers", -1)):
            expected = (sign * (p - without)).topk(4).indices
            assert [token for token, *_ in feature[side]] == expected.tolist()
            assert [row[1:] for row in feature[side]] == [
                pytest.approx([float(p[token]), float(without[token])], rel=1e-4) for token in expected
            ]


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", "blocks.0.hook_resid_pre"])
def test_an_effect_is_what_ablation_costs_after_the_last_block_and_a_slope_before_it(run, hook):
    """After the last block each token has its own prediction; before it, the chosen one depends on all tokens."""
    sae, token, position, step = load_sae(run.path / "sae"), 7, 4, 1e-3
    sae.metadata["hook_name"] = hook
    live = LiveModel(
        SimpleNamespace(features=run.features, sae=sae, tokenizer=run.tokenizer, model=run.model, hook_name=hook)
    )
    tokens, found = live.tokens(TEXT), live.effects(TEXT, position, token)

    def log_p(actions: dict[int, Action], positions: list[int]) -> torch.Tensor:
        with evaluating(run.model), intervene(run.model, hook, sae, actions, positions=positions):
            return run.model(tokens.long())[0].log_softmax(-1)[:, token]

    as_it_is = log_p({0: add(0.0)}, [0])
    seen = set()
    assert found["each"] == hook.endswith("post")
    assert found["p"] == pytest.approx((as_it_is if found["each"] else as_it_is[[position]]).exp().tolist(), rel=1e-4)
    firing = {(latent, at): z for latent, _, places in live.read(TEXT)["features"] for at, z in places}
    for latent, total, places in found["features"][:6]:
        assert total == pytest.approx(sum(abs(effect) for _, effect in places))
        for at, effect in places:
            if found["each"]:
                without = log_p({latent: ABLATE}, [at])
                assert effect == pytest.approx(float((as_it_is - without)[at]), rel=1e-3, abs=1e-5)
            else:
                rise = (log_p({latent: add(step)}, [at]) - log_p({latent: add(-step)}, [at]))[position]
                assert effect == pytest.approx(float(rise / (2 * step)) * firing[latent, at], rel=0.02, abs=2e-3)
            seen.add(at)
    assert len(seen) > 2 and (found["each"] or max(seen) <= position)
    assert sorted(found["features"], key=lambda row: -row[1]) == found["features"]
    for at, wanted in ((99, 0), (0, 10**6)):
        with pytest.raises(ValueError, match="is not in 0"):
            live.effects(TEXT, at, wanted)


def test_samples_are_those_of_the_library_under_the_same_seed(server, run):
    asked = {"prompt": TEXT, "multiples": {"15": 10.0}, "n_tokens": 7, "temperature": 0.8, "seed": 5}
    status, answer = post(server, "steer", asked)
    tokens = server.live.tokens(TEXT)
    for name, held in (("plain", {}), ("steered", {15: 10.0})):
        arguments = (run.model, run.config.harvest.hook_name, run.sae, run.features, held, tokens)
        assert answer[name] == steer(*arguments, n_tokens=7, temperature=0.8, seed=5)[0].tolist()
    assert status == 200 and answer["prompt"] == tokens.shape[1] and answer["plain"] != answer["steered"]
    held_at = pin(10.0 * run.features[15].facts["max"])
    log_p, steered = next_tokens(run, tokens, {15: add(0.0)}), next_tokens(run, tokens, {15: held_at})
    kl = (log_p.exp() * (log_p - steered)).sum(-1)[1:].mean()
    assert answer["kl"] == pytest.approx(float(kl), rel=1e-3) and answer["is_far"] == (kl > 2)


def next_tokens(run: Run, tokens: torch.Tensor, actions: dict[int, Action]) -> torch.Tensor:
    """Return the log-probabilities after each token of a text, with actions at all but the first."""
    hook, positions = run.config.harvest.hook_name, list(range(1, tokens.shape[1]))
    with evaluating(run.model), intervene(run.model, hook, run.sae, actions, positions=positions):
        return run.model(tokens.long())[0].log_softmax(-1)


def test_a_latent_is_held_at_the_smallest_multiple_that_visibly_moves_the_predictions(server, run):
    latents = run.features.table().nlargest(6, "n_active")["latent"].tolist()
    chosen = set()
    for latent in latents:
        status, multiple = post(server, "multiple", {"text": TEXT, "latent": latent})
        asked = {"prompt": TEXT, "n_tokens": 1, "temperature": 0, "seed": 0}
        visible = [
            held
            for held in (0.25, 0.5, 1, 2, 4)
            if post(server, "steer", {**asked, "multiples": {str(latent): held}})[1]["kl"] >= 0.35
        ]
        assert status == 200 and multiple == min(visible, default=4)
        chosen.add(multiple)
    assert len(chosen) > 1


def test_the_loss_without_a_feature_is_that_of_ablating_it_by_hand(server, run):
    latent, row = run.features.sql("select latent, row from examples where kind = 'top' order by value desc").iloc[0]
    sequence = int(row) // run.features.n_ctx
    status, answer = post(server, "without", {"latent": int(latent), "sequence": sequence})
    tokens = run.features.tokens[sequence : sequence + 1].long()

    def losses() -> torch.Tensor:
        with evaluating(run.model):
            return torch.nn.functional.cross_entropy(run.model(tokens)[0, :-1], tokens[0, 1:], reduction="none")

    as_it_is = losses()
    with intervene(run.model, run.config.harvest.hook_name, run.sae, {int(latent): ABLATE}):
        expected = losses() - as_it_is
    first, *changes = answer["changes"]
    assert status == 200 and first is None and expected.abs().max() > 1e-4
    assert changes == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-5)


def test_what_two_features_have_in_common_is_counted_for_any_two(server, run):
    a, b = run.features.sql("select latent from features order by n_active desc limit 2")["latent"].tolist()
    status, (n_both, correlation, *_) = post(server, "common", {"latent": a, "other": b})
    z = run.features.codes[:].dense().double().numpy()
    assert status == 200 and n_both == ((z[:, a] > 0) & (z[:, b] > 0)).sum() > 0
    assert correlation == pytest.approx(np.corrcoef(z[:, a], z[:, b])[0, 1], abs=0.02), "special tokens apart"
    beyond = post(server, "common", {"latent": 0, "other": 64})[1]["error"]
    assert beyond.startswith("latent 64 must be a whole number in 0..63")
    with pytest.raises(ValueError, match="latent -1 must be"):
        server.live.common(0, -1)
    with pytest.raises(ValueError, match=r"sequence -1 is not in 0\.\."):
        server.live.without(0, -1)


def test_a_dose_is_measured_as_the_library_does(server, run):
    status, answer = post(server, "dose", {"latent": 3})
    free, *doses = answer
    assert status == 200 and free[0] is None and free[1] == 0
    assert [multiple for multiple, *_ in doses] == [-4, -2, -1, 0, 1, 2, 4, 8]
    top = [int(token) for token in run.features[3].facts["top_logit_tokens"][:5]]
    arguments = (run.model, run.config.harvest.hook_name, run.sae, run.features, 3)
    row = dose_response(*arguments, multiples=(8.0,), sequences=8, n_tokens=1, concept=top).iloc[1]
    assert doses[-1] == pytest.approx([8, row["kl"], row["concept"]], rel=1e-4)


def test_edits_of_several_writers_lose_nothing(run, server):
    def edit(latent: int) -> int:
        return post(
            server, "notes", {"edits": {str(latent): {"label": ["", f"label {latent}"], "star": [False, True]}}}
        )[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(edit, range(24))) == {200}
    assert run.notes["label"].tolist() == [f"label {latent}" for latent in range(24)] and run.notes["star"].all()
    cleared = {str(latent): {"label": [f"label {latent}", ""], "star": [True, False]} for latent in range(24)}
    assert post(server, "notes", {"edits": cleared}) == (200, {}) and run.notes.empty


@pytest.mark.parametrize(
    "edits, left",
    [
        ([("", "mine"), ("", "theirs")], "theirs\nmine"),
        ([("", "mine"), ("mine", "mine, longer")], "mine, longer"),
        ([("", "mine"), ("", "theirs"), ("theirs", "theirs, longer")], "theirs, longer\nmine"),
        ([("", "a"), ("a", "b"), ("a", "c")], "c\nb"),
        ([("", "a"), ("", "b"), ("a", "")], "b"),
        ([("", "a"), ("", "a")], "a"),
        ([("", "a"), ("a", "b"), ("a", "")], "b"),
    ],
)
def test_a_text_that_two_write_keeps_both(tmp_path, edits, left):
    (tmp_path / "run.toml").touch()
    for pair in edits:
        notes = edit_notes(tmp_path / "notes.json", "key", {"1": {"note": pair}})
    assert notes == {"1": {"star": False, "label": "", "note": left}}
    with pytest.raises(ValueError, match="of other features"):
        edit_notes(tmp_path / "notes.json", "another", {})


def test_notes_wait_for_the_lock_of_a_configuration_that_was_replaced_meanwhile(tmp_path, monkeypatch):
    config = tmp_path / "run.toml"
    config.touch()
    locked, flock = [], fcntl.flock

    def replace_first(opened, operation):
        if isinstance(opened, int):  # of another file, which is written atomically
            return flock(opened, operation)
        if not locked:
            (tmp_path / "new.toml").touch()
            (tmp_path / "new.toml").replace(config)
        locked.append(os.fstat(opened.fileno()).st_ino)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    edit_notes(tmp_path / "notes.json", "key", {"1": {"label": ("", "mine")}})
    assert len(locked) == 2 and locked[-1] == config.stat().st_ino


def test_a_configuration_is_replaced_only_while_nobody_writes_notes(tmp_path):
    config = tmp_path / "run.toml"
    config.touch()
    writing = threading.Thread(target=_write_config, args=(tmp_path, RunConfig()))
    with wait_for_lock(config):
        writing.start()
        writing.join(0.2)
        assert writing.is_alive() and not config.read_text()
    writing.join()
    assert RunConfig.from_toml(config) == RunConfig()


def copy_run(run, folder: Path) -> None:
    for name in ("run.toml", "corpus", "model", "sae", "features", "report", "activations", "ranking"):
        copy = shutil.copytree if (run.path / name).is_dir() else shutil.copy
        copy(run.path / name, folder / name)


def test_explore_refuses_unusable_paths_and_options(run, server, tmp_path, capsys):
    def refused(*words: object) -> str:
        assert main(["explore", *map(str, words)]) == 2
        printed.append(capsys.readouterr())
        (line,) = printed[-1].err.strip().splitlines()
        return line

    printed: list[Any] = []

    assert "is not a run folder" in refused(tmp_path)
    assert "Invalid value '70000' for '--port': Input should be less than" in refused(run.path, "--port", 70000)
    assert "choose another port" in refused(run.path, "--port", server.server_port)
    assert printed[-1].out == "", "the run and its model are not opened before"
    copy_run(run, tmp_path)
    shutil.rmtree(tmp_path / "report")
    assert "no report yet" in refused(tmp_path)


def test_explore_renews_a_page_of_another_version(run, tmp_path, monkeypatch):
    copy_run(run, tmp_path)
    script = tmp_path / "report/page/assets/start.js"
    current = script.read_text()
    script.write_text("older")
    with pytest.raises(InterpError, match="another version"):
        Explorer(Run(tmp_path))
    monkeypatch.setattr("interp.cli.page_commands.serve_page", lambda server: None)
    assert main(["explore", str(tmp_path), "--port", "0"]) == 0
    assert script.read_text() == current


@pytest.fixture
def window(chromium):
    chromium.size(1280, 900)
    return chromium


@pytest.fixture
def page(window, server):
    """Return the browser with the live page open."""
    window.open(f"{server.address}/#try")
    return window


def typed(browser, text: str) -> None:
    field = "document.getElementById('typed')"
    browser.evaluate(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input'))")
    browser.wait(f"{field}.dataset.read === {json.dumps(text)}")


def test_a_text_is_read_a_token_chosen_and_a_feature_opened(page):
    typed(page, "<img src=x onerror=alert(1)> return the")
    page.wait("document.querySelectorAll('.rows [data-latent]').length")
    assert page.evaluate("document.querySelector('#try img')") is None and "<img" not in page.text(".piece")
    shown = page.text(".piece")
    assert "".join(shown[1:]) == "<img src=x onerror=alert(1)> return the"
    assert page.faint() == [] and page.unnamed() == []
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    side = "document.querySelector('{}').getBoundingClientRect()"
    assert page.evaluate(f"{side.format('#try .reading')}.bottom <= {side.format('#try .tried')}.top"), "text first"
    page.click(".piece:nth-of-type(8)")
    page.wait(f"document.querySelector('.next h2')?.textContent.includes({json.dumps(shown[7])})")
    page.wait("document.querySelector('.rows .change') !== null")
    assert page.evaluate("document.querySelector('.piece[aria-pressed=true]').textContent") == shown[7]
    latent = page.text(".features .named a")[0]
    page.click(".features .named a")
    page.wait(f"document.getElementById('feature').dataset.latent === '{latent}'")
    page.evaluate("history.back()")
    page.wait("document.body.dataset.view === 'try'")
    assert page.text(".piece") == shown, "the text stays"
    assert not page.complaints


def test_edges_are_those_of_the_hook_that_was_chosen_last(window, server):
    window.open(f"{server.address}/#table")
    answer = "{{targets: [[{0}]], edges: [[{0}, {0}, 1, null]], rules: {{{0}: []}}}}"
    window.evaluate(
        """
        window.waiting = [];
        const fetched = window.fetch;
        const reply = (value) => new Response(JSON.stringify(value));
        window.fetch = (address, options) => {
          if (address === "/api/hooks") return Promise.resolve(reply({ own: "own", all: ["before", "own", "after"] }));
          if (address !== "/api/edges") return fetched(address, options);
          return new Promise((resolve) => window.waiting.push((value) => resolve(reply(value))));
        };
        location.hash = "#try";
        """
    )
    window.wait("waiting.length === 1")
    window.evaluate(f"waiting[0]({answer.format(1)})")
    window.wait("document.querySelector('.edges select') !== null && !document.querySelector('.edges.stale')")
    window.click(".edges button.more")
    window.evaluate(
        "Object.assign(document.querySelector('.edges select'), { value: 'after' }).dispatchEvent(new Event('change'))"
    )
    window.wait("waiting.length === 3")
    window.evaluate(f"waiting[1]({answer.format(1)})")
    window.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    assert window.evaluate("document.querySelector('.edges.stale') !== null"), "the answer for the hook before is late"
    window.evaluate(f"waiting[2]({answer.format(2)})")
    window.wait("!document.querySelector('.edges.stale')")
    assert window.text(".edges h3") == ["own this page", "after"] and "2" in window.text(".edges li")[0]


def test_a_feature_is_steered_on_its_page_and_its_loss_read_in_a_context(window, server, run):
    latent = int(run.features.sql("select latent from features order by n_active desc").iloc[0, 0])
    window.open(f"{server.address}/#feature/{latent}")
    window.click(".example .value")
    window.wait("document.querySelector('.whole .about').textContent.includes('predicted better')")
    window.click(".tab:last-child")
    window.wait("document.querySelectorAll('.written').length === 2 && document.querySelector('.doses svg') !== null")
    prompt = window.evaluate("document.querySelector('.steering textarea').value")
    before, plain = window.text(".written")
    assert prompt and plain.startswith("Unsteered") and len(window.text(".doses circle")) == 16
    ticks = [float(text) for text in window.text(".doses figure:first-of-type svg text") if "×" not in text]
    assert ticks == pytest.approx([k * ticks[1] for k in range(len(ticks))]) and f"{ticks[1]:.2e}"[:4] in (
        "1.00",
        "2.00",
        "5.00",
    )
    window.click(".beginnings button:last-of-type")
    assert window.evaluate("document.querySelector('.steering textarea').value") not in ("", prompt), "its own example"
    window.click(".beginnings button")
    assert window.evaluate("document.querySelector('.steering textarea').value") == prompt
    window.wait("document.querySelector('.texts.waiting') === null")
    slider = "document.querySelector('.steering input')"
    window.evaluate(f"{slider}.value = -4; {slider}.dispatchEvent(new Event('input'))")
    window.wait(f"document.querySelector('.written').textContent !== {json.dumps(before)}")
    assert window.text(".steering output") == ["held at −4 × its maximum"] and window.text(".written .won")
    assert window.faint() == [] and not window.complaints


def test_the_model_writes_with_a_feature_held_as_soon_as_it_is_chosen(page, server, monkeypatch):
    monkeypatch.setattr("interp.report.live.live_model.FAR_KL", 0.5)
    typed(page, TEXT)
    page.wait("document.querySelectorAll('.rows [data-latent]').length")
    assert page.text("nav a[href='#try']") == ["Try text"] and not page.text(".heldlist a")
    latent = int(page.evaluate("document.querySelector('.rows [data-latent]').dataset.latent"))
    page.click(".rows .hold")
    page.wait("document.querySelectorAll('.written').length === 2")
    field = "document.querySelector('.heldlist input')"
    assert page.text(".heldlist a") == [str(latent)]
    assert page.evaluate(f"{field}.valueAsNumber") == server.live.multiple(TEXT, latent)
    before = page.text(".texts")
    page.evaluate(f"{field}.value = 40; {field}.dispatchEvent(new Event('input'))")
    page.wait(f"document.querySelector('.texts').textContent !== {json.dumps(before[0])}")
    steered, plain = page.text(".written .text")
    assert plain != steered and all(TEXT in text for text in (plain, steered))
    assert page.text(".written .won") and "expect noise" in page.text(".texts p")[0]
    page.click(".heldlist button")
    page.wait("document.querySelectorAll('.written').length === 0")
    assert not page.complaints


def test_in_a_narrow_window_what_is_steered_is_one_line_until_it_is_unfolded(page):
    page.size(390, 844)
    typed(page, TEXT)
    page.click(".rows .hold")
    page.wait("document.querySelectorAll('.written').length === 2")
    box = "(({ top, bottom }) => [top, bottom])(document.querySelector('%s').getBoundingClientRect())"
    top, bottom = page.evaluate(box % ".held")
    assert bottom - top < 70 and bottom == 844 and page.text(".held .names a") == page.text(".heldlist a")
    assert page.evaluate("document.querySelector('.held form').checkVisibility()") is False
    page.click(".held .fold")
    (top, bottom), again = page.evaluate(box % ".held"), page.evaluate(box % ".again")
    assert page.evaluate(box % "#typed")[1] < top and top < again[0] and again[1] <= bottom
    assert page.faint() == [] and page.unnamed() == []
    page.click(".held .fold")
    assert page.evaluate(box % ".held")[0] > 770 and not page.complaints


def test_as_many_tokens_stand_above_the_strips_as_have_room(page):
    page.size(1024, 900)
    heads = "document.querySelectorAll('.striphead button')"
    typed(page, "a b c d e f g h i")
    n = len(page.text(".piece"))
    assert page.evaluate(f"{heads}.length") >= n / 2
    page.size(1440, 900)
    typed(page, "a b c d e f g h i " * 10)
    page.click(".piece:nth-of-type(30)")
    page.wait("document.querySelector('.piece[aria-pressed=true]') === document.querySelectorAll('.piece')[29]")
    assert page.evaluate(f"{heads}.length") == 1 == len(page.text(".striphead .at")), "the chosen one"
    numbers = [int(text) for text in page.text(".striphead > span") if text]
    step = numbers[1] - numbers[0]
    assert len(numbers) > 3 and {number % step for number in numbers} == {0} and abs(30 - numbers[2]) > step / 2
    starts = "Array.from(document.querySelectorAll('.striphead > *'), (e) => e.getBoundingClientRect().left)"
    strip = "(({ left, width }) => [left, width])(document.querySelector('.textstrip').getBoundingClientRect())"
    (left, width), first = page.evaluate(strip), page.evaluate(starts)[1]
    n = len(page.text(".piece"))
    assert first == pytest.approx(left + width * (numbers[0] - 1) / n, abs=2), "each number is above its token"


def test_a_text_of_several_lines_is_shown_in_as_many(page):
    typed(page, "def f(x):\n    return x\n")
    top = "Array.from(document.querySelectorAll('.reading .piece'), (e) => e.getBoundingClientRect().top)"
    n_lines = sum("\n" in text for text in page.text(".piece"))
    assert n_lines > 0 and len({round(at) for at in page.evaluate(top)}) > n_lines


def test_the_strengths_of_a_feature_go_where_they_have_room(page, server):
    page.size(390, 844)
    page.open(f"{server.address}/#feature/3")
    columns = "Array.from(document.querySelectorAll('#feature .split > *'), (e) => e.className)"
    narrow = page.evaluate(columns)
    page.size(1440, 900)
    page.wait(f"{columns}.join() !== {json.dumps(','.join(narrow))}")
    wide = page.evaluate(columns)
    page.open(f"{server.address}/#feature/3")
    assert page.evaluate(columns) == wide


def test_what_is_shown_of_a_former_text_is_pale_until_the_model_has_read_and_continued_the_new_one(page):
    typed(page, TEXT)
    page.click(".rows .hold")
    page.wait("document.querySelectorAll('.written').length === 2")
    page.evaluate("window.before = document.querySelector('.written')")
    field = "document.getElementById('typed')"
    put = f"{field}.value = %s; {field}.dispatchEvent(new Event('input'))"
    pale = "Boolean(document.querySelector('.readout.stale'))"
    assert page.evaluate(f"{pale}") is False
    assert page.evaluate(f"{put % json.dumps('another text')}; {pale}") is True, "at once"
    page.wait("!before.isConnected && document.querySelector('.readout.stale, .texts.waiting') === null")
    assert all("another text" in text for text in page.text(".written .text"))
    assert page.evaluate(f"{put % json.dumps('')}; document.querySelector('.readout').hidden"), (
        "of none nothing is shown"
    )
    typed(page, TEXT)
    page.wait(f"!{pale}")
    assert page.evaluate("document.querySelector('.readout').hidden") is False and not page.complaints


def answer_instead(browser, name: str, answer: str) -> None:
    """Let the page's questions of a name have another answer: a promise of a Response, in JavaScript."""
    browser.evaluate(f"""(() => {{
        const own = fetch;
        window.fetch = (to, what) => (to === "/api/{name}" ? {answer} : own(to, what));
    }})()""")


REFUSED = """Promise.resolve(new Response('{"error": "not this one"}', { status: 400 }))"""


def test_a_feature_that_the_server_refuses_is_let_go_and_the_page_says_why(page):
    typed(page, TEXT)
    answer_instead(page, "multiple", REFUSED)
    page.click(".rows .hold")
    page.wait("document.querySelector('.heldlist [role=alert]') !== null")
    assert page.text(".heldlist [role=alert]") == ["not this one."] and not page.text(".heldlist a")
    assert page.evaluate("location.hash") == "#try" and page.text(".hold[aria-pressed=true]") == []


def test_a_multiple_that_is_set_before_the_server_proposes_one_stays(page):
    typed(page, TEXT)
    answer_instead(page, "multiple", "new Promise((then) => { window.propose = then; })")
    page.click(".rows .hold")
    field = "document.querySelector('.heldlist input')"
    page.evaluate(f"{field}.value = 1; {field}.dispatchEvent(new Event('input')); propose(new Response('4')); null")
    page.wait("document.querySelectorAll('.written').length === 2")
    assert page.evaluate(f"{field}.valueAsNumber") == 1 and not page.complaints


def test_the_texts_of_a_feature_wait_no_longer_once_the_server_has_refused(window, server):
    window.open(f"{server.address}/#feature/5")
    answer_instead(window, "multiple", REFUSED)
    window.click(".tab:last-child")
    window.wait("document.querySelector('.steering .texts [role=alert]') !== null")
    assert window.evaluate("document.querySelector('.texts.waiting')") is None


def test_held_features_stay_in_the_list_and_in_the_address_while_the_text_changes(window, server, run):
    never = int(run.features.table().sort_values("n_active").latent.iloc[0])
    window.open(f"{server.address}/#try/{never}")
    typed(window, TEXT)
    rows = "Array.from(document.querySelectorAll('.rows [data-latent]'), (e) => Number(e.dataset.latent))"
    assert window.evaluate(rows)[0] == never and window.text(".rows .striphead button") == window.text(".piece")
    second = window.evaluate(rows)[1]
    window.click(f".rows tr[data-latent='{second}'] .hold")
    assert window.evaluate("location.hash") == f"#try/{never},{second}"
    typed(window, "and <b>another</b>")
    assert window.evaluate(rows)[:2] == [never, second] and "another" not in window.text("#try b")
    window.click(f".rows tr[data-latent='{never}'] .hold")
    assert window.evaluate("location.hash") == f"#try/{second}" and window.evaluate(rows)[0] == second
    assert not window.complaints


def test_features_that_matter_at_the_chosen_token_come_first_by_what_the_prediction_loses(page, server):
    typed(page, TEXT)
    page.evaluate("document.querySelector('.features .more')?.click()")
    *_, here, elsewhere = page.evaluate("""Array.from(document.querySelectorAll('.rows tbody'), (e) =>
        Array.from(e.querySelectorAll('[data-latent]'), (row) => Number(row.dataset.latent)))""")
    at = server.live.at(TEXT, len(page.text(".piece")) - 1)["features"]
    assert here == [one["latent"] for one in sorted(at, key=lambda one: -one["kl"])] and len(here) > 3
    sums = {
        latent: sum(z for _, z in places) * strength / max(z for _, z in places)
        for latent, strength, places in server.live.read(TEXT)["features"]
    }
    assert elsewhere == sorted(set(sums) - set(here), key=lambda latent: -sums[latent]) and len(elsewhere) > 3


def test_a_point_of_a_strip_shows_its_token_and_chooses_it(page):
    typed(page, TEXT)
    strip = "document.querySelector('.textstrip').getBoundingClientRect()"
    x, y, width = page.evaluate(f"(({{ x, y, width }}) => [x, y, width])({strip})")
    n = len(page.text(".piece"))
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + width * 2.5 / n, y=y + 5)
    page.wait("document.querySelector('.piece.pointed') !== null")
    assert page.text(".piece.pointed") == page.text(".piece")[2:3]
    place, tip = page.evaluate(
        "(({ position, tip }) => [position, tip])(document.querySelector('.textstrip .on').dataset)"
    )
    passage = "".join(page.text(".piece")[max(int(place) - 4, 0) : int(place) + 1])
    assert tip.startswith(f"{passage}: 0.") or tip.startswith(f"{passage}: 1.")
    page.click_at(x + width * 2.5 / n, y + 5)
    page.wait(
        f"document.querySelector('.piece[aria-pressed=true]').textContent === {json.dumps(page.text('.piece')[2])}"
    )
    assert not page.complaints


def test_more_features_than_can_be_held_are_not_held_and_the_page_says_so(window, server):
    window.open(f"{server.address}/#try/{','.join(map(str, range(20)))}")
    typed(window, TEXT)
    *held, told = window.text(".heldlist li")
    assert len(held) == 16 and told == "No more than 16 can be held at a time."
    holds = "Array.from(document.querySelectorAll('.rows .hold'), (e) => [e.getAttribute('aria-pressed'), e.disabled])"
    assert {tuple(hold) for hold in window.evaluate(holds)} == {("true", False), ("false", True)}
    window.click(".heldlist button")
    assert len(window.text(".heldlist li")) == 15 and ["false", True] not in window.evaluate(holds)
    assert window.faint() == [] and not window.complaints


def test_a_text_is_shown_in_its_direction_whatever_token_begins_it(page):
    directions = "Array.from(document.querySelectorAll('.piece'), (piece) => piece.getBoundingClientRect().x)"
    for text, is_leftward in (("אבגד הוזח", True), (TEXT, False)):
        typed(page, text)
        places = page.evaluate(directions)
        assert places == sorted(places, reverse=is_leftward) and len(places) > 2


def test_features_of_a_single_token_that_fire_elsewhere_are_shown_by_a_switch_alone(page, server):
    typed(page, TEXT)
    page.evaluate("document.querySelector('.features .more')?.click()")
    rows = """Array.from(document.querySelectorAll('.rows tbody'), (e) =>
        Array.from(e.querySelectorAll('[data-latent]'), (row) => Number(row.dataset.latent)))"""
    here, elsewhere = page.evaluate(rows)
    page.evaluate(f"""((names, single) => single.forEach((latent) => {{
        report.columns.verdict[latent] = names.push("single-token") - 1;
    }}))(report.page.names.verdict, [{here[0]}, {elsewhere[0]}])""")
    page.click(".piece[aria-pressed=true]")
    page.wait("document.querySelector('#try input[type=checkbox]') !== null")
    assert page.evaluate(rows) == [here, elsewhere[1:]], "what may matter at the chosen token is there in any case"
    assert page.text("#try label:has([type=checkbox])") == [" 1 more elsewhere, of a single token"]
    page.click("#try input[type=checkbox]")
    assert page.evaluate(rows) == [here, elsewhere]


def test_tokens_and_cells_are_shaded_by_what_they_do_to_a_token_that_is_chosen(page, server):
    typed(page, TEXT)
    page.click(".next tr:nth-child(2) .aim")
    page.wait("!document.querySelector('.readout.stale') && document.querySelector('.aim[aria-pressed=true]') !== null")
    token = page.evaluate("report.vocabulary.indexOf(document.querySelector('.aim[aria-pressed=true]').textContent)")
    found = server.live.effects(TEXT, len(page.text(".piece")) - 1, token)
    effects = {latent: dict(map(tuple, places)) for latent, _, places in found["features"]}
    cells = page.evaluate("""Array.from(document.querySelectorAll('.textstrip :is(.raised, .lowered)'), (e) =>
        [Number(e.closest('tr').dataset.latent), Number(e.dataset.position), e.classList.contains('raised')])""")
    assert len(cells) > 3 and all((effects[latent][position] > 0) == raised for latent, position, raised in cells)
    assert page.evaluate("document.querySelectorAll('.piece:is(.raised, .lowered)').length") > 0
    assert page.faint() == [] and "the sum over all features" in page.text(".reading .key")[0]
    page.click("#try .widths button")
    page.wait("document.querySelectorAll('.piece.raised, .piece.lowered').length === 0")
    assert not page.complaints


def test_of_a_text_that_is_too_long_the_end_is_read_and_the_page_says_so(page, server):
    typed(page, TEXT)
    assert page.text(".notice") == [""]
    typed(page, long := "word " * 100 + TEXT)
    page.wait("document.querySelector('.notice').textContent")
    (opening, *short), (first, *kept) = server.live.tokens(TEXT)[0].tolist(), server.live.tokens(long)[0].tolist()
    assert len(kept) == 63 and first == opening and kept[1 - len(short) :] == short[1:]
    n = server.live.read(long)["left_out"]
    assert n > 0 and page.text(".notice") == [f"The model reads 64 tokens: the first {n} are left out."]
    assert page.evaluate(
        "document.querySelector('.piece[aria-pressed=true]') === [...document.querySelectorAll('.piece')].at(-1)"
    )
    assert page.text(".next tr") and page.text(".rows [data-latent]") and page.faint() == []
    page.click(".rows .hold")
    page.wait("document.querySelectorAll('.written').length === 2")
    page.evaluate("((field) => { field.value = ''; field.dispatchEvent(new Event('input')); })(typed)")
    assert page.text(".notice") == ["Type a text, to see which features fire in it."]
    assert page.evaluate("document.querySelector('.readout').hidden")
    assert not page.complaints


def test_a_chosen_next_token_is_kept_while_the_text_leaves_it_a_probability(page, server):
    def p(text: str, token: int) -> float:
        return server.live.effects(text, server.live.tokens(text).shape[1] - 1, token)["p"][-1]

    longer = [TEXT + end for end in (" a", " of", ",", ".", "\n", " return")]
    listed = [token for token, _ in server.live.at(TEXT, server.live.tokens(TEXT).shape[1] - 1)["next"]]
    row, unlikely, likely = next(
        (row, low, high)
        for row, token in enumerate(listed)
        for low in longer
        for high in longer
        if p(low, token) < 0.01 < p(high, token)
    )
    typed(page, TEXT)
    page.click(f".next tr:nth-child({row + 1}) .aim")
    page.wait("document.querySelector('.aim[aria-pressed=true]') !== null")
    shows_effects = "document.querySelector('#try .widths button:last-child').getAttribute('aria-pressed')"
    for text, is_kept in ((likely, "true"), (unlikely, "false")):
        typed(page, text)
        page.wait("!document.querySelector('.readout.stale')")
        assert page.evaluate(shows_effects) == is_kept
    assert page.evaluate("document.querySelector('.another input').value") == "" and not page.complaints


def test_notes_are_kept_in_the_run_and_those_of_another_tab_stay(window, server, run):
    window.open(f"{server.address}/#feature/5")
    edit_notes(server.notes, server.key, {"5": {"note": ("", "another tab's")}, "6": {"star": (False, True)}})
    window.click("#feature .write")
    window.click("#feature header textarea")
    for letter in "mine":
        window.press(letter)
    window.wait("document.querySelector('#feature header textarea').value === \"mine\\nanother tab's\"")
    window.press("x")
    window.wait("document.querySelector('#feature header textarea').value === \"minex\\nanother tab's\"")
    window.click("#feature .star")
    kept = "fetch('/api/notes').then((a) => a.json()).then((n) => n[5].star && n[5].note.startsWith('minex'))"
    window.wait(kept)
    assert run.notes.to_dict("records") == [
        {"latent": 5, "star": True, "label": "", "note": "minex\nanother tab's"},
        {"latent": 6, "star": True, "label": "", "note": ""},
    ]
    window.open(f"{server.address}/#notes")
    window.wait("document.querySelectorAll('.mine li').length === 2")
    assert not window.complaints and window.evaluate("document.getElementById('trouble').hidden")


def test_notes_that_were_not_taken_are_sent_again_and_only_then_said_to_be_saved(window, server, run):
    window.open(f"{server.address}/#feature/7")
    window.evaluate("window.own = fetch; window.fetch = () => Promise.reject(); null")
    window.evaluate("window.later = setTimeout; window.setTimeout = (then, ms) => later(then, ms / 20); null")
    field = "document.querySelector('#feature header input')"
    window.evaluate(f"{field}.value = 'sent later'; {field}.dispatchEvent(new Event('input'))")
    window.wait("!document.getElementById('trouble').hidden")
    assert "not saved yet" in window.text("#trouble")[0] and window.text("#feature .notes output") == [""]
    assert not server.notes.exists() or "sent later" not in server.notes.read_text()
    window.evaluate("window.fetch = own; null")
    window.wait("document.querySelector('#feature .notes output').textContent === 'saved'")
    assert "sent later" in run.notes["label"].tolist() and window.evaluate("document.getElementById('trouble').hidden")
    edit_notes(server.notes, server.key, {"7": {"label": ("sent later", "")}})


def test_notes_that_the_server_refuses_are_sent_again_with_the_next_change_alone(window, server, run):
    window.open(f"{server.address}/#feature/8")
    window.evaluate("window.own = fetch; window.sent = 0; null")
    window.evaluate("window.later = setTimeout; window.setTimeout = (then, ms) => later(then, ms / 20); null")
    window.evaluate("window.fetch = (to, what) => { sent += to === '/api/notes'; return own(to, what); }; null")
    field = "document.querySelector('#feature header input')"
    write = f"{field}.value = {{}}; {field}.dispatchEvent(new Event('input'))"
    window.evaluate(write.format("'x'.repeat(20001)"))
    window.wait("!document.getElementById('trouble').hidden")
    assert "has 20,001 characters: at most 20,000" in window.text("#trouble")[0]
    window.evaluate("new Promise((then) => later(then, 400))")
    assert window.evaluate("sent") == 1
    window.evaluate(write.format("'short'"))
    window.wait("document.querySelector('#feature .notes output').textContent === 'saved'")
    assert "short" in run.notes["label"].tolist() and window.evaluate("document.getElementById('trouble').hidden")
    edit_notes(server.notes, server.key, {"8": {"label": ("short", "")}})


def test_a_note_that_is_on_its_way_when_the_page_is_closed_is_kept(window, server, run):
    window.open(f"{server.address}/#feature/9")
    window.evaluate("window.own = fetch; window.sent = []; null")
    window.evaluate("window.fetch = (to, what) => (sent.push(what), own(to, what)); null")
    field = "document.querySelector('#feature header input')"
    write = f"{field}.value = {{}}; {field}.dispatchEvent(new Event('input'))"
    window.evaluate(write.format("'on its way'"))
    window.wait("sent.length")
    assert window.evaluate("sent[0].keepalive"), "the browser may cancel any other request of a closed page"
    window.wait("document.querySelector('#feature .notes output').textContent === 'saved'")
    window.evaluate(write.format("'x'.repeat(16000)"))
    window.wait("sent.length === 2")
    window.wait("document.querySelector('#feature .notes output').textContent === 'saved'")
    assert run.notes["label"].str.len().max() == 16000, "what is too long to outlive the page is sent too"
    edit_notes(server.notes, server.key, {"9": {"label": ("x" * 16000, "")}})


def test_the_map_is_drawn_beside_what_is_live(window, server):
    window.open(f"{server.address}/#map")
    assert window.text("#map .listed li") and not window.complaints
