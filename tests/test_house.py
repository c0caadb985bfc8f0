"""The house itself: what the wheel owns, what the README shows, where imports run."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"zoo": 0, "trainers": 1, "tools": 2}


def test_the_wheel_owns_one_name(tmp_path):
    pytest.importorskip("build", reason="needs the package build, in [test]")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "-o",
            tmp_path,
            ROOT,
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zoo"}
    for part in ("zoo/presets/", "zoo/trainers/train.py", "zoo/tools/main.py"):
        assert any(name.startswith(part) for name in names), part
    for config in (ROOT / "presets").glob("*/*"):
        assert f"zoo/presets/{config.parent.name}/{config.name}" in names
    weights = [f.stat().st_size for f in (ROOT / "presets").glob("*/*.h5")]
    assert max(weights) < 10e6
    assert sum(weights) < 28e6
    assert wheel.stat().st_size < 28e6


def test_imports_never_run_down():
    for floor, height in FLOORS.items():
        for file in (ROOT / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.Import | ast.ImportFrom):
                    continue
                names = [alias.name for alias in node.names]
                module = getattr(node, "module", None) or ""
                for name in [*names, *(f"{module}.{n}" for n in names)]:
                    top, asked, *_ = *name.split("."), ""
                    above = top == "zoo" and FLOORS.get(asked, 0) > height
                    assert not above, f"{file.relative_to(ROOT)} imports {name}"


def test_one_file_asks_which_backend_runs():
    for file in (ROOT / "zoo").rglob("*.py"):
        if file.name != "_backend.py":
            assert "backend.backend()" not in file.read_text(), file


def test_the_readme_names_every_preset():
    import zoo

    text = (ROOT / "README.md").read_text()
    for name in zoo.presets():
        assert f"`{name}`" in text, name


def test_links_in_the_documents_lead_somewhere():
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if not link.startswith("http"):
                assert (file.parent / link).exists(), f"{file.name}: {link}"
