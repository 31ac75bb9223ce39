"""What the supervisor tells a log pump that has just been started."""

import os
import signal

from minipod.supervisor import protocol, services


def test_a_new_pump_can_be_told_of_thousands_of_containers_before_it_reads():
    """By default the socket takes some 270 messages: what came behind them was lost, and nobody read those containers' streams."""
    pid, control = services.fork_pump("time:sleep")
    reader, writer = os.pipe()
    try:
        message = {"op": "add", "id": "0" * 64, "log": "/var/log/pods/default_p_uid/c/0.log"}
        for _ in range(4000):
            protocol.send(control, message, [reader, writer])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        control.close()
        os.close(reader)
        os.close(writer)
