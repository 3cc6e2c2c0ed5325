"""Make the data of a page, file by file.

In: the inputs of a report. Out: the contents of each file, as JSON: what the first view needs, the table of all
features, the text, the figures, the map, and the details of the features, in chunks. Each is made when it is first
read, from parts that several of them share.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from string import ascii_uppercase
from typing import Any

import pandas as pd

from interp.display.segments import to_json_text
from interp.display.verdict_looks import verdicts_of_page
from interp.display.verdict_names import BY_PROBABILITY, WITHOUT_SCORES
from interp.report.byte_words import readings
from interp.report.columns import (
    Column,
    EncodedNames,
    encode_names,
    lists_of,
    table_columns,
    values_of,
)
from interp.report.contexts import PICTURES_A_FILE, picture_files, positions, sequences_a_file, text_files
from interp.report.inputs import ReportInputs
from interp.report.json_text import number
from interp.report.latent_facts import detected_labels
from interp.report.latent_map import map_payload, what_decides
from interp.report.latent_pairs import common_properties, pairs_shown
from interp.report.latent_words import LatentWords
from interp.report.meaning_learnt_effect import effect_accounts, question_shares
from interp.report.names import name_latents, segments_in
from interp.report.notes import features_key
from interp.report.null_shares import closest_null
from interp.report.page_order import OverviewExample, overview_examples, page_order, shares_in_words, with_next
from interp.report.payloads import LATENTS_PER_CHUNK, payloads, row_evidence, sense_counts, sense_tokens
from interp.report.rule_reader import senses_in_segments
from interp.report.summary import describe_page, summary
from interp.report.verdict_evidence import (
    VerdictEvidence,
    explanations,
    most_shared,
    senses_in,
    verdict_evidence,
)
from interp.statistics.cutoffs import MIN_F1
from interp.statistics.estimates import largest_by_chance
from interp.text.short_rules import segments_of
from interp.verdict.similarity import MAX_SENSES


class PageData:
    def __init__(self, inputs: ReportInputs, seed: int = 0):
        """seed: of the map's layout."""
        self.inputs = inputs
        self.features = inputs.features
        self.words = LatentWords(inputs)
        self.seed = seed

    @property
    def n_chunks(self) -> int:
        """The number of files with details of features."""
        return math.ceil(self.features.d_sae / LATENTS_PER_CHUNK)

    def first(self) -> dict[str, Any]:
        """Return what the first view needs, and what the others need besides the table: names, sizes, how verdicts
        look, and shares."""
        features, inputs = self.features, self.inputs
        return {
            "title": inputs.title,
            "about": describe_page(inputs),
            "key": features_key(features),
            "latents": features.d_sae,
            "tokens": features.meta["n_tokens"],
            "n_ctx": features.n_ctx,
            "chunk": LATENTS_PER_CHUNK,
            "sequences_a_file": sequences_a_file(features),
            "has_text": features.has_text,
            "pictures_a_file": PICTURES_A_FILE if features.render is not None and not features.has_text else 0,
            "ranked": inputs.ranking is not None,
            "verdicts": verdicts_of_page(),
            "names": {name: encoded.names for name, encoded in self.encoded.items()},
            "table": [column.described() for column in self.columns if column.is_described],
            "verdict_counts": self.verdict_counts(),
            "kind_counts": _counted(self.encoded["kind"]),
            "min_f1": MIN_F1,
            "sense_letters": ascii_uppercase[:MAX_SENSES],
            "shares": question_shares(inputs) if features.has_text else [],
            "null": closest_null(inputs),
            "logits": features.meta["logit_effects"],
            "largest_by_chance": largest_by_chance(len(features.vocab) if features.has_text else 2),
            "label_sets": self.words.contexts.label_sets,
            "evidence": [measure._asdict() for measure in self.evidence.measures],
            "worth_showing": self.shown,
        }

    def table(self) -> dict[str, Any]:
        """Return the table of all features: its `columns`, lists over the latents, and the `order` in which it shows
        them at first. Verdicts, labels and kinds of text are indices into the page's lists of their names."""
        commonest, names = self.words.commonest, self.names
        lists = {
            **{name: encoded.codes for name, encoded in self.encoded.items()},
            "sure": values_of(self.inputs.verdicts, "sure"),
            "tokens": commonest.tokens,
            "token_shares": commonest.shares,
            "stored": commonest.stored,
            "rule": segments_in(names, "rule_json"),
            "head": values_of(names, "head"),
            "brief": segments_in(names, "title_json"),
            "text": values_of(names, "title"),
            "short": segments_in(names, "short_json"),
        }
        return {"columns": lists | lists_of(self.columns, lists), "order": self.order}

    def vocab(self) -> dict[str, Any]:
        return {"tokens": self.features.vocab, "readings": readings(self.features.vocab, self.words.characters)}

    def rows(self) -> dict[str, Any]:
        return row_evidence(self.features, self.words.senses)

    def text(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the contents of each file of the scanned text, or of the pictures of its rows."""
        yield from text_files(self.features)
        yield from picture_files(self.features, self.words.rows_of_examples)

    def summary(self) -> dict[str, Any]:
        return summary(self.inputs)

    def map(self) -> dict[str, Any]:
        names, codes = self.encoded["kind"]
        kinds = [None if code is None else names[code] for code in codes]
        f1, named_by = values_of(self.inputs.verdicts, "explanation_f1"), values_of(self.names, "named_by")
        decides = list(map(what_decides, self.words.measured, map(number, f1), named_by))
        return map_payload(self.inputs, kinds, self.words.rules, decides, self.seed)

    def chunks(self) -> Iterator[tuple[str, dict]]:
        """Yield the name and the contents of each file with details of features."""
        verdicts = self.inputs.verdicts
        extras: dict[str, Mapping[int, Any]] = {
            "pairs": self._pairs(),
            "senses": self.senses,
            "sense_counts": sense_counts(self.features, self.senses),
            "sense_tokens": sense_tokens(self.features, self.senses),
            "effects": effect_accounts(self.inputs),
            "positions": positions(self.features),
            "explanation": explanations(verdicts),
            "script": {latent: self.words.read.bytes_of(latent).script for latent in range(self.features.d_sae)},
            "shared": {
                j: to_json_text(segments_of(self.words.read(j, atom))) for j, atom in most_shared(verdicts).items()
            },
            "measured": {j: cell for j, cell in enumerate(values_of(self.names, "measured_json")) if cell is not None},
            "evidence": self.evidence.rows,
        }
        return payloads(self.features, self.inputs.table, self.words.contexts, extras, self.words.label_names)

    def verdict_counts(self) -> list[tuple[str, int, int]]:
        """Return each verdict with the number of latents that have it, the commonest first, and of those that are
        unsure of it."""
        verdicts = self.inputs.verdicts
        unsure = Counter(verdicts["verdict"][verdicts["verdict"].isin(BY_PROBABILITY) & verdicts["sure"].eq(False)])
        return [(name, n, unsure[name]) for name, n in _counted(self.encoded["verdict"])]

    @cached_property
    def columns(self) -> list[Column]:
        inputs = self.inputs
        return table_columns(inputs.table, inputs.verdicts, inputs.effects, f1=self.f1, has_text=self.features.has_text)

    @cached_property
    def encoded(self) -> dict[str, EncodedNames]:
        """The verdict, the label and the kind of text of each latent."""
        table = self.inputs.table
        kinds = pd.Series({j: kind.label for j, kind in self.words.kinds.items()}, dtype=object).reindex(table.index)
        columns = {
            "verdict": self.inputs.verdicts["verdict"],
            "label": detected_labels(table).map(self.words.label_names),
            "kind": kinds.map(self.words.label_names),
        }
        return {name: encode_names(column) for name, column in columns.items()}

    @cached_property
    def names(self) -> pd.DataFrame:
        """The names of the latents: those that the run has, or else made now."""
        return name_latents(self.words) if self.inputs.names is None else self.inputs.names

    @cached_property
    def f1(self) -> list[float | None]:
        """The F1 of each name."""
        return list(map(number, values_of(self.names, "f1")))

    @cached_property
    def senses(self) -> dict[int, list[dict[str, Any]]]:
        """The senses of each latent that has several, in segments."""
        return senses_in_segments(self.words.senses, self.words.read)

    @cached_property
    def evidence(self) -> VerdictEvidence:
        verdicts = self.inputs.verdicts
        tested = verdicts.index[~verdicts["verdict"].isin(WITHOUT_SCORES)]
        ranking = self.inputs.ranking
        calibration = None if ranking is None else ranking.attrs.get("calibration")
        return verdict_evidence(self.inputs.evidence, tested, calibration)

    @cached_property
    def examples(self) -> list[list[OverviewExample]]:
        """The choices of the overview that are examples of something."""
        inputs = self.inputs
        in_words = shares_in_words(self.features) if self.features.has_text else None
        return overview_examples(inputs.table, inputs.verdicts, senses_in(inputs.verdicts), inputs.effects, in_words)

    @cached_property
    def order(self) -> list[int]:
        return page_order(self.inputs.table, self.inputs.verdicts, self.f1, self.examples)

    @cached_property
    def shown(self) -> list[list[OverviewExample]]:
        """The choices of the overview, all of one length."""
        if self.features.has_text:
            alike: list[Any] = [tokens[0].strip().lower() if tokens else "" for tokens in self.words.commonest.tokens]
        else:
            labels = detected_labels(self.inputs.table)
            alike = labels.where(labels.notna(), labels.index.to_series()).tolist()
        return with_next(self.examples, self.order, self.inputs.verdicts, alike)

    def _pairs(self) -> dict[int, list[list]]:
        """Return for each latent those with which the page compares it, and what they have in common."""
        pairs = pairs_shown(self.features)
        pairs_of: dict[int, list[list]] = {}
        for (latent, other), shared in zip(pairs.tolist(), common_properties(self.features, pairs), strict=True):
            pairs_of.setdefault(latent, []).append([other, *shared])
        return pairs_of


def _counted(encoded: EncodedNames) -> list[tuple[str, int]]:
    """Return each name with the number of latents that have it, the commonest first."""
    n = Counter(encoded.codes)
    return sorted(((name, n[code]) for code, name in enumerate(encoded.names)), key=lambda one: -one[1])
