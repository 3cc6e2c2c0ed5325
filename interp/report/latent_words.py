"""Gather what can be said in words of the latents of a scan, for their names (`names`) and for the page (`page_data`).

In: the inputs of a report. Out: rules in short, senses, labels, tokens and kinds of text, and of each latent the facts
of which its name is made. Each is made when it is first read, and the page and the names share it.
"""

from functools import cached_property
from typing import Any

import numpy as np

from interp.report.characters import characters_of_parts
from interp.report.columns import Commonest, commonest_of
from interp.report.contexts import Contexts
from interp.report.inputs import ReportInputs
from interp.report.label_names import label_names
from interp.report.latent_facts import Surroundings, in_brief, latent_facts, surroundings, told_kinds
from interp.report.naming import LatentFacts
from interp.report.rule_reader import RuleReader
from interp.report.verdict_evidence import firings_by_strength, sense_rows, senses_in, senses_of
from interp.text.rules import read_rule
from interp.text.short_rules import Clause


class LatentWords:
    def __init__(self, inputs: ReportInputs):
        self.inputs = inputs
        self.features = inputs.features

    @cached_property
    def label_names(self) -> dict[str, str]:
        return label_names(self.features.meta["labels"], self.inputs.labels)

    @cached_property
    def kinds(self) -> dict[int, Surroundings]:
        return surroundings(self.features, self.label_names)

    @cached_property
    def commonest(self) -> Commonest:
        return commonest_of(self.features, self.inputs.table)

    @cached_property
    def characters(self) -> dict[str, Any]:
        features = self.features
        return characters_of_parts(features.vocab, features.tokens.numpy()) if features.has_vocab else {}

    @cached_property
    def read(self) -> RuleReader:
        return RuleReader(self.features, self.commonest.tokens, self.characters, self.label_names)

    @cached_property
    def measured(self) -> list[list[Clause]]:
        """The rule of each latent, as its F1 was measured."""
        verdicts = self.inputs.verdicts
        written = zip(verdicts["explanation"], verdicts["explanation_json"], strict=True)
        return [self.read(latent, read_rule(words, rule)) for latent, (words, rule) in enumerate(written)]

    @cached_property
    def rules(self) -> list[list[Clause]]:
        """The rule of each latent, as it is shown."""
        kinds = told_kinds(self.kinds)
        return [in_brief(clauses, kinds.get(latent)) for latent, clauses in enumerate(self.measured)]

    @cached_property
    def facts(self) -> list[LatentFacts]:
        return latent_facts(
            self.features,
            self.inputs.table,
            self.inputs.verdicts,
            kinds=told_kinds(self.kinds),
            commonest=self.commonest,
            senses=self.senses,
            strongest=self.strongest if self.features.has_text else {},
            read=self.read,
            measured=self.measured,
            shown=self.rules,
            masks=self.inputs.labels,
            label_names=self.label_names,
        )

    @cached_property
    def contexts(self) -> Contexts:
        """The contexts of all firings that are shown: of the stored examples, and of the senses."""
        rows = [*self.rows_of_examples, *(row for *_, row in self._sense_rows)]
        labels = {self.label_names[label]: mask for label, mask in self.inputs.labels.items()}
        return Contexts(self.features, labels, np.array(rows, np.int64))

    @cached_property
    def rows_of_examples(self) -> list[int]:
        return self.features.sql("select distinct row from examples")["row"].tolist()

    @cached_property
    def strongest(self) -> dict[int, dict[int, float]]:
        return firings_by_strength(self.features)

    @cached_property
    def senses(self) -> dict[int, list[dict[str, Any]]]:
        """The senses of each latent that has several."""
        senses = senses_in(self.inputs.verdicts)
        return senses_of(senses, self._sense_rows, self.contexts, self.strongest if senses else {})

    @cached_property
    def _sense_rows(self) -> list[tuple[int, int, int]]:
        return sense_rows(senses_in(self.inputs.verdicts), self.features.tokens.numel())
