"""``lensdet COMMAND``: help that teaches, parameters as papermill has them, exit statuses."""

import errno
import subprocess
import sys

import pytest

from lensdet import cli
from lensdet.parameters import resolve

COMMANDS = ("train", "check", "rank", "merge", "finder", "grades", "export", "parameters")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and f"example:\n  lensdet {command}" in said
    assert ("-p NAME VALUE" in said) == (command not in ("grades", "parameters"))


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
        *((["rank", "--shard", shard], f"{shard}: give I/N") for shard in ("0/4", "5/4", "1/0", "1/n", "1")),
    ],
)
def test_what_cannot_be_is_named_with_exit_status_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_a_full_disk_is_named(tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lensdet.survey.ranking.rank_survey", full)
    with pytest.raises(SystemExit):
        cli.main(["rank", "-p", "survey", str(tmp_path / "s"), "-p", "output", str(tmp_path / "out")])
    assert capsys.readouterr().err.endswith(f"No space left on device: {tmp_path / 'out'}\n")


def test_an_output_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, capsys):
    def closed(_):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out" / "scores-1"))

    monkeypatch.setattr("lensdet.survey.ranking.rank_survey", closed)
    for output, more in (("out", True), ("other", False)):
        with pytest.raises(SystemExit):
            cli.main(["rank", "-p", "survey", str(tmp_path / "s"), "-p", "output", str(tmp_path / output)])
        said = capsys.readouterr().err
        assert "Permission denied" in said and ("choose another folder, by -p output FOLDER" in said) == more


def test_options_of_a_finder_are_parameters_and_win(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("lensdet.survey.own_finder.make", lambda p, minutes: asked.append((p, minutes)) or tmp_path)
    words = ["finder", "--hosts", str(tmp_path / "7"), "-p", "hosts", "other", "--minutes", "1.5", "-p", "runs", "2"]
    assert cli.main([*words, "--negatives", "1e5", "--labels", "g.csv"]) == 0
    p, minutes = asked[0]
    assert p.hosts == tmp_path / "7" and p.negatives.name == "1e5" and p.labels.name == "g.csv" and minutes == 1.5
    assert (p.profile, p.runs, p.simulation, p.renormalise) == ("own", 2, "broad", True)
    assert cli.main(["finder", "-p", "hosts", str(tmp_path), "-p", "profile", "smoke"]) == 0
    p, minutes = asked[1]
    assert p.hosts == tmp_path and p.profile == "smoke" and p.simulation == "broad" and minutes is None


def test_an_interruption_ends_in_a_line(monkeypatch, capsys):
    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "values", stopped)
    assert cli.main(["train"]) == 130 and "goes on where this one was" in capsys.readouterr().err


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
        "dynamic_chunks": "None",
        "data": "null",
        "redraw_validation": "true",
        "hardness": "0.5",
        "catalogue": "12:30",
    }
    words = [word for pair in given.items() for word in ("-p", *pair)]
    options = cli.parser().parse_args(["rank", "-f", str(tmp_path / "p.yaml"), *words])
    assert cli.values(options) == {
        "runs": 4, "beta": 0.5, "survey": "night [1", "tiles": ["a", "b"], "output": "2024-05-01", "band": "on",
        "shift": 1e-3, "columns": {"ra": "RA"}, "dynamic_chunks": None,
        "data": "null", "redraw_validation": True, "hardness": 0.5,
        "catalogue": "12:30",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["2024_01", "007", "on", "1e5", "null", "2024-01-01", "a,b", "[1]", "True"])
def test_a_folder_is_taken_by_the_name_that_was_typed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    for command in (["-p", "survey", name], ["-p", "catalogue", "c.csv", "-p", "tiles", name]):
        p = resolve(cli.values(cli.parser().parse_args(["rank", *command])))
        assert tmp_path / name in (p.survey, *p.tiles) and len(p.tiles) < 2


def test_tiles_given_several_times_are_all_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "rank -p catalogue c.csv -p tiles A -p tiles B,C -p tiles [D,E] -p runs 1 -p runs 2".split()
    (tmp_path / "B,C").mkdir()
    p = resolve(cli.values(cli.parser().parse_args(words)))
    assert [t.name for t in p.tiles] == ["A", "B,C", "D", "E"] and p.runs == 2


def test_module_is_the_command_and_loads_no_network_library_for_help():
    code = (
        "import runpy, sys; sys.argv = ['lensdet', '--help']\n"
        "try:\n    runpy.run_module('lensdet', run_name='__main__')\n"
        "except SystemExit as end:\n    print(end.code, {'keras', 'tensorflow', 'jax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("0 set()\n") and "usage: lensdet" in done.stdout
