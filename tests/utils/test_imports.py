"""Modules that a configuration names: found where they should be, imported once, never from a checkpoint."""

import multiprocessing
import pickle
import sys
from pathlib import Path

import pytest

from ska_vct.engine.setup import load_cfg
from ska_vct.utils.errors import InputError
from ska_vct.utils.imports import bare_names, import_modules


@pytest.fixture(autouse=True)
def _own_modules():
    """Modules and folders that a test imports are forgotten after it."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("door_"):
            del sys.modules[name]


def write(folder, name, text="VALUE = 1\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_the_configs_folder_comes_first_then_the_current_one_then_pythonpath(tmp_path, monkeypatch):
    config, here, python = (tmp_path / name for name in ("config", "here", "python"))
    for folder, names in ((config, "a"), (here, "ab"), (python, "abc")):
        for name in names:
            write(folder, f"door_{name}.py", f"FOLDER = '{folder.name}'\n")
    write(config, "config.yaml", "IMPORTS: [door_a, door_b, door_c]\n")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(python)
    # What Python would find first is another file than the config's own.
    with pytest.raises(InputError, match="'door_a' should be .*config/door_a.py, but Python knows another"):
        load_cfg(config / "config.yaml")
    for folder, name in ((python, "a"), (python, "b")):
        (folder / f"door_{name}.py").unlink()
        sys.modules.pop(f"door_{name}", None)
    cfg = load_cfg(config / "config.yaml")
    assert [sys.modules[f"door_{name}"].FOLDER for name in "abc"] == ["config", "here", "python"]
    # A config.yaml written elsewhere still finds them.
    assert cfg.IMPORTS == [str(config / "door_a.py"), str(here / "door_b.py"), "door_c"]
    assert bare_names(cfg.IMPORTS) == ["door_a", "door_b", "door_c"]


def test_a_module_is_executed_once(tmp_path):
    write(tmp_path, "door_once.py", "import sys\nsys.door_runs = getattr(sys, 'door_runs', 0) + 1\n")
    first = import_modules(["door_once"], folders=[tmp_path])
    assert import_modules(first, folders=[Path()]) == import_modules(["door_once.py"], folders=[tmp_path]) == first
    assert sys.door_runs == 1
    del sys.door_runs


def test_packages_are_found_by_name_and_by_path(tmp_path):
    write(tmp_path / "door_package", "__init__.py", "from .part import VALUE\n")
    write(tmp_path / "door_package", "part.py", "VALUE = 7\n")
    found = import_modules(["door_package", "door_package.part"], folders=[tmp_path])
    assert found == [str(tmp_path / "door_package"), "door_package.part"]
    assert import_modules(found, folders=[Path()]) == found and sys.modules["door_package"].VALUE == 7


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("door_absent", None, "IMPORTS names the module 'door_absent', which is neither in .* nor on PYTHONPATH"),
        ("door_absent.py", None, "IMPORTS names the module 'door_absent.py'"),
        ("door_needs", "import no_such_package\n", "IMPORTS: module 'door_needs' .*No module named 'no_such_pack"),
        ("door_typo", "x = (\n", "IMPORTS: module 'door_typo' .*SyntaxError"),
    ],
)
def test_errors_name_key_and_module(tmp_path, name, text, message):
    if text is not None:
        write(tmp_path, f"{name}.py", text)
    with pytest.raises(InputError, match=message) as raised:
        import_modules([name], folders=[tmp_path])
    assert "\n" not in str(raised.value).split("SyntaxError")[0]


def test_a_config_from_a_checkpoint_imports_nothing_but_what_the_user_names(tmp_path, monkeypatch, caplog):
    write(tmp_path, "door_bad.py", "raise SystemExit('code of a stranger was run')\n")
    write(tmp_path, "door_good.py")
    write(tmp_path, "config.yaml", "IMPORTS: [door_bad]\n")
    monkeypatch.chdir(tmp_path)
    assert load_cfg(tmp_path / "config.yaml", trusted=False).IMPORTS == ["door_bad"]
    assert "door_bad" not in sys.modules and "are not imported: door_bad" in caplog.text
    load_cfg(tmp_path / "config.yaml", ["IMPORTS", "['door_good']"], trusted=False)
    assert "door_good" in sys.modules and "door_bad" not in sys.modules


def load_in_child(data: bytes) -> int:
    return pickle.loads(data).value


def test_a_spawned_process_can_unpickle_what_a_module_defines(tmp_path):
    write(tmp_path, "door_class.py", "class Thing:\n    value = 5\n")
    import_modules(["door_class"], folders=[tmp_path])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(load_in_child, (pickle.dumps(sys.modules["door_class"].Thing()),)) == 5
