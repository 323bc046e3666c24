# SPDX-License-Identifier: GPL-2.0-only
"""One round of a benchmark, instruction by instruction: what an emulator counts as one, silicon may not.

QEMU's gdb stub stops the machine where the guest's round begins, and from there each instruction of guest and host is
stepped until the guest is there again. While a step is made no interrupt comes, so only the exit itself is seen. Bochs
writes a trace, in which interrupts are.
"""

import re
import socket
import struct

# Rounds before those that are looked at: then all is warm. Of these the shortest counts: an earlier interrupt may
# still have work for another.
WARM = 40
LOOKED_AT = 3
FEWEST = 20
MOST = 100000
# Registers by gdb's numbers.
RCX, RIP = 2, 16

PREFIXES = b"\x66\x67\xf2\xf3\x2e\x36\x3e\x26\x64\x65\xf0"
# What Bochs says of an instruction: where it is, and its bytes.
TRACED = re.compile(r"^\(0\)\.\[\d+\] \[0x[0-9a-f]+\] [0-9a-f]{4}:([0-9a-f]{16}) .*; ([0-9a-f]+)\s*$")
# Of a trace, the longest round three times, and a bit.
TRACED_AT_ONCE = 16000

TWO = {
    0x22: "write of CR", 0x23: "write of DR", 0x30: "WRMSR", 0x32: "RDMSR", 0x78: "VMREAD", 0x79: "VMWRITE",
}
GROUP7 = {
    0xD8: "VMRUN", 0xDA: "VMLOAD", 0xDB: "VMSAVE", 0xDC: "STGI", 0xDD: "CLGI", 0xDF: "INVLPGA", 0xD1: "XSETBV",
    0xC2: "VMLAUNCH", 0xC3: "VMRESUME", 0xC4: "VMXOFF",
}
# Opcode behind 0f, and the register field of ModRM, of instructions with memory.
FIELDS = {
    (0x01, 2): "LGDT", (0x01, 3): "LIDT", (0x01, 7): "INVLPG",
    (0xAE, 4): "XSAVE", (0xAE, 6): "XSAVE", (0xAE, 5): "XRSTOR",
    (0xC7, 3): "XRSTOR", (0xC7, 4): "XSAVE", (0xC7, 5): "XSAVE", (0xC7, 6): "VMPTRLD",
    (0x00, 2): "LLDT", (0x00, 3): "LTR",
}
THREE = {0x80: "INVEPT", 0x81: "INVVPID", 0x82: "INVPCID"}
IPI_MSR = 0x830


def classify(code):
    """The name of an expensive instruction, None for others."""
    at = 0
    while at < len(code) and code[at] in PREFIXES:
        at += 1
    prefixes = code[:at]
    locked = 0xF0 in prefixes
    if at < len(code) and code[at] & 0xF0 == 0x40:
        at += 1
    code = code[at : at + 3] + b"\0\0\0"
    memory = code[2] >> 6 != 3
    if code[0] == 0x0F:
        name = TWO.get(code[1]) or (GROUP7.get(code[2]) if code[1] == 1 else None)
        if not name and code[1] == 0x38 and 0x66 in prefixes:
            name = THREE.get(code[2])
        if not name and memory and code[1] != 0x38:
            name = FIELDS.get((code[1], code[2] >> 3 & 7))
        if name == "VMPTRLD":
            name = "VMCLEAR" if 0x66 in prefixes else "VMXON" if 0xF3 in prefixes else name
        if name:
            return name
    if locked or (code[0] in (0x86, 0x87) and code[1] >> 6 != 3):
        return "locked"
    return None


class Stub:
    """QEMU's end of the remote protocol of gdb."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(300)
        self.socket.connect(path)
        self.rest = b""
        self.ask("qSupported")

    def packet(self):
        while True:
            begin = self.rest.find(b"$")
            end = self.rest.find(b"#", begin)
            if begin >= 0 and 0 <= end <= len(self.rest) - 3:
                data, self.rest = self.rest[begin + 1 : end], self.rest[end + 3 :]
                self.socket.send(b"+")
                return data.decode()
            data = self.socket.recv(65536)
            if not data:
                raise OSError("the machine has ended")
            self.rest += data

    def send(self, text):
        self.socket.send(f"${text}#{sum(text.encode()) & 0xff:02x}".encode())

    def ask(self, text):
        self.send(text)
        return self.packet()

    def register(self, number):
        return struct.unpack("<Q", bytes.fromhex(self.ask(f"p{number:x}")))[0]

    def code(self, rip):
        answer = self.ask(f"m{rip:x},f")
        return b"" if answer.startswith("E") else bytes.fromhex(answer)

    def break_at(self, address, on):
        self.ask(f"{'Z' if on else 'z'}0,{address:x},1")

    def go(self):
        """Until something stops the machine again."""
        self.ask("c")


def one_round(stub, address, known):
    """From ADDRESS until it is there again: instructions by name, all of them, and by address. KNOWN: names by address."""
    counts, total = {}, 0
    places = {}
    rip = address
    while not total or (rip != address and total < MOST):
        if rip not in known:
            known[rip] = classify(stub.code(rip))
        name = known[rip]
        if name == "WRMSR" and stub.register(RCX) & 0xFFFFFFFF == IPI_MSR:
            name = "IPI"
        if name:
            counts[name] = counts.get(name, 0) + 1
        total += 1
        places[rip] = places.get(rip, 0) + 1
        stub.ask("s")
        rip = stub.register(RIP)
    return counts, total, places


def watch(path, address, begin):
    """Lets BEGIN start the guest, and looks at some rounds; the machine runs on.

    Gives the shortest round's expensive instructions, by name, the number of all, and how often each address was met.
    """
    stub = Stub(path)
    stub.break_at(address, True)
    stub.send("c")
    begin()
    stub.packet()
    for _ in range(WARM):
        stub.go()
    stub.break_at(address, False)
    known = {}
    rounds = [one_round(stub, address, known) for _ in range(LOOKED_AT)]
    # What ends in a fault begins a second time, and that is no round of its own.
    found = min((one for one in rounds if one[1] >= FEWEST), key=lambda found: found[1], default=rounds[0])
    stub.send("D")
    stub.packet()
    stub.socket.close()
    return found


def traced(path):
    """What Bochs has written: addresses and bytes."""
    with open(path, encoding="utf-8", errors="replace") as trace:
        for line in trace:
            found = TRACED.match(line)
            if found:
                yield int(found[1], 16), bytes.fromhex(found[2])


def traced_round(path, address):
    """The shortest of the rounds that begin at ADDRESS, as watch() finds it: addresses and bytes."""
    rounds = []
    for rip, code in traced(path):
        if rip == address:
            rounds.append([])
        if rounds:
            rounds[-1].append((rip, code))
    # The last one is cut off.
    return min((one for one in rounds[:-1] if len(one) >= FEWEST), key=len, default=[])


def count(instructions):
    """The expensive ones of them, by name."""
    counts = {}
    for _, code in instructions:
        name = classify(code)
        if name:
            counts[name] = counts.get(name, 0) + 1
    return counts
