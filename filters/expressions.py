"""Exact or floating value of a constant expression, without sympy: the fast path of answer checking.

Grammar: sums and products (also implicit: `5\\sqrt{3}`, `2\\pi`), powers, `\\frac`, `\\sqrt[n]`, absolute
value, mixed fractions (`3\\frac{1}{2}`), scientific notation. No variable, no factorial, no function but the
root: whatever else stands there, the value is None and somebody slower decides. Work is bounded by the
length of the text, the depth of nesting and the size of every number.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MAX_EXPRESSION = 300  # characters
_MAX_BITS = 4_096  # of a numerator or denominator
_MAX_DEPTH = 24

Value = Fraction | float

_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3}(?![\w.]))?|\.\d+)|(\\frac|\\sqrt|\\pi|sqrt|pi)(?![A-Za-z])"
    r"|(\*\*|[-+*/^(){}\[\]|]))"
)
_TIMES_TEN = re.compile(r"(?<=\d)\s?[xX]\s?(?=10\^)")


class _BeyondGrammarError(Exception):
    """The text is not a constant expression of this grammar, or its value is out of bounds."""


def evaluate(text: str) -> Value | None:
    """Value of a constant expression.

    Returns: a `Fraction` where every step is rational, a finite float where a root or pi entered, None where
        the text is not such an expression or would be too large to write down.
    """
    if len(text) > MAX_EXPRESSION:
        return None
    try:
        return _Parser(_TIMES_TEN.sub("*", text)).value()
    except (_BeyondGrammarError, ZeroDivisionError, OverflowError, ValueError):
        return None


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokenise(text)
        self.position = 0
        self.depth = 0
        self.in_bars = 0

    def value(self) -> Value:
        result = self._sum()
        if self.position != len(self.tokens):
            raise _BeyondGrammarError
        return result

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _take(self, expected: str | None = None) -> str:
        token = self._peek()
        if not token or (expected is not None and token != expected):
            raise _BeyondGrammarError
        self.position += 1
        return token

    def _sum(self) -> Value:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _BeyondGrammarError
        result = self._product()
        while self._peek() in {"+", "-"}:
            sign = 1 if self._take() == "+" else -1
            result = _bounded(result + sign * self._product())
        self.depth -= 1
        return result

    def _product(self) -> Value:
        result = self._signed()
        while True:
            token = self._peek()
            if token in {"*", "/"}:
                self._take()
                factor = self._signed()
                result = _bounded(result * factor if token == "*" else result / factor)
            elif token in {"(", "{", "\\frac", "\\sqrt", "sqrt", "\\pi", "pi"}:
                result = self._juxtaposed(result)
            else:
                return result

    def _juxtaposed(self, left: Value) -> Value:
        """`2\\pi` is a product; `3\\frac{1}{2}` is a mixed fraction, as people write it."""
        previous = self.tokens[self.position - 1]
        start = self.position
        right = self._power()
        proper = isinstance(right, Fraction) and 0 < right < 1
        if previous.isdigit() and proper and self.tokens[start] == "\\frac":
            alone = start < 2 or self.tokens[start - 2] in {"+", "-", "("}
            if not alone:
                raise _BeyondGrammarError
            return left + right if left >= 0 else left - right
        return _bounded(left * right)

    def _signed(self) -> Value:
        sign = 1
        while self._peek() in {"+", "-"}:
            sign = -sign if self._take() == "-" else sign
        return sign * self._power()

    def _power(self) -> Value:
        base = self._atom()
        if self._peek() not in {"^", "**"}:
            return base
        self._take()
        sign = -1 if self._peek() == "-" and self._take() else 1
        exponent = sign * self._atom()
        if self._peek() in {"^", "**"}:
            raise _BeyondGrammarError  # a tower: conventions differ and the value is never an answer
        return _raised(base, exponent)

    def _atom(self) -> Value:
        token = self._take()
        if token[0].isdigit() or token[0] == ".":
            return _bounded(Fraction(token))
        if token in {"\\pi", "pi"}:
            return math.pi
        if token == "\\frac":
            numerator = self._argument()
            return _bounded(numerator / self._argument())
        if token in {"\\sqrt", "sqrt"}:
            return self._root()
        if token in {"(", "{", "["}:
            inner = self._sum()
            self._take({"(": ")", "{": "}", "[": "]"}[token])
            return inner
        if token == "|" and not self.in_bars:
            self.in_bars += 1
            inner = self._sum()
            self._take("|")
            self.in_bars -= 1
            return abs(inner)
        raise _BeyondGrammarError

    def _root(self) -> Value:
        index: Value = Fraction(2)
        if self._peek() == "[":
            self._take()
            index = self._sum()
            self._take("]")
        return _raised(self._argument(), 1 / index)

    def _argument(self) -> Value:
        """A braced group, or one digit as TeX takes it (`\\frac12`)."""
        token = self._peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.position] = token[1:]
            return Fraction(token[0])
        return self._atom()


def _tokenise(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _BeyondGrammarError
        tokens.append(match[1] or match[2] or match[3])
        position = match.end()
    return tokens


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
            raise _BeyondGrammarError
    elif not math.isfinite(value):
        raise _BeyondGrammarError
    return value


def _raised(base: Value, exponent: Value) -> Value:
    """base ** exponent, real; exact where an exact answer exists."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(exponent.numerator) * max(bits, 1) > _MAX_BITS:
                raise _BeyondGrammarError
            return base**exponent.numerator
        if base < 0:
            raise _BeyondGrammarError
        exact = _exact_root(base, exponent)
        if exact is not None:
            return exact
    if base < 0 and exponent != int(exponent):
        raise _BeyondGrammarError
    return _bounded(float(base) ** float(exponent))


def _exact_root(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent != Fraction(1, 2):
        return None
    numerator, denominator = math.isqrt(base.numerator), math.isqrt(base.denominator)
    if numerator**2 == base.numerator and denominator**2 == base.denominator:
        return Fraction(numerator, denominator)
    return None
