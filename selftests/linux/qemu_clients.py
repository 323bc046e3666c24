#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as the client, on /dev/kvm (keel.ko with kvm_node=1, or in-tree KVM): what its users do.

TAP.  Each case runs with the QEMU in PATH and with the one that scripts/get-clients has fetched.  The guest
is the stock Debian kernel; its script says how many CPUs there are, whether the network's gateway answers
and what a virtio disk reads as, and then counts.

usage: qemu_clients.py [GLOB...]    'make check' runs those of QUICK, 'make check-clients' all ('*')
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
from qemu_machine import Failed, Machine, Unable  # pylint: disable=wrong-import-position

NET = ["failover", "net_failover", "virtio_net"]
MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"]
MODULES += ["virtio_blk", *NET]
APPEND = "console=ttyS0 panic=-1 quiet loglevel=1 cryptomgr.notests=1"
SCRIPT = """
for module in %s; do [ ! -f /$module.ko ] || insmod /$module.ko; done
[ ! -d /sys/class/net/eth0 ] || {
	ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0
	ping -c 1 -W 20 10.0.2.2 >/dev/null && echo "net answers"
}
[ ! -b /dev/vda ] || dd if=/dev/vda bs=2k skip=16 count=1 2>/dev/null | grep -q CD001 && echo "disk ISO image"
echo "cpus $(nproc)"
i=0
while :; do echo "tick $i"; i=$((i + 1)); usleep 300000; done
"""
BOOT_SECTOR = 0x7C00
HEADLESS = "pc,vmport=off"


def tree():
    at = HERE
    while not os.path.exists(os.path.join(at, "scripts", "mkcpio")):
        at = os.path.dirname(at)
        if at == "/":
            sys.exit("1..0 # SKIP not below the tree")
    return at


TREE = tree()
BUILD = os.path.join(TREE, "build")
KERNEL = os.path.join(BUILD, "kernel", "default")
CLIENTS = os.path.join(BUILD, "clients")


class Program:
    """A QEMU: how to start it, and its version."""

    def __init__(self, directory=""):
        self.command = [os.path.join(directory, "qemu-system-x86_64")]
        for name in ("seabios", "qemu", "ipxe/qemu") if directory else ():
            self.command += ["-L", os.path.join(directory, "usr", "share", name)]
        said = subprocess.run([self.command[0], "--version"], capture_output=True, text=True, check=True)
        self.version = re.search(r"version (\d+\.\d+)", said.stdout).group(1)


def programs():
    found = [Program()] if shutil.which("qemu-system-x86_64") else []
    other = os.path.join(CLIENTS, "qemu")
    return found + ([Program(other)] if os.path.isdir(other) else [])


class Tests:
    """The cases, and the files that all of them share."""

    def __init__(self, work):
        self.work = work
        self.initrd = os.path.join(work, "initrd")
        self.disk = os.path.join(work, "disk")
        self.program = None
        self.make_initrd()
        self.make_disk()

    def make_initrd(self):
        lines = []
        command = os.path.join(self.work, "command")
        with open(command, "w", encoding="utf-8") as out:
            out.write(SCRIPT % " ".join(MODULES))
        lines.append(f"file /keel.cmd 644 {command}")
        for module in MODULES:
            if os.path.exists(path := os.path.join(KERNEL, "modules", module)):
                lines.append(f"file /{module}.ko 644 {path}")
        maker = [os.path.join(TREE, "scripts", "mkcpio"), self.initrd]
        subprocess.run(maker, input="\n".join(lines) + "\n", text=True, check=True)
        base = os.path.join(HERE, "guest.cpio")
        if not os.path.exists(base):
            base = os.path.join(BUILD, "selftests", "linux", "guest.cpio")
        with open(base, "rb") as first, open(self.initrd, "rb") as second:
            both = first.read() + second.read()
        with open(self.initrd, "wb") as out:
            out.write(both)

    def make_disk(self):
        """A boot loader, a kernel and an initramfs; the image boots as a disk by int 13h alone."""
        files = os.path.join(self.work, "files")
        loader = os.path.join(CLIENTS, "isolinux")
        os.mkdir(files)
        for name in ("isolinux.bin", "ldlinux.c32"):
            shutil.copy(os.path.join(loader, name), files)
        shutil.copy(os.path.join(KERNEL, "vmlinuz"), files)
        shutil.copy(self.initrd, files)
        with open(os.path.join(files, "isolinux.cfg"), "w", encoding="utf-8") as out:
            out.write(f"default l\nlabel l\nkernel /vmlinuz\ninitrd /initrd\nappend {APPEND}\n")
        command = ["xorriso", "-as", "mkisofs", "-quiet", "-o", self.disk, "-b", "isolinux.bin"]
        command += ["-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
        command += ["-isohybrid-mbr", os.path.join(loader, "isohdpfx.bin"), files]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        shutil.rmtree(files)

    # --- the parts of a machine

    def machine(self, *arguments):
        return Machine(self.work, self.program.command, list(arguments))

    def kernel(self):
        vmlinuz = os.path.join(KERNEL, "vmlinuz")
        return ["-kernel", vmlinuz, "-initrd", self.initrd, "-append", APPEND]

    def drive(self, interface):
        """Writes, and snapshots, go to a temporary file."""
        return ["-drive", f"file={self.disk},format=raw,if={interface},snapshot=on"]

    # --- the cases

    def boots(self, cpus, *arguments, lines=()):
        with self.machine("-smp", str(cpus), *arguments) as machine:
            for line in (*lines, f"cpus {cpus}", "tick 2"):
                machine.expect(line)

    def steps(self, machine):
        """From reset to the boot sector, and some instructions of that, by the debugger."""
        gdb = machine.debugger()
        gdb.ask("?")
        gdb.command(f"Z1,{BOOT_SECTOR:x},1")
        gdb.stop_at("c", BOOT_SECTOR)
        gdb.command(f"z1,{BOOT_SECTOR:x},1")
        at = [BOOT_SECTOR]
        for _ in range(4):
            gdb.stop_at("s")
            at.append(gdb.rip())
        if len(set(at)) != 5 or not all(0 < b - a < 16 for a, b in zip(at, at[1:])):
            raise Failed("steps through " + " ".join(f"{rip:#x}" for rip in at))
        # QEMU's TCG does not intercept INT3, which is what a breakpoint in the code is: see guest/debug.
        if os.environ.get("KEEL_TESTHOST") != "svm":
            gdb.command(f"Z0,{BOOT_SECTOR:x},1")
            gdb.set_rip(BOOT_SECTOR)
            gdb.stop_at("c", BOOT_SECTOR)
            gdb.command(f"z0,{BOOT_SECTOR:x},1")
        gdb.send("c")

    def save_and_load(self, machine):
        machine.human("savevm here")
        last = int(machine.expect(r"tick (\d+)").group(1))
        machine.expect(f"tick {last + 8}")
        machine.monitor("stop")
        machine.forget()
        machine.human("loadvm here")
        machine.monitor("cont")
        first = int(machine.expect(r"tick (\d+)").group(1))
        if not last <= first <= last + 7:
            raise Failed(f"saved at {last}, after loadvm the guest counts from {first}")
        machine.expect(f"tick {first + 3}")

    def test_quick(self):
        """the debugger's breakpoint and steps, a virtio disk, 2 CPUs, savevm and loadvm"""
        arguments = ["-machine", HEADLESS, "-cpu", "max", "-smp", "2", *self.drive("virtio"), "-S"]
        with self.machine(*arguments) as machine:
            self.steps(machine)
            machine.expect("cpus 2")
            machine.expect("tick 2")
            self.save_and_load(machine)

    def test_virtio_disk(self):
        """SeaBIOS with SMM, a virtio disk, virtio-net, 2 CPUs"""
        net = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="]
        machine = ["-machine", HEADLESS + ",smm=on", "-cpu", "max"]
        lines = ["net answers", "disk ISO image"]
        self.boots(2, *machine, *self.drive("virtio"), *net, lines=lines)

    def test_ide_disk(self):
        """SeaBIOS without SMM, an IDE disk"""
        self.boots(1, "-machine", HEADLESS + ",smm=off", "-cpu", "max", *self.drive("ide"))

    def test_irqchip_split(self):
        """the split irqchip, 2 CPUs"""
        self.boots(2, "-machine", "q35,kernel-irqchip=split", "-cpu", "max", *self.kernel())

    def test_irqchip_off(self):
        """the interrupt controllers in QEMU"""
        # With -cpu max, whose paravirtual features want a local APIC, QEMU 7.2 gives up on in-tree KVM.
        cpu = "qemu64,kvm=off"
        self.boots(1, "-machine", "pc,kernel-irqchip=off", "-cpu", cpu, *self.kernel())

    def test_cpu_host(self):
        """-cpu host"""
        self.boots(1, "-machine", HEADLESS, "-cpu", "host", *self.kernel())

    def test_cpu_qemu64(self):
        """-cpu qemu64"""
        self.boots(1, "-machine", HEADLESS, "-cpu", "qemu64", *self.kernel())

    def test_migration(self):
        """migration to a file and back"""
        state = os.path.join(self.work, "state")
        arguments = ["-machine", HEADLESS, "-cpu", "max", "-smp", "2", *self.kernel()]
        with self.machine(*arguments) as machine:
            machine.expect("tick 3")
            machine.migrate(state)
            last = [int(n) for n in re.findall(r"tick (\d+)\n", machine.said)]
        with self.machine(*arguments, "-incoming", f"exec:cat {state}") as machine:
            first = int(machine.expect(r"tick (\d+)").group(1))
            if not 3 < first <= (last[-1] if last else 3) + 2:
                raise Failed(f"the guest counted to {last[-1:]}, and goes on with {first}")
            machine.expect(f"tick {first + 3}")
        os.unlink(state)

    def test_reset(self):
        """system_reset"""
        with self.machine("-machine", HEADLESS, "-cpu", "max", "-smp", "2", *self.kernel()) as machine:
            machine.expect("tick 3")
            machine.monitor("system_reset")
            machine.expect("tick 0")
            machine.expect("tick 2")

    def test_stopped(self):
        """-S: nothing runs"""
        with self.machine("-machine", HEADLESS, "-cpu", "max", *self.drive("virtio"), "-S") as machine:
            before = machine.monitor("human-monitor-command", **{"command-line": "info registers"})
            time.sleep(1)
            if machine.said or "EIP=0000fff0" not in before:
                raise Failed(f"the guest ran with -S: {machine.said[:100]!r}")

    def test_ovmf(self):
        """OVMF from flash, without SMM"""
        if os.environ.get("KEEL_TESTHOST") == "svm":
            raise Unable("QEMU's TCG ends with a failed assertion, under in-tree KVM too")
        variables = os.path.join(self.work, "vars")
        shutil.copy(os.path.join(CLIENTS, "ovmf", "OVMF_VARS.fd"), variables)
        code = os.path.join(CLIENTS, "ovmf", "OVMF_CODE.fd")
        flash = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
        flash += ["-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
        self.boots(1, "-machine", "q35,smm=off", "-cpu", "max", *flash, *self.kernel())


QUICK = ("quick",)


def main():
    wanted = sys.argv[1:] or QUICK
    names = [name[5:] for name in vars(Tests) if name.startswith("test_")]
    names = [name for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in wanted)]
    print("TAP version 13")
    for missing, what in (
        (not os.path.exists("/dev/kvm"), "no /dev/kvm"),
        (not os.path.isdir(os.path.join(CLIENTS, "isolinux")), "no scripts/get-clients yet"),
        (not shutil.which("xorriso") or not programs(), "no QEMU or xorriso"),
    ):
        if missing:
            print(f"1..0 # SKIP {what}")
            return 0
    cases = [(program, name) for program in programs() for name in names]
    print(f"1..{len(cases)}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="qemu") as work:
        tests = Tests(work)
        for number, (tests.program, name) in enumerate(cases, 1):
            test = getattr(tests, f"test_{name}")
            title = f"QEMU {tests.program.version} {name}"
            began = time.monotonic()
            verdict = "ok"
            try:
                test()
            except Unable as why:
                print(f"ok {number} # SKIP {title}: {str(why).splitlines()[-1]}", flush=True)
                continue
            except (Failed, OSError, subprocess.SubprocessError) as why:
                verdict = "not ok"
                failed += 1
                print("\n".join(f"# {line}" for line in str(why).splitlines()))
            print(f"# {time.monotonic() - began:.0f} s")
            print(f"{verdict} {number} - {title}: {test.__doc__}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
