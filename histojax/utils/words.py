"""Words for people."""


def quantity(number: int, noun: str = "image") -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
