"""A survey on a cluster: shards in turn, at once, killed and queued again; the list is that of one process."""

import getpass
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from astropy.table import Table

from lensdet import cli, parameters
from lensdet.data import simulation, stamps
from lensdet.runs import Run
from lensdet.survey import ranking, scoring
from tests.survey.test_ranking import exported, finders  # noqa: F401

CLUSTER = Path(__file__).parents[2] / "docs" / "how-to" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sbatch"))
N, BATCH = 40, 4
ONE = ("--cpus-per-task=1", "--mem=4G")  # a processor, and memory that a laptop has
DAEMONS = ("munged", "slurmctld", "slurmd")


@pytest.fixture(scope="module")
def given(tmp_path_factory, smoke, finders):  # noqa: F811
    """Words of a command: a survey of 40 stamps and one that cannot be used, and two tiny finders."""
    folder, weights = tmp_path_factory.mktemp("a survey"), tmp_path_factory.mktemp("weights")
    for i in range(N):
        stamps.write_stamp(folder / f"{i:02d}.fits", simulation.render("lrg", 700 + i, smoke)[0])
    (folder / "text.fits").write_text("no image\n" * 400)
    more = {"survey": folder, "finders": json.dumps(exported(finders, weights)), "page_size": 1, "pixel_scale": 0.2}
    return [word for name, value in more.items() for word in ("-p", name, str(value))]


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(given):
    """Commands of this process share the finders."""
    loaded = ranking.load_finders(json.loads(given[given.index("finders") + 1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "load_finders", lambda _: loaded)
        yield


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """The list without shards."""
    output = tmp_path_factory.mktemp("whole")
    assert cli.main(["rank", *given, "-p", "workers", "1", "-p", "output", str(output)]) == 3
    return Table.read(output / "ranked.ecsv")


def assert_same_list(output, whole):
    """Row by row, in all columns; logits within the rounding of sums, whose order is another beside other stamps."""
    merged = Table.read(output / "ranked.ecsv")
    assert merged.colnames == whole.colnames and len(merged) == len(whole) == N + 1
    pd.testing.assert_frame_equal(merged.to_pandas(), whole.to_pandas(), rtol=1e-5, atol=1e-5)
    assert merged.meta == whole.meta


def program(folder, name, text):
    """A program of that name, which a command finds before others."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_a_cluster_are_short_and_bash_reads_them(script):
    assert len(SCRIPTS) == 2 and len(script.read_text().splitlines()) <= 30
    subprocess.run(["bash", "-n", script], check=True)


def asked(tmp_path, script, given, task, **more):
    """Status of a script as Slurm runs it, and the arguments and threads that lensdet then gets."""
    record = (
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\nsys.exit(3)"
    )
    program(tmp_path / "bin", "lensdet", record)
    slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "2", **more}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(["bash", script, *given], env=os.environ | slurm | {"PATH": path}, stdout=subprocess.PIPE)
    return done.returncode, *json.loads(done.stdout)


def test_shards_that_the_script_asks_for_merge_to_the_whole_list(given, whole, tmp_path, capsys):
    mine = [*given, "-p", "output", str(tmp_path / "the list")]
    for task in (3, 1, 2):
        if task == 2:
            assert cli.main(["merge", *mine]) == 1
            assert "14 of 41 stamps are not scored yet" in (said := capsys.readouterr().err)
            assert said.endswith("shards to run: 2/3\n")
        status, arguments, threads = asked(tmp_path, CLUSTER / "rank.sbatch", mine, task)
        assert status == 3 and arguments == ["rank", *mine, "--shard", f"{task}/3"]
        assert threads["OMP_NUM_THREADS"] == threads["LOKY_MAX_CPU_COUNT"] == threads["TF_NUM_INTRAOP_THREADS"] == "2"
        assert cli.main([*arguments, "-p", "workers", "1"]) == 0
    assert asked(tmp_path, CLUSTER / "rank.sbatch", mine, 7, SHARDS="64")[1][-1] == "7/64"  # one of them, again
    assert asked(tmp_path, CLUSTER / "train.sbatch", mine, 2)[1] == ["train", *mine, "--shard", "2/3"]
    assert cli.main(["merge", *mine]) == 3
    assert_same_list(tmp_path / "the list", whole)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_task_whose_time_is_nearly_up_ends_and_is_queued_again(script, tmp_path):
    """Only when lensdet has ended: Slurm need not find a process whose script has ended before."""
    ends = f"trap 'echo ended >> {tmp_path}/said; exit' TERM"
    program(tmp_path, "lensdet", f"#!/bin/bash\n{ends}\nsleep 0.3\nkill -USR1 $PPID\nsleep 5 &\nwait")
    program(tmp_path, "scontrol", f'#!/bin/bash\necho "$@" >> {tmp_path}/said')
    slurm = {"SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for often in ("", "19", "20"):  # no more than twenty times
        done = subprocess.run(["bash", script], env=os.environ | slurm | {"SLURM_RESTART_COUNT": often})
        assert done.returncode
    assert (tmp_path / "said").read_text() == "ended\nrequeue 71_2\n" * 2 + "ended\n"


def test_a_merge_after_stamps_were_added_asks_for_all_shards(given, tmp_path, capsys):
    survey = tmp_path / "survey"
    survey.mkdir()
    mine = ["-p", "survey", str(survey), *given[3:], "-p", "output", str(tmp_path / "list"), "-p", "workers", "1"]
    for i in range(2):
        shutil.copy(Path(given[2]) / f"0{i}.fits", survey)
    shards = [["rank", *mine, "--shard", f"{i}/2"] for i in (1, 2)]
    assert [cli.main(shard) for shard in shards] == [0, 0]
    shutil.copy(Path(given[2]) / "02.fits", survey)
    assert cli.main(["merge", *mine]) == 1
    said = capsys.readouterr().err
    assert "1 of 3 stamps are not scored yet" in said and "shards to run: all " in said


def test_what_another_process_is_writing_is_not_read(tmp_path):
    (tmp_path / ".a1b2c3d4.0123456789abcdef.npz").write_bytes(b"PK half")
    assert scoring._kept(tmp_path, ("key",))[0]["key"].size == 0


# ---- processes at the same moment, and Slurm

DRIVER = f"""#!{sys.executable}
# lensdet with small batches; after the first one it waits for as long as there is a file "hold".
import os, sys, time
from pathlib import Path

from lensdet import cli
from lensdet.survey import cutouts, reading

here, read, done = Path(os.environ["HERE"]), reading.read, []
task = os.environ.get("SLURM_ARRAY_TASK_ID", str(os.getpid()))

def noted(unit):
    with open(here / "read", "a") as file:
        file.write("".join(i + "\\n" for i in unit.ids))
    if done:
        (here / f"held-{{task}}").touch()
        while (here / "hold").exists():
            time.sleep(0.05)
    done.append(unit)
    return read(unit)

cutouts.BATCH, reading.read = {BATCH}, noted
sys.exit(cli.main())
"""


def wait_for(reached, seconds=300):
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not reached in {seconds} s"
        time.sleep(0.1)


def scored(given, output):
    """How often each stamp of a survey was scored, by its key; and the plan."""
    p = parameters.resolve(cli.values(cli.parser().parse_args(["rank", *given])))
    loaded = ranking.load_finders(p.finders)
    job = ranking.plan(p, loaded)
    known, bad = scoring._kept(scoring.scores_folder(job, loaded, output), ("key",))
    return Counter([*known["key"].tolist(), *(key for key, *_ in bad)]), [key.decode() for key in job.keys]


@pytest.mark.slow
def test_shards_and_the_same_shard_at_the_same_moment_score_each_stamp_once(given, whole, tmp_path):
    program(tmp_path, "lensdet", DRIVER)
    output = tmp_path / "list"
    mine = [*given, "-p", "output", str(output), "-p", "workers", "1"]  # stamps are read where the driver notes them
    environment = os.environ | {"HERE": str(tmp_path), "LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "1"}
    (tmp_path / "hold").touch()

    def shard(i):
        command = [sys.executable, tmp_path / "lensdet", "rank", *mine, "--shard", f"{i}/2"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    processes = [shard(1), shard(2), shard(1)]
    try:
        wait_for(lambda: len(list(tmp_path.glob("held-*"))) == 2 or any(one.poll() for one in processes))
        waits = processes[2 if (tmp_path / f"held-{processes[0].pid}").exists() else 0]
        assert waits.stdout.readline().startswith(f"another process scores the same stamps into {output}")
        (tmp_path / "hold").unlink()
        assert [process.wait() for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    assert set(Counter((tmp_path / "read").read_text().split()).values()) == {1}
    times, keys = scored(given, output)
    assert times == dict.fromkeys(keys, 1)
    assert cli.main(["merge", *mine]) == 3
    assert_same_list(output, whole)


def free_ports(n):
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


def slurm_conf(folder):
    """A cluster of this machine alone, two processors, nothing outside of a folder."""
    ports, host = free_ports(2), socket.gethostname().partition(".")[0]
    lines = [
        "ClusterName=test", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmctldPort={ports[0]}", f"SlurmdPort={ports[1]}",
        f"SlurmUser={getpass.getuser()}", f"SlurmdUser={getpass.getuser()}", "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge.socket", f"StateSaveLocation={folder}/state", f"SlurmdSpoolDir={folder}/spool",
        f"SlurmctldPidFile={folder}/slurmctld.pid", f"SlurmdPidFile={folder}/slurmd.pid", "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none", "SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU",
        "SlurmdParameters=config_overrides", "ReturnToService=2", "MailProg=/bin/true", "KillWait=5",
        f"NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN",
        "PartitionName=main Nodes=node Default=YES MaxTime=INFINITE State=UP",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def states(slurm, job):
    """The state of each task."""
    lines = slurm("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%K %T").splitlines()
    return dict(line.split() for line in lines)


def soon(slurm, job, *tasks):
    """Start tasks that are queued again, for which Slurm would wait two minutes."""
    for task in tasks:
        # not in the second in which it was stopped, of which the credential is revoked
        slurm("scontrol", "update", f"JobId={job}_{task}", "StartTime=now+10")


def end_well(slurm, job):
    """Wait for all tasks."""
    wait_for(lambda: not {"PENDING", "RUNNING", "COMPLETING"} & set(states(slurm, job).values()))
    assert set(states(slurm, job).values()) == {"COMPLETED"}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Runs a program of Slurm and returns what it says; the daemons are stopped in the end."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}:/usr/sbin:/sbin")
    if absent := [name for name in (*DAEMONS, "sbatch", "scontrol", "squeue", "sinfo") if not shutil.which(name)]:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: apt install slurm-wlm munge)")
    if os.geteuid():
        pytest.skip("slurmd starts tasks as root alone")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    (tmp_path / "slurm.conf").write_text(slurm_conf(tmp_path))
    (tmp_path / "munge.key").write_bytes(secrets.token_bytes(128))
    (tmp_path / "munge.key").chmod(0o600)
    for name in ("state", "spool"):
        (tmp_path / name).mkdir()
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = ["--foreground", "--force", *(f"--{name}={tmp_path}/munge.{end}" for name, end in files.items())]
    started = []

    def start(name, *arguments):
        with open(tmp_path / f"{name}.log", "w") as log:
            started.append(subprocess.Popen([name, *arguments], stdout=log, stderr=log, start_new_session=True))

    def ask(*command):
        return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    try:
        start("munged", *munge)
        wait_for(lambda: (tmp_path / "munge.socket").exists() or started[0].poll() is not None, 30)
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", "node")
        end = time.monotonic() + 60
        while (
            "idle" not in (state := subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)).stdout
        ):
            if time.monotonic() > end or any(process.poll() is not None for process in started):
                logs = " ".join((tmp_path / f"{name}.log").read_text()[-500:] for name in DAEMONS[: len(started)])
                pytest.skip(f"Slurm does not start here: {state} {logs}")
            time.sleep(0.2)
        yield ask
        ask("scancel", "--user", getpass.getuser())
        wait_for(lambda: not ask("squeue", "-h"), 60)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


@pytest.mark.slow
def test_shards_that_slurm_kills_and_queues_again_repeat_a_batch_and_the_list_is_the_same(
    slurm, given, whole, tmp_path, monkeypatch
):
    program(tmp_path, "lensdet", DRIVER)
    monkeypatch.setenv("HERE", str(tmp_path))
    (tmp_path / "hold").touch()
    mine = [*given, "-p", "output", str(tmp_path / "list"), "-p", "workers", "1"]
    job = slurm("sbatch", "--parsable", *ONE, "--array=1-4", CLUSTER / "rank.sbatch", *mine).strip()
    merge = f"exec lensdet merge {shlex.join(mine)}"
    last = slurm("sbatch", "--parsable", *ONE, f"--dependency=afterok:{job}", f"--wrap={merge}").strip()

    wait_for(lambda: all((tmp_path / f"held-{task}").exists() for task in (1, 2)))  # after a batch of each
    slurm("scontrol", "requeue", f"{job}_1")
    # what Slurm sends when the time is nearly up; not waited for, as scancel asks again where a task has just ended
    signal = subprocess.Popen(["scancel", "--signal=USR1", "--batch", f"{job}_2"])
    wait_for(lambda: {states(slurm, job)[task] for task in "12"} == {"PENDING"})
    signal.kill()
    signal.wait()
    (tmp_path / "hold").unlink()
    soon(slurm, job, 1, 2)
    end_well(slurm, job)
    read = Counter((tmp_path / "read").read_text().split())
    assert len(read) == N + 1 and Counter(read.values())[2] <= 2 * BATCH and max(read.values()) == 2
    times, keys = scored(given, tmp_path / "list")
    assert times == dict.fromkeys(keys, 1)
    wait_for(lambda: "JobState=PENDING" not in slurm("scontrol", "show", "job", last))
    wait_for(lambda: "ExitCode=3:0" in slurm("scontrol", "show", "job", last))  # one stamp was left out
    assert_same_list(tmp_path / "list", whole)


@pytest.mark.slow
def test_tasks_of_slurm_train_a_run_each(slurm, smoke_bank, tmp_path, monkeypatch):
    program(tmp_path, "lensdet", f'#!/bin/bash\nexec {sys.executable} -m lensdet "$@"\n')
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "results"))
    mine = ("-p", "profile", "smoke", "-p", "workers", "1", "-p", "experiments", "bce")
    job = slurm("sbatch", "--parsable", *ONE, "--array=1-2", CLUSTER / "train.sbatch", *mine).strip()
    folders = [tmp_path.glob(f"results/smoke/bce-*/run_0{i}") for i in (1, 2)]
    wait_for(lambda: any(tmp_path.glob("results/smoke/bce-*/run_01")))
    slurm("scontrol", "requeue", f"{job}_1")
    wait_for(lambda: states(slurm, job)["1"] == "PENDING")
    soon(slurm, job, 1)
    end_well(slurm, job)
    for i, folder in enumerate(folders, 1):
        assert Run(next(folder)).is_complete
        said = (tmp_path / f"lensdet-train-{job}_{i}.log").read_text()
        assert f"bce run {i}" in said and f"bce run {3 - i}" not in said and said.endswith("all runs are there\n")
