from m3pc_ray.diagnosis.rows import Row, guarded, has_failure
from m3pc_ray.errors import UserError


def test_rows_of_a_check_pass_through():
    rows = [Row("a", "ok", "fine"), Row("b", "warning", "hm")]
    assert guarded("a", lambda: rows) == rows
    assert not has_failure(rows)


def test_an_exception_becomes_a_failure_row_of_one_line():
    def check() -> list[Row]:
        raise RuntimeError("first line\nsecond")

    (row,) = guarded("gpu", check)
    assert (row.name, row.status, row.found) == ("gpu", "failure", "RuntimeError: first line second")
    assert has_failure([Row("a", "ok", ""), row])


def test_the_text_of_a_user_error_stands_alone():
    def check() -> list[Row]:
        raise UserError("file.txt: not there")

    assert guarded("data", check)[0].found == "file.txt: not there"
