from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from conf.app import GROUPS, listing
from conf.errors import UsageError
from conf.schema import build, check, locate
from proxies import ProxyScorer, registry

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = [f for g in GROUPS if g != "experiment" for f in sorted((CONF / g).glob("*.yaml"))]
INJECTED = {
    "benchmark": ["space"],
    "searcher": ["space", "guidance", "seed", "cost", "judge"],
    "proxy": ["service"],
    "service": ["space", "batch"],
    "batch": ["space"],
}


class Target:
    def __init__(
        self,
        given: object,
        count: int = 1,
        share: float = 0.5,
        kind: Literal["a", "b"] = "a",
        name: str | None = None,
        flag: bool = False,
        levels: list[int] = [],  # noqa: B006
        titles: dict[str, str] = {},  # noqa: B006
        place: Path | None = None,
        number: Literal[1, 2] = 1,
    ) -> None:
        self.settings = (count, share, kind, name, flag, levels)


def node(**settings: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Target"} | settings


def test_builds_what_fits():
    built = build(
        node(count=3, share=1, kind="b", name="n", flag=True, levels=[1, 2]), "group", given=0
    )
    assert built.settings == (3, 1, "b", "n", True, [1, 2])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cuont": 3}, "group.cuont is no setting of group; its settings are: count, share"),
        ({"count": "many"}, "group.count=many must be a whole number"),
        ({"count": 2.5}, "group.count=2.5 must be a whole number"),
        ({"count": True}, "group.count=True must be a whole number"),
        ({"share": "half"}, "group.share=half must be a number"),
        ({"kind": "c"}, "group.kind=c must be one of a, b"),
        ({"name": 3}, "group.name=3 must be text or null"),
        ({"flag": 1}, "group.flag=1 must be true or false"),
        ({"levels": [1, "x"]}, "must be a list, each entry a whole number"),
        ({"given": 1}, "group.given is no setting"),
        ({"share": float("nan")}, "group.share=nan must be a number"),
        ({"share": float("inf")}, "group.share=inf must be a number"),
        ({"share": 10**400}, "must be a number"),
        ({"titles": 3}, "group.titles=3 must be names with values, each text"),
        ({"titles": {"a": 3}}, "must be names with values, each text"),
        ({"place": 3}, "group.place=3 must be a path or null"),
        ({"number": True}, "group.number=True must be one of 1, 2"),
        ({"number": 1.0}, "group.number=1.0 must be one of 1, 2"),
    ],
)
def test_refuses_in_one_sentence(settings, sentence):
    with pytest.raises(UsageError) as caught:
        build(node(**settings), "group", given=0)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [3, None, "name", [1]])
def test_what_is_no_group_of_settings_is_refused(settings):
    with pytest.raises(UsageError, match="must be a group of settings: given, count"):
        check(Target, settings, "group", {})
    with pytest.raises(UsageError, match=r"names no class; give group\._target_="):
        build(settings, "group")


def test_missing_setting_is_named():
    def needs(width: int) -> None:
        """Need it."""

    with pytest.raises(UsageError, match=r"group\.width is missing"):
        check(needs, {}, "group", {})


@pytest.mark.parametrize("path", ["no.such.module.Thing", "conf.schema.nothing", "plain", "os.sep"])
def test_unimportable_target_is_told(path):
    with pytest.raises(UsageError, match=f"space={path}"):
        locate(path, "space")


@pytest.mark.parametrize("file", OPTIONS, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_every_option_fits_its_class_and_hides_no_setting(file):
    import inspect

    settings = yaml.safe_load(file.read_text())
    assert file.read_text().startswith("# "), "the first line describes the option for --list"
    for base in settings.pop("defaults", ["_self_"])[:-1]:  # a preset changes some of another's
        settings = yaml.safe_load(file.with_name(f"{base}.yaml").read_text()) | settings
    if "_target_" not in settings:
        assert file.parent.name == "guidance"
        return
    target = locate(settings.pop("_target_"), file.parent.name)
    injected = dict.fromkeys(INJECTED.get(file.parent.name, []))
    check(target, settings, file.parent.name, injected)
    parameters = dict(inspect.signature(target).parameters)
    legal = {n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD} - set(injected)
    if target is ProxyScorer:
        own = registry.get(settings["name"]).settings
        assert {name: settings[name] for name in own} == own
        legal |= set(own)
    assert set(settings) == legal


def test_listing_names_every_option_with_a_description():
    lines = listing().splitlines()
    for file in OPTIONS:
        (line,) = [x for x in lines if x.split()[:1] == [file.stem] and len(x.split()) > 2][:1]
        assert line
