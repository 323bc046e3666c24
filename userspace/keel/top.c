// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel top: what all VMs do now: two looks, and the difference between them as rates.
 *
 * On a terminal the screen is redrawn in place, with the sequences that every terminal of the last decades knows;
 * into a file or a pipe go the same lines, or JSON, one look after the other.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "keel.h"
#include "looking.h"

static const char help[] =
	"usage: keel top [-d SECONDS] [--once] [--json]\n"
	"\n"
	"Shows what your VMs do, or as root all: a line each, and one for each vCPU. q ends it.\n"
	"\n"
	"  EXITS/s  how often a second it left the guest\n"
	"  GUEST    share of the time in the guest, in percent of one CPU; and\n"
	"  KERNEL   in the kernel for the guest\n"
	"  CLIENT   outside KVM_RUN: in the client, or waiting there\n"
	"  OFF      in KVM_RUN without a CPU: halted, or waiting\n"
	"  STEAL    waiting for a CPU that others had\n"
	"\n"
	"  -d, --delay SECONDS  between two looks (default: 1)\n"
	"  -1, --once           two looks, and the end\n"
	"  -j, --json           a line of JSON each time, with --once laid out\n"
	"  -h, --help           this text\n";

#define NAME_WIDTH	15

struct options {
	double delay;
	bool once, json;
};

/* In one second: exits, and seconds of time. */
struct rates {
	double guest, kernel, user, off, steal, exits;
	double by_reason[KEEL_NR_REASONS];
};

/* Where a screen's lines go: cut to the width, and no more than fit. */
struct screen {
	bool terminal;
	unsigned int columns, rows, row;
};

static struct termios terminal_was;
static bool terminal_changed;

/* Rates ---------------------------------------------------------------------------------------- */

static double rate(uint64_t now, uint64_t then, double seconds)
{
	return now > then && seconds > 0 ? (now - then) / seconds : 0;
}

/* Adds those of one vCPU to @r. */
static void rates_add(struct rates *r, const struct keel_vcpu_view *now, const struct look *before, double seconds)
{
	const struct keel_vcpu_view *then = look_vcpu(before, now->vm, now->id);

	if (!then)
		return;
	r->guest += rate(now->guest, then->guest, seconds) / 1e9;
	r->kernel += rate(now->kernel, then->kernel, seconds) / 1e9;
	r->user += rate(now->user, then->user, seconds) / 1e9;
	r->off += rate(now->off, then->off, seconds) / 1e9;
	r->steal += rate(now->steal, then->steal, seconds) / 1e9;
	for (unsigned int i = 0; i < KEEL_NR_REASONS; i++) {
		double n = rate(now->exits[i].count, then->exits[i].count, seconds);

		r->by_reason[i] += n;
		r->exits += n;
	}
}

static struct rates vcpu_rates(const struct keel_vcpu_view *vcpu, const struct look *before, double seconds)
{
	struct rates r = { 0 };

	rates_add(&r, vcpu, before, seconds);
	return r;
}

static struct rates vm_rates(uint64_t vm, const struct look *now, const struct look *before, double seconds)
{
	struct rates r = { 0 };

	for (size_t i = 0; i < now->vcpu_count; i++)
		if (now->vcpus[i].vm == vm)
			rates_add(&r, &now->vcpus[i], before, seconds);
	return r;
}

/* Lines ---------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void line(struct screen *s, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (!s->terminal) {
		puts(text);
	} else if (s->row < s->rows) {
		/* No newline after the last row: that would scroll. */
		printf("%s%.*s\033[K", s->row ? "\r\n" : "", (int)s->columns, text);
		s->row++;
	}
}

/* The reasons by rate, until the text is full. */
static void reasons_text(const struct rates *r, char *text, size_t size)
{
	bool done[KEEL_NR_REASONS] = { false };
	size_t len = 0;

	text[0] = '\0';
	for (;;) {
		unsigned int most = KEEL_NR_REASONS;
		int n;

		for (unsigned int i = 0; i < KEEL_NR_REASONS; i++)
			if (!done[i] && r->by_reason[i] > 0 &&
			    (most == KEEL_NR_REASONS || r->by_reason[i] > r->by_reason[most]))
				most = i;
		if (most == KEEL_NR_REASONS)
			return;
		done[most] = true;
		n = snprintf(text + len, size - len, "%s%s %.0f", len ? ", " : "", keel_reason_name(most),
			     r->by_reason[most]);
		if (n < 0 || (size_t)n >= size - len) {
			text[len] = '\0';
			return;
		}
		len += n;
	}
}

static void rates_line(struct screen *s, const char *who, const struct rates *r, const char *remark)
{
	char reasons[512];

	reasons_text(r, reasons, sizeof(reasons));
	line(s, "%s %10.0f %6.1f %6.1f %6.1f %6.1f %6.1f  %s%s", who, r->exits, 100 * r->guest, 100 * r->kernel,
	     100 * r->user, 100 * r->off, 100 * r->steal, remark, reasons);
}

static void vm_lines(struct screen *s, struct keel_vm_view *vm, const struct look *now, const struct look *before)
{
	double seconds = now->when - before->when;
	struct rates r = vm_rates(vm->id, now, before, seconds);
	char who[64], remark[KEEL_VIEW_REASON + 16] = "";

	snprintf(who, sizeof(who), "%7u %-*.*s %4s", vm->pid, NAME_WIDTH, NAME_WIDTH, printable(vm->name), "all");
	if (*vm->dead)
		snprintf(remark, sizeof(remark), "[killed: %s] ", vm->dead);
	rates_line(s, who, &r, remark);
	for (size_t i = 0; i < now->vcpu_count; i++) {
		const struct keel_vcpu_view *vcpu = &now->vcpus[i];

		if (vcpu->vm != vm->id)
			continue;
		r = vcpu_rates(vcpu, before, seconds);
		snprintf(who, sizeof(who), "%7s %-*s %4u", "", NAME_WIDTH, "", vcpu->id);
		remark[0] = '\0';
		if (*vcpu->error)
			snprintf(remark, sizeof(remark), "[error: %s] ", vcpu->error);
		rates_line(s, who, &r, remark);
	}
}

static int show_lines(const struct look *now, const struct look *before)
{
	struct screen s = { .terminal = isatty(STDOUT_FILENO), .columns = 80, .rows = 24 };
	struct winsize size;
	char clock[16];
	time_t t = time(NULL);

	if (s.terminal && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col && size.ws_row) {
		s.columns = size.ws_col;
		s.rows = size.ws_row;
	}
	strftime(clock, sizeof(clock), "%T", localtime(&t));
	if (s.terminal)
		fputs("\033[H", stdout);
	line(&s, "keel top - %s, %zu VMs, %zu vCPUs, %.1f s", clock, now->vm_count, now->vcpu_count,
	     now->when - before->when);
	line(&s, "%7s %-*s %4s %10s %6s %6s %6s %6s %6s  %s", "PID", NAME_WIDTH, "NAME", "CPU", "EXITS/s", "GUEST",
	     "KERNEL", "CLIENT", "OFF", "STEAL", "WHY");
	for (size_t i = 0; i < now->vm_count; i++)
		vm_lines(&s, &now->vms[i], now, before);
	if (s.terminal)
		fputs("\033[J", stdout);
	if (fflush(stdout))
		return keel_fail(EIO, "cannot write: %s", strerror(errno));
	return 0;
}

/* JSON ----------------------------------------------------------------------------------------- */

static void add_double(struct json_object *to, const char *key, double val)
{
	json_object_object_add(to, key, json_object_new_double(val));
}

static struct json_object *rates_json(const struct rates *r)
{
	struct json_object *o = json_object_new_object(), *exits = json_object_new_object();

	add_double(o, "guest", r->guest);
	add_double(o, "kernel", r->kernel);
	add_double(o, "user", r->user);
	add_double(o, "off", r->off);
	add_double(o, "steal", r->steal);
	add_double(o, "exit_count", r->exits);
	for (unsigned int i = 0; i < KEEL_NR_REASONS; i++)
		if (r->by_reason[i] > 0)
			add_double(exits, keel_reason_name(i), r->by_reason[i]);
	json_object_object_add(o, "exits", exits);
	return o;
}

static int show_json(const struct look *now, const struct look *before, int flags)
{
	double seconds = now->when - before->when;
	struct json_object *all = json_object_new_object(), *vms = json_object_new_array();

	add_double(all, "seconds", seconds);
	for (size_t i = 0; i < now->vm_count; i++) {
		struct json_object *vm = json_vm(&now->vms[i]), *vcpus = json_object_new_array();
		struct rates r = vm_rates(now->vms[i].id, now, before, seconds);

		json_object_object_add(vm, "rates", rates_json(&r));
		for (size_t j = 0; j < now->vcpu_count; j++) {
			struct json_object *vcpu;

			if (now->vcpus[j].vm != now->vms[i].id)
				continue;
			r = vcpu_rates(&now->vcpus[j], before, seconds);
			vcpu = json_vcpu(&now->vcpus[j], false);
			json_object_object_add(vcpu, "rates", rates_json(&r));
			json_object_array_add(vcpus, vcpu);
		}
		json_object_object_add(vm, "vcpus", vcpus);
		json_object_array_add(vms, vm);
	}
	json_object_object_add(all, "vms", vms);
	return json_print(all, flags);
}

/* Watching ------------------------------------------------------------------------------------- */

static void terminal_restore(void)
{
	if (!terminal_changed)
		return;
	terminal_changed = false;
	tcsetattr(STDIN_FILENO, TCSANOW, &terminal_was);
	fputs("\033[?25h\r\n", stdout);
	fflush(stdout);
}

static void interrupted(int sig)
{
	/* In a handler: only what is safe there. */
	if (terminal_changed) {
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal_was);
		if (write(STDOUT_FILENO, "\033[?25h\r\n", 8) < 0)
			_exit(1);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Keys come one by one and unseen; the screen is clear, the cursor away. */
static void terminal_take(void)
{
	struct termios t;

	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &terminal_was))
		return;
	t = terminal_was;
	t.c_lflag &= ~(ICANON | ECHO);
	signal(SIGINT, interrupted);
	signal(SIGTERM, interrupted);
	signal(SIGHUP, interrupted);
	if (!tcsetattr(STDIN_FILENO, TCSANOW, &t)) {
		terminal_changed = true;
		fputs("\033[2J\033[?25l", stdout);
	}
}

/* True when the user has pressed q. */
static bool wait_or_quit(double seconds)
{
	struct pollfd pfd = { .fd = STDIN_FILENO, .events = POLLIN };
	char key;

	if (!terminal_changed) {
		struct timespec t = { .tv_sec = seconds, .tv_nsec = (seconds - (long)seconds) * 1e9 };

		while (nanosleep(&t, &t) && errno == EINTR)
			;
		return false;
	}
	if (poll(&pfd, 1, seconds * 1000) <= 0)
		return false;
	return read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q';
}

static int watch(struct keel_view *view, const struct options *o)
{
	struct look before, now;
	int ret = look_take(view, &before);

	if (ret)
		return ret;
	if (!o->once && !o->json)
		terminal_take();
	do {
		if (wait_or_quit(o->delay))
			break;
		ret = look_take(view, &now);
		if (ret)
			break;
		if (o->json)
			ret = show_json(&now, &before, o->once ? JSON_C_TO_STRING_PRETTY : JSON_C_TO_STRING_PLAIN);
		else
			ret = show_lines(&now, &before);
		look_free(&before);
		before = now;
	} while (!ret && !o->once);
	look_free(&before);
	terminal_restore();
	return ret;
}

/* Returns 1 when there is nothing left to do. */
static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "delay", required_argument, NULL, 'd' },
		{ "once", no_argument, NULL, '1' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, ret = 0;

	opterr = 0;
	while (!ret && (opt = getopt_long(argc, argv, ":d:1jh", longs, NULL)) != -1) {
		switch (opt) {
		case 'd':
			ret = seconds_parse(optarg, &o->delay);
			break;
		case '1':
			o->once = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 1;
		default:
			ret = option_bad(argv, opt, "top");
			break;
		}
	}
	if (!ret && optind < argc)
		ret = keel_fail(EINVAL, "unexpected argument '%s': try keel top --help", argv[optind]);
	return ret;
}

int keel_top(int argc, char **argv)
{
	struct keel_view *view = NULL;
	struct options o = { .delay = 1 };
	int ret = options_parse(argc, argv, &o);

	if (ret > 0)
		return 0;
	if (!ret)
		ret = keel_view_open(&view);
	if (!ret)
		ret = watch(view, &o);
	keel_view_close(view);
	return ret ? fail() : 0;
}
