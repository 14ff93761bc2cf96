from benchmarks import programs


def test_programs_run_faster_all_at_once_than_network_by_network(capsys):
    programs.main(["--programs", "10", "--networks", "2"])
    ours, *others = capsys.readouterr().out.splitlines()
    assert ours.startswith("all at once, sampled")
    assert len(others) == 2
    assert all(float(row.split("are ")[1].split()[0]) > 1 for row in others)
