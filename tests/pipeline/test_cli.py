import logging
import re
import subprocess
import sys

import pytest
import rich.console

from pipeline import cli, code_version
from pipeline.cli import main
from pipeline.console import QuietOutput, RunProgress
from pipeline.errors import UserError


@pytest.mark.parametrize("command", [[], ["run"], ["compile"], ["submit"], ["init"], ["doctor"], ["planted"]])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as error:
        main([*command, "--help"])

    assert error.value.code == 0
    assert "usage: python -m pipeline" in capsys.readouterr().out


def test_help_does_not_wait_for_tensorflow():
    code = "import sys, pipeline.cli; sys.exit('tensorflow' in sys.modules or 'tfx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "adlt"], r"adlt: no shipped configuration .* 'adult'"),
        (["--config", "taxi"], r"data.path must be given"),
        (["--config", "adult", "--set", "featurs.min_frequency=1"], r"unknown key 'featurs'.*features"),
        (["--config", "adult", "--set", "search.method=dimgrw"], r"unknown method 'dimgrw'. Did you mean 'dimgrow'"),
        (
            ["--config", "adult", "--set", "search.settings.num_lookz=1"],
            r"unknown key 'num_lookz'. Did you mean 'num_looks'",
        ),
        (
            ["--config", "adult", "--set", "search.settings.gate.penalty=0"],
            r"unknown key 'gate'.* 'gate' is a setting of search.method=dimgrow_paper",
        ),
        (["--config", "adult", "--set", "search.settings.kappa=0"], r"kappa must be a number >= 1"),
        (["--config", "adult", "--set", "search.parameter_budget=20%"], r"parameter_budget must be a share .* '20%'"),
        (
            ["--config", "adult", "--set", "search.method=autodim", "--set", "search.parameter_budget=0.2"],
            r"'autodim'.* takes no parameter_budget; received 0.2",
        ),
        (
            ["--config", "adult", "--set", "search={method: dimgrow_paper, settings: {growth: {max_total_dims: 3}}}"],
            r"max_total_dims=3 is below .* 14 fields",
        ),
        (["--config", "adult", "--set", "model.hidden_units=big"], r"hidden_units must be a non-empty list"),
        (["--config", "taxi", "--data", "/no/such/file.csv"], r"/no/such/file.csv"),
    ],
)
def test_mistakes_are_one_message_exit_2_and_nothing_written(arguments, message, tmp_path, capfd):
    root = tmp_path / "root"

    assert main(["run", *arguments, "--root", str(root)]) == cli.EXIT_USER_ERROR

    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert re.search(message, error)
    assert not root.exists()


def test_debug_shows_the_stack_trace(capfd):
    assert main(["run", "--config", "nowhere", "--debug"]) == cli.EXIT_USER_ERROR

    assert "Traceback" in capfd.readouterr().err


def test_a_bug_is_exit_1_and_names_its_type(monkeypatch, capfd):
    def fail(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(cli, "load_config", fail)

    assert main(["run", "--config", "adult"]) == cli.EXIT_FAILED
    assert "RuntimeError: broken" in capfd.readouterr().err


def test_an_interruption_says_that_the_same_command_goes_on(monkeypatch, capfd):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_config", interrupt)

    assert main(["run", "--config", "adult"]) == cli.EXIT_INTERRUPTED
    assert "the same command goes on" in capfd.readouterr().err


def test_init_writes_a_configuration_once(tmp_path, capfd):
    rows = "\n".join(f"{city},{count},{label}" for city in "abc" for count in (1, 2, 30) for label in (0, 1))
    (tmp_path / "rows.csv").write_text(f"city,count,sold\n{rows}\n")
    arguments = ["init", "--csv", str(tmp_path / "rows.csv"), "--label", "sold", "--output", str(tmp_path / "my.yaml")]

    assert main(arguments) == cli.EXIT_OK
    assert main(arguments) == cli.EXIT_USER_ERROR
    assert "--force" in capfd.readouterr().err
    assert main([*arguments, "--force"]) == cli.EXIT_OK


def test_quiet_output_keeps_libraries_off_the_terminal_and_in_the_log(tmp_path, capfd):
    log = tmp_path / "logs" / "run.log"

    with QuietOutput() as output:
        subprocess.run([sys.executable, "-c", "print('early noise')"], check=True)
        output.log_to(str(log))
        subprocess.run([sys.executable, "-c", "import sys; print('late noise', file=sys.stderr)"], check=True)
        output.console.print("for the person")
    subprocess.run([sys.executable, "-c", "print('after')"], check=True)

    assert capfd.readouterr() == ("for the person\nafter\n", "")
    assert log.read_text() == "early noise\nlate noise\n"


def test_quiet_output_without_a_kept_log_leaves_nothing(tmp_path, capfd):
    with pytest.raises(UserError), QuietOutput():
        raise UserError("bad")

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        (
            {"max_steps": 100, "max_looks": None, "eta_s": 3},
            ["DimSearch step 10/100", "DimSearch step 20/100", "DimSearch step 30/100"],
        ),
        (
            {"max_steps": None, "max_looks": 20, "eta_s": None},
            ["DimSearch look 2/20, step 10", "DimSearch look 4/20, step 20", "DimSearch look 6/20, step 30"],
        ),
        (
            {"max_steps": None, "max_looks": None, "eta_s": None},
            ["DimSearch step 5", "DimSearch step 10", "DimSearch step 20"],
        ),
    ],
    ids=["steps", "looks", "unknown"],
)
def test_progress_shows_finished_nodes_and_each_tenth_of_a_search(totals, expected, capsys):
    console = rich.console.Console(force_terminal=False, width=200)
    search = logging.getLogger("components.dim_search.executor")
    numbers = {"rows_per_s": 5000, "loss": 0.5, "validation_loss": 0.25, "total_dims": 7, "parameters": 1234}
    numbers |= {"max_parameters": 9999}

    with RunProgress(console) as progress:
        logging.getLogger("absl").info("Component %s is running.", "DimSearch")
        for step in range(5, 31, 5):
            record = numbers | {"step": step, "look": None, "max_looks": None, **totals}
            record |= {key: step // 5 for key in ("look",) if totals["max_looks"]}
            search.info("step", extra={"search_progress": record})
        assert progress.running_node == "DimSearch"
        logging.getLogger("absl").info("Component %s is finished.", "DimSearch")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[0].strip() for line in lines[:-1]] == expected
    assert "held-out loss 0.2500" in lines[0]
    assert ("at most 3 s left" in lines[0]) == (totals["eta_s"] is not None)
    assert "1,234 parameters, budget 9,999" in lines[0]
    assert "5,000 rows/s" in lines[0]
    assert lines[-1].split()[0] == "DimSearch"


def test_code_versions_change_with_the_source_and_only_then(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    module = package / "work.py"
    monkeypatch.syspath_prepend(str(tmp_path))

    def version_of(source: str) -> str:
        module.write_text(source)
        code_version.hash_modules.cache_clear()
        return code_version.hash_modules("some_package")

    first, changed, back = version_of("x = 1"), version_of("x = 2"), version_of("x = 1")

    assert first == back != changed


def test_the_code_version_of_a_missing_module_is_an_error():
    with pytest.raises(ValueError, match="no_such_module"):
        code_version.hash_modules("no_such_module")
