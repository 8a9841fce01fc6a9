"""``lensdet COMMAND``, or ``python -m lensdet COMMAND``: what is done outside of notebooks."""

import argparse
import contextlib
import errno
import json
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lensdet.parameter_tables import markdown_table, text_table
from lensdet.parameters import ParameterError, Parameters, read_yaml, resolve

GIVEN = """-f FILE is a YAML file of parameters, such as those in params/; -p NAME VALUE gives one of them, such as
-p runs 3 or -p experiments bce,fbeta.  `lensdet parameters` lists all."""


def parser() -> argparse.ArgumentParser:
    """The command line: commands, each with a help text and an example."""
    top = argparse.ArgumentParser(
        prog="lensdet",
        description="Finding strong gravitational lenses with soft losses.",
        epilog="`lensdet COMMAND --help` explains a command.  Figures are drawn by `tox -e figures`, or by papermill: "
        "papermill notebooks/02_losses.py out.ipynb -f params/fbeta.yaml",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    made = _command(
        commands, train, "train", "train the runs that results/ does not have yet",
        "Train the runs that are missing in results/, for as long as there is time.  Run again, it resumes: a run that "
        "was stopped is taken up where it was, and what is complete is left alone.  Exit status: 0 when all runs are "
        "there, 3 when some are still missing.",
        "lensdet train -p profile evening -p experiments bce,fbeta --jobs 2 --minutes 90",
    )  # fmt: skip
    made.add_argument("--minutes", type=float, help="stop after this time (default: when all is done)")
    more = "train N runs side by side, each in a process with its share of the cores (default: 1)"
    made.add_argument("--jobs", type=int, default=1, metavar="N", help=more)
    more = "also the networks of the input-dependent ensembles, after their members"
    made.add_argument("--ensembles", action="store_true", help=more)
    more = "put all complete runs, without weights, into a file; `python -m zipfile -e ZIP results/` unpacks it"
    made.add_argument("--pack", type=Path, metavar="ZIP", help=more)
    more = "of all runs the I-th alone, and each N-th from there on: a task of N on a cluster"
    made.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help=more)
    _command(
        commands, check, "check", "look at a survey before it is ranked",
        "Say what ranking a survey would do, from headers and a sample of its pixels: bands, scales and sizes, what is "
        "left out and why, what is no galaxy, how long it takes.  Errors come with their remedies, as the command line "
        "takes them.  Exit status: 0, or 1 where nothing could be ranked.",
        "lensdet check -p catalogue galaxies.csv -p tiles tiles/",
    )  # fmt: skip
    made = _command(
        commands, rank, "rank", "rank a survey of your own, the most likely lens first",
        "Rank a survey's stamps by how much they look like lenses: a folder of FITS stamps (-p survey FOLDER), or a "
        "catalogue and tiles (-p catalogue FILE -p tiles FILE).  Writes ranked.ecsv, ranked.fits, rejected.csv and "
        "page/index.html to -p output FOLDER (default: build/candidates/<survey>).  Interrupted, it resumes when run "
        "again; where stamps were added, these alone are scored.  Exit status: 0 when every stamp was ranked, 3 when "
        "some were left out (rejected.csv says why) or passed over, 1 "
        "when none could be used or, with -p on_bad raise, at the first "
        "that cannot, 2 for a parameter that cannot be.",
        "lensdet rank -p survey my_stamps/ -p pixel_scale 0.2",
    )  # fmt: skip
    more = "score the I-th of N parts alone, as on a cluster, and rank nothing; `lensdet merge` ranks when all are done"
    made.add_argument("--shard", type=_shard, metavar="I/N", help=more)
    _command(
        commands, merge, "merge", "rank a survey whose shards were scored by `lensdet rank --shard`",
        "Rank a survey of which each part was scored by `lensdet rank --shard I/N`, with the same parameters: the list "
        "is that of `lensdet rank` without shards.  Exit status: as that of rank; 1 where a shard has not ended.",
        "lensdet merge -p survey my_stamps/ -p pixel_scale 0.2",
    )  # fmt: skip
    made = _command(
        commands, finder, "finder", "make a finder of your own: simulated arcs on your own galaxies",
        "Train the networks of weights/broad.h5 (-p start) further, on galaxies of your own survey, on which simulated "
        "sources are painted at their pixel scale and with their PSF, and on the broad simulated survey.  Leaves a "
        "finder file for `lensdet rank -p finders`, and a report on galaxies that were kept apart: whether to trust "
        "it.  20 galaxies at least, 100 or more are better; without visible arcs, as far as is known.  Interrupted, it "
        "goes on where it was when run again.  Some 13 minutes on two idle cores; -p profile smoke tries it out in "
        "minutes.  Exit status: 0 when finder and report are there, 3 when the time was over before, 2 for what "
        "cannot be.",
        "lensdet finder --hosts my_galaxies/",
    )  # fmt: skip
    made.add_argument("--hosts", metavar="FOLDER", help="FITS stamps of galaxies, or an HDF5 file of them; 101 x 101 "
                      "pixels or more, of one band")  # fmt: skip
    made.add_argument(
        "--negatives", metavar="FOLDER", help="more stamps, of what is no lens: what a finder took for one"
    )
    more = "table with columns id and grade of people's grades of these stamps: lens, A, B; non-lens, X"
    made.add_argument("--labels", metavar="CSV", help=more)
    made.add_argument("--minutes", type=float, help="stop after this time; the same command goes on")
    made = _command(
        commands, grades, "grades", "merge what people graded: a table, their agreement, figures, a page, labels",
        "Merge the grades that people gave to a ranked list by lensdet.grade(OUTPUT, grader=NAME) in a notebook; each "
        "person's are in OUTPUT/grades/NAME.csv and NAME.json, and those of people elsewhere may be copied there.  "
        "Writes into OUTPUT/graded: grades.csv and grades.ecsv, a row a candidate with each person's grade, mean and "
        "scatter; agreement.csv, Cohen's and Fleiss' kappa, how often each person gave the same grade twice, the share "
        "of controls found, the purity of the first N, each with its interval and n; labels.csv, for lensdet finder "
        "--labels; grades and best as PNG and PDF and grades.tex, for a paper; and index.html, to send to others.  "
        "Again, it replaces these.  Exit status: 0, or 2 where there are no grades, or grades of different classes.",
        "lensdet grades build/candidates/my_stamps",
        takes_parameters=False,
    )  # fmt: skip
    made.add_argument("output", type=Path, metavar="OUTPUT", help="the folder of the list, from lensdet rank")
    more = "candidates of grades.tex and of the figure best (default: 24)"
    made.add_argument("--best", type=_number, default=24, metavar="N", help=more)
    made = _command(
        commands, export, "export", "write trained networks as finders, which score stamps anywhere",
        "Write the run of median validation loss of each experiment to weights/<experiment>.h5 in float16, and say how "
        "far its logits are from those of the float32 weights on the test set.  Outside the repository, weights/ and "
        "results/ lie in the current folder.",
        "lensdet export -p profile quick -p experiments bce,fbeta",
    )  # fmt: skip
    made.add_argument("--folder", type=Path, help="where to write (default: weights/)")
    more = "all runs of the first experiment as one finder of this name, whose probability is the mean of theirs"
    made.add_argument("--together", metavar="NAME", help=more)
    made = _command(
        commands, parameters, "parameters", "print every parameter: default, unit, meaning, profiles",
        "Print every parameter with its default, what it is and in which unit, and where a profile has another value.",
        "lensdet parameters",
        takes_parameters=False,
    )  # fmt: skip
    made.add_argument("--markdown", action="store_true", help="as the page docs/reference/parameters.md")
    return top


def _command(commands, does, name, summary, description, example, takes_parameters=True):
    epilog = f"example:\n  {example}" + takes_parameters * f"\n\n{textwrap.fill(GIVEN, 100)}"
    made = commands.add_parser(
        name, help=summary, description=textwrap.fill(description, 100), epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(does=does, fail=made.error)
    if takes_parameters:
        made.add_argument("-f", dest="file", metavar="FILE", help="a YAML file of parameters")
        made.add_argument("-p", dest="given", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                          help="one parameter; may be given several times")  # fmt: skip
    return made


def _shard(text):
    """``I/N`` as two numbers."""
    found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise argparse.ArgumentTypeError(f"{text}: give I/N with I from 1 to N, such as 7/64")
    return number, of


def _number(text):
    """A whole number from 1 on."""
    if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 on, such as 24")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 2 where a parameter or file is wrong."""
    options = parser().parse_args(arguments)
    try:
        return options.does(options)
    except ParameterError as error:
        options.fail(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on where this one was", file=sys.stderr)
        return 130


def values(options: argparse.Namespace) -> dict[str, Any]:
    """Parameters of ``-f`` and ``-p`` by name; the latter win.

    Of the latter numbers, True, False, None and lists or mappings in brackets are what they say; all else is text.  A
    path is always the name as typed, such as 007 or null.  What takes several, given several times, takes all.
    """
    try:
        found = read_yaml(options.file) if options.file else {}
    except OSError as error:
        raise ParameterError(str(error)) from None
    several = {}
    for name, text in options.given:
        value, kind = text, str(getattr(Parameters.model_fields.get(name), "annotation", ""))
        with contextlib.suppress(ValueError, yaml.YAMLError):
            if text[:1] in "[{" and not Path(text).exists():
                value = yaml.safe_load(text)
            elif "Path" not in kind:
                value = json.loads(text.lower().replace("none", "null"))
        if name in several and kind.startswith("tuple"):
            value = [*several[name], *(value if isinstance(value, list) else [value])]
        several[name] = value if isinstance(value, list) else [value]
        found[name] = value
    return found


def train(options: argparse.Namespace) -> int:
    """``lensdet train``."""
    from lensdet.network import side_by_side

    given = values(options)
    left = side_by_side.train(given, options.ensembles, options.jobs, options.minutes, options.pack, options.shard)
    print(f"runs still missing: {left}" if left else "all runs are there", flush=True)
    return 3 if left else 0


def check(options: argparse.Namespace) -> int:
    """``lensdet check``."""
    from lensdet.survey import check, ranking

    def does(p):
        finders = ranking.load_finders(p.finders)
        return check.look(ranking.plan(p, finders), finders, p.workers)

    return _outcome(options, does)


def rank(options: argparse.Namespace) -> int:
    """``lensdet rank``."""
    from lensdet.survey import ranking, scoring

    if options.shard is None:
        return _outcome(options, ranking.rank_survey)
    return _outcome(options, lambda p: ranking.score_shard(p, scoring.Shard(*options.shard)))


def merge(options: argparse.Namespace) -> int:
    """``lensdet merge``."""
    from lensdet.survey import ranking

    return _outcome(options, lambda p: ranking.rank_survey(p, merge=True))


def _outcome(options, does):
    """Exit status of what looks at a survey, ranks it or scores a shard, after its outcome or error is printed."""
    from lensdet.data.stamps import StampError
    from lensdet.survey import ranking

    p = None
    try:
        p = resolve(values(options))
        outcome = does(p)
    except (ranking.NothingUsable, ranking.Unfinished, StampError) as error:  # the latter: stopped at it, or no tile
        print(error, file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:  # of the user's files: a catalogue without positions, tiles of no sky
        raise ParameterError(f"{error}{_of_output(error, p)}") from None
    if isinstance(outcome, list):
        return _print_lines(outcome)
    if isinstance(outcome, Path):
        print(f"scored: {outcome}")
        return 0
    flagged = int((outcome.ranked["flag"] != "").sum())
    print(f"{len(outcome.ranked):,} ranked, {flagged:,} of them flagged and listed last; left out: "
          f"{ranking.counted(outcome.rejections)}")  # fmt: skip
    print(*outcome.plan.remarks, *outcome.advice, outcome.page, sep="\n")
    return 3 if outcome.rejections or outcome.plan.passed_over else 0


def _of_output(error, parameters):
    """What a message adds where the disk is full, of which Python says no path, or the output cannot be written."""
    from lensdet.survey import ranking

    if not isinstance(error, OSError) or not parameters or not (parameters.survey or parameters.catalogue):
        return ""
    with contextlib.suppress(ValueError):  # the output lies in the survey, which was not noticed yet
        place = ranking.output_folder(parameters)
        if error.errno == errno.ENOSPC:
            return f": {place}"
        if isinstance(error.filename, str) and Path(error.filename).absolute().is_relative_to(place.absolute()):
            return "; choose another folder, by -p output FOLDER"
    return ""


def _print_lines(lines):
    """Print what `survey.check` found, in colours on a terminal; 1 where there is an error."""
    colours = {"ok": "32", "warning": "33", "error": "31"}
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    for line in lines:
        level = f"{line.level:8}" if plain else f"\033[{colours[line.level]}m{line.level:8}\033[0m"
        print(level + line.text, *([f"        {line.remedy}"] if line.remedy else []), sep="\n")
    return int(any(line.level == "error" for line in lines))


def finder(options: argparse.Namespace) -> int:
    """``lensdet finder``."""
    from lensdet.network import training
    from lensdet.survey import own_finder

    named = {name: getattr(options, name) for name in ("hosts", "negatives", "labels")}
    given = {name: value for name, value in named.items() if value is not None}
    try:
        page = own_finder.make(
            resolve({"profile": "own"} | own_finder.BROAD | values(options) | given), options.minutes
        )
    except training.Busy as error:
        print(error, flush=True)
        return 3
    except (ValueError, OSError) as error:
        raise ParameterError(str(error)) from None
    print(page)
    return 0


def grades(options: argparse.Namespace) -> int:
    """``lensdet grades``."""
    from lensdet.survey import grade_report

    try:
        merged, page = grade_report.write(options.output, options.best)
    except (ValueError, OSError) as error:
        raise ParameterError(str(error)) from None
    print(*grade_report.said(merged), page, sep="\n")
    return 0


def export(options: argparse.Namespace) -> int:
    """``lensdet export``."""
    from lensdet.network import finders

    given = values(options)
    if options.together:
        from lensdet.survey import own_finder

        print(own_finder.export_together(resolve(given), options.together, options.folder))
        return 0
    p = resolve({"experiments": finders.EXPERIMENTS} | given)
    for line in finders.export_median(p, options.folder):
        print(line, flush=True)
    return 0


def parameters(options: argparse.Namespace) -> int:
    """``lensdet parameters``."""
    print(markdown_table() if options.markdown else text_table())
    return 0
