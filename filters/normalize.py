"""One spelling for one answer: Unicode, LaTeX and number formats reduced to plain text.

Every pattern here is linear in its input: no nested repetition, and callers cap the length first
(`MAX_ANSWER`). The order of the steps matters: superscripts and vulgar fractions are rewritten before
NFKC, which would turn x² into x2 and 3½ into 31⁄2.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_ANSWER = 4_000  # characters; a longer answer is undecided, whatever it says

_VULGAR = {
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅐": "1/7",
    "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SYMBOLS = str.maketrans(
    {
        "º": "°", "˚": "°", "℃": "°C", "℉": "°F", "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-",
        "×": "*", "·": "*", "⋅": "*", "∙": "*", "✕": "*", "÷": "/", "⁄": "/", "∕": "/", "∶": ":",
        "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ",
        "∠": r"\angle ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "≈": r"\approx ", "。": ". ", "、": ",",
        "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "″": '"', "∅": r"\emptyset ", "△": r"\triangle ",
        "∛": r"\sqrt[3]√", "∜": r"\sqrt[4]√", "⟨": "(", "⟩": ")",
        "〈": "(", "〉": ")", "ℝ": r"\mathbb{R}", "٫": ".",
    }
)  # fmt: skip

_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]{1,20}")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]{1,20}")
_ROOT = re.compile(
    r"(?:(\\sqrt\[[34]\]))?√\s{0,3}(?:\(([^()]{1,200})\)|\{([^{}]{1,200})\}|(\d{1,40}(?:\.\d{1,40})?|[A-Za-z]))"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffd\u200b-\u200f\u2060\ufeff]")
_SPACING = re.compile(
    r"(?<!\\)\\[!,;: >]|\\q?quad(?![A-Za-z])|~"
    r"|\\(?:left|right|displaystyle|rm|bf|it|large|Large|small)(?![A-Za-z])"
)
# A doubled backslash before a command is an escaped one; in a table it may end a row, so fewer are undone.
_ESCAPED_TWICE = re.compile(
    r"(?<!\\)\\\\(?=(?:boxed|[dtc]?frac|sqrt|text|mathrm|mathbb|begin|end|left|right|quad|leq?|geq?|neq?|in|infty|cup"
    r"|cap|pm|pi|theta|alpha|beta|cdot|times|circ|angle|triangle|overline|emptyset|log|ln|sin|cos|tan)(?![A-Za-z]))"
)
_ESCAPED_IN_TABLE = re.compile(
    r"(?<!\\)\\\\(?=(?:boxed|[dtc]?frac|sqrt|text|mathrm|begin|end|left|right)(?![A-Za-z]))"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_OVER = re.compile(r"\{?([^{}\\]{1,60})\\over(?![A-Za-z])([^{}\\]{1,60})\}?")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|emph|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|mbox|operatorname"
    r"|underline|fbox)\s{0,3}\{([^{}]{0,400})\}"
)
_DEGREE = re.compile(r"\^\s{0,3}\{?\s{0,3}\\circ\s{0,3}\}?|\\degrees?(?![A-Za-z])|\\circ(?![A-Za-z])")
_WORDS = {r"\cdot": "*", r"\times": "*", r"\div": "/", r"\%": "%", r"\#": "#", r"\&": "&", r"\lbrace": r"\{"}
_COMMAND = re.compile(
    r"\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\\div(?![A-Za-z])|\\lbrace(?![A-Za-z])|\\[%#&]"
)
_RELATIONS = re.compile(r"\\(leq|geq|neq|leqslant|geqslant|lt|gt)(?![A-Za-z])")
_RELATION_WORDS = {"lt": "<", "gt": ">", "leq": r"\le ", "geq": r"\ge ", "neq": r"\ne "}
_ASCII_RELATIONS = (("!=", r"\ne "), ("<=", r"\le "), (">=", r"\ge "))
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_LAKHS = re.compile(r"(?<![\d.,])\d{1,2}(?:,\d\d){1,6},\d{3}(?![\d,])")
_DOTTED_THREES = re.compile(
    r"(?<![\d.,])(?:\d{1,3}(?:\.\d{3}){1,12},\d{1,30}|\d{1,3}(?:\.\d{3}){2,12})(?![\d,]|\.\d)"
)
_GROUPS_OF_THREE = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3}){1,12}(?![\d,])")
_SPACED_THREES = re.compile(r"(?<![\d.,/])(?<!\d )\d{1,3}(?: \d{3}){1,12}(?![\d/]| \d)")
_MIXED = re.compile(r"(?<![\d./^{])(\d{1,20}) {1,3}(\d{1,20})/(\d{1,20})(?![\d/.])")
_BRACKETED = re.compile(r"[(\[{][^()\[\]{},]*,[^()\[\]{}]*[)\]}]")
_WHITE = re.compile(r"\s+")
_INNER_WHITE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_CLOSING = re.compile(r"(?:(?<![\d)])(?<!\b[A-Za-z])!|[.,;:]){1,8}$")  # 5! and n! are factorials
_LEADING = re.compile(r"^(?:=\s{0,3}(?=[^=<>])|(?:negative|minus)\s(?P<minus>(?=\d)))", re.IGNORECASE)
_NAME = re.compile(r"\\?[^\W\d_]+")  # \Delta and \delta are two things
_SIGNED_POWER = re.compile(r"\^\s{0,3}([-+])\s{0,3}(\d{1,40}(?:\.\d{1,40})?|[A-Za-z])")
_INFINITY = re.compile(r"\b(?:infinity|inf)\b", re.IGNORECASE)


@lru_cache(maxsize=256)  # one check, and the options of one question, spell the same texts again
def canonicalise(text: str) -> str:
    """Plain spelling of an answer, case kept; two spellings of the same thing become one.

    Args:
        text: at most `MAX_ANSWER` characters.
    Returns: text without LaTeX spacing, fonts and delimiters; degrees as °, products as *, thousands
        without separators, `3 1/2` as `(3+1/2)`; `\\frac`, `\\sqrt` and powers stay LaTeX.
    """
    text = strip_delimiters(_plain_latex(_INFINITY.sub(r"\\infty ", _plain_unicode(text))))
    text = _SIGNED_POWER.sub(r"^{\1\2}", text).replace("^{+", "^{")
    for written, plain in _ASCII_RELATIONS:
        text = text.replace(written, plain)
    text = _WHITE.sub(" ", _plain_numbers(text)).strip()
    return _LEADING.sub(lambda lead: "" if lead["minus"] is None else "-", text)


@lru_cache(maxsize=512)
def fold(text: str) -> str:
    """Text for comparison as words: no case, no closing punctuation, no quotes, single spaces."""
    text = _WHITE.sub(" ", text.replace("\\triangle", "triangle")).strip()
    text = _NAME.sub(lambda name: name.group() if name.group()[0] == "\\" else name.group().casefold(), text)
    text = _CLOSING.sub("", text.strip("\"'`*_ ")).strip("\"'`*_ ")
    for article in ("the ", "a ", "an "):
        if text.startswith(article) and len(text) > len(article) + 1:
            return text[len(article) :]
    return text


@lru_cache(maxsize=512)
def tighten(text: str) -> str:
    """Text without white space, except between two digits."""
    return _INNER_WHITE.sub("", text)


def strip_delimiters(text: str) -> str:
    """Text without one outer pair of `$`, `$$`, `\\(` `\\)`, `\\[` `\\]` or Markdown stars, repeatedly."""
    text = text.strip()
    for _ in range(4):
        for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**")):
            inner = text[len(opening) : -len(closing)]
            sound = len(text) > len(opening) + len(closing) and text.startswith(opening)
            if sound and text.endswith(closing) and opening not in inner and not inner.endswith("\\"):
                text = inner.strip()
                break
        else:
            return text
    return text


def _plain_unicode(text: str) -> str:
    text = _CONTROL.sub(" ", text)
    text = _SUPER_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUB_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    for vulgar, plain in _VULGAR.items():
        if vulgar in text:
            text = re.sub(rf"(?<=\d)\s?{vulgar}", f" {plain}", text).replace(vulgar, plain)
    text = unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS)
    text = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), text)
    return _ROOT.sub(lambda root: (root[1] or r"\sqrt") + "{" + (root[2] or root[3] or root[4]) + "}", text)


def _plain_latex(text: str) -> str:
    if "\\" not in text and "~" not in text and "{,}" not in text:
        return text
    text = re.sub(r",\\!\s{0,3}", ",", text).replace("{,}", ",")
    escaped = _ESCAPED_IN_TABLE if r"\begin" in text else _ESCAPED_TWICE
    text = _SPACING.sub(" ", escaped.sub(r"\\", text))
    text = text.replace(r"\langle", "(").replace(r"\rangle", ")")
    text = _OVER.sub(r"\\frac{\1}{\2}", _FRACTION.sub(r"\\frac", text))
    text = _DEGREE.sub("°", text).replace(r"\varnothing", r"\emptyset")
    for _ in range(3):  # \text inside \text
        text = _TEXT.sub(r" \1 ", text)
    text = _COMMAND.sub(lambda command: _WORDS[command.group()], text)
    text = _RELATIONS.sub(lambda relation: _RELATION_WORDS[relation[1].removesuffix("slant")], text)
    return text.rstrip("\\ ") if text.rstrip().endswith("\\") else text


def _plain_numbers(text: str) -> str:
    """Thousands and mixed fractions. A comma inside brackets separates a pair: (1,200) is two numbers."""
    if not _BRACKETED.search(text):
        text = _DOTTED_THREES.sub(lambda number: number.group().replace(".", "").replace(",", "."), text)
        for grouped in (_GROUPS_OF_THREE, _LAKHS):
            text = grouped.sub(lambda number: number.group().replace(",", ""), text)
    text = _SPACED_THREES.sub(lambda number: number.group().replace(" ", ""), text)
    return _MIXED.sub(r"(\1+\2/\3)", text)
