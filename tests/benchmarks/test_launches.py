"""What scoring asks of a GPU's host."""

from benchmarks import launches
from benchmarks.cells import distinct_cells
from proxies.batch import pictures
from spaces.nasbench201 import NASBench201

SPACE = NASBench201("cifar10")


def test_networks_that_run_as_one_ask_less_each():
    archs, batch, names = distinct_cells(SPACE, 6), pictures(SPACE, size=2), ("snip", "plain")
    few, many = (launches.ours(SPACE, archs[:n], batch, names) for n in (3, 6))
    theirs = launches.published_way(SPACE, archs[0], batch, names)
    assert many.launches < few.launches
    assert few.waits <= len(names)
    assert theirs.waits == len(names)
    assert many.launches < theirs.launches
    assert many.building_ms < theirs.building_ms
