"""The runner of resumable steps: what is run, what is kept, what a marker must hold; real processes and their logs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from helpers.command_recorder import Recorder
from nnunetv2_diffusion.pipeline.processes import describe_seconds, execute_and_watch, find_script, last_lines
from nnunetv2_diffusion.pipeline.steps import Cost, Runner, Step


def test_commands_run_in_the_folder_with_their_output_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [find_script("python"), "-c", "import os; print(os.getcwd()); print(os.environ['WORD']); exit(3)"]
    assert execute_and_watch(command, tmp_path, {"WORD": "hello"}, log) == 3
    assert last_lines(log, 5) == [str(tmp_path.resolve()), "hello"]


def test_of_a_progress_bar_the_end_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"start\n 0%|\r50%|\r100%|\n\nRuntimeError: no\n")
    assert last_lines(log, 2) == ["100%|", "RuntimeError: no"]


def test_a_marker_holds_the_command_and_what_it_took(tmp_path: Path) -> None:
    step = Step("one", "one", "true --fast", variables=(("SIZE", "3"),))
    costs = Runner(tmp_path, {}, Recorder()).run([step])
    marker = json.loads((tmp_path / "logs" / "one.json").read_text())
    assert marker == {"command": "SIZE=3 true --fast", **costs["one"]._asdict()}
    assert [path.name for path in (tmp_path / "logs").iterdir() if path.suffix != ".log"] == ["one.json"]


@pytest.mark.parametrize("damage", ['{"command"', "[]", '{"command": " true"}', ""])
def test_a_damaged_marker_counts_as_nothing(tmp_path: Path, damage: str) -> None:
    recorder, step = Recorder(), Step("one", "one", "true")
    runner = Runner(tmp_path, {}, recorder)
    runner.run([step])
    (tmp_path / "logs" / "one.json").write_text(damage)
    runner.run([step])
    assert len(recorder.calls) == 2


def test_another_command_is_run_again(tmp_path: Path) -> None:
    recorder = Recorder()
    runner = Runner(tmp_path, {}, recorder)
    runner.run([Step("one", "one", "true 1")])
    runner.run([Step("one", "one", "true 2")])
    assert [command for command, _, _ in recorder.calls] == [["true", "1"], ["true", "2"]]


def test_variables_are_those_of_one_step(tmp_path: Path) -> None:
    recorder = Recorder()
    steps = [Step("one", "one", "true", variables=(("A", "2"),)), Step("two", "two", "true")]
    Runner(tmp_path, {"A": "1", "B": "1"}, recorder).run(steps)
    assert [environment for _, _, environment in recorder.calls] == [{"A": "2", "B": "1"}, {"A": "1", "B": "1"}]


def test_work_runs_once_and_its_time_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def work() -> None:
        done.append(1)
        time.sleep(0.15)

    runner, step = Runner(tmp_path, {}), Step("one", "draw it", work=work)
    first, again = runner.run([step]), runner.run([step])
    assert done == [1] and first == again and 0.1 <= first["one"].seconds < 5
    printed = capsys.readouterr().out
    assert printed.count("[1/1] draw it") == 2 and "$" not in printed
    assert printed.index("done in 0 s") < printed.index("kept from an earlier run")


def test_a_step_that_looks_for_its_own_results_heeds_no_marker(tmp_path: Path) -> None:
    recorder, result = Recorder(), tmp_path / "result"
    runner, step = Runner(tmp_path, {}, recorder), Step("one", "one", "true", finished=result.is_file)
    runner.run([step])
    runner.run([step])
    assert len(recorder.calls) == 2
    result.touch()
    costs = runner.run([step])
    assert len(recorder.calls) == 2
    (tmp_path / "logs" / "one.json").unlink()
    assert runner.run([step]) == {"one": Cost(0.0, 0.0)} and costs.keys() == {"one"}
    assert len(recorder.calls) == 2


def test_what_follows_a_failure_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(failing="bad")
    steps = [Step("one", "one", "true"), Step("two", "two", "true bad"), Step("three", "three", "true")]
    with pytest.raises(RuntimeError, match=r"step 'two' failed with exit status 1: the last line; .*two\.log"):
        Runner(tmp_path, {}, recorder).run(steps)
    assert len(recorder.calls) == 2 and "first line" in capsys.readouterr().err
    assert not (tmp_path / "logs" / "two.json").exists()


def test_a_command_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-command is not installed"):
        Runner(tmp_path, {}).run([Step("one", "one", "no-such-command")])


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s")])
def test_describe_seconds(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
