"""Imports the official benchmark files into tables that ``benchmark.path`` reads.

From Python, :func:`from_tfrecord`, :func:`from_nasbench`, :func:`from_pth` and :func:`from_nats`;
on the command line, ``python -m spaces.importers``.
"""

from spaces.importers.imported import Imported
from spaces.importers.nasbench101 import from_nasbench, from_tfrecord
from spaces.importers.nats import from_nats, from_pth

__all__ = ["Imported", "from_nasbench", "from_nats", "from_pth", "from_tfrecord"]
