"""Run every benchmark that takes minutes at most."""

from benchmarks import nasbench101_lookup, scoring, search_overhead, table_loading

print("Scoring, against the published way of working")
scoring.main([])
print("\nSearch overhead, 300 models a trial")
search_overhead.main([])
print("\nTable loading")
table_loading.main()
print("\nNAS-Bench-101: loading and looking up")
nasbench101_lookup.main()
