"""The benchmark of the recurrences: counted arithmetic, the gate before the clock, ratios and targets, what is written."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the benchmarks lie beside the package, not in it

from benchmarks import forecasting, language, packed, rankings, recommendation  # noqa: E402
from benchmarks.kernels import contenders, growth, memory, report, scan, streaming, timing, variants  # noqa: E402
from benchmarks.kernels.cases import GATES, Case, Shape, Unable, count_flops, make_data, weight_bytes  # noqa: E402
from benchmarks.kernels.contenders import OTHERS, ours, timed_call  # noqa: E402
from benchmarks.kernels.gate import RedGate, check, compare, make_oracle, refuse  # noqa: E402
from benchmarks.kernels.grid import grid_cases, run_grid  # noqa: E402
from benchmarks.kernels.measure import measure  # noqa: E402
from benchmarks.kernels.options import Effort, Options  # noqa: E402

from recurra.layers import Regularization, Stack, stack  # noqa: E402

TINY = Shape(5, 7, 3, 4)
BRIEF = Effort(repeats=1, seconds=0.0, sample=0.0)
CASES = [Case(cell, TINY, bidirectional, varied) for cell in GATES for bidirectional in (False, True) for varied in (False, True)]


@pytest.fixture(autouse=True)
def _plain_arithmetic():
    """Benchmarks count numbers under 1e-38 as zero; tests after them do not."""
    yield
    torch.set_flush_denormal(False)


class Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """Additions and multiplications of all matrix products, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}:
            a, b = args[-2:]
            self.flops += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_counted_arithmetic_is_that_of_the_products(case, training):
    """Full rows in the reference make the products of the formula and no others, but that the first state needs no gradient."""
    data = make_data(case._replace(varied=False))
    call = timed_call(ours("reference")(case, data), data, training=training)
    with Counted() as counted:
        call()
    directions = 2 if case.bidirectional else 1
    unneeded = 2 * TINY.batch_size * directions * GATES[case.cell] * TINY.hidden_size**2 if training else 0
    assert counted.flops == count_flops(case, TINY.batch_size * TINY.steps, training=training) - unneeded


def test_padding_counts_nothing():
    data = make_data(Case("lstm", TINY, varied=True))
    assert data.real_steps == int(data.lengths.sum()) < TINY.batch_size * TINY.steps
    assert int(data.lengths.min()) >= TINY.steps / 3
    assert count_flops(Case("lstm", TINY), 1, training=False) == 2 * 4 * 4 * (3 + 4)


def test_bytes_of_the_weights():
    case = Case("gru", TINY, bidirectional=True)
    assert weight_bytes(case) == sum(weight.nbytes for weight in make_data(case).stack.parameters())


@pytest.mark.parametrize("case", [case for case in CASES if case.bidirectional == case.varied], ids=str)
@pytest.mark.parametrize("name", ["recurra", "rival", "loop", "onnxruntime"])
def test_contenders_pass_the_gate(name, case):
    if name == "onnxruntime":
        pytest.importorskip("onnx", reason="onnx is not installed")
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    name = contenders.rival(case) if name == "rival" else name
    data = make_data(case)
    contender = ours("auto") if name == "recurra" else OTHERS[name]
    for training in (False,) if name == "onnxruntime" else (False, True):
        findings = check(contender, make_oracle(case, data), training=training)
        assert [str(finding) for finding in findings if not finding.passed] == []
        assert len(findings) >= (6 if training else 1)


def test_padded_rows_read_backwards_do_not_pass():
    case = Case("lstm", TINY, bidirectional=True, varied=True)
    data = make_data(case)
    findings = check(OTHERS["torch"], make_oracle(case, data), training=True)
    assert not all(finding.passed for finding in findings)


@pytest.mark.parametrize("training", [False, True])
def test_a_wrong_kernel_turns_the_gate_red(monkeypatch, training):
    """One gate off by a thousandth is a hundred times what is allowed."""
    case = Case("lstm", TINY)
    data = make_data(case)
    oracle = make_oracle(case, data)
    run = Stack.forward

    def wrong(self, x, *arguments, **options):
        output, state = run(self, x, *arguments, **options)
        return output * 1.001, state

    monkeypatch.setattr(Stack, "forward", wrong)
    with pytest.raises(RedGate, match="No figures: recurra computes something else in lstm 5,7,3,4") as red:
        measure(case, data, oracle, contenders={"recurra": ours("auto")}, training=training, effort=BRIEF)
    assert "output: off by" in str(red.value)


def test_a_gradient_that_leaks_between_rows_is_found():
    case = Case("gru", Shape(9, 3, 2, 2))
    data = make_data(case)
    oracle = make_oracle(case, data)
    values = timed_call(ours("auto")(case, oracle.data), oracle.data, training=True)()
    assert all(finding.passed for finding in compare(values, oracle))
    others = [row for row in range(9) if row not in oracle.rows.tolist()]
    values[1][others[0], 0, 0] = 1e-30
    assert [finding.tensor for finding in compare(values, oracle) if not finding.passed] == ["input gradient of rows that have none"]
    values[0][0, 0, 0] = torch.nan
    assert "output" in [finding.tensor for finding in compare(values, oracle) if not finding.passed]


def test_noise_is_compared_draw_for_draw():
    """Zoneout of ours equals the reference's with the same draws; that of another rate does not."""
    case = Case("lstm", TINY, regularization=Regularization(zoneout=0.3, recurrent=0.2))
    oracle = make_oracle(case, make_data(case))
    assert all(finding.passed for finding in check(ours("auto"), oracle, training=True))
    other = oracle._replace(case=case._replace(regularization=Regularization(zoneout=0.4, recurrent=0.2)))
    assert not all(finding.passed for finding in check(ours("auto"), other, training=True))


def test_what_a_backend_lacks_is_left_out():
    case = Case("lstm", TINY, regularization=Regularization(zoneout=0.3))
    data = make_data(case)
    named = {"recurra aten": ours("aten"), "recurra": ours("auto")}
    record = measure(case, data, make_oracle(case, data), contenders=named, training=True, effort=BRIEF)
    assert "zoneout" in record.left_out["recurra aten"]
    assert list(record.samples) == ["recurra"]


def test_contenders_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "AWAKE", 0.0)
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    samples = timing.interleave(calls, effort=Effort(repeats=5, seconds=60.0, sample=0.0), slow={"c"})
    assert {name: len(times) for name, times in samples.items()} == {"a": 5, "b": 5, "c": timing.LEAST_ROUNDS}
    # After the calls that find out how long each takes, every call of a sample is preceded by one that is not timed.
    rounds = order[12::2]
    assert "".join(rounds) == "abc" + "bca" + "cab" + "ab" + "ba"


def test_threads_are_awake_before_a_sample(monkeypatch):
    monkeypatch.setattr(timing, "AWAKE", 0.01)
    monkeypatch.setattr(timing, "_seconds", lambda call: 0.001)
    calls = []
    timing.interleave({"a": lambda: calls.append(None)}, effort=Effort(repeats=3, seconds=60.0, sample=0.0))
    assert len(calls) == 3 * (10 + 1)  # each of three samples of one call, after ten that are not timed


def test_time_is_bounded():
    samples = timing.interleave({"a": lambda: None}, effort=Effort(repeats=1000, seconds=0.0, sample=0.0))
    assert len(samples["a"]) == timing.LEAST_ROUNDS


def test_ratios_are_taken_pair_by_pair():
    assert timing.pair_ratios([1.0, 2.0, 4.0], [3.0, 6.0]) == [3.0, 3.0]
    assert timing.geometric_mean([0.5, 2.0]) == 1.0


@pytest.mark.parametrize(
    ("reached", "bounds", "met"),
    [
        ([3.0, 3.5], {"mean": 3.0, "least": 1.3}, True),
        ([9.0, 1.2], {"mean": 3.0, "least": 1.3}, False),
        ([1.4, 1.4], {"mean": 3.0, "least": 1.3}, False),
        ([1.0, 1.2], {"least": 1.3, "at_most": True}, True),
        ([1.0, 1.4], {"least": 1.3, "at_most": True}, False),
        ([], {"mean": 3.0}, None),
        ([5.0], {}, None),
    ],
)
def test_targets(reached, bounds, met):
    target = report.Target("speed", reached, **bounds)
    assert target.met is met
    assert target.describe()["reached"]["cases"] == len(reached)


def test_grid_has_every_case_once():
    cases = list(grid_cases(Options()))
    assert len(cases) == len(set(map(str, cases))) == 8 * 3 * 2 * 2
    assert {str(case.shape) for case in cases} >= {"64,50,300,512", "8,1000,40,256"}
    assert [str(case) for case in grid_cases(Options(shapes=("2,3,4,5",), cells=("gru",), lengths=("full",), directions=("both",)))] == [
        "gru 2,3,4,5, both directions, full lengths"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": ("64,50,300",)}, "four whole numbers"),
        ({"shapes": ("0,1,1,1",)}, "1 or more"),
        ({"cells": ("lstn",)}, "There is no cell lstn: use lstm, gru, elman"),
        ({"contenders": ("keras",)}, "There is no contender keras: use torch, packed"),
        ({"modes": ("backward",)}, "There is no mode backward: use forward, training"),
    ],
)
def test_what_is_misspelt_is_named(tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        run_grid(Options(output=tmp_path, **options), report.Report(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_grid_prints_and_writes(tmp_path, capsys):
    """A tiny grid: every sample in the file, ratios of the samples, shares of the rate, targets; a table a cell and mode."""
    options = Options(
        output=tmp_path, shapes=("5,7,3,4",), cells=("lstm",), directions=("both",), contenders=("torch", "packed"), quick=True
    )
    quiet = report.Report(tmp_path, matrix_size=64)
    quiet.open()
    run_grid(replace(options, repeats=1), quiet)
    printed = capsys.readouterr().out
    assert "lstm, training step: milliseconds (times recurra's)" in printed
    assert "wrong at every row's end" in printed
    written = json.loads((tmp_path / "grid.json").read_text())
    assert {"processor", "instructions", "threads", "packages", "cores"} <= set(written["machine"])
    assert written["machine"]["packages"]["torch"] == torch.__version__
    assert written["matrix_rate"]["best"] == max(written["matrix_rate"]["samples"])
    assert len(written["cases"]) == 2 * 2
    for case in written["cases"]:
        rival = "packed" if case["lengths"] == "varied" else "torch"
        samples = case["samples"]
        assert len(samples["recurra"]) == len(samples[rival]) == timing.LEAST_ROUNDS
        pairs = np.array(samples[rival]) / np.array(samples["recurra"])
        np.testing.assert_allclose(case["ratios"][rival]["pairs"], pairs)
        assert case["ratios"][rival]["median"] == np.median(case["ratios"][rival]["pairs"])
        assert case["share"]["recurra"] == case["flops"] / np.median(samples["recurra"]) / written["matrix_rate"]["best"]
        assert case["gate"]["error"] <= case["gate"]["allowed"]
    reached = {target["name"]: target["reached"]["cases"] for target in written["targets"]}
    assert reached["training, varied lengths, over packed torch"] == 1
    assert reached["forward, over torch (packed where varied)"] == 2


def test_nothing_is_written_when_the_gate_is_red(tmp_path, monkeypatch):
    monkeypatch.setattr(contenders.Stack, "forward", lambda self, x, **_: (x.sum(2, keepdim=True).expand(-1, -1, self.output_size), ()))
    monkeypatch.setattr("benchmarks.kernels.gate._reference", lambda case, data, rows, dtype: [torch.ones(1, dtype=dtype)])
    with pytest.raises(RedGate):
        run_grid(Options(output=tmp_path, shapes=("2,3,4,5",)), report.Report(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_steps_pass_their_gate_and_are_timed(cell):
    record = streaming.measure_step(Case(cell, Shape(2, 1, 3, 3)), BRIEF)
    expected = {"recurra cell", "recurra stack", "torch", "torch cell"}
    assert set(record.samples) >= expected
    assert all(finding.passed for name, finding in record.findings.items() if name in expected)
    described = record.describe()
    assert described["weight_bytes"] == weight_bytes(record.case)
    if streaming.UNAVAILABLE is None:
        assert record.mine == "recurra stepper"
        assert record.findings[streaming.HALF].passed
        assert described["ratios_of_16_bits"]["torch"] == record.ratio("torch", streaming.HALF)
        assert len(described["reading"]) == len(described["samples"]["torch"])
        assert described["times_of_reading"]["torch"] == np.median(described["samples"]["torch"]) / record.read


def test_a_stream_that_forgets_its_state_is_refused(monkeypatch):
    def forgetful(case, data):
        def step(x):
            anew = streaming.STEPPERS["torch"](case, data)
            return anew(x)

        return step

    monkeypatch.setitem(streaming.STEPPERS, "recurra cell", forgetful)
    with pytest.raises(RedGate, match="recurra cell computes something else"):
        streaming.measure_step(Case("gru", Shape(1, 1, 3, 3)), BRIEF)


def test_saved_bytes_are_counted_once():
    """x * w saves both; the product saves x and its own result, of which x and w are known already."""
    weight = torch.ones(8, requires_grad=True)
    layer = contenders.Layer(lambda x: (x * weight).exp(), [weight])
    assert memory.saved_bytes(layer, torch.ones(8, requires_grad=True)) == 8 * 4


@pytest.mark.skipif(not memory.STATUS.is_file(), reason="there is no /proc/self/status: resident memory is measured on Linux")
def test_kept_memory_is_seen():
    """A block of 64 MB that is written to is resident; what has gone is not."""
    before = memory.resident_bytes()
    block = torch.ones(2**24)
    assert memory.resident_bytes() - before > 0.9 * block.nbytes
    assert memory.resident_bytes("VmHWM") >= memory.resident_bytes()


def test_refusal_names_every_tensor():
    case = Case("lstm", TINY)
    oracle = make_oracle(case, make_data(case))
    findings = compare([torch.zeros(5, 7, 4)], oracle)
    with pytest.raises(RedGate, match=r"allowed are \d"):
        refuse("recurra", case, findings)
    refuse("recurra", case, [])


def test_torch_has_no_layer_of_other_cells():
    case = Case("elman_relu", TINY)
    with pytest.raises(Unable, match="torch has no elman_relu layer"):
        OTHERS["torch"](case, make_data(case))


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("variant", ["zoneout", "recurrent dropout"])
def test_variants_stand_beside_the_plain_cell_and_the_loop(variant, varied):
    record = variants.measure_variant(variant, Case("gru", Shape(3, 4, 2, 2), varied=varied), backend="auto", effort=BRIEF)
    assert set(record.samples) == {"variant", "plain", "loop"}
    described = record.describe()
    assert described["regularization"] != {}
    assert described["over_plain"] > 0.0 < described["loop_over_variant"]


def test_normalized_loop_normalizes():
    """Its outputs do not know the scale of the input weights, but for the epsilon beside the variance (of one or more, here)."""
    torch.manual_seed(0)
    loop = variants.NormalizedLoop("lstm", 3, 4).double()
    x = 50.0 * torch.randn(2, 5, 3, dtype=torch.float64)
    before = loop(x)
    with torch.no_grad():
        loop.from_x.weight *= 8.0
    torch.testing.assert_close(loop(x), before, rtol=0.0, atol=5 * 1e-5)


def test_normalized_loop_stands_still_in_the_padding():
    torch.manual_seed(0)
    loop = variants.NormalizedLoop("gru", 3, 4)
    x, mask = torch.randn(2, 5, 3), (torch.arange(5) < torch.tensor([3, 5])[:, None])[..., None]
    output = loop(x, mask)
    assert not output[0, 3:].any()
    torch.testing.assert_close(output[0, :3], loop(x[:1, :3])[0])
    torch.testing.assert_close(output[1], loop(x[1:])[0])


def test_long_sequences_stand_beside_an_lstm():
    record = scan.measure_scan(Case("gru", Shape(2, 6, 3, 3)), training=True, backend="auto", effort=BRIEF)
    assert set(record.samples) == {"recurra", "lstm of torch"}
    assert record.ratio > 0.0
    with pytest.raises(Unable, match="there is no cell qrnm"):
        variants.cell_named("qrnm")


def test_curves_are_drawn(tmp_path):
    shape = Shape(2, 10, 3, 4)
    points = [
        {"axis": axis, "cell": "lstm", "mode": "forward", **shape._replace(**{axis: size})._asdict(), "median": {"recurra": size / 1e3}}
        for axis in growth.AXES
        for size in (2, 4, 8)
    ]
    growth.draw_curves(points, tmp_path)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "growth.html").read_text(encoding="utf-8")
    assert "hidden units H" in page
    assert "cdn.jsdelivr.net" not in page  # it opens without a network


def test_memory_is_looked_at_after_every_step():
    resident = memory.run_varied_shapes("gru", "auto", 3, torch.get_num_threads())
    assert len(resident) == 3
    assert min(resident) > 2**20
    assert memory._growth([100] * 50 + [100] * 50 + [103] * 900) == 1.03


def test_training_on_sessions_beside_plain_torch():
    """Both read the same clicks in the same order of rows, begin at the loss of a guess among all items, and learn."""
    clicks = recommendation.draw_sessions(60, 50)
    plain = recommendation.PlainGRU(clicks, 50, rows=4, units=8)
    step, read = recommendation.recurra_steps(clicks, 50, rows=4, units=8, window=1)
    for call in (plain.step, step):
        losses = [call().item() for _ in range(150)]
        assert losses[0] == pytest.approx(np.log(50), abs=0.5)
        assert np.mean(losses[-30:]) < np.mean(losses[:30])
    assert max(read) == 4


def test_rows_of_plain_torch_go_through_every_session():
    clicks = recommendation.draw_sessions(6, 20)
    batches = recommendation._clicks_side_by_side(clicks, 2)
    steps = int(clicks.items.lengths.sum()) - 6
    found = [next(batches) for _ in range(steps)]
    pairs = {(int(a), int(b)) for item, answer, _ in found for a, b in zip(item, answer, strict=True)}
    assert pairs == {(int(a), int(b)) for row in clicks.items for a, b in itertools.pairwise(row)}
    assert found[0][2].tolist() == [True, True]


def test_the_benchmark_of_recommendation_runs(tmp_path):
    recommendation.recommendation(quick=True, output=tmp_path)
    found = json.loads((tmp_path / "recommendation.json").read_text())
    assert [set(case["ratio"]) for case in found["training"]] == [{"plain PyTorch, 1 click", "recurra, 1 click", "recurra, 8 clicks"}]
    assert found["service"][0]["recall"] == 1.0
    assert found["service"][0]["top_20_ms"] > 0


def test_training_on_windows_beside_a_plain_lstm():
    """All read the same windows; the plain network and the one on our kernels go the same way; all learn."""
    table = forecasting.draw_series(200, 2)
    settings = forecasting._settings(24, 4, 8, 32)
    calls = forecasting.training_steps(forecasting.prepare(table, settings), settings)
    losses = {name: [call().item() for _ in range(40)] for name, call in calls.items()}
    # Forty steps of Adam on gradients that differ by rounding (1e-6 of their size): each step moves a weight by at most 1e-3.
    assert losses[forecasting.KERNELS] == pytest.approx(losses[forecasting.PLAIN], rel=1e-2)
    for name, course in losses.items():
        assert np.mean(course[-10:]) < np.mean(course[:10]), name


def test_the_benchmark_of_forecasting_runs(tmp_path):
    forecasting.forecasting(quick=True, output=tmp_path)
    found = json.loads((tmp_path / "forecasting.json").read_text())
    assert set(found["training"][0]["ratio"]) == {forecasting.PLAIN, forecasting.KERNELS, forecasting.SEGMENTS}
    assert all(row["ms"] > 0 for row in found["service"])


def test_the_same_weights_write_the_same_text(monkeypatch):
    """Drawn as cold as the plain contender can, both take the most probable token: the same one at every step."""
    settings = language._settings(8, 2, 3, 5)
    plain = language.PlainLanguageModel(30, settings).eval()
    ours = language.same_weights(plain, settings).eval()
    monkeypatch.setattr(torch, "multinomial", lambda probabilities, count: probabilities.argmax(1, keepdim=True))
    monkeypatch.setattr("recurra.decoding.generation._draw", lambda logits, generators: logits.argmax(1))
    assert torch.equal(language.writing(ours, 4, 12), language.plain_writing(plain, 4, 12))


def test_the_benchmark_of_language_models_runs(tmp_path):
    language.language(quick=True, output=tmp_path)
    found = json.loads((tmp_path / "language.json").read_text())
    assert set(found["training"]["ratio"]) == {language.PLAIN, language.OURS}
    assert [case["streams"] for case in found["generation"]] == [1, 64, 1, 64]


def test_rankings_with_and_without_copies(tmp_path, monkeypatch):
    """Of the test sessions half are training sessions; what is left are the others."""
    monkeypatch.chdir(ROOT)
    random = np.random.default_rng(0)
    rows = [random.permutation(30)[:4] for _ in range(60)]
    for part, chosen in (("train", rows[:30]), ("valid", rows[40:50]), ("test", rows[20:40])):
        lines = [f"{part}{n},{item},{place}" for n, row in enumerate(chosen) for place, item in enumerate(row)]
        (tmp_path / f"yoochoose_{part}.csv").write_text("session,item,time\n" + "\n".join(lines) + "\n")
    rankings.rankings(data=tmp_path, output=tmp_path)
    found = json.loads((tmp_path / "rankings.json").read_text())
    assert {entry["data"]: entry["questions"] for entry in found} == {"yoochoose": 60, "yoochoose, without copies of training sessions": 30}
    assert len(found) == 8


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("both", [False, True])
def test_the_packed_side_is_torchs_operation_with_the_same_values(monkeypatch, cell, both):
    made, x, lengths = stack.Stack(cell, 3, 4, layers=2, bidirectional=both), torch.randn(5, 6, 3), torch.tensor([6, 0, 3, 1, 5])
    expected = made(x, lengths=lengths)
    called = []

    def operation(*given):
        called.append(given)
        return getattr(torch, cell)(*given)

    monkeypatch.setattr(stack, "_read", packed.read)
    monkeypatch.setitem(packed.OPERATIONS, type(made.cells[0]), operation)
    found = made(x, lengths=lengths)
    assert len(called) == 2
    for mine, right in zip(*map(torch.utils._pytree.tree_leaves, (found, expected)), strict=True):
        torch.testing.assert_close(mine, right)
