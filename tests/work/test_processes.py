"""Processes that end together, and a command that is stopped from outside: nothing lives on, nothing is left."""

import os
import signal
import subprocess
import sys
import time

import pytest

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), flush=True)
child.wait()
"""
BEGIN = "from rds_lib.work.processes import begin_command; begin_command()\n"
WAIT = "import time; print('ready', flush=True); time.sleep(60)"


def start(code, **variables):
    process = subprocess.Popen(
        [sys.executable, "-c", code] if isinstance(code, str) else code,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
        start_new_session=True,  # as a terminal gives it
    )
    return process


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid, seconds=4.0):
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("runner", ["DVC_STAGE", "TORCHELASTIC_RUN_ID", ""])
def test_a_command_ends_with_the_dvc_or_torchrun_that_started_it_and_outlives_a_shell(runner):
    with start([sys.executable, "-c", PARENT, BEGIN + WAIT], **({runner: "x"} if runner else {})) as parent:
        child = int(parent.stdout.readline().split()[0])
        parent.kill()
    try:
        assert ends(child) if runner else not ends(child, 0.5)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_command_whose_parent_was_dead_before_it_looked_ends_at_once(tmp_path):
    late = f"import time; time.sleep(1)\n{BEGIN}open({str(tmp_path / 'lived')!r}, 'w')"
    code = f"import os, subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {late!r}]).pid); os._exit(0)"
    with start(code.replace("os._exit", "sys.stdout.flush(); os._exit"), DVC_STAGE="train") as parent:
        child = int(parent.stdout.readline())
    assert ends(child, 10) and not (tmp_path / "lived").exists()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_leaves_nothing_half_written(told, tmp_path):
    code = BEGIN + (
        "import pathlib, time; from rds_lib.work.locks import claim; from rds_lib.core.artifacts import atomic_write\n"
        f"place = pathlib.Path({str(tmp_path / 'out')!r})\n"
        "with claim(place), atomic_write(place) as half:\n"
        "    half.write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    with start(code) as process:
        assert process.stdout.readline() == "ready\n" and len(list(tmp_path.iterdir())) == 2
        process.send_signal(told)
    assert list(tmp_path.iterdir()) == []
    assert process.returncode == (143 if told == signal.SIGTERM else -signal.SIGINT)  # 130 from the command line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_what_must_be_whole(number):
    code = (
        "import os, signal, threading\n"
        "from rds_lib.work.processes import begin_command, uninterrupted\n"
        "begin_command()\n"
        "before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)\n"
        "with uninterrupted():\n    pass\n"
        "assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))\n"
        "try:\n"
        "    with uninterrupted():\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        print('written whole', flush=True)\n"
        "    print('never', flush=True)\n"
        "except (KeyboardInterrupt, SystemExit) as stop:\n"
        "    print(type(stop).__name__, flush=True)\n"
        "def write():\n"
        "    with uninterrupted():\n        print('thread', flush=True)\n"
        "thread = threading.Thread(target=write)\nthread.start()\nthread.join()\n"
    )
    process = start(code)
    out, _ = process.communicate(timeout=60)
    name = {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "SystemExit"}[number]
    assert (out.split("\n")[:3], process.returncode) == (["written whole", name, "thread"], 0)
