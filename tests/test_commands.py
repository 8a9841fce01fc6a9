"""``python -m lensdet COMMAND``."""

import importlib
import signal
import subprocess
import sys

import pytest

from lensdet.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help_page_that_names_it(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    said = capsys.readouterr().out
    # tox sets up what these two need, and is how they are started
    name = (
        f"tox -e {'figures' if command == 'draw' else command}"
        if command in ("draw", "paper")
        else f"lensdet {command}"
    )
    assert end.value.code == 0 and name in " ".join(said.split())


def test_help_lists_all_commands(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {command} " in said and does in said for command, (_, does) in COMMANDS.items())
    assert main([]) == 2  # nothing was asked for


def test_unknown_command_is_named_with_those_that_exist(capsys):
    assert main(["tarin"]) == 2
    assert "no command 'tarin'; there are train, rank" in capsys.readouterr().err


def test_exit_status_is_that_of_the_command(monkeypatch):
    module = importlib.import_module("lensdet.survey.ranking")
    monkeypatch.setattr(module, "main", lambda arguments: 3 if arguments == ["-p", "a", "b"] else 1)
    assert main(["rank", "-p", "a", "b"]) == 3


def test_package_runs_as_a_program_without_loading_a_network_library():
    code = (
        "import runpy, sys; sys.argv = ['lensdet', '--help']\n"
        "try:\n    runpy.run_module('lensdet', run_name='__main__')\n"
        "except SystemExit as end:\n    print(end.code, {'keras', 'tensorflow', 'jax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("0 set()\n") and "usage: python -m lensdet COMMAND" in done.stdout


STANDS_IN = """
import os, runpy, signal, sys
from lensdet import __main__ as commands
module = sys.modules["lensdet.machinery.drawing"] = type(sys)("drawing")
module.main = lambda arguments: print(*map(signal.getsignal, (signal.SIGHUP, signal.SIGTERM)), flush=True) or 0
if sys.argv.pop(1) == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
del sys.modules["lensdet.__main__"]
runpy.run_module("lensdet", run_name="__main__")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
@pytest.mark.parametrize("how", ["plain", "nohup"])
def test_drawing_ends_what_it_started_when_terminated_but_not_under_nohup(how):
    done = subprocess.run([sys.executable, "-c", STANDS_IN, how, "draw"], capture_output=True, text=True)
    hang_up, terminate = done.stdout.strip().split(" ", 1) if how == "nohup" else done.stdout.strip().split(">")[:2]
    assert "default_int_handler" in terminate, done.stderr
    assert ("default_int_handler" in hang_up) == (how == "plain")
