"""Problems have the answers that a stack gives, arms differ by the code alone, and the analysis runs whole."""

import ast
from itertools import islice
from random import Random

import numpy as np
import pytest
import torch

from analyses.essay import code_stage
from analyses.essay.code_stage_texts import Texts
from analyses.essay.texts import brackets
from models.transformer import Transformer, TransformerConfig
from tests.analyses.essay.prose import hold_to_prose

OPENING = {closing: opening for opening, closing in brackets.CLOSING.items()}


def still_open(text):
    stack = []
    for character in text:
        if character in brackets.CLOSING:
            stack.append(character)
        elif character in OPENING:
            assert stack.pop() == OPENING[character]
    return stack


@pytest.mark.parametrize("task", brackets.TASKS)
def test_answers_are_those_of_a_stack(task):
    rng = Random(0)
    for size in (1, 2, 5, 8):
        for _ in range(100):
            question, answer = brackets.problem(task, size, rng)
            shown = question.removesuffix("=")
            assert len(answer) == size
            if task == "copy":
                assert answer == shown
            elif task == "close":
                assert still_open(shown + answer) == [] and len(still_open(shown)) == size
            else:
                stack = []
                for step in shown:
                    _ = stack.pop() if step == "-" else stack.append(step)
                assert "".join(reversed(stack)) == answer


def test_code_closes_its_brackets_and_uses_its_names_again():
    for document in islice(brackets.code_documents(Random(1)), 50):
        assert still_open(document.text) == []
        for function in document.text.split("def ")[1:]:
            head, *body = function.replace("return", "").split("\n")
            names = [word for word in "".join(c if c.isalpha() else " " for c in head).split()]
            used = "".join(c if c.isalpha() else " " for c in " ".join(body)).split()
            assert set(used) & set(names[1:])
            ast.parse(f"def {function}")


@pytest.fixture(scope="module")
def texts():
    return Texts(code_stage.QUICK, 0)


def test_arms_share_every_row_that_is_not_code(texts):
    for plain, mixed, n in (
        (texts.pretraining(False), texts.pretraining(True), texts.n_code),
        (texts.tuning(False), texts.tuning(True), texts.n_filler),
    ):
        assert plain.shape == mixed.shape and 0 < n < len(plain)
        assert torch.equal(plain[n:], mixed[n:]) and not (plain[:n] == mixed[:n]).all(1).any()
    decoded = texts.tokenizer.decode(texts.pretraining(True)[0].tolist())
    assert any(mark in decoded for mark in ("def ", "return "))


def test_right_answers_are_those_of_every_character(texts):
    """A model that is told the next token is right everywhere; with one answer's character spoilt, wrong there."""

    class Told(Transformer):
        spoilt = -1

        def forward(self, tokens, **_):
            logits = torch.nn.functional.one_hot(tokens.roll(-1, 1).long(), texts.tokenizer.vocab_size).float()
            rows = (tokens[:, None] == texts.asked[None, self.spoilt]).all(-1).any(1) if self.spoilt >= 0 else []
            logits[rows, -2] = 0
            return logits

    told = Told(TransformerConfig(n_layers=1, d_model=4, n_heads=1, d_mlp=4, d_vocab=texts.tokenizer.vocab_size))
    assert (texts.right(told) == 1).all()
    told.spoilt = 0
    right = texts.right(told)
    assert right[0, 0] == 1 - 1 / texts.shape[2] and right.sum() == right.size - 1 / texts.shape[2]


def test_effects_are_differences_of_means():
    y = np.array([0.1, 0.2, 0.5, 0.9])  # neither, tuning, pre-training, both
    effects = code_stage.effects_of(y)
    assert effects["pre-training"] == pytest.approx(0.7 - 0.15) and effects["tuning"] == pytest.approx(0.55 - 0.3)
    assert effects["interaction"] == pytest.approx(0.4 - 0.1)
    table = code_stage.effect_table(np.stack([np.stack([y] * 4, -1), np.stack([y] * 4, -1) + 0.05]))
    assert list(table["task"].unique()) == list(code_stage.TITLES.values())
    assert np.allclose(table["mean"], [0.55, 0.25, 0.3] * 4) and np.allclose(table["high"], table["low"])


def test_quick_run_writes_its_claim_and_figures(tmp_path):
    results = code_stage.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert [claim["row"] for claim in results["claims"]] == ["27"] and results["claims"][0]["holds"] is None
    hold_to_prose("code_stage", tmp_path)
