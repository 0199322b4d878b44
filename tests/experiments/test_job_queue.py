"""Order, failures, skipping, locking and interruption of jobs, with stub programs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ska_vct.experiments.job_queue import Job, JobQueue, format_seconds, is_locked


def job(folder: Path, name: str, code: str = "", **options) -> Job:
    return Job(name=name, folder=folder / name, command=[sys.executable, "-S", "-c", code], **options)


def queue(lines: list, slots: int = 1) -> JobQueue:
    return JobQueue(slots=[{"SLOT": str(slot)} for slot in range(slots)], say=lines.append, poll_seconds=0.02)


def test_jobs_run_in_order_and_report_when_they_end(tmp_path):
    trace = tmp_path / "trace"
    write = "import sys; open({!r}, 'a').write({!r}); print('said')"
    jobs = [job(tmp_path, name, write.format(str(trace), name)) for name in "bac"]
    lines = []
    result = queue(lines).run(jobs)
    assert trace.read_text() == "bac" and result.done == ["b", "a", "c"]
    assert (tmp_path / "b" / "log.txt").read_text() == "said\n"
    ends = [line for line in lines if "done in" in line]
    assert len(ends) == 3 and "(2 of 3, about" in ends[1] and ends[2].endswith("(3 of 3)")


def test_as_many_jobs_run_at_once_as_there_are_slots(tmp_path):
    # Each job waits for the other: with one slot neither would end.
    wait = "import os, time; open({!r}, 'w').write(os.environ['SLOT'])"
    wait += "\nwhile not os.path.exists({!r}): time.sleep(.01)"
    a, b = str(tmp_path / "slot_a"), str(tmp_path / "slot_b")
    result = queue([], slots=2).run([job(tmp_path, "a", wait.format(a, b)), job(tmp_path, "b", wait.format(b, a))])
    assert sorted(result.done) == ["a", "b"]
    assert {Path(a).read_text(), Path(b).read_text()} == {"0", "1"}


def test_a_failing_job_is_reported_and_the_others_continue(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "log.txt").write_text("of an earlier start\n")
    lines = []
    bad = job(tmp_path, "bad", "import sys; print('before'); sys.exit('the reason')")
    result = queue(lines).run([bad, job(tmp_path, "good")])
    assert (result.failed, result.done) == (["bad"], ["good"])
    assert any("FAILED, exit status 1" in line for line in lines)
    assert sorted(line for line in lines if line.startswith("    |")) == ["    | before", "    | the reason"]


def test_finished_jobs_are_skipped(tmp_path):
    done = job(tmp_path, "done", "raise SystemExit(1)", is_finished=lambda: True)
    result = queue([]).run([done, job(tmp_path, "other")])
    assert (result.skipped, result.done, result.failed) == (["done"], ["other"], [])


def test_a_job_running_in_another_process_is_skipped(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ska_vct.experiments.job_queue import Job, JobQueue\n"
        f"folder = Path({str(tmp_path / 'a')!r})\n"
        'wait = \'import time; open("started", "w"); time.sleep(60)\'\n'
        "job = Job(name='a', folder=folder, command=[sys.executable, '-S', '-c', wait])\n"
        "JobQueue().run([job])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    other = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    try:
        _wait_for(lambda: (tmp_path / "started").exists())
        lines = []
        result = queue(lines).run([job(tmp_path, "a"), job(tmp_path, "b")])
        assert (result.elsewhere, result.done) == (["a"], ["b"]) and is_locked(tmp_path / "a")
        # When the process is killed, its program survives and still holds the lock.
        other.kill()
        other.wait()
        assert is_locked(tmp_path / "a")
    finally:
        other.kill()
        other.wait()
        for process in _processes_with(str(tmp_path)):
            os.kill(process, signal.SIGKILL)
    _wait_for(lambda: not is_locked(tmp_path / "a"))


def _processes_with(folder: str) -> list[int]:
    """Processes whose working folder is ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == folder:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_an_interruption_stops_the_programs_and_unlocks_their_folders(tmp_path, monkeypatch):
    # Each program renames its file into place, so that a visible file is complete.
    code = "import os, time; open({0!r}, 'w').write(str(os.getpid())); os.rename({0!r}, {1!r}); time.sleep(60)"
    pid_files = [tmp_path / f"pid_{name}" for name in "ab"]
    jobs = [job(tmp_path, p.name[-1], code.format(f"{p}.part", str(p))) for p in pid_files] + [job(tmp_path, "c")]
    sleep = time.sleep

    def interrupt(seconds: float) -> None:
        sleep(seconds)
        if all(pid_file.exists() for pid_file in pid_files):
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        queue([], slots=2).run(jobs)
    assert not any(is_locked(tmp_path / name) for name in "ab")
    assert not any(Path(f"/proc/{pid_file.read_text()}").exists() for pid_file in pid_files)
    assert not (tmp_path / "c").exists()


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("seconds", "text"), [(12.4, "12 s"), (452, "7 min 32 s"), (7500, "2 h 05 min")])
def test_format_of_durations(seconds, text):
    assert format_seconds(seconds) == text
