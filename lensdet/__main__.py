"""``python -m lensdet COMMAND``: what is done outside of notebooks."""

import importlib
import signal
import sys

COMMANDS = {
    "train": ("network.side_by_side", "train the runs that results/ does not have yet"),
    "rank": ("survey.ranking", "rank a survey of your own, the most likely lens first"),
    "export": ("network.finders", "write trained networks as finders, which score stamps anywhere"),
    "draw": ("machinery.drawing", "draw every figure and table that is out of date"),
    "paper": ("machinery.paper", "write the executed notebooks as a site"),
    "parameters": ("machinery.parameters", "print every parameter, its profiles and what it is"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print("usage: python -m lensdet COMMAND [--help | ARGUMENTS]\n\ncommands:")
        print("\n".join(f"  {command:<12}{does}" for command, (_, does) in COMMANDS.items()))
        return 0 if arguments else 2
    if name not in COMMANDS:
        print(f"lensdet: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"lensdet.{COMMANDS[name][0]}").main(arguments[1:])


if __name__ == "__main__":
    if sys.argv[1:2] == ["draw"]:  # the notebooks and trainings that it started end with it, as when it is interrupted
        for ends in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):  # Windows has no SIGHUP
            if ends is not None and signal.getsignal(ends) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(ends, signal.default_int_handler)
    sys.exit(main())
