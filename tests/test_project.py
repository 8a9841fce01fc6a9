"""What lies around the package: declared dependencies, the lock file, and the JupyterLab extension."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from jupyter_core.paths import jupyter_path
from jupyterlab_server.config import get_federated_extensions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lensdet
from lensdet.network import finders

ROOT = Path(__file__).parents[1]
EXTENSION = ROOT / "lensdet" / "labextension"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]


def names(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


@pytest.fixture(scope="module")
def lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_runtime_dependencies_have_lower_bounds_only():
    for requirement in RUNTIME:
        assert {specifier.operator for specifier in requirement.specifier} == {">="}, requirement


def test_every_imported_package_is_a_declared_dependency():
    optional = {"jax"}  # the second backend
    imported = set()
    for path in (ROOT / "lensdet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    distributions = importlib.metadata.packages_distributions()
    for module in imported - set(sys.stdlib_module_names) - {"lensdet"} - optional:
        assert {canonicalize_name(name) for name in distributions[module]} & names(RUNTIME), module


def test_conda_environment_only_installs_the_package_by_pip():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    *conda, pip = environment["dependencies"]
    assert {re.split("[=<>]", name)[0] for name in conda} == {"python", "pip"}
    editable, *others = pip["pip"]
    extras = re.fullmatch(r"-e \.\[(.*)\]", editable)[1].split(",")
    dev = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert names(map(Requirement, others)) <= names(dev)


def test_lock_file_has_exact_versions_and_no_urls(lock):
    for requirement in lock:
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]


def test_lock_file_agrees_with_the_lower_bounds(lock):
    locked = {canonicalize_name(requirement.name): requirement for requirement in lock}
    for requirement in RUNTIME:
        (specifier,) = locked[canonicalize_name(requirement.name)].specifier
        assert specifier.version in requirement.specifier, requirement


def test_lock_file_covers_all_runtime_dependencies(lock):
    here = names(requirement for requirement in lock if not requirement.marker or requirement.marker.evaluate())
    todo, done = list(RUNTIME), set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), *sorted(requirement.extras))
        if key in done:
            continue
        done.add(key)
        for line in importlib.metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    assert {name for name, *_ in done} - here == set()


def test_versions_of_package_extension_and_citation_agree():
    assert json.loads((EXTENSION / "package.json").read_text())["version"] == PROJECT["version"]
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_extension_is_installed_in_jupyterlab():
    extension = get_federated_extensions(jupyter_path("labextensions"))["lensdet"]
    assert extension["version"] == PROJECT["version"]
    assert (Path(extension["ext_path"]) / extension["jupyterlab"]["_build"]["load"]).is_file()


def test_extension_opens_numbered_scripts_only():
    script = (EXTENSION / "static" / "remoteEntry.js").read_text()
    assert "__esModule: true" in script  # without it JupyterLab shows a blank page
    assert f"_JUPYTERLAB || {{}})['{PROJECT['name']}']" in script
    pattern = re.compile(re.search(r"pattern: '(.*)'", script)[1].replace(r"\\", "\\"))
    assert pattern.search("02_losses.py")
    for name in ("losses.py", "2_losses.py", "test_02_losses.py", "02_losses.ipynb", "02_losses.pyc"):
        assert not pattern.search(name)


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js to run the extension with")
def test_extension_leaves_an_untouched_script_clean_when_its_kernel_starts():
    """As JupyterLab calls it: a change of metadata is told first, and then makes the notebook dirty."""
    code = """
        globalThis.window = {}; require(process.argv[1]); let extension, told;
        const docRegistry = { addFileType() {}, getFileType: () => ({}), addWidgetExtension: (_, e) => extension = e };
        const open = async (path, key, dirty) => {
          const model = { dirty, metadataChanged: { connect: f => told = f } };
          extension.createNew({}, { path, model });
          told(model, { key }); model.dirty = true;
          await null; return model.dirty;
        };
        window._JUPYTERLAB.lensdet.get().then(async get => {
          get().default.activate({ docRegistry });
          console.log(JSON.stringify([await open('02_losses.py', 'language_info', false),
            await open('02_losses.py', 'language_info', true), await open('02_losses.py', 'tags', false),
            await open('a.ipynb', 'language_info', false)]));
        });"""
    done = subprocess.run(
        ["node", "-e", code, EXTENSION / "static" / "remoteEntry.js"], check=True, capture_output=True
    )
    assert json.loads(done.stdout) == [False, True, True, True]


def test_continuous_integration_runs_the_readme_command():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "pip install tox" in script.read_text()


def test_public_names_exist_and_are_visible_to_editors():
    """What is imported for type checkers alone is what is loaded when it is used."""
    code = ast.parse((ROOT / "lensdet" / "__init__.py").read_text())
    (seen,) = [
        node for node in code.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    imported = {alias.asname or alias.name: f"{line.module}.{alias.name}" for line in seen.body for alias in line.names}
    assert imported == {name: f"lensdet.{place}" for name, place in lensdet._PLACES.items()}
    assert set(lensdet.__all__) == {*imported, "__version__"} and dir(lensdet) == sorted(lensdet.__all__)
    assert lensdet.load_finder is finders.load and lensdet.SoftFBeta.__name__ == "SoftFBeta"
    assert (ROOT / "lensdet" / "py.typed").exists()


def test_help_of_the_package_names_what_is_public():
    named = set(re.findall(r"`(\w+)`", lensdet.__doc__))
    assert named == {*lensdet.__all__} - {"__version__"}
    assert {"rank", "resolve", "load_finder"} <= set(re.findall(r"lensdet\.(\w+)\(", lensdet.__doc__))
