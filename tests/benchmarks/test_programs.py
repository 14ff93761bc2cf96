from benchmarks import programs


def test_each_way_of_running_programs_is_measured(capsys):
    programs.main(["--programs", "10", "--networks", "2"])
    rows = capsys.readouterr().out.splitlines()
    assert [row[:11] for row in rows] == ["all at once", "network by ", "the publish"]
    assert all(float(row[22:].split()[0]) > 0 for row in rows)
