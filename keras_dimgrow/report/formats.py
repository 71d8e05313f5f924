"""Numbers as people read them."""

import math


def compact(value: float) -> str:
    """1234567 -> '1.23M'; at most three digits, so that axes and headlines stay narrow."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def count(number: int, noun: str) -> str:
    """1, 'check' -> '1 check'; 1200, 'check' -> '1,200 checks'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float) -> str:
    """0.0983 -> '9.8 %'; a share that is not zero never reads as zero."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """492.1 -> '8 min 12 s'."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def time_unit(seconds: float) -> tuple[float, str]:
    """Seconds per unit, and the unit's name, for an axis that ends at `seconds`."""
    return (3600.0, "h") if seconds >= 7200 else (60.0, "min") if seconds >= 120 else (1.0, "s")


def bytes_unit(num_bytes: float) -> tuple[float, str]:
    """Bytes per unit, and the unit's name, for an axis that ends at `num_bytes`."""
    power = min(3, int(math.log2(max(num_bytes, 1)) // 10))
    return 1024.0**power, ("B", "KiB", "MiB", "GiB")[power]


def in_bytes(num_bytes: float) -> str:
    """3145728 -> '3 MiB'."""
    size, unit = bytes_unit(num_bytes)
    return f"{num_bytes / size:.4g} {unit}"
