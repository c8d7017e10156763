"""The compiled kernels among other threads and processes, and when something goes wrong: signals, wrong input, no memory."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial

import pytest
import torch
from compiled_calls import EVERYTHING, assert_equal, compiled, draw_call
from test_scans import CASES, with_gradients
from test_stepper import draw, make_layer

from recurra.kernels.stepper import CompiledStepper

pytestmark = compiled


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def step_one_by_one(layers, x):
    steps = CompiledStepper(layers, streams=len(x))
    return [steps.step(x[:, t].contiguous()) for t in range(x.shape[1])]


def jobs():
    """Functions that compute lists of tensors, each of other sizes; those of recurrences and scans forward and backward."""
    recurrences = [("lstm", (9, 40, 20, 30)), ("gru", (3, 70, 33, 63)), ("slstm", (17, 9, 5, 32)), ("elman", (1, 200, 64, 50))]
    found = [draw_call(name, sizes, options=EVERYTHING, dtype=torch.float32).run for name, sizes in recurrences]
    for name, sizes in (("min_gru", {"rows": 5, "steps": 300, "hidden": 40}), ("linear", {"rows": 3, "steps": 900, "hidden": 70})):
        found.append(partial(with_gradients, CASES[name](**sizes), backend="cpu"))
    for name, streams in (("lstm", 16), ("gru", 3)):
        found.append(partial(step_one_by_one, [make_layer(name, 40, 200)], draw(streams, 12, 40)))
    return found


@pytest.mark.usefixtures("two_threads")
def test_python_threads_with_work_of_other_sizes_do_not_disturb_each_other():
    work = jobs()
    expected = [each() for each in work]
    together = threading.Barrier(len(work))
    found = [[] for _ in work]

    def repeat(number):
        torch.set_num_threads(2)
        together.wait(60)
        found[number].extend(work[number]() for _ in range(5))

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for mine, right in zip(found, expected, strict=True):
        assert len(mine) == 5
        for each in mine:
            assert_equal(each, right)


def test_the_interpreter_is_free_while_a_kernel_runs():
    call = draw_call("elman", (1, 100_000, 1, 64), reverse=(False,), dtype=torch.float32)
    stop, ticks = threading.Event(), [0]

    def tick():
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    before, start = ticks[0], time.process_time()
    with torch.no_grad():
        call.compute()
    found, seconds = ticks[0] - before, time.process_time() - start
    stop.set()
    thread.join()
    # One call, of which all but some milliseconds are the kernel's. A tenth of the ticks is enough for a machine that does other work.
    assert found > seconds / 0.001 / 10


def run_python(code, **options):
    """In a process of its own, which says "done" at its end."""
    script = "import warnings; warnings.simplefilter('ignore')\n" + textwrap.dedent(code) + "\nprint('done')"
    folders = [path for path in sys.path if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment, check=False, **options
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("done\n"), found.stderr
    return found.stdout


FORK = """
import os, signal, torch
from compiled_calls import draw_call, assert_equal
from test_scans import CASES, with_gradients
from test_stepper import make_layer, draw
from recurra.kernels.stepper import CompiledStepper

torch.set_num_threads(2)
# Large enough for two threads of ours, and too small for torch's, which a forked process waits for in vain.
call, case = draw_call("lstm", (8, 40, 20, 45), dtype=torch.float32), CASES["min_gru"](rows=4, steps=110, hidden=70)
layer, tokens, table = make_layer("gru", 40, 150), torch.arange(48).view(16, 3), draw(48, 40)

def work():
    steps = CompiledStepper([layer], streams=16, embedding=table)
    assert steps.threads == 2
    return [*call.run(), *with_gradients(case, backend="cpu"), steps.run(tokens)]

expected = work()
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        assert_equal(work(), expected)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert_equal(work(), expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork: this system has none")
def test_a_forked_process_computes_the_same():
    run_python(FORK)


LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset
from compiled_calls import draw_call

torch.set_num_threads(2)
call = draw_call("gru", (16, 40, 40, 45), dtype=torch.float32)

class Outputs(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, number):
        return call.compute()[0].detach()

expected = call.compute()[0]
for batch in DataLoader(Outputs(), batch_size=3, num_workers=2, multiprocessing_context="fork", timeout=60):
    assert all(torch.equal(each, expected) for each in batch)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork: this system has none")
def test_workers_of_a_loader_compute_the_same():
    run_python(LOADER)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signal.setitimer: this system has none")
def test_an_interrupt_comes_after_the_call_and_breaks_nothing():
    call = draw_call("gru", (4, 3000, 8, 40), options=EVERYTHING, dtype=torch.float32)
    expected = call.run()

    def run_for_ever():
        while True:
            call.run()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)  # what Ctrl-C does, whatever pytest does with it
    try:
        for seconds in (0.01, 0.03, 0.07):  # inside the forward pass, the backward pass or between
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with pytest.raises(KeyboardInterrupt):
                run_for_ever()
            assert_equal(call.run(), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


MEMORY = """
import resource, torch
import torch.fx.experimental.symbolic_shapes  # torch imports it at the first gradient, and an import may not run out of memory
from compiled_calls import draw_call, assert_equal
from test_scans import CASES, with_gradients
from test_stepper import make_layer, draw
from recurra.kernels.stepper import CompiledStepper

def within(megabytes, function):
    # The error of a call that may take so much more address space.
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (megabytes << 20), resource.RLIM_INFINITY))
    try:
        function()
    except MemoryError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def check(message):
    assert message and "not enough memory" in message and "fewer rows or steps" in message, message

for name, steps in (("lstm", 300), ("slstm", 700)):  # what one call gives back is not enough for the next
    call = draw_call(name, (64, steps, 1, 40), dtype=torch.float32).map(lambda tensor: tensor.requires_grad_())
    results = call.compute()
    upstream = [torch.ones_like(each) for each in results]
    gradients = lambda: torch.autograd.grad(results, call.numbers(), upstream, retain_graph=True)
    check(within(8, gradients))  # the gradients of 2 * 4 gates take 29 MB and more
    assert_equal(gradients(), gradients())

layers = [make_layer("lstm", 4, 2000), make_layer("elman", 2000, 1)]
steps, x = CompiledStepper(layers), draw(1, 192, 4)
whole = steps.run(x)
fresh = CompiledStepper(layers)
first = fresh.step(x[:, 0].contiguous())
check(within(1, lambda: fresh.run(x)))  # the input products of 192 steps take 9 MB
assert_equal([first, fresh.step(x[:, 1].contiguous())], list(whole[:, :2].unbind(1)))
check(within(8, lambda: CompiledStepper(layers)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc: only Linux has both")
def test_without_memory_there_is_an_error_and_all_goes_on_afterwards():
    run_python(MEMORY)
