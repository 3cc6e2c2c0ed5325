/* The data files of a report's page: what `interp.report` writes and the page's scripts read. A test compares them with
 * pages that were written (tests/report/test_report.py). A latent is its number; a token is its place in the
 * vocabulary; a row is a token scanned, sequence * n_ctx + position. Shares are in [0, 1]. */

interface DataFiles {
  page: PageFacts;
  table: { columns: TableColumns & Record<string, any[]>; order: number[] }; // and columns that no script names
  vocab: Vocabulary;
  rows: RowData;
  map: DecoderMap;
  summary: Summary;
  [text: `text-${string}`]: string;
  [pictures: `pictures-${string}`]: Record<string, string>;
  [features: `features-${string}`]: Record<keyof StoredFeature, PackedColumns>;
}

/* Values in columns (json_text.py). */
type PackedColumns = any[] | {
  keys?: string[];
  columns?: PackedColumns[];
  lengths?: number[];
  all?: PackedColumns;
  missing?: number[];
};

/* What the first view needs, and the others besides the table (page_data.py). */
interface PageFacts {
  title: string;
  about: [text: string, kind: "words" | "term" | "code"][];
  key: string;
  latents: number;
  tokens: number;
  n_ctx: number;
  chunk: number;
  sequences_a_file: number;
  pictures_a_file: number;
  has_text: boolean;
  ranked: boolean;
  verdicts: Record<string, VerdictLook>;
  min_f1: number;
  sense_letters: string;
  shares: QuestionShare[];
  null: {
    matched: ComparedShares; null: ComparedShares; difference: Share;
  } | null;
  logits: string;
  largest_by_chance: number; // logit effect in standard deviations
  label_sets: string[][];
  evidence: Measure[];
  worth_showing: OverviewExample[][];
  table: Column[];
  names: { verdict: string[]; label: string[]; kind: string[] };
  verdict_counts: [verdict: string, n: number, unsure: number][];
  kind_counts: [kind: string, n: number][];
}

/* A verdict, and the groups to which it belongs (verdict_looks.py). */
interface VerdictLook {
  word: string;
  short: string;
  meaning: string;
  colour: string;
  on_dark: string;
  idle: boolean;
  by_probability: boolean;
  one_meaning: boolean;
}

type OverviewExample = [latent: number, why: string, choice: string];
type Share = [share: number, low: number, high: number];

/* The answer to one of the three questions (meaning_learnt_effect.py). */
interface QuestionShare {
  name: "one meaning" | "learnt" | "effect";
  n: number;
  of: number;
  interval: [low: number, high: number];
  note: string;
  chance?: number;
}

/* One measure of the verdict (verdict_evidence.py). */
interface Measure {
  name: string;
  title: string;
  meaning: string;
  null: string;
  domain: [least: number, most: number] | null;
  decides: boolean;
  weight: number | null;
  boundary: number | null;
}

/* The shares of a dictionary's features with each verdict (null_shares.py). */
interface DictionaryShares {
  dictionary: string;
  kind: "own" | "matched" | "reference" | "null";
  title: string;
  means: string;
  trained: number | null;
  judged: number | null;
  of: number;
  one: Share | null;
  shares: (Share | null)[];
  unsure: Share | null;
  faint: number;
  dead: number;
}

/* Those of two dictionaries that are compared. */
interface ComparedShares extends DictionaryShares {
  one: Share;
}

/* A column of the table, or a number that is only sorted, filtered or compared by (columns.py). */
interface Column {
  name: string;
  title: string;
  unit: string;
  hint: string;
  sorts: string;
  ascends: boolean;
  means: string;
  style: "" | "text" | "count" | "fixed" | "share" | "digits";
  scale: "" | "share" | "signed" | "log";
  is_compared: boolean;
  widths: { wide: string; narrow: string | null } | null;
}

/* The table: a value of each latent; of a verdict, a label or a kind of text its index among the names (columns.py,
 * captions.py). */
interface TableColumns {
  verdict: number[];
  monosemanticity: (number | null)[];
  sure: (boolean | null)[];
  monosemanticity_low: (number | null)[];
  monosemanticity_high: (number | null)[];
  learnt: (number | null)[];
  senses: (number | null)[];
  effect: (number | null)[];
  effect_low: (number | null)[];
  effect_high: (number | null)[];
  f1: (number | null)[];
  explanation_f1: (number | null)[];
  density: (number | null)[];
  max: (number | null)[];
  fvu_rise: (number | null)[];
  tokens: string[][];
  token_shares: number[][];
  stored: number[];
  kind: (number | null)[];
  label: (number | null)[];
  label_f1: (number | null)[];
  rule: Rule[];
  head: string[]; // what the rule says first
  brief: (Segment[] | null)[];
  text: string[]; // the same as text
  short: Segment[][]; // and in few letters
}

/* Segments of captions and rules (segments.py, captions.py). */
type Piece = string | [label: string, words: string];
type RuleToken = [text: string, drawnBy?: Piece[] | string]; // its pieces, or its name
type TokenGroups = { groups: [name: string, tokens: RuleToken[], shown: number][]; like?: 1 };
type Rule = (string | RuleToken | TokenGroups)[];
type ToldSense = [rule: Rule, share: number | null, f1: number | null];
type Segment = string | RuleToken | TokenGroups
  | { rule: 0 | Rule }
  | { label: string }
  | { senses: ToldSense[] }
  | { more_senses: ToldSense[] }
  | { sense: [place: number, segments: Segment[]] }
  | { apart: Segment[] }
  | { muted: Segment[] };

interface Vocabulary {
  tokens: string[];
  readings: Record<string, [script: string | null, parts: [label: string, words: string][]][]>;
}

/* The tokens around a firing, coded, and its place among them; the row alone where rows are not text. */
type Snippet = [tokensOrRow: any, firing?: number];

/* What the table shows beside numbers (payloads.py). */
interface RowData {
  snippets: (Snippet | null)[];
  histograms: string[];
  firsts: (number | null)[];
  senses: Record<string, Snippet[]>;
}

/* The decoder in the plane (latent_map.py). missing: why there is none; then there is nothing else. */
interface DecoderMap {
  missing?: string;
  latents: number[];
  x: number[];
  y: number[];
  way: "t-SNE" | "PCA";
  names: [x: number, y: number, name: string | [token: string], level: number][];
  deciders: string[];
  decides: number[];
}

/* The run on one sheet (summary.py, panels.py). */
interface Summary {
  nulls: { verdicts: string[]; rows: DictionaryShares[]; finding: string; account: string } | null;
  limits: string[];
  facts: [name: string, value: string][];
  quality: PanelData;
  results: PanelData[];
  details: PanelData[];
  stages: [name: string, seconds: number][];
  versions: Record<string, string>;
}

interface PanelData {
  title?: string;
  note?: string;
  height?: number;
  figure?: { data: any[]; layout: any };
  table?: { columns: string[]; rows: string[][] };
}

/* The firings of a latent in columns (contexts.py). */
type EncodedExamples = [
  kinds: number[], rows: number[], labels: (number | null)[], values: number[], exponent: number,
  counts: string, gaps: string, activations: string,
];

/* An open feature, restored from its columns (payloads.py). Of a feature, and of a run, some are missing. */
interface StoredFeature {
  measured: string | null; // JSON of the rule as it was measured, if another is shown
  facts: FeatureFacts;
  histogram: { edges: number[]; counts: number[] };
  intervals: [low: number, high: number, n: number][];
  examples: EncodedExamples;
  tokens: [offset: number, token: number, n: number][];
  labels: [
    label: string, share: number | null, f1: number | null, precision: number | null, recall: number | null,
    r: number | null,
  ][];
  logits: LogitEffects | null;
  neighbours: [other: number, cosine: number][];
  coactivations: [other: number, jaccard: number, lift: number][];
  pairs: [other: number, ...CommonProperties][] | null;
  senses: StoredSense[] | null;
  sense_counts: number[][] | null;
  sense_tokens: [offset: number, token: number, n: number][][] | null;
  effects: FeatureEffects | null;
  positions: number[] | null;
  explanation: RuleScores | null;
  shared: string | null; // JSON of a rule
  script: string | null; // what its letters are if they are not Latin: "Hebrew letter"
  evidence: [measure: number, value: number | null, z: number | null, low: number | null, high: number | null][] | null;
}

type TokenValue = [token: number, value: number];
type LogitEffects = { counts: number[]; top: TokenValue[]; bottom: TokenValue[] };

/* What two latents have in common (latent_pairs.py). */
type CommonProperties = [
  both: number, correlation: number | null, cosine: number | null, atA: number[], atB: number[], others: number[],
];

interface FeatureFacts {
  n_active: number;
  density: number | null;
  mean: number | null;
  max: number | null;
  n_sequences: number;
  burstiness: number | null;
  token_entropy: number | null;
  n_tokens: number;
  dec_norm?: number | null;
  enc_dec_cosine?: number | null;
  fvu_rise?: number | null;
}

/* The rule on held-out text. */
interface RuleScores {
  precision: number | null;
  recall: number | null;
  f1_by_interval: (number | null)[] | null;
}

/* What ablating a feature changes (meaning_learnt_effect.py). */
interface FeatureEffects {
  loss_change: Change;
  null_loss_change: Change;
  beyond_null: Change;
  later_loss_change?: Change | null;
  kl: Change;
  null_kl: Change;
  likelier: TokenValue[];
  less_likely: TokenValue[];
  sequences: number;
  why: string | null;
}

type Change = [mean: number | null, low: number | null, high: number | null];

/* An example as the views read it; activations: position, value, position, value, …. */
type Example = [kind: number, row: number, labels: number | null, value: number, activations: number[]];

/* One sense (verdict_evidence.py). Its examples lie as they are, the last `n_weak` of them its weakest. */
interface StoredSense {
  rule: string; // JSON of a rule
  common: string; // JSON of rules
  short: string; // JSON of what describes it, in few letters
  holds: boolean;
  share: number | null;
  f1: number | null;
  precision: number | null;
  recall: number | null;
  n: number | null;
  monosemanticity: number | null;
  by_chance: number | null;
  promoted: number | null;
  following: number[];
  tokens: number[];
  named: number[] | null;
  examples: Example[];
  n_weak: number;
}
