from rds_lib.report.markdown import table


def test_a_table_has_a_line_per_row():
    assert table(["a", "b"], [(1, "x"), ("", 2.5)]) == "| a | b |\n| --- | --- |\n| 1 | x |\n|  | 2.5 |"
