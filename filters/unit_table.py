"""Units of measure as powers of base dimensions: SI with prefixes, and common others.

Sources: the SI brochure (9th edition), NIST SP 811 appendix B for the others; every factor is exact.
Symbols keep their case (mW is not MW); names and the older symbols are looked up in lower case.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

from filters.expressions import Value


class Row(NamedTuple):
    """What one name measures: (dimension, power) pairs, its size in base units, its zero in kelvins."""

    powers: tuple[tuple[str, int], ...]
    factor: Value
    offset: Fraction = Fraction(0)


_BASES = {
    "m": "length", "g": "mass", "s": "time", "A": "current", "K": "temperature", "mol": "amount",
    "cd": "light",
}  # fmt: skip
_SIZES = {
    "G": 10**9, "M": 10**6, "k": 10**3, "h": 10**2, "d": Fraction(1, 10), "c": Fraction(1, 100),
    "m": Fraction(1, 10**3), "μ": Fraction(1, 10**6), "n": Fraction(1, 10**9), "p": Fraction(1, 10**12),
}  # fmt: skip
_PREFIXES = {
    "giga": "G", "mega": "M", "kilo": "k", "hecto": "h", "deci": "d", "centi": "c", "milli": "m",
    "micro": "μ",    "nano": "n", "pico": "p",
}  # fmt: skip
# Symbol, prefixes it is used with, size in base units (mass in grams), base units, names.
_DERIVED = """
m kμnp 1 m meter,metre
g kmμn 1 g gram
s mμnp 1 s second
A kmμn 1 A ampere,amp
K m 1 K kelvin
mol kmμ 1 mol mole
cd - 1 cd candela
Hz GMkm 1 s-1 hertz
N GMkmμ 1000 g1m1s-2 newton
Pa GMkhm 1000 g1m-1s-2 pascal
J GMkmμ 1000 g1m2s-2 joule
Nm k 1000 g1m2s-2 newtonmetre,newtonmeter
W GMkmμ 1000 g1m2s-3 watt
V GMkmμ 1000 g1m2s-3A-1 volt
Ω GMkmμ 1000 g1m2s-3A-2 ohm
F mμnp 1/1000 g-1m-2s4A2 farad
C mμnp 1 s1A1 coulomb
H mμn 1000 g1m2s-2A-2 henry
T mμn 1000 g1s-2A-1 tesla
Wb mμ 1000 g1m2s-2A-1 weber
Wh GMk 3600000 g1m2s-2 watthour
eV GMkm 1.602176634/10000000000000000 g1m2s-2 electronvolt
cal k 4184 g1m2s-2 calorie
bar mk 100000000 g1m-1s-2 bar
"""
_COMMON = """
length 1/1000 1 mm millimeter millimetre 毫米
length 1/100 1 cm centimeter centimetre 厘米
length 1/10 1 dm decimeter decimetre 分米
length 1 1 m meter metre 米
length 1000 1 km kilometer kilometre 千米 公里
length 1/10000000000 1 å angstrom ångström
length 0.0254 1 inch inches in
length 0.3048 1 ft foot feet
length 0.9144 1 yd yard
length 1609.344 1 mi mile
length 1852 1 nmi
length 1/1000 3 l liter litre 升
length 1/10000 3 dl deciliter decilitre
length 1/100000 3 cl centiliter centilitre
length 1/1000000 3 ml milliliter millilitre cc 毫升
length 3.785411784/1000 3 gal gallon
length 0.946352946/1000 3 qt quart
length 0.473176473/1000 3 pint
length 0.2365882365/1000 3 cup
length 0.0295735295625/1000 3 floz
length 10000 2 ha hectare
length 4046.8564224 2 acre
mass 1/1000 1 mg milligram 毫克
mass 1 1 g gram 克
mass 1000 1 kg kilogram kilo 千克 公斤
mass 1000000 1 tonne 吨
mass 453.59237 1 lb lbs pound
mass 28.349523125 1 oz ounce
time 1 1 s sec second 秒
time 60 1 min minute 分钟
time 3600 1 h hr hour 小时
time 86400 1 day 天
time 604800 1 week 周
month 1 1 month
month 12 1 year yr 年
angle 1 1 ° deg degree 度
angle 1/60 1 arcmin
angle 1/3600 1 arcsec
dollar 1 1 $ usd dollar
dollar 1/100 1 ¢ cent
euro 1 1 € eur euro
sterling 1 1 £ gbp
yen 1 1 ¥ 元 yuan rmb cny yen jpy
rupee 1 1 ₹ rs inr rupee
won 1 1 ₩ won
rouble 1 1 ₽ ruble rouble
percent 1 1 % percent pct percentage 百分
"""
_PRESSURES = {
    "atm": "101325000",
    "atmosphere": "101325000",
    "torr": "2533125000/19000",
    "mmhg": "133322.387415",
}
_LOOSE = ("kW", "kWh", "kJ", "kPa", "kV", "MHz", "GHz", "kHz", "Hz", "Pa", "mol")  # also kw, khz, ...


def _size(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")
    return Fraction(numerator) / Fraction(denominator or 1)


def _powers(text: str) -> tuple[tuple[str, int], ...]:
    """`g1m2s-2` by base dimension."""
    parts = re.findall(r"([A-Za-z]+)(-?\d*)", text)
    return tuple(sorted((_BASES[symbol], int(power or 1)) for symbol, power in parts))


def _add(table: dict[str, Row], name: str, row: Row) -> None:
    table.setdefault(name, row)
    if name.isascii() and len(name) > 2 and name.isalpha():
        table.setdefault(f"{name}s", row)


def symbols() -> dict[str, Row]:
    """SI symbols with their prefixes, case as written."""
    table = {}
    for line in _DERIVED.strip().splitlines():
        symbol, prefixes, size, base, _ = line.split()
        row = Row(_powers(base), _size(size))
        table[symbol] = row
        for prefix in prefixes.strip("-"):
            table[prefix + symbol] = row._replace(factor=row.factor * _SIZES[prefix])
    return table


def names() -> dict[str, Row]:
    """Names and what is commonly written without regard to case, all in lower case."""
    table: dict[str, Row] = {}
    for line in _COMMON.strip().splitlines():
        dimension, size, power, *spelt = line.split()
        for name in spelt:
            _add(table, name, Row(((dimension, int(power)),), _size(size)))
    for line in _DERIVED.strip().splitlines():
        _, _, size, base, spelt = line.split()
        for name in spelt.split(","):
            row = Row(_powers(base), _size(size))
            _add(table, name, row)
            for prefix, short in _PREFIXES.items():
                _add(table, prefix + name, row._replace(factor=row.factor * _SIZES[short]))
    _add_others(table)
    return table


def _add_others(table: dict[str, Row]) -> None:
    for name, size in _PRESSURES.items():
        _add(table, name, Row(_powers("g1m-1s-2"), _size(size)))
    for symbol, row in symbols().items():
        if symbol in _LOOSE:
            table.setdefault(symbol.lower(), row)
    kelvin, zero = _powers("K"), Fraction("273.15")
    for name in ("°c", "celsius"):
        table[name] = Row(kelvin, Fraction(1), zero)
    for name in ("°f", "fahrenheit"):
        table[name] = Row(kelvin, Fraction(5, 9), Fraction("459.67") * Fraction(5, 9))
    table["°k"] = Row(kelvin, Fraction(1))
    for name in ("rad", "radian", "radians"):
        table[name] = Row((("angle", 1),), 180 / math.pi)
