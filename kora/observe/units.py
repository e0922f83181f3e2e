"""Sizes as people read them."""


def human_bytes(size_bytes: int) -> str:
    """As bytesToHuman (util.c): `1.50K`, with `B` for what is less."""
    if size_bytes < 1024:
        return f"{size_bytes}B"
    size = float(size_bytes)
    for unit in "KMGT":
        size /= 1024
        if size < 1024:
            return f"{size:.2f}{unit}"
    return f"{size / 1024:.2f}P"
