"""Every parameter with its default, its unit and what it is, as text and as a page in Markdown."""

import textwrap
from typing import get_args

from lensdet.parameters import Broad, Candidates, OwnFinder, Parameters, Sampling, Simulation, Training, resolve
from lensdet.profiles import PROFILES


def sections() -> dict[str, list[str]]:
    """Names of all parameters by what they are of."""
    titles = {
        "The embedded survey": Simulation,
        "The broad survey": Broad,
        "Mock lenses, negatives, frozen sets": Sampling,
        "Training": Training,
        "Your own survey": Candidates,
        "A finder of your own": OwnFinder,
    }
    found = {title: list(section.model_fields) for title, section in titles.items()}
    others = [name for name in Parameters.model_fields if not any(name in names for names in found.values())]
    return {"All notebooks": others, **found}


def _meaning(name):
    """What a parameter is, with the values it can have where these are names."""
    field = Parameters.model_fields[name]
    names = [value for value in get_args(field.annotation) if isinstance(value, str)]
    allowed = f"; one of {', '.join(names)}" if names and not all(n in field.description for n in names) else ""
    return f"{field.description}{allowed}"


def _shown(value):
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, {}, "") else str(value)


def _by_profile(name):
    """The value of a parameter in each profile, the default one first."""
    names = ["quick", *(profile for profile in PROFILES if profile != "quick")]
    return {profile: _shown(getattr(resolve({"profile": profile}), name)) for profile in names}


def text_table() -> str:
    """Every parameter as text of 100 columns: name, default, meaning, and other profiles where they differ."""
    lines = ["Defaults are those of the profile quick.  Where other profiles differ, they are named."]
    for title, names in sections().items():
        lines += ["", title]
        for name in names:
            own = _by_profile(name)
            others = "" if name == "profile" else "; ".join(f"{p} {v}" for p, v in own.items() if v != own["quick"])
            about = f"{_meaning(name)}{f'  [{others}]' if others else ''}"
            lines.append(f"  {name} = {own['quick']}")
            lines += textwrap.wrap(about, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def markdown_table() -> str:
    """Every parameter with its value in each profile and what it is, as a page in Markdown."""
    profiles = list(_by_profile("profile"))
    lines = ["# Parameters", "", "Written by `lensdet parameters --markdown`.  A notebook takes them in its parameter "
             "cell, papermill by `-f FILE` and `-p NAME VALUE`, and so do `lensdet train`, `rank` and `export`.  "
             "`quick` is the default profile; `thesis` has the thesis' own values.  "
             "`lensdet finder` takes `own`, and with any profile `simulation` broad, `renormalise` True, "
             "`contaminant_fraction` 0.5, `large_size` 0 and `data_seed` 1 where they are not given."]  # fmt: skip
    for title, names in sections().items():
        lines += ["", f"## {title}", "", f"| parameter | meaning | {' | '.join(profiles)} |"]
        lines.append("|---" * (len(profiles) + 2) + "|")
        for name in names:
            own = _by_profile(name)
            cells = [own[profile] for profile in profiles]
            if name != "profile" and len(set(cells)) == 1:
                cells = [cells[0], *[""] * (len(cells) - 1)]  # the same in all
            lines.append(f"| `{name}` | {_meaning(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)
