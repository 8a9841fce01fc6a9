"""``lensdet COMMAND``: help that teaches, parameters as papermill has them, exit statuses."""

import subprocess
import sys

import pytest

from lensdet import cli

COMMANDS = ("train", "rank", "export", "parameters")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and f"example:\n  lensdet {command}" in said
    assert ("-p NAME VALUE" in said) == (command != "parameters")


def test_help_lists_all_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"    {command}" in said for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], "invalid choice: 'tarin'"),
        ([], "required: COMMAND"),
        (["rank", "-p", "surve", "x"], "did you mean 'survey'"),
        (["export", "-p", "profile", "lit"], "did you mean 'lite'"),
        (["train", "-f", "none.yaml"], "none.yaml"),
    ],
)
def test_what_cannot_be_is_named_with_exit_status_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_parameters_come_from_the_file_and_then_from_the_command_line(tmp_path):
    (tmp_path / "p.yaml").write_text("runs: 3\nbeta: 0.5\n")
    given = {
        "runs": "4",
        "survey": "night [1",
        "tiles": "[a, b]",
        "output": "2024-05-01",
        "band": "on",
        "shift": "1e-3",
        "columns": "{ra: RA}",
        "data": "None",
        "redraw_validation": "true",
        "hardness": "0.5",
        "catalogue": "12:30",
    }
    words = [word for pair in given.items() for word in ("-p", *pair)]
    options = cli.parser().parse_args(["rank", "-f", str(tmp_path / "p.yaml"), *words])
    assert cli.values(options) == {
        "runs": 4, "beta": 0.5, "survey": "night [1", "tiles": ["a", "b"], "output": "2024-05-01", "band": "on",
        "shift": 1e-3, "columns": {"ra": "RA"}, "data": None, "redraw_validation": True, "hardness": 0.5,
        "catalogue": "12:30",
    }  # fmt: skip


def test_module_is_the_command_and_loads_no_network_library_for_help():
    code = (
        "import runpy, sys; sys.argv = ['lensdet', '--help']\n"
        "try:\n    runpy.run_module('lensdet', run_name='__main__')\n"
        "except SystemExit as end:\n    print(end.code, {'keras', 'tensorflow', 'jax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("0 set()\n") and "usage: lensdet" in done.stdout
