// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it takes to boot Linux, from the client's start to the first program in the guest.
 *
 *	boot KEEL KERNEL CPIO	a line each: figure, of the first boot, of the second; -1: not told here
 *
 * KEEL is the client, CPIO an initramfs with selftests/testhost/guest-init. Ticks are of the TSC, as in bench.c. The
 * client's threads but the first, which loads the kernel, are asked how long each was on a CPU: that is the guest and its
 * hypervisor without idle time; the host has made the memory before. Exits are counted by the
 * hypervisor: in-tree KVM tells its own in debugfs, Keel by "keel stat". Keel also tells the guest's time; for in-tree KVM two more
 * boots are traced, and what passes from each kvm_entry to the next kvm_exit is taken for it. Both have some instructions of the
 * hypervisor's in it, KVM the most: how many at an exit, a guest tells whose own instructions are known, and they are subtracted.
 * When the host's timer ticks differs from boot to boot, and what else it does then: of some boots the shortest counts.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include "guest.h"
#include "vmtest.h"

#define INITRD		"/tmp/bench-boot.cpio"
#define COMMAND		"echo UP; sleep 1000\n"
#define UP		"UP"
#define BOOTS		3
#define DEBUGFS		"/sys/kernel/debug"
#define TRACEFS		"/sys/kernel/tracing"
#define CMDLINE		"console=ttyS0 panic=-1 quiet loglevel=1 cryptomgr.notests=1 nokaslr"

/* Each of these is an exit's reason to Keel, and a file in KVM's part of debugfs. */
static const struct {
	const char *figure, *keel, *kvm;
} reasons[] = {
	{ "boot_exits_io", "io", "io_exits" },
	{ "boot_exits_mmio", "mmio", NULL },	/* mmio_exits are those that the client sees */
	{ "boot_exits_hlt", "hlt", "halt_exits" },
	{ "boot_exits_interrupt", "interrupt", "irq_exits" },
	{ "boot_exits_window", "interrupt_window", "irq_window" },
	{ "boot_exits_fault", "nested_fault", NULL },
	{ "boot_exits_cpuid", "cpuid", NULL },
	{ "boot_exits_rdmsr", "rdmsr", NULL },
	{ "boot_exits_wrmsr", "wrmsr", NULL },
	{ "boot_exits_cr", "cr", NULL },
};
#define NR_REASONS	(sizeof(reasons) / sizeof(reasons[0]))

struct outcome {
	double time, cpu, guest, exits, by_reason[NR_REASONS];
};

static bool is_kvm;

static void copy(int out, const char *from)
{
	int in = MUST(open(from, O_RDONLY));
	char buf[65536];
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			die("cannot write %s", INITRD);
	close(in);
}

/* An entry of a cpio archive (newc). */
static void entry(int out, const char *name, mode_t mode, const char *content)
{
	static const char zeroes[4];
	int length = strlen(name) + 1, size = strlen(content);

	dprintf(out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s%c", 1, mode, 0, 0, 1, 0, size, 0, 0, 0,
		0, length, 0, name, 0);
	if (write(out, zeroes, -(110 + length) & 3) < 0 || write(out, content, size) != size ||
	    write(out, zeroes, -size & 3) < 0)
		die("cannot write %s", INITRD);
}

static void make_initrd(const char *cpio)
{
	int out = MUST(open(INITRD, O_WRONLY | O_CREAT | O_TRUNC, 0600));

	copy(out, cpio);
	entry(out, "keel.cmd", S_IFREG | 0644, COMMAND);
	entry(out, "TRAILER!!!", 0, "");
	close(out);
}

static double ns_of_vcpu(pid_t pid)
{
	char path[300];
	double sum = 0, ns;
	struct dirent *task;
	FILE *stat;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		die("no %s", path);
	while ((task = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, task->d_name);
		stat = task->d_name[0] == '.' || atoi(task->d_name) == pid ? NULL : fopen(path, "r");
		if (!stat)
			continue;
		if (fscanf(stat, "%lf", &ns) == 1)
			sum += ns;
		fclose(stat);
	}
	closedir(tasks);
	return sum;
}

static double kvm_stat(const char *name)
{
	char path[200];
	double value = -1;
	FILE *file;

	snprintf(path, sizeof(path), DEBUGFS "/kvm/%s", name);
	file = fopen(path, "r");
	if (file) {
		if (fscanf(file, "%lf", &value) != 1)
			value = -1;
		fclose(file);
	}
	return value;
}

/* The number behind "name": in JSON that is flat enough; the first one after @from. */
static double number(const char *json, const char *from, const char *name)
{
	const char *at = from ? strstr(json, from) : json;
	char key[64];

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = at ? strstr(at, key) : NULL;
	return at ? strtod(at + strlen(key), NULL) : 0;
}

static void ask_keel(const char *keel, pid_t pid, struct outcome *o)
{
	static char json[1 << 18];
	char command[4200], key[64];
	size_t i, n;
	FILE *out;

	snprintf(command, sizeof(command), "%s stat %d --json", keel, pid);
	out = popen(command, "r");
	n = out ? fread(json, 1, sizeof(json) - 1, out) : 0;
	json[n] = 0;
	if (!n || pclose(out))
		die("%s says nothing", command);
	o->guest = number(json, NULL, "guest_ns");
	o->exits = number(json, NULL, "exit_count");
	for (i = 0; i < NR_REASONS; i++) {
		snprintf(key, sizeof(key), "\"%s\":", reasons[i].keel);
		o->by_reason[i] = number(json, key, "count");
	}
}

static void ask_kvm(struct outcome *o)
{
	size_t i;

	o->guest = 0;
	o->exits = kvm_stat("exits");
	for (i = 0; i < NR_REASONS; i++)
		o->by_reason[i] = reasons[i].kvm ? kvm_stat(reasons[i].kvm) : -1;
}

static void tell_tracer(const char *file, const char *text)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), TRACEFS "/%s", file);
	fd = MUST(open(path, O_WRONLY | O_TRUNC));
	if (write(fd, text, strlen(text)) < 0)
		die("%s: %s is refused", path, text);
	close(fd);
}

static void trace_begin(void)
{
	mount("none", TRACEFS, "tracefs", 0, NULL);
	tell_tracer("trace_clock", "x86-tsc");
	tell_tracer("buffer_size_kb", "16384");
	tell_tracer("trace", "");
	tell_tracer("events/kvm/kvm_entry/enable", "1");
	tell_tracer("events/kvm/kvm_exit/enable", "1");
	tell_tracer("tracing_on", "1");
}

/* Ticks between entries and exits, and how many these are; a line of the trace is "task [cpu] flags ticks: event: ...". */
static double trace_end(double *exits)
{
	double guest = 0, entry = 0, at;
	char line[1024], *event;
	FILE *trace;

	*exits = 0;
	tell_tracer("tracing_on", "0");
	trace = fopen(TRACEFS "/trace", "r");
	if (!trace)
		die("no trace");
	while (fgets(line, sizeof(line), trace)) {
		event = line[0] == '#' ? NULL : strstr(line, ": kvm_e");
		if (!event)
			continue;
		*event = 0;
		at = strtod(strrchr(line, ' ') ?: line, NULL);
		if (!strncmp(event + 2, "kvm_entry:", 10)) {
			entry = at;
		} else if (entry) {
			guest += at - entry;
			entry = 0;
			++*exits;
		}
	}
	fclose(trace);
	return guest;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Of the TSC: over a tenth of a second. */
static double ticks_per_ns(void)
{
	uint64_t ticks = __rdtsc(), ns = now_ns();

	usleep(100000);
	return (double)(__rdtsc() - ticks) / (now_ns() - ns);
}

#define PROBES		2000
#define PROBE_LENGTH	5	/* instructions between two exits, the one that exits among them */

GUEST(probe, 64,
	"mov $" STR(PROBES) ", %esi\n" "1: xor %eax, %eax\n" "xor %ecx, %ecx\n" "cpuid\n" "dec %esi\n" "jnz 1b\n" G_DONE);

/* Instructions of the hypervisor's that are taken for the guest's, for each exit. */
static double overcounted(const char *keel)
{
	double ticks, exits = PROBES;
	struct outcome before, after;
	struct guest g;
	int i;

	guest_create(&g, 0);
	for (i = 0; i < 2; i++) {
		guest_start(&g, MODE_LONG, BLOB(probe));
		if (is_kvm)
			trace_begin();
		else
			ask_keel(keel, getpid(), &before);
		if (guest_run(&g) != KVM_EXIT_IO)
			die("the probe has not ended");
	}
	if (is_kvm) {
		ticks = trace_end(&exits);
	} else {
		ask_keel(keel, getpid(), &after);
		ticks = (after.guest - before.guest) * ticks_per_ns();
	}
	guest_destroy(&g);
	return ticks / exits - PROBE_LENGTH;
}

/* @overcounted: of overcounted(), for each exit. */
static struct outcome boot(char *const argv[], double overcounted)
{
	uint64_t ticks = __rdtsc(), ns = now_ns();
	struct outcome o;
	double scale;
	FILE *console;
	char line[4096];
	int out[2];
	pid_t pid;

	MUST(pipe(out));
	pid = MUST(fork());
	if (!pid) {
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(out[1], 1);
		dup2(open("/dev/null", O_WRONLY), 2);
		close(out[0]);
		execl(argv[1], argv[1], "run", "--device", is_kvm ? "/dev/kvm" : "/dev/keel", "--kernel", argv[2], "--initrd",
		      INITRD, "--append", CMDLINE, "-m", "192", "--prealloc", NULL);
		_exit(127);
	}
	close(out[1]);
	console = fdopen(out[0], "r");
	do {
		if (!fgets(line, sizeof(line), console))
			die("the guest did not come up");
	} while (strncmp(line, UP, strlen(UP)));
	o.time = __rdtsc() - ticks;
	scale = o.time / (now_ns() - ns);
	o.cpu = ns_of_vcpu(pid) * scale;
	if (is_kvm)
		ask_kvm(&o);
	else
		ask_keel(argv[1], pid, &o);
	if (o.guest > 0)
		o.guest = o.guest * scale - o.exits * overcounted;
	kill(pid, SIGTERM);
	fclose(console);
	waitpid(pid, NULL, 0);
	return o;
}

static struct outcome shortest(char *const argv[], double overcounted)
{
	struct outcome least = boot(argv, overcounted), o;
	double time = least.time;
	int i;

	for (i = 1; i < BOOTS; i++) {
		o = boot(argv, overcounted);
		time = o.time < time ? o.time : time;
		if (o.cpu - o.guest < least.cpu - least.guest)
			least = o;
	}
	least.time = time;
	return least;
}

static double traced(char *const argv[], double overcounted)
{
	double guest, exits;

	trace_begin();
	boot(argv, overcounted);
	guest = trace_end(&exits);
	return guest - exits * overcounted;
}

static void say(const char *figure, double first, double second)
{
	printf("%s %.0f %.0f\n", figure, first, second);
}

int main(int argc, char **argv)
{
	struct outcome first, second;
	double probe;
	size_t i;

	if (argc != 4)
		die("usage: boot KEEL KERNEL CPIO");
	is_kvm = getenv("KEEL_DEVICE") && !strcmp(getenv("KEEL_DEVICE"), "/dev/kvm");
	if (is_kvm)
		mount("none", DEBUGFS, "debugfs", 0, NULL);
	make_initrd(argv[3]);
	probe = overcounted(argv[1]);
	boot(argv, probe);	/* the files are in memory then */
	first = shortest(argv, probe);
	second = shortest(argv, probe);
	if (is_kvm) {
		first.guest = traced(argv, probe);
		second.guest = traced(argv, probe);
	}
	unlink(INITRD);
	say("boot_time", first.time, second.time);
	say("boot_cpu", first.cpu, second.cpu);
	say("boot_guest", first.guest, second.guest);
	say("boot_overcounted", probe, probe);
	say("boot_exits", first.exits, second.exits);
	for (i = 0; i < NR_REASONS; i++)
		say(reasons[i].figure, first.by_reason[i], second.by_reason[i]);
	return 0;
}
