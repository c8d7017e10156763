"""Tests of the compiled kernels, run on a build that an access out of bounds or undefined behaviour ends; CONTRIBUTING.md says how to make it.

`RECURRA_SANITIZED` names the folder of that build, and `RECURRA_EXAMPLES` how many examples each fuzz test draws.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("RECURRA_SANITIZED")
KERNELS = Path(__file__).parent.parent / "kernels"
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="RECURRA_SANITIZED names no folder with a sanitized build of the kernels: CONTRIBUTING.md says how to make one"
)

LOAD = """
import importlib.util, sys, torch
name = "recurra.kernels._cpu"
spec = importlib.util.spec_from_file_location(name, sys.argv[1])
sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[name])
"""
"""What puts the sanitized extension, a script's first argument, in the place of the one that is installed."""

RUN = f"""{LOAD}
import pytest
result = pytest.main(sys.argv[2:])
from recurra.kernels import compiled
assert compiled._cpu.__file__ == sys.argv[1]
sys.exit(result)
"""

OVERRUN = f"""{LOAD}
from recurra.kernels import compiled
compiled._check = lambda *given: None
w_ih, w_hh, bias = torch.zeros(16, 3), torch.zeros(16, 16), torch.zeros(16)
given = compiled.Arguments("elman", torch.zeros(2, 5, 3), None, [w_ih, w_hh, bias, bias], [torch.zeros(2, 16)], [], [], [], [], [], [False])
compiled.run_forward(given, saving=True)
print("nothing wrong so far", flush=True)
short = SHORT
compiled.run_forward(given._replace(**short), saving=True)
"""


def run(code, *arguments):
    """A script with the sanitizers' library under it, and the sanitized extension."""
    assert FOLDER is not None
    (extension,) = Path(FOLDER).resolve().glob("_cpu*.so")
    libraries = subprocess.run(["ldd", extension], capture_output=True, text=True, check=True).stdout
    asan, cxx = (re.search(rf"=> (\S*{name}\S*)", libraries) for name in ("libasan", r"libstdc\+\+"))
    assert asan, f"{extension} was built without -DRECURRA_SANITIZE=ON"
    assert cxx
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{asan[1]} {cxx[1]}",  # the second, or no exception can be thrown: Python itself has no C++
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself keeps some memory for ever
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "RECURRA_EXAMPLES": os.environ.get("RECURRA_EXAMPLES", "100"),
    }
    command = [sys.executable, "-c", code, str(extension), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("file", ["test_fuzz.py", "test_compiled.py"])
def test_the_sanitizers_find_nothing(file):
    found = run(RUN, str(KERNELS / file), "-q", "-x", "-s", "-p", "no:cacheprovider")
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-5000:]


@pytest.mark.parametrize(
    "short",
    [
        '{"weights": [w_ih[:15].clone(), w_hh, bias, bias]}',
        '{"weights": [w_ih, w_hh, bias[:15].clone(), bias]}',
        '{"states": [torch.zeros(1, 16)]}',
    ],
)
def test_a_read_behind_the_end_of_a_tensor_is_found(short):
    """What the tests above rely on: memory of torch is watched too."""
    found = run(OVERRUN.replace("SHORT", short))
    assert found.stdout == "nothing wrong so far\n"
    assert found.returncode != 0
    assert "heap-buffer-overflow" in found.stderr
