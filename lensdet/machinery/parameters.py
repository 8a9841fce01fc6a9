"""``python -m lensdet parameters``: every parameter as a table."""

import argparse

from lensdet.parameters import Parameters
from lensdet.profiles import PROFILES


def markdown_table() -> str:
    """Every parameter with its default, its value in each profile, and what it is, as a Markdown table."""
    rows = [f"| parameter | default | {' | '.join(PROFILES)} | meaning |", "|---" * (len(PROFILES) + 3) + "|"]
    for name, field in Parameters.model_fields.items():
        values = [str(p.get(name, "")) for p in PROFILES.values()]
        rows.append(f"| `{name}` | {field.default} | {' | '.join(values)} | {field.description} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    """Print every parameter; returns the exit status."""
    argparse.ArgumentParser(
        prog="python -m lensdet parameters",
        description="Every parameter with its default, its value in each profile and what it is, as a Markdown table.",
    ).parse_args(arguments)
    print(markdown_table())
    return 0
