# SPDX-License-Identifier: GPL-2.0-only
"""The Bochs machine of the test host: VT-x (vmx), or AMD-V with next-RIP save (svm-nrip).

Bochs has no way to share directories with its guest.  So all that a run needs is packed into an
initramfs, and the machine's two serial lines are TCP connections to us: the kernel's console, and
frames of the agent (agent.c), which carry the command's streams.  The disk that Bochs boots from
is made for each run; bochs-boot.S loads an uncompressed kernel from it.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(TREE, "build")
STATE = os.path.join(BUILD, "testhost")
BOCHS = "bochs-bin"
SHARE = "/usr/share"

MODELS = {"vmx": "corei7_haswell_4770", "svm-nrip": "trinity_apu"}
TITLES = {"vmx": "VT-x", "svm-nrip": "AMD-V with next-RIP save"}
HYPERVISOR_MODULES = {"vmx": ["kvm-intel"], "svm-nrip": ["kvm-amd"]}

# Emulated instructions that pass for a second: about what the emulator does in one.
IPS = 50_000_000
MOST_MEMORY = 2048

# The kernel must not reboot: Bochs would do it.
KERNEL_ARGS = (
    "console=ttyS0,115200 ignore_loglevel panic=0 oops=panic no_timer_check mitigations=off "
    "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 "
    # What costs seconds of the boot and serves no test.
    "cryptomgr.notests=1 initcall_blacklist=load_system_certificate_list,crypto_kdf108_init,"
    "cubictcp_register,trace_eval_init,init_kprobe_trace,init_encrypted"
)
CRASHED = re.compile(rb"end Kernel panic|reboot: (Restarting|machine restart|System halted)")

# The host's programs that a run finds.  All else in the search path is busybox.
PACKAGES = (
    "bash coreutils dash findutils gawk grep kmod mawk perl-base procps sed tar util-linux".split()
)
PROGRAM = re.compile(r"/(usr/)?s?bin/|/usr/lib/[^/]*/perl-base/|/etc/alternatives/")
LINKS = ("/bin", "/sbin", "/lib", "/lib64", "/usr/bin/awk", "/etc/alternatives/awk")

# Where things are in the machine's memory; the first two are the boot sector's, too.
BOOT_PARAMS = 0x10000
PAGE_TABLES = 0x11000
CMDLINE = 0x18000
INITRAMFS = 0x10000000
SECTOR = 512
EXTENTS_MOST = 40


# --- the root file system -----------------------------------------------------------------------


def absolute(path):
    """The path with one slash in front, where normpath would leave two."""
    return "/" + os.path.normpath(path).lstrip("/")


class Tree:
    """What goes into the initramfs, as mkcpio's list; keeps the build machine's paths."""

    def __init__(self):
        self.lines = []
        self.seen = set()

    def line(self, path, text):
        """One entry, once."""
        if path in self.seen:
            return False
        if " " in path or "\n" in path:
            raise ValueError(f"cannot put a path with blanks into the machine: {path!r}")
        self.seen.add(path)
        self.lines.append(text)
        return True

    def directory(self, path, mode="755"):
        """A directory with all above it; gives its real path."""
        path = absolute(path)
        if path == "/":
            return ""
        above = self.directory(os.path.dirname(path))
        path = above + "/" + os.path.basename(path)
        if os.path.islink(path):
            return self.symlink(path, self.directory)
        self.line(path, f"dir {path} {mode}")
        return path

    def symlink(self, path, follow):
        target = os.readlink(path)
        self.line(path, f"slink {path} {target}")
        return follow(os.path.join(os.path.dirname(path), target))

    def file(self, path, source=None, mode=None):
        """A file, from SOURCE or from the same path here."""
        path = absolute(path)
        path = self.directory(os.path.dirname(path)) + "/" + os.path.basename(path)
        if source is None and os.path.islink(path):
            return self.symlink(path, self.add)
        source = source or path
        mode = mode or os.stat(source).st_mode & 0o777
        self.line(path, f"file {path} {mode:o} {source}")
        return path

    def add(self, path):
        """A file, or a directory with all that is in it."""
        if not os.path.isdir(path):
            return self.file(path)
        real = self.directory(path)
        for name in sorted(os.listdir(real)):
            inner = os.path.join(real, name)
            if os.path.islink(inner) and not os.path.exists(inner):
                continue
            self.add(inner)
        return real


def libraries(programs):
    """The shared libraries that PROGRAMS name."""
    done = subprocess.run(
        ["ldd", *programs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    return sorted(set(re.findall(r"(/\S+) \(0x", done.stdout)))


def is_elf(path):
    try:
        with open(path, "rb") as content:
            return content.read(4) == b"\x7fELF"
    except OSError:
        return False


def host_programs():
    """Files of the packages that tests use."""
    paths = []
    for package in PACKAGES:
        done = subprocess.run(
            ["dpkg", "-L", package],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        paths += [path for path in done.stdout.splitlines() if PROGRAM.match(path)]
    return [path for path in paths if os.path.isfile(path)]


def named_paths(command):
    """What the words of a command name, of files that exist and are not the system's."""
    for word in command:
        for part in (word, word.rpartition("=")[2]):
            path = os.path.abspath(part)
            if os.path.exists(path) and not re.match(r"/($|(dev|proc|sys|run|usr|etc)(/|$))", path):
                if path not in (TREE, BUILD, "/tmp", os.path.expanduser("~")):
                    yield path


def stripped(module, job):
    """A copy of MODULE without its debugging information, most of its size."""
    target = os.path.join(job, f"stripped-{len(os.listdir(job))}")
    subprocess.run(["strip", "--strip-debug", "-o", target, module], check=True)
    return target


def make_initramfs(path, options, init, job, agent):
    tree = Tree()
    for link in LINKS:
        if os.path.islink(link):
            follow = tree.add if os.path.isfile(link) else tree.directory
            follow(link)
    for name in ("/dev", "/proc", "/sys", "/tmp", "/root", "/run", "/etc", os.getcwd()):
        tree.directory(name)
    tree.lines.append("node /dev/console 600 c 5 1")
    own = "/run/testhost"
    tree.file("/init", init, 0o755)
    tree.file("/bin/busybox", os.path.join(BUILD, "busybox", "busybox"))
    tree.file(f"{own}/agent", agent)
    for name in ("command", "loadable", "modules", "vars"):
        tree.file(f"{own}/job/{name}", os.path.join(job, name))

    programs = host_programs()
    wanted = [os.path.join(BUILD, "selftests-installed"), os.path.join(BUILD, "userspace", "keel")]
    wanted += ["/usr/lib/locale/C.utf8", *map(os.path.abspath, options.put)]
    for listing in ("modules", "loadable"):
        with open(os.path.join(job, listing), encoding="utf-8") as lines:
            wanted += lines.read().split("\n")[:-1]
    wanted += [os.path.abspath(shutil.which(word) or "/") for word in options.command[:1]]
    for name in [*programs, *wanted, *named_paths(options.command)]:
        if os.path.islink(name) and os.path.isdir(name):
            tree.directory(name)
        elif name.endswith(".ko"):
            tree.file(name, stripped(name, job))
        elif os.path.exists(name) and name != "/":
            tree.add(name)
    # Second fields are the paths; only what is executable has libraries.
    elves = [line.split(None, 3) for line in tree.lines if line.startswith("file ")]
    elves = [fields[3] for fields in elves if int(fields[2], 8) & 0o111 and is_elf(fields[3])]
    for library in libraries(elves):
        tree.file(library)
    text = "\n".join(tree.lines) + "\n"
    maker = [os.path.join(TREE, "scripts", "mkcpio"), path]
    subprocess.run(maker, input=text, text=True, check=True)


# --- the disk -----------------------------------------------------------------------------------


def kernel_segments(path):
    """The entry point of an ELF kernel, and (address, offset, length) of what it loads."""
    with open(path, "rb") as image:
        header = image.read(64)
        entry, offset = struct.unpack_from("<QQ", header, 24)
        size, count = struct.unpack_from("<HH", header, 54)
        image.seek(offset)
        table = image.read(size * count)
    segments = []
    for number in range(count):
        kind, _, offset, _, address, length = struct.unpack_from("<IIQQQQ", table, number * size)
        if kind == 1 and length:
            segments.append((address, offset, length))
    return entry, sorted(segments)


def page_tables():
    """Maps the first 4 GiB one to one, by large pages."""
    pages = bytearray(6 * 4096)
    struct.pack_into("<Q", pages, 0, PAGE_TABLES + 4096 + 3)
    for index in range(4):
        struct.pack_into("<Q", pages, 4096 + 8 * index, PAGE_TABLES + (2 + index) * 4096 + 3)
    for index in range(2048):
        struct.pack_into("<Q", pages, 8192 + 8 * index, (index << 21) + 0x83)
    return bytes(pages)


def boot_params(vmlinuz, cmdline, initramfs_size):
    """The setup header is the bzImage's, with what a loader fills in."""
    with open(vmlinuz, "rb") as image:
        head = image.read(0x290)
    params = bytearray(4096)
    end = 0x202 + head[0x201]
    params[0x1F1:end] = head[0x1F1:end]
    params[0x210] = 0xFF
    struct.pack_into("<II", params, 0x218, INITRAMFS, initramfs_size)
    struct.pack_into("<I", params, 0x228, CMDLINE)
    # Text mode, 80 by 25.
    params[6], params[7], params[14], params[15] = 3, 80, 25, 0x22
    return bytes(params) + page_tables() + bytes(CMDLINE - PAGE_TABLES - 6 * 4096) + cmdline + b"\0"


def boot_sector():
    """Assembled when it is not there, or older than its source."""
    source = os.path.join(HERE, "bochs-boot.S")
    target = os.path.join(STATE, "bochs-boot")
    if not os.path.exists(target) or os.path.getmtime(target) < os.path.getmtime(source):
        subprocess.run(["gcc", "-m32", "-c", source, "-o", f"{target}.o"], check=True)
        link = "ld -m elf_i386 -Ttext=0x7c00 --oformat binary -e start -o".split()
        subprocess.run([*link, f"{target}.new", f"{target}.o"], check=True)
        os.rename(f"{target}.new", target)
    with open(target, "rb") as code:
        return code.read()


def agent_program():
    source = os.path.join(HERE, "agent.c")
    target = os.path.join(STATE, "agent")
    if not os.path.exists(target) or os.path.getmtime(target) < os.path.getmtime(source):
        compiler = ["gcc", "-O2", "-Wall", "-static", "-o", f"{target}.new", source]
        subprocess.run(compiler, check=True)
        os.rename(f"{target}.new", target)
    return target


def make_disk(path, kernel, cmdline, initramfs):
    """Boot sector, table of extents, and the extents."""
    entry, segments = kernel_segments(os.path.join(kernel, "vmlinux"))
    size = os.path.getsize(initramfs)
    low = boot_params(os.path.join(kernel, "vmlinuz"), cmdline, size)
    table = [struct.pack("<Q", entry)]
    with open(path, "wb") as disk, open(os.path.join(kernel, "vmlinux"), "rb") as image:

        def extent(address, pieces):
            start = disk.tell()
            for piece in pieces:
                disk.write(piece)
            disk.write(bytes(-disk.tell() % SECTOR))
            sectors = (disk.tell() - start) // SECTOR
            table.append(struct.pack("<III", address, start // SECTOR, sectors))

        def read(file, offset, length):
            file.seek(offset)
            while length:
                data = file.read(min(length, 1 << 20))
                yield data
                length -= len(data)

        disk.write(bytes(2 * SECTOR))
        extent(BOOT_PARAMS, [low])
        # Padding of one is overwritten by the next.
        for address, offset, length in segments:
            extent(address, read(image, offset, length))
        with open(initramfs, "rb") as archive:
            extent(INITRAMFS, read(archive, 0, size))
        table.append(bytes(12))
        # A cylinder of Bochs' geometry.
        disk.truncate(-(-disk.tell() // 516096) * 516096)
        disk.seek(0)
        disk.write(boot_sector())
        disk.write(b"".join(table).ljust(SECTOR, b"\0"))


# --- one run ------------------------------------------------------------------------------------


def firmware():
    """The BIOS and the VGA BIOS, by the packages' paths."""
    bios = [f"{SHARE}/bochs/BIOS-bochs-latest"]
    vga = [f"{SHARE}/vgabios/vgabios.bin", f"{SHARE}/bochs/VGABIOS-lgpl-latest"]
    return [next((path for path in paths if os.path.exists(path)), "") for paths in (bios, vga)]


def write_config(path, options, disk, log, ports):
    bios, vga = firmware()
    cpus = f"count={options.cpus}, " if options.cpus > 1 else ""
    text = f"""\
cpu: model={MODELS[options.host]}, {cpus}ips={options.ips}, reset_on_triple_fault=0
memory: guest={options.memory}, host={options.memory}
romimage: file={bios}
vgaromimage: file={vga}
pci: enabled=1, chipset=i440fx
ata0-master: type=disk, mode=flat, path="{disk}"
boot: disk
clock: sync=none
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{ports[0]}
com2: enabled=1, mode=socket-client, dev=127.0.0.1:{ports[1]}
display_library: rfb, options="timeout=0"
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
log: {log}
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""
    with open(path, "w", encoding="utf-8") as config:
        config.write(text)


def received(end):
    try:
        while data := end.recv(65536):
            yield data
    except OSError:
        return


class Line:
    """One serial line: where Bochs connects to."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.end = None
        self.connected = threading.Event()

    def data(self):
        """What comes, piece by piece."""
        try:
            self.end, _ = self.listener.accept()
        except OSError:
            return
        self.listener.close()
        self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connected.set()
        yield from received(self.end)

    def close(self):
        for end in (self.listener, self.end):
            if end:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()


class Trace:
    """ADDRESS,PASSES,COUNT,FILE: when the guest or the host is at a linear address for the PASSES-th time, COUNT
    instructions are traced to FILE, and the machine ends."""

    def __init__(self, text):
        address, passes, count, self.path = text.split(",", 3)
        self.commands = f"lb {address}\n" + "c\n" * int(passes) + f"bpd 1\ntrace on\ns {count}\ntrace off\nq\n"


class Run:
    """One boot of the machine, with a thread to pump each stream."""

    ESCAPE = b"\x1d"
    CHUNK = 512

    def __init__(self, options, terminal, say):
        self.options = options
        self.terminal = terminal
        self.say = say
        self.status = None
        self.complaint = None
        self.over = threading.Event()
        self.up = threading.Event()
        self.room = threading.Semaphore(1)
        self.sending = threading.Lock()
        self.started = time.monotonic()
        self.console, self.frames = Line(), Line()
        self.pumps = []
        self.bochs = None

    def start(self, config, log, console):
        """Bochs wants a terminal for its debugger, which is told to go on."""
        go = os.path.join(os.path.dirname(config), "go")
        with open(go, "w", encoding="utf-8") as commands:
            commands.write(self.options.trace.commands if self.options.trace else "c\n")
        command = [BOCHS, "-q", "-unlock", "-f", config, "-rc", go]
        master, slave = os.openpty()
        self.pumps = [
            threading.Thread(target=self.pump_console, args=(console,), daemon=True),
            threading.Thread(target=self.pump_frames, daemon=True),
        ]
        for pump in self.pumps:
            pump.start()
        self.bochs = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=self.die_with_parent,
        )
        os.close(slave)
        said = self.options.trace.path if self.options.trace else log
        threading.Thread(target=self.pump_terminal, args=(master, said), daemon=True).start()
        threading.Thread(target=self.pump_in, daemon=True).start()

    @staticmethod
    def die_with_parent():
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

    def pump_terminal(self, master, path):
        """What Bochs itself says; it ends with Bochs."""
        with open(path, "ab", buffering=0) as log:
            try:
                while data := os.read(master, 4096):
                    log.write(data)
            except OSError:
                pass
        if self.options.trace and self.status is None:
            self.status = 0
        os.close(master)
        self.over.set()

    def pump_console(self, path):
        with open(path, "ab", buffering=0) as log:
            tail = b""
            for data in self.console.data():
                log.write(data)
                tail = tail[-200:] + data
                if CRASHED.search(tail):
                    self.over.set()

    def pump_frames(self):
        rest = b""
        outputs = {b"o": 1, b"e": 2}
        for data in self.frames.data():
            rest += data
            while len(rest) >= 3:
                kind, length = rest[:1], int.from_bytes(rest[1:3], "big")
                if len(rest) < 3 + length:
                    break
                payload, rest = rest[3 : 3 + length], rest[3 + length :]
                if kind in outputs:
                    outputs[kind] = self.write(outputs[kind], payload)
                elif kind == b"r":
                    self.room.release()
                elif kind == b"c":
                    self.control(payload.decode(errors="replace"))
        self.over.set()

    @staticmethod
    def write(target, data):
        """The reader of our output may leave (EPIPE): the command is not held up by that."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
        except OSError:
            target = os.open(os.devnull, os.O_WRONLY)
        return target

    def control(self, text):
        verb, _, rest = text.partition(" ")
        if verb == "up":
            if not self.options.quiet:
                self.say(f"up after {time.monotonic() - self.started:.1f} s")
            self.up.set()
            if self.terminal:
                self.send_winsize()
        elif verb == "exit":
            self.status = int(rest)
        elif verb == "fail":
            self.complaint = rest
        if verb in ("exit", "fail"):
            self.over.set()

    def frame(self, kind, payload):
        with self.sending:
            self.frames.end.sendall(kind + len(payload).to_bytes(2, "big") + payload)

    def pump_in(self):
        self.up.wait()
        presses = []
        try:
            while not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp():
                data = os.read(0, self.CHUNK)
                if not data:
                    break
                now = time.monotonic()
                presses = [when for when in presses if now - when < 1]
                presses += [now] * (self.terminal and data.count(self.ESCAPE))
                if len(presses) >= 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                self.room.acquire()
                self.frame(b"i", data)
            self.room.acquire()
            self.frame(b"i", b"")
        except OSError:
            pass
        if self.terminal:
            # The terminal has hung up.
            os.kill(os.getpid(), signal.SIGHUP)

    def send_winsize(self, *_):
        size = os.get_terminal_size(0)
        if self.up.is_set():
            self.frame(b"w", struct.pack(">HH", size.lines, size.columns))

    def wait(self):
        """True when the machine has ended by itself, false at the limit."""
        return self.over.wait(self.options.timeout or None)

    def stop(self):
        if self.bochs and self.bochs.poll() is None:
            # What the kernel still says of the end is worth a moment.
            if self.status is None:
                time.sleep(1)
            self.bochs.kill()
            self.bochs.wait()
        self.console.close()
        self.frames.close()
        for pump in self.pumps:
            pump.join(2)


def start(options, terminal, kernel, job, console, log, say):
    """Pack the files, make the disk, boot; gives the run."""
    agent = agent_program()
    init = os.path.join(HERE, "init")
    initramfs, disk, config = (os.path.join(job, name) for name in ("cpio", "disk", "bochsrc"))
    make_initramfs(initramfs, options, init, job, agent)
    cmdline = f"{KERNEL_ARGS} KEEL_HOST=bochs {options.append}".strip().encode()
    make_disk(disk, kernel, cmdline, initramfs)
    os.unlink(initramfs)
    run = Run(options, terminal, say)
    write_config(config, options, disk, log, (run.console.port, run.frames.port))
    run.start(config, log, console)
    return run
