"""Signals as requests to stop."""

import os
import signal
import sys
import threading
import time

import pytest
import torch

from blurlib._common.devices import make_loader
from blurlib._common.interrupts import leave_signals_to_parent, stop_requests

pytestmark = pytest.mark.usefixtures("usual_handlers")


@pytest.mark.parametrize(
    ("signum", "error", "code"),
    [
        (signal.SIGINT, KeyboardInterrupt, None),
        (signal.SIGTERM, SystemExit, 143),
        (signal.SIGHUP, SystemExit, 129),
    ],
)
def test_a_signal_ends_the_work_after_the_item_in_hand(signum, error, code):
    done = []

    def work(stop):
        for item in stop.interruptible(range(5)):
            if item == 2:
                os.kill(os.getpid(), signum)
            done.append(item)

    with stop_requests() as stop:
        assert not stop
        with pytest.raises(error) as caught:
            work(stop)
        assert stop.signum == signum
    assert done == [0, 1, 2]
    assert getattr(caught.value, "code", None) == code
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_ends_the_wait_for_an_item():
    def items():
        yield 0
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    with stop_requests() as stop, pytest.raises(SystemExit):
        for _ in stop.interruptible(items()):
            pass


def test_a_second_signal_ends_the_work_at_once():
    def work(stop):
        for _ in stop.interruptible([0]):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("went on")

    with stop_requests() as stop, pytest.raises(SystemExit, match="143"):
        work(stop)


def test_an_echo_of_a_signal_is_not_a_second_one(monkeypatch):
    """torchrun passes on what its processes have got already."""
    clock = iter([10.0, 10.4, 11.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_is_told_in_a_line(capsys):
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
    assert stop.told("after step 3").code == 129
    assert capsys.readouterr().err == "\nstopped by SIGHUP after step 3\n"


def test_handlers_of_the_program_and_ignored_signals_stay():
    def own(*_):
        pass

    signal.signal(signal.SIGTERM, own)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with stop_requests() as stop:
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        assert list(stop.interruptible([1, 2])) == [1, 2]


def test_a_thread_installs_no_handlers():
    seen = []

    def work():
        with stop_requests() as stop:
            seen.append((signal.getsignal(signal.SIGINT), list(stop.interruptible([1]))))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.default_int_handler, [1])]


class Signals(torch.utils.data.Dataset):
    """In a worker, the third item signals both the worker and the main process, as to a process group."""

    def __init__(self, signum, parent):
        self.signum, self.parent = signum, parent

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index == 2:
            os.kill(os.getpid(), self.signum)
            os.kill(self.parent, self.signum)
        return index


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_ends_the_work_without_a_word_of_workers(signum, capfd):
    loader = make_loader(Signals(signum, os.getpid()), workers=1, batch_size=None, prefetch_factor=1)
    done = []

    def work():
        with stop_requests() as stop:
            done.extend(stop.interruptible(loader))

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        work()
    assert set(done) < {0, 1, 2, 3, 4}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("raised", "told"), [(EOFError(), False), (BrokenPipeError(), False), (OSError(), True)]
)
def test_a_worker_is_silent_about_a_parent_that_left_while_taking_a_batch(monkeypatch, capsys, raised, told):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back afterwards
    leave_signals_to_parent()
    thread = threading.Thread(target=sys.excepthook, args=(type(raised), raised, None))
    thread.start()
    thread.join()
    assert bool(capsys.readouterr().err) == told
