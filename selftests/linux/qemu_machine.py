# SPDX-License-Identifier: GPL-2.0-only
"""A QEMU process under test: its monitor, its guest's serial line, its debugger's end.

For qemu_clients.py.  Everything that waits has a limit and raises Failed with what was seen.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time

LIMIT = 500


class Failed(Exception):
    """The machine did not do what a test expects."""


class Unable(Exception):
    """This QEMU cannot do what a test is about."""


def connect(path):
    deadline = time.monotonic() + 30
    while True:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(path)
            end.settimeout(LIMIT)
            return end
        except OSError:
            end.close()
            if time.monotonic() > deadline:
                raise Failed(f"QEMU does not listen at {os.path.basename(path)}") from None
            time.sleep(0.1)


class Debugger:
    """The remote protocol of GDB, as far as a test needs it."""

    def __init__(self, path):
        self.end = connect(path)
        self.rest = b""

    def byte(self):
        while not self.rest:
            self.rest = self.end.recv(4096)
            if not self.rest:
                raise Failed("the debugger's connection has ended")
        first, self.rest = self.rest[:1], self.rest[1:]
        return first

    def send(self, text):
        data = text.encode()
        self.end.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xFF))

    def receive(self):
        while self.byte() != b"$":
            pass
        data = b""
        while (got := self.byte()) != b"#":
            data += got
        self.byte()
        self.byte()
        self.end.sendall(b"+")
        return data.decode()

    def ask(self, text):
        try:
            self.send(text)
            return self.receive()
        except socket.timeout:
            raise Failed(f"the debugger waits in vain after {text!r}") from None

    def command(self, text):
        if (answer := self.ask(text)) != "OK":
            raise Failed(f"{text!r} gives {answer!r}")

    def rip(self):
        """The 17th of the 64-bit registers, which come first."""
        return int.from_bytes(bytes.fromhex(self.ask("g"))[128:136], "little")

    def set_rip(self, rip):
        registers = bytes.fromhex(self.ask("g"))
        self.command("G" + (registers[:128] + rip.to_bytes(8, "little") + registers[136:]).hex())

    def stop_at(self, action, rip=None):
        """Step or continue; the guest has to stop by a trap, at RIP."""
        answer = self.ask(action)
        if answer[:3] not in ("T05", "S05"):
            raise Failed(f"{action!r} ends with {answer!r}")
        if rip is not None and self.rip() != rip:
            raise Failed(f"stopped at {self.rip():#x}, not at {rip:#x}")


class Machine:
    """QEMU with the arguments that are given and three sockets of ours."""

    def __init__(self, work, program, arguments):
        self.name = os.path.join(work, f"m{time.monotonic_ns():x}")
        self.said = ""
        self.more = threading.Condition()
        command = [*program, "-accel", "kvm", "-nodefaults", "-display", "none", "-m", "256"]
        command += ["-qmp", f"unix:{self.name}.qmp,server=on,wait=off"]
        command += ["-gdb", f"unix:{self.name}.gdb,server=on,wait=off"]
        command += ["-chardev", f"socket,id=s,path={self.name}.tty,server=on,wait=on"]
        command += ["-serial", "chardev:s", *arguments]
        self.errors = open(f"{self.name}.err", "w+b")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors
        )
        try:
            self.tty = connect(f"{self.name}.tty")
            self.qmp = connect(f"{self.name}.qmp").makefile("rw")
            threading.Thread(target=self.listen, daemon=True).start()
            self.qmp.readline()
            self.monitor("qmp_capabilities")
        except (Failed, OSError) as why:
            self.process.kill()
            self.process.wait()
            if "does not support" in (said := self.complaint()):
                raise Unable(said) from None
            raise Failed(f"{why}: {said}") from None

    def complaint(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()[-500:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def listen(self):
        try:
            while data := self.tty.recv(4096):
                with self.more:
                    self.said += data.decode(errors="replace").replace("\r", "")
                    self.more.notify_all()
        except OSError:
            pass

    def monitor(self, execute, **arguments):
        self.qmp.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
        self.qmp.flush()
        while line := self.qmp.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise Failed(f"{execute}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise Failed(f"QEMU is gone: {self.complaint()}")

    def human(self, line):
        if said := self.monitor("human-monitor-command", **{"command-line": line}).strip():
            raise Failed(f"{line}: {said}")

    def expect(self, pattern):
        """Wait for a line of the guest's; what has been said up to it is dropped."""
        deadline = time.monotonic() + LIMIT
        with self.more:
            while not (found := re.search(rf"(?m)^{pattern}\n", self.said)):
                left = deadline - time.monotonic()
                if left < 0 or self.process.poll() is not None:
                    raise Failed(f"no {pattern!r}: {self.said[-800:]!r} {self.complaint()}")
                self.more.wait(min(left, 1))
            self.said = self.said[found.end() :]
        return found

    def forget(self):
        with self.more:
            self.said = ""

    def migrate(self, path):
        self.monitor("migrate", uri=f"exec:cat >{path}")
        deadline = time.monotonic() + LIMIT
        while (status := self.monitor("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise Failed(f"migration: {status}")
            time.sleep(0.2)

    def debugger(self):
        return Debugger(f"{self.name}.gdb")
