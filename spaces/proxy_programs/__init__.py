"""Proxies as programs: expressions over the statistics of a network's units."""
