"""One value in a known format, added to a text with the format's name as label: DNA, base64, hex, UUID, URL …

In: a `random.Random` and the `LabelledTextBuilder` of a text; `write_<format>` adds one value to it. In HTML the tags
are labelled, the words between them are not; a JSON object or a LaTeX formula is labelled from end to end.
"""

import base64
import datetime
import json
import uuid
from random import Random

from models.text_sources.labelled_text import LabelledTextBuilder, english_sentence, fill_words


def write_dna(rng: Random, builder: LabelledTextBuilder) -> None:
    bases = rng.choice(("ACGT", "ACGT", "AATTCG", "GGCCAT", "ACGTN"))
    motif = "".join(rng.choices(bases, k=rng.randint(2, 6))) * rng.randint(2, 5) if rng.random() < 0.3 else ""
    strand = "".join(rng.choices(bases, k=rng.randint(12, 180))) + motif
    strand = strand.lower() if rng.random() < 0.1 else strand
    for start in range(0, len(strand), 60):
        builder.add("\n" if start else "").add(strand[start : start + 60], "dna")


def write_base64(rng: Random, builder: LabelledTextBuilder) -> None:
    data = english_sentence(rng).encode() if rng.random() < 0.3 else rng.randbytes(rng.randint(9, 140))
    code = (base64.urlsafe_b64encode if rng.random() < 0.2 else base64.b64encode)(data).decode()
    for start in range(0, len(code), 64):
        builder.add("\n" if start else "").add(code[start : start + 64], "base64")


def write_hex(rng: Random, builder: LabelledTextBuilder) -> None:
    digits = rng.randbytes(rng.choice((2, 3, 4, 8, 16, 20, 32))).hex()
    style = rng.random()
    if style < 0.25:
        digits = " ".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    elif style < 0.4:
        digits = f"0x{digits[:16]}"
    elif style < 0.5:
        digits = digits.upper()
    builder.add(digits, "hex")


def write_uuid(rng: Random, builder: LabelledTextBuilder) -> None:
    value = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    builder.add(value.upper() if rng.random() < 0.1 else value, "uuid")


_SITES = (
    "example wikipedia openlab northwind riverside acme bluebird papertrail quicksand lighthouse museum weather".split()
)
_ENDINGS = "com org net io dev edu co.uk de fr info".split()
_PATHS = "about archive blog cart docs download feed gallery help images index login news posts search users".split()
_QUERY_KEYS = "id page q lang sort ref token limit tag".split()


def _host(rng: Random) -> str:
    return f"{rng.choice(_SITES)}{rng.choice(('', '', '-app', '24', 'hub'))}.{rng.choice(_ENDINGS)}"


def write_url(rng: Random, builder: LabelledTextBuilder) -> None:
    url = f"{rng.choice(('https', 'https', 'http', 'ftp'))}://{rng.choice(('', 'www.', 'api.', 'cdn.'))}{_host(rng)}"
    url += "".join(f"/{part}" for part in rng.sample(_PATHS, rng.randint(0, 3)))
    url += rng.choice(("", "/", ".html", ".png", ".pdf")) if url.count("/") > 2 else "/"
    if rng.random() < 0.4:
        url += "?" + "&".join(f"{key}={rng.randint(1, 999)}" for key in rng.sample(_QUERY_KEYS, rng.randint(1, 3)))
    builder.add(url + (f"#{rng.choice(_PATHS)}" if rng.random() < 0.15 else ""), "url")


_FIRST_NAMES = (
    "alice amir anna chen clara daniel elena farah george hana igor james julia lena maria nadia oscar tara".split()
)
_LAST = (
    "adams baker cohen diaz evans fischer gupta haddad ivanov jones keller lopez moreau novak okafor rossi sato".split()
)


def write_email(rng: Random, builder: LabelledTextBuilder) -> None:
    first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST)
    user = rng.choice(
        (f"{first}.{last}", f"{first}{rng.randint(1, 99)}", f"{first[0]}{last}", f"{last}_{first}", "info")
    )
    builder.add(f"{user}@{_host(rng)}", "email")


_DATES = ("%Y-%m-%d", "%d/%m/%Y", "%d %B %Y", "%B %d, %Y", "%a, %d %b %Y", "%A %d %B", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%y")


def write_date(rng: Random, builder: LabelledTextBuilder) -> None:
    moment = datetime.datetime(1900, 1, 1) + datetime.timedelta(seconds=rng.randrange(4_000_000_000))
    builder.add(_strftime(moment, rng.choice(_DATES)), "date")


_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def _strftime(moment: datetime.datetime, pattern: str) -> str:
    """Run `strftime` with English names whatever the locale."""
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    for code, name in (("%A", day), ("%a", day[:3]), ("%B", month), ("%b", month[:3])):
        pattern = pattern.replace(code, name)
    return moment.strftime(pattern)


_FIELDS = "id name price tags active count owner size status items title level ratio parent color notes".split()


def write_json_value(rng: Random, builder: LabelledTextBuilder) -> None:
    indent = rng.choice((None, None, 2, 4))
    builder.add(json.dumps(_json_value(rng, depth=0), indent=indent), "json")


def _json_value(rng: Random, depth: int) -> object:
    draw = rng.random() if depth else 0.0
    if draw < 0.15 and depth < 3:
        return {key: _json_value(rng, depth + 1) for key in rng.sample(_FIELDS, rng.randint(2, 5))}
    if draw < 0.25 and depth < 3:
        return [_json_value(rng, depth + 2) for _ in range(rng.randint(0, 4))]
    if draw < 0.5:
        return rng.choice((rng.randint(0, 9999), round(rng.uniform(0, 100), 2)))
    if draw < 0.65:
        return rng.choice((True, False, None))
    return fill_words(rng.choice(("{noun}", "{adjective} {noun}", "{name}", "{place}")), rng)


_TAGS = "p div span h1 h2 li em strong td section article".split()


def write_html(rng: Random, builder: LabelledTextBuilder) -> None:
    style = rng.random()
    if style < 0.2:
        builder.add("<ul>", "html").add("\n")
        for _ in range(rng.randint(2, 4)):
            builder.add("  ").add("<li>", "html").fill("the {adjective} {noun}", rng).add("</li>", "html").add("\n")
        builder.add("</ul>", "html")
    elif style < 0.35:
        builder.add(
            f'<img src="/{rng.choice(_PATHS)}/{rng.choice(_SITES)}.png" width="{rng.randint(16, 900)}"/>', "html"
        )
    elif style < 0.55:
        builder.add(f'<a href="/{rng.choice(_PATHS)}/{rng.choice(_PATHS)}">', "html").fill("{noun} in {place}", rng)
        builder.add("</a>", "html")
    else:
        tag, inner = rng.choice(_TAGS), rng.choice(("em", "strong", "b", "code"))
        builder.add(f'<{tag} class="{rng.choice(_PATHS)}">' if rng.random() < 0.5 else f"<{tag}>", "html")
        builder.fill("{name} {verb} the ", rng).add(f"<{inner}>", "html").fill("{noun}", rng)
        builder.add(f"</{inner}>", "html").fill(" in {place}.", rng).add(f"</{tag}>", "html")


_RELATIONS = "= < \\leq \\approx \\in".split()
_OPERATORS = "+ - \\cdot \\times".split()
_SUM_WORDS = "sum int prod".split()
_GREEK = "alpha beta gamma delta epsilon theta lambda mu pi sigma phi omega".split()


def write_latex(rng: Random, builder: LabelledTextBuilder) -> None:
    style = rng.random()
    if style < 0.55:
        builder.add(f"${_formula(rng, 0)}$", "latex")
    elif style < 0.8:
        body = f"{_formula(rng, 0)} {rng.choice(_RELATIONS)} {_formula(rng, 0)}"
        builder.add(
            f"\\begin{{equation}}\n  {body}\n\\end{{equation}}" if rng.random() < 0.6 else rf"\[ {body} \]", "latex"
        )
    else:
        command = rng.choice(("cite", "ref", "label", "emph", "textbf", "footnote"))
        builder.add(rf"\{command}{{{fill_words('{noun}', rng)}}}", "latex")


def _formula(rng: Random, depth: int) -> str:
    style = rng.random() if depth < 3 else 1.0
    inner = [_formula(rng, depth + 1) for _ in range(2)] if style < 0.6 else []
    if style < 0.25:
        return f"{inner[0]} {rng.choice(_OPERATORS)} {inner[1]}"
    if style < 0.4:
        return rf"\frac{{{inner[0]}}}{{{inner[1]}}}"
    if style < 0.5:
        return rf"\sqrt{{{inner[0]}}}"
    if style < 0.6:
        return rf"\{rng.choice(_SUM_WORDS)}_{{{rng.choice('ijk')}=0}}^{{{rng.choice('nmN')}}} {inner[0]}"
    symbol = rng.choice(_GREEK)
    return rng.choice(
        (rf"\{symbol}", rf"\{symbol}_{{{rng.choice('ijk')}}}", f"{rng.choice('abxyzn')}^{rng.randint(2, 4)}")
    )
