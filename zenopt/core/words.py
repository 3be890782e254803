"""Numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: float, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun: ``"1 trial"``, ``"1,200 trials"``, ``"2 classes"``.

    Args:
        count:
            How many.
        noun:
            The noun in the singular.
        nouns:
            Its plural where that is not made by the rules for ``s``, ``es`` and ``ies``.
    """
    return f"{count:,.6g} {noun if count == 1 else nouns or plural_of(noun)}"


def plural_of(noun: str) -> str:
    """Return the plural of a regular noun."""
    # An epoch ends with a k.
    if noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("och"):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def listed(names: Sequence[str]) -> str:
    """Return names as an English list: ``"a"``, ``"a and b"``, ``"a, b and c"``."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def duration(seconds: float) -> str:
    """Return a duration as ``m:ss``, ``h:mm:ss`` or, from two days on, in days and hours."""
    whole = max(0, round(seconds))
    if whole >= 2 * 86_400:
        return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rate(count: float, seconds: float) -> tuple[str, str]:
    """Return how often something happens as a number and a unit that suits it: ``("2.0", "second")``.

    What happens less often than every ten seconds is counted by the minute, than every ten minutes by the hour.
    """
    per_second = count / seconds if seconds > 0 else 0.0
    if per_second >= 0.1 or per_second == 0.0:
        return f"{per_second:,.1f}", "second"
    return (
        (f"{per_second * 60:.1f}", "minute")
        if per_second >= 0.1 / 60
        else (f"{per_second * 3600:.2g}", "hour")
    )


def rounded(value: object) -> str:
    """Return a fact for people: floats with five digits, integers with thousands separators, text as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"
