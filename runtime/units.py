"""Numbers as people read them: three digits and a prefix of a thousand each."""

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def scaled(value: float, unit: str) -> str:
    """A quantity of `unit` with its decimal prefix: 19.3e12 "FLOP" is "19.3 TFLOP", 2e6 "B" is "2.00 MB"."""
    power = 0
    while abs(value) >= 999.5 and power + 1 < len(_PREFIXES):
        value, power = value / 1000, power + 1
    return f"{_three_digits(value, whole=power == 0)} {_PREFIXES[power]}{unit}"


def counted(value: int) -> str:
    """How many, with the suffix that papers use: 10.1e9 is "10.1B", 50.7e6 is "50.7M"."""
    return scaled(value, "").replace("G", "B").replace(" ", "")


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Join a count and its noun: "1 pass" and "2 passes" of `plural(count, "pass", "passes")`.

    Args:
        nouns: the plural, where it is not `noun` with an "s".
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def _three_digits(value: float, whole: bool) -> str:
    if whole and value == int(value):
        return f"{value:.0f}"
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f}"
