"""The distribution: the exact contents of the wheel, the pins, the entry point."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import bilingual_chat
from bilingual_chat import bootstrap
from bilingual_chat.bootstrap import environment
from tests.runs import ROOT

VERSION = bilingual_chat.__version__

# By hand, so that a file that .gitignore or a misspelt path drops is missed.
# kernels/README.md is for those who change the kernels, in the clone and the sdist: the wheel does without it.
KERNELS = (
    "layer.c",
    *(f"{name}.h" for name in ("attention", "matmul", "matmul_float", "matmul_int8", "simd", "threads", "types")),
)
SENTENCES = (
    *("text", "settings", "transcript", "hub", "engines", "server", "session", "terminal"),
    *("commands", "cli", "bench", "sweep", "report", "replay", "duel", "bootstrap", "forms"),
)
DATA = {
    "bilingual_chat/configs/models.toml",
    "bilingual_chat/configs/presets.toml",
    "bilingual_chat/hub/demo/config.json",
    "bilingual_chat/hub/demo/model.safetensors",
    "bilingual_chat/hub/demo/spiece.model",
    "bilingual_chat/bench/talk.txt",
    "bilingual_chat/explore/report/references.bib",
    "bilingual_chat/explore/report/style.css",
    *(f"bilingual_chat/engines/kernels/{name}" for name in KERNELS),
    *(f"bilingual_chat/messages/{room}.json" for room in SENTENCES),
    "bilingual_chat/py.typed",
}
BY_PRODUCTS = {"__pycache__", ".venv", "dist", "build", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
DIST_INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def files() -> list[str]:
    """All files that are or will be committed; in an unpacked sdist, its files."""
    if not (ROOT / ".git").exists():
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return [path.as_posix() for path in found if not BY_PRODUCTS & set(path.parts) and path.name != "PKG-INFO"]
    # The clone may belong to somebody else, as in a container; git then wants to be told that this is meant.
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel, which is built from the sdist like a release."""
    copy = tmp_path_factory.mktemp("source")
    for name in files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (path,) = built.glob("*.tar.gz")
    return path


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def canonical(requirement: str) -> str:
    """The project's name in a requirement, as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


@pytest.mark.slow
def test_the_wheel_holds_exactly_these_files(wheel: Path) -> None:
    """Code as in the tree, data as listed: no missing configs or model, no tests or training."""
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bilingual_chat").rglob("*.py")}
    expected = code | DATA | {f"bilingual_chat-{VERSION}.dist-info/{name}" for name in DIST_INFO}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == expected


@pytest.mark.slow
def test_the_sdist_is_the_whole_source(sdist: Path) -> None:
    """Tests, benchmarks and training included."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*files(), "PKG-INFO"}


@pytest.mark.slow
def test_the_tests_in_the_sdist_run(sdist: Path, tmp_path: Path) -> None:
    """These pass without git and without the clone: the sdist has their files."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    tests = ("test_packaging", "test_readme", "test_architecture", "messages/test_messages", "text/test_prompt")
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *(f"tests/{name}.py" for name in tests)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**kept, "PYTHONPATH": str(source)}
    done = subprocess.run(pytest_, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_the_wheel_names_its_command_and_its_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        described = archive.read(f"bilingual_chat-{VERSION}.dist-info/METADATA").decode()
        entry_points = archive.read(f"bilingual_chat-{VERSION}.dist-info/entry_points.txt").decode()
    assert entry_points.split() == ["[console_scripts]", "bchat", "=", "bilingual_chat.__main__:bchat"]
    fields = [line.partition(": ")[::2] for line in described.split("\n\n")[0].splitlines()]
    assert ("Name", "bilingual-chat") in fields
    assert ("Version", VERSION) in fields
    assert ("License-Expression", "MIT") in fields
    assert ("Author", "bchat maintainers") in fields
    assert ("Classifier", "Typing :: Typed") in fields
    needs = {canonical(value) for name, value in fields if name == "Requires-Dist" and "extra" not in value}
    assert needs == {canonical(value) for value in pyproject()["project"]["dependencies"]}


@pytest.mark.slow
def test_an_installed_wheel_runs_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    """Without a checkout, `python -m bilingual_chat` sets nothing up and finds its own files."""
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    where = python("-c", "import bilingual_chat; print(bilingual_chat.__file__)")
    assert Path(where.strip()).is_relative_to(target)
    assert VERSION in python("-m", "bilingual_chat", "--version")


def test_the_command_is_bchat() -> None:
    """Checked in the installation that runs the tests."""
    assert pyproject()["project"]["scripts"] == {"bchat": "bilingual_chat.__main__:bchat"}
    try:
        installed = metadata.distribution("bilingual-chat")
    except metadata.PackageNotFoundError:
        return
    assert {(point.name, point.value) for point in installed.entry_points} == {
        ("bchat", "bilingual_chat.__main__:bchat")
    }
    assert installed.version == VERSION


def test_set_up_asks_for_every_dependency() -> None:
    """The check of the running Python knows all dependencies in pyproject.toml."""
    named = {canonical(name) for name in bootstrap.REQUIRED}
    assert named == {canonical(value) for value in pyproject()["project"]["dependencies"]}


def test_set_up_wants_the_python_that_pyproject_wants() -> None:
    assert pyproject()["project"]["requires-python"] == ">=" + ".".join(map(str, environment.OLDEST))


def pins() -> dict[str, str]:
    text = (ROOT / environment.CONSTRAINTS).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {canonical(line): line.partition("==")[2].split(";")[0] for line in lines}


def needed(project: str) -> set[str]:
    """The installed projects that a requirement brings, itself included, recursively."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [Requirement(project)]
    while waiting:
        name = canonical(waiting.pop().name)
        if name in found:
            continue
        found.add(name)
        for text in metadata.distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement)
    return found


def test_everything_that_is_installed_is_pinned() -> None:
    """Indirect dependencies too: next year's set-up is the tested one."""
    project = pyproject()["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    everything = set().union(*(needed(requirement) for requirement in wanted))
    # Of the CUDA build, which torch itself pins.
    brought = {name for name in everything if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert everything - brought - set(pins()) == set()


def test_pins_are_exact() -> None:
    assert all(re.fullmatch(r"\d+(\.\d+)*", version) for version in pins().values())


def test_the_cpu_build_is_that_of_the_pinned_torch() -> None:
    """PyTorch's index gives that version only, in the listed files, and no other project."""
    lines = (ROOT / ".ci" / "torch-cpu.txt").read_text(encoding="utf-8").splitlines()
    index, requirement, *hashes = [line.strip(" \\") for line in lines if not line.startswith("#")]
    assert index == "--index-url https://download.pytorch.org/whl/cpu"
    assert requirement == f"torch=={pins()['torch']}+cpu"
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes)
    assert len(set(hashes)) == 10  # Python 3.11, 3.12, 3.13, 3.14 and 3.14t, each for x86_64 and aarch64


def test_every_classifier_is_one_of_the_index() -> None:
    """An upload with another hash is refused."""
    from trove_classifiers import classifiers

    assert set(pyproject()["project"]["classifiers"]) <= classifiers


def workflow() -> dict[str, Any]:
    import yaml

    # In YAML 1.1 the key `on` is the truth.
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    return found


def test_the_workflow_covers_what_the_classifiers_promise() -> None:
    promised = [
        line.rpartition(" :: ")[2] for line in pyproject()["project"]["classifiers"] if ":: Python :: 3." in line
    ]
    for job in ("tests", "wheel"):
        matrix = workflow()["jobs"][job]["strategy"]["matrix"]
        assert matrix["python"] == promised
        assert [system.partition("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_the_workflow_runs_files_that_are_there() -> None:
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:tests|\.ci)/[\w./-]+", text))
    assert named
    assert not {name for name in named if not (ROOT / name).is_file()}


def test_uv_takes_torch_alone_from_pytorchs_index() -> None:
    """Explicit: no other package can come from there; and it is the index of the first command."""
    uv = pyproject()["tool"]["uv"]
    (index,) = uv["index"]
    assert index["explicit"] is True
    assert uv["sources"] == {"torch": [{"index": index["name"], "marker": "sys_platform == 'linux'"}]}
    assert f"--index-url {index['url']}\n" in (ROOT / ".ci" / "torch-cpu.txt").read_text(encoding="utf-8")


def test_the_citation_names_this_version_and_the_paper() -> None:
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
    (paper,) = citation["references"]
    assert (paper["authors"][0]["family-names"], paper["year"]) == ("Sawada", 2024)
    assert paper["identifiers"][0]["value"] == "arXiv:2404.01657"
