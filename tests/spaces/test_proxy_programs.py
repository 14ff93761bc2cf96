"""The language of proxy programs: reading, writing, and what each operation gives."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from spaces.proxy_programs.evaluation import evaluate
from spaces.proxy_programs.formula import ARITIES, DEEPEST, SUM, TERMINALS, Node, parse
from spaces.proxy_programs.operations import OPERATIONS, MisfitError, Values, number

UNARY = sorted(name for name, arity in ARITIES.items() if arity == 1)
BINARY = sorted(name for name, arity in ARITIES.items() if arity == 2)

programs = st.recursive(
    st.sampled_from(TERMINALS).map(Node),
    lambda inner: (
        st.builds(lambda name, a: Node(name, (a,)), st.sampled_from(UNARY), inner)
        | st.builds(lambda name, a, b: Node(name, (a, b)), st.sampled_from(BINARY), inner, inner)
    ),
    max_leaves=8,
)


class Made:
    """Units whose statistics are made up."""

    def __init__(self, networks, terminals, alive=None):
        self.networks = torch.tensor(networks)
        self.alive = torch.tensor(alive or [True] * len(networks))
        self.terminals = terminals

    def terminal(self, name):
        data = self.terminals[name]
        return Values(data, torch.full((len(data),), float(data[0].numel())))


def random_units(networks, shape=(2, 3, 4, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = {name: torch.randn(len(networks), *shape, generator=generator) for name in TERMINALS}
    return Made(networks, draw)


def values(*rows):
    data = torch.tensor(rows)
    return Values(data, torch.full((len(data),), float(data[0].numel())))


def test_there_are_22_statistics():
    assert len(set(TERMINALS)) == 22


@given(program=programs)
def test_what_is_written_is_read_again(program):
    assert parse(str(program)) == program
    assert parse(f"  {program} ".replace("(", " ( ").replace(", ", " ,")) == program
    assert parse(f"{SUM}({program})") == Node(SUM, (program,))


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("", 1, "must stand here, but the formula ends"),
        ("sign(", 6, "must stand here, but the formula ends"),
        (
            "sign(wieght)",
            6,
            "'wieght' is neither a statistic nor an operation; did you mean weight",
        ),
        ("qqqq", 1, "see docs/eznas.md"),
        ("sign", 5, "sign takes 1 in parentheses, but the formula ends"),
        ("add(weight)", 11, "add takes 2 arguments, not ')'"),
        ("sign(weight, weight)", 12, "sign takes 1 argument and then ')', not ','"),
        ("sign(weight", 12, "but the formula ends"),
        ("sign(weight))", 13, "')' is one too many"),
        ("weight weight", 8, "'weight' is one too many"),
        ("add(weight, 2)", 13, "'2' has no meaning"),
        ("sign(,)", 6, "must stand here, not ','"),
        ("sign(sum_over_units(weight))", 6, "can only stand around the whole formula"),
        ("abs(" * 99 + "weight" + ")" * 99, 4 * DEEPEST + 1, "deeper than 40 levels"),
    ],
)
def test_a_malformed_formula_is_refused_with_the_position(text, position, why):
    with pytest.raises(UsageError) as refusal:
        parse(text)
    assert f"at position {position}: " in str(refusal.value)
    assert why in str(refusal.value)


@given(text=st.text("abdgilnorsw_(), 0", max_size=30))
def test_whatever_is_written_is_read_or_refused(text):
    try:
        parse(text)
    except UsageError as refusal:
        assert "at position " in str(refusal)


def test_size_and_depth():
    program = parse("add(abs(weight), sign(exp(input_data)))")
    assert (program.size, program.depth) == (6, 3)
    assert parse("weight").depth == 0


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("log(X)", [[0.0, 0.0, math.log(4.0)]]),
        ("abslog(Y)", [[0.0, math.log(2.0), math.log(2.0)]]),
        ("invert(X)", [[math.inf, -0.5, 0.25]]),
        ("heaviside(X)", [[0.0, 0.0, 1.0]]),
        ("negative(X)", [[0.0, 1.0, 0.0]]),
        ("sign(X)", [[0.0, -1.0, 1.0]]),
        ("frobenius(X)", [math.sqrt(20)]),
        ("mean(X)", [2 / 3]),
        ("mean_abs(X)", [2.0]),
        ("numel(X)", [3.0]),
        ("standardise(ones(X))", [[0.0, 0.0, 0.0]]),
        ("subtract(X, Y)", [[-1.0, -2.5, 2.0]]),
        ("less(X, Y)", [[1.0, 1.0, 0.0]]),
        ("multiply(X, mean(Y))", [[0.0, -7 / 3, 14 / 3]]),
        ("subtract(mean(Y), X)", [[7 / 6, 7 / 6 + 2, 7 / 6 - 4]]),
        ("hamming(X, Y)", [2.0]),
        ("kl(X, Y)", [(0.5 * (math.log(0.5) + 2) + 2 * (math.log(2) - 4)) / 3]),
        ("softmax(zeros(X))", [[1 / 3, 1 / 3, 1 / 3]]),
    ],
)
def test_operations_by_hand(formula, expected):
    known = {"X": values([0.0, -2.0, 4.0]), "Y": values([1.0, 0.5, 2.0])}

    def value(text):
        name, _, rest = text.partition("(")
        if not rest:
            return known[name]
        inner, depth, parts = rest[:-1], 0, [""]
        for letter in inner:
            depth += (letter == "(") - (letter == ")")
            if letter == "," and not depth:
                parts.append("")
            else:
                parts[-1] += letter
        return OPERATIONS[name](*(value(part.strip()) for part in parts))

    torch.testing.assert_close(value(formula).data, torch.tensor(expected))


def test_determinants():
    matrices = values([[2.0, 0.0], [0.0, 3.0]], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]])
    assert OPERATIONS["det"](matrices).data.tolist() == [6.0, -1.0, 0.0]
    logdet = OPERATIONS["logdet"](matrices)
    torch.testing.assert_close(logdet.data, torch.tensor([math.log(6), 0.0, -math.inf]))
    assert logdet.count.tolist() == [1.0, 1.0, 1.0]


def test_eigenvalues_and_angles():
    a = values([[3.0, 0.0], [0.0, 1.0]])
    assert OPERATIONS["eigenratio"](a).data.item() == pytest.approx(9)
    assert OPERATIONS["cosine"](a, a).data.item() == pytest.approx(2)
    torch.testing.assert_close(OPERATIONS["matmul"](a, a).data, torch.tensor([[[9.0, 0], [0, 1]]]))


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("filling", [0.0, 1.0, -1.0, math.inf, math.nan, 1e38])
def test_every_operation_is_total(name, filling):
    tensor = values(*torch.full((2, 3, 4, 4), filling).tolist())
    single = number(torch.full((2,), filling))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for a in (tensor, single):
            for b in (tensor, single):
                try:
                    result = OPERATIONS[name](*(a, b)[: ARITIES[name]])
                except MisfitError:
                    continue
                assert len(result.data) == len(result.count) == 2


@given(program=programs)
def test_units_are_alike_whatever_is_beside_them(program):
    """All at once as one by one, and without a crash whatever the program is."""
    both = random_units([0, 1])
    together = evaluate(program, [both], 2)
    for network in (0, 1):
        alone = Made([0], {k: v[network : network + 1] for k, v in both.terminals.items()})
        torch.testing.assert_close(
            evaluate(program, [alone], 1)[0],
            together[network],
            equal_nan=True,
            rtol=1e-3,
            atol=1e-4,
        )


def test_mean_and_sum_over_units():
    units = Made([0, 0, 1], {"weight": torch.tensor([[1.0, 3.0], [4.0, 4.0], [7.0, 7.0]])})
    assert evaluate(parse("weight"), [units], 2).tolist() == [3.0, 7.0]
    assert evaluate(parse("sum_over_units(weight)"), [units, units], 2).tolist() == [12.0, 14.0]


def test_units_without_a_gradient_count_zero():
    units = Made([0, 0], {"weight": torch.ones(2, 2)}, alive=[True, False])
    assert evaluate(parse("weight"), [units], 1).tolist() == [0.5]
    assert evaluate(parse("invert(zeros(weight))"), [units], 1).tolist() == [math.inf]


def test_units_that_do_not_fit_are_left_out():
    fits = Made([0], {"weight": torch.full((1, 2, 2), 2.0)})
    not_square = Made([0, 1], {"weight": torch.ones(2, 2, 3)})
    found = evaluate(parse("det(weight)"), [fits, not_square], 2)
    assert found[0] == 0.0
    assert found[1].isnan()
