"""neural-tangents' structured derivatives in an environment of their own: had, or not and why."""

import sys
import types

import pytest

from ntkdyn import InputError
from ntkdyn.bench import kernel, structured


def asked():
    sizes = kernel.SMALL
    networks = kernel.mlp(sizes.mlp, outputs=kernel.OUTPUTS), kernel._convolutional(sizes.cnn)
    return kernel._against_structured(
        sizes, *networks, {"Gram form Gflop": 1.0, "matmul Gflop/s": 2.0}
    )


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setattr(structured.pooch, "os_cache", lambda name: str(tmp_path / name))


def test_without_python_3_11_the_reason_is_said(nowhere, monkeypatch):
    monkeypatch.setattr(structured, "sys", types.SimpleNamespace(version_info=(3, 12, 1)))
    monkeypatch.setattr(structured.shutil, "which", lambda name: None)
    assert asked() == ([], {"not measured": "needs Python 3.11, which is not installed"})


def test_what_cannot_be_installed_is_said(nowhere, monkeypatch):
    monkeypatch.setattr(structured, "_python_3_11", lambda: sys.executable)
    stop = "import sys; sys.exit('first\\nno such version')"
    with pytest.raises(InputError, match="^cannot be installed: no such version$"):
        structured._run([sys.executable, "-c", stop])
    with pytest.raises(InputError, match="cannot be installed: .*No such file"):
        structured._run(["/no/such/python"])


def test_an_environment_that_does_not_run_is_said(nowhere, monkeypatch):
    monkeypatch.setattr(structured, "python", lambda: "false")
    assert asked() == ([], {"not measured": "does not run in its environment"})


@pytest.mark.slow
def test_both_give_the_same_kernel():
    """In turn: MLP, CNN, trace."""
    rows, told = asked()
    if not rows:
        pytest.skip(told["not measured"])
    assert len(rows) == 3 and max(row["relative_difference"] for row in rows) < 1e-6
    assert all(row["ratio"] == row["theirs"] / row["ours"] > 0 for row in rows)
    assert told["theirs"] == 0.5 / rows[-1]["theirs"]
