"""The space of proxy programs: drawing, editing, names, and what is the same program."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from spaces.proxy_programs.evaluation import evaluate
from spaces.proxy_programs.formula import SUM, TERMINALS, parse
from spaces.proxy_programs.kinds import kind_of
from spaces.proxy_programs.simplify import simplify
from spaces.proxy_programs.space import ProxyPrograms, decode, encode
from tests.spaces.test_proxy_programs import random_units


@pytest.fixture(scope="module")
def space():
    return ProxyPrograms()


@pytest.fixture(scope="module")
def archs(space):
    return space.sample(np.random.default_rng(1), 60)


def test_samples_are_valid_programs_of_either_kind(space, archs):
    assert all(space.is_valid(arch) for arch in archs)
    programs = [space.program(arch) for arch in archs]
    assert 10 < sum(program.name == SUM for program in programs) < 50
    averaged = ProxyPrograms(sums=False).sample(np.random.default_rng(1), 20)
    assert all(decode(arch).name != SUM for arch in averaged)


def test_programs_read_what_they_may():
    space = ProxyPrograms(statistics=["weight", "input_noise"])
    drawn = space.sample(np.random.default_rng(1), 40)
    rng = np.random.default_rng(2)
    drawn += [space.mutate(arch, rng) for arch in drawn[:20]]
    read = {node.name for arch in drawn for node in space.program(arch).walk()} & set(TERMINALS)
    assert read == {"weight", "input_noise"}
    assert not space.is_valid(encode(parse("abs(abs(weight_gradient_noise))")))
    assert space.is_valid(encode(parse("abs(abs(input_noise))")))


def test_chance_is_the_generators(space, archs):
    state = random.getstate()
    assert space.sample(np.random.default_rng(1), 60) == archs
    assert space.sample(np.random.default_rng(2), 60) != archs
    assert random.getstate() == state


def test_edits_are_valid_and_different(space, archs):
    rng = np.random.default_rng(3)
    for one, other in zip(archs[:20], archs[20:], strict=False):
        for edit in (space.mutate(one, rng), space.crossover(one, other, rng)):
            assert space.is_valid(edit)
            assert edit != one


def test_neighbours_differ_in_one_word(space, archs):
    found = space.neighbours(archs[0])
    assert found
    for edit in found:
        assert space.is_valid(edit)
        assert sum(a != b for a, b in zip(edit, archs[0], strict=True)) == 1


def test_notation_round_trips(space, archs):
    assert [space.parse(space.format(arch)) for arch in archs] == archs


@given(arch=st.lists(st.integers(-2, 70), max_size=12).map(tuple))
def test_anything_else_is_no_program(arch):
    program = decode(arch)
    assert program is None or encode(program) == arch
    assert not ProxyPrograms().is_valid((*arch, 0)) or decode((*arch, 0)) is not None


def test_bounds_are_kept():
    space = ProxyPrograms(shallowest=1, deepest=2, longest=3, sums=False)
    for arch in space.sample(np.random.default_rng(0), 30):
        assert 2 <= len(arch) <= 3
    for text in ("weight", "abs(abs(abs(weight)))", f"{SUM}(abs(weight))"):
        assert not space.is_valid(encode(parse(text)))


@pytest.mark.parametrize("text", ["det(det(weight))", "weight", "abs(" * 7 + "weight" + ")" * 7])
def test_whatever_is_asked_agrees_on_what_is_no_program(space, text):
    arch = encode(parse(text))
    assert not space.is_valid(arch)
    assert space.are_valid([arch]).tolist() == space.are_legal([arch]).tolist() == [False]
    with pytest.raises(UsageError, match=r"is no architecture of proxy_programs as it is set"):
        space.parse(text)


@pytest.mark.parametrize(
    "settings", [{"shallowest": 0}, {"shallowest": 5, "deepest": 4}, {"longest": 2}]
)
def test_impossible_bounds_are_refused(settings):
    with pytest.raises(UsageError, match="space\\."):
        ProxyPrograms(**settings)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("add(weight, weight_gradient_data)", "weight"),
        ("add(weight, mean(input_data))", "weight"),
        ("add(input_data, activation_data)", None),
        ("logdet(sign(weight))", "weight matrices"),
        ("det(logdet(weight))", None),
        ("frobenius(sigmoid(logdet(sign(weight_gradient_noise))))", "number"),
        ("cosine(mean(weight), mean(weight))", None),
        ("kl(mean(weight), input_data)", "number"),
    ],
)
def test_kinds(text, kind):
    assert kind_of(parse(text)) == kind


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("abs(abs(weight))", "abs(weight)"),
        ("square(abs(weight))", "square(weight)"),
        ("frobenius(abs(weight))", "frobenius(weight)"),
        ("heaviside(weight)", "positive(weight)"),
        ("less(weight, weight_gradient_data)", "greater(weight_gradient_data, weight)"),
        (
            "add(weight_gradient_data, weight)",
            "add(weight, weight_gradient_data)",
        ),
        ("numel(exp(abs(weight)))", "numel(weight)"),
        ("sign(positive(weight))", "positive(weight)"),
        ("relu(sigmoid(weight))", "sigmoid(weight)"),
    ],
)
def test_equal_programs_have_one_representative(text, simple):
    assert str(simplify(parse(text))) == simple


def test_the_representative_gives_the_same(space, archs):
    units = random_units([0, 0, 1])
    for arch in [*archs, *space.sample(np.random.default_rng(7), 100)]:
        simple = space.canonical(arch)
        assert space.canonical(simple) == simple
        torch.testing.assert_close(
            evaluate(space.program(arch), [units], 2),
            evaluate(space.program(simple), [units], 2),
            equal_nan=True,
            rtol=1e-4,
            atol=1e-5,
        )


def test_what_a_space_of_programs_has_not(space, archs):
    for ask in (space.enumerate, lambda: space.network(archs[0]), lambda: space.one_hot(archs)):
        with pytest.raises(UsageError, match="proxy_programs"):
            ask()
