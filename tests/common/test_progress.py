"""Progress in a log: a line now and then with rate and time left, and one at the end."""

import re

from blurlib._common import progress


class Clock:
    """Each item takes 30 seconds."""

    now = 0.0

    def monotonic(self):
        return self.now

    perf_counter = monotonic

    def tick(self, count):
        for number in range(count):
            self.now += 30.0
            yield number


def test_a_log_has_the_rate_and_the_time_left(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "is_live", lambda: False)
    with progress.progress_bar(clock.tick(7), title="evaluate", unit="image", show=True, total=7) as bar:
        assert list(bar) == list(range(7))
    assert capsys.readouterr().err.splitlines() == [
        "evaluate: 2 of 7 images, 0.0333 a second, 02:30 left",
        "evaluate: 4 of 7 images, 0.0333 a second, 01:30 left",
        "evaluate: 6 of 7 images, 0.0333 a second, 00:30 left",
        "evaluate: 7 images, 210.0 s",
    ]
    with progress.progress_bar([1], title="evaluate", unit="batch", show=False) as bar:
        assert list(bar) == [1]
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar_with_both(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_live", lambda: True)
    with progress.progress_bar(range(3), title="evaluate", unit="image", show=True) as bar:
        assert list(bar) == [0, 1, 2]
    err = capsys.readouterr().err
    assert re.search(r"3/3 \[\d\d:\d\d<\d\d:\d\d, .*image/s\]", err) and "images," not in err
