// SPDX-License-Identifier: GPL-2.0-only
/*
 * What keel ps, top, stat and events share: one look at the kernel's VMs, words for what it says, JSON.
 *
 * JSON is made by json-c. Its keys are stable: Documentation/live-view.rst lists them.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "looking.h"

int fail(void)
{
	fprintf(stderr, "keel: %s\n", keel_error());
	return 1;
}

/* A look --------------------------------------------------------------------------------------- */

/* The vCPUs first: a VM that comes in between then has none yet, but no vCPU lacks its VM. */
int look_take(struct keel_view *view, struct look *look)
{
	struct timespec now;
	int ret;

	memset(look, 0, sizeof(*look));
	clock_gettime(CLOCK_MONOTONIC, &now);
	look->when = now.tv_sec + now.tv_nsec / 1e9;
	ret = keel_view_vcpus(view, 0, &look->vcpus, &look->vcpu_count);
	if (!ret)
		ret = keel_view_vms(view, &look->vms, &look->vm_count);
	if (ret)
		look_free(look);
	return ret;
}

void look_free(struct look *look)
{
	free(look->vms);
	free(look->vcpus);
	memset(look, 0, sizeof(*look));
}

const struct keel_vm_view *look_vm(const struct look *look, uint64_t id)
{
	for (size_t i = 0; i < look->vm_count; i++)
		if (look->vms[i].id == id)
			return &look->vms[i];
	return NULL;
}

const struct keel_vcpu_view *look_vcpu(const struct look *look, uint64_t vm, uint32_t id)
{
	for (size_t i = 0; i < look->vcpu_count; i++)
		if (look->vcpus[i].vm == vm && look->vcpus[i].id == id)
			return &look->vcpus[i];
	return NULL;
}

uint64_t vcpu_exits(const struct keel_vcpu_view *vcpu)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < KEEL_NR_REASONS; i++)
		sum += vcpu->exits[i].count;
	return sum;
}

/* Words ---------------------------------------------------------------------------------------- */

const char *state_name(uint32_t state)
{
	static const char *const names[] = {
		[KEEL_STATE_NEW] = "new", [KEEL_STATE_GUEST] = "guest", [KEEL_STATE_KERNEL] = "kernel",
		[KEEL_STATE_OFF] = "off", [KEEL_STATE_USER] = "user",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

const char *user_name(uint32_t uid, char *buf, size_t size)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		return pw->pw_name;
	snprintf(buf, size, "%u", uid);
	return buf;
}

const char *size_text(uint64_t bytes, char *buf, size_t size)
{
	static const char units[] = "KMGTPE";
	double val = bytes / 1024.0;
	unsigned int i = 0;

	while (val >= 1024 && units[i + 1]) {
		val /= 1024;
		i++;
	}
	snprintf(buf, size, val < 10 && i ? "%.1f%c" : "%.0f%c", val, units[i]);
	return buf;
}

const char *time_text(uint64_t ns, char *buf, size_t size)
{
	unsigned long long s = ns / 1000000000;

	if (s < 86400)
		snprintf(buf, size, "%llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(buf, size, "%llud %02llu:%02llu", s / 86400, s / 3600 % 24, s / 60 % 60);
	return buf;
}

/* The name of a process is whatever the process wants, and terminals obey control characters. */
const char *printable(char *text)
{
	for (char *p = text; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	return *text ? text : "-";
}

/* JSON ----------------------------------------------------------------------------------------- */

void json_add_u64(struct json_object *to, const char *key, uint64_t val)
{
	json_object_object_add(to, key, json_object_new_uint64(val));
}

struct json_object *json_vm(const struct keel_vm_view *vm)
{
	struct json_object *o = json_object_new_object();
	char buf[16];

	json_add_u64(o, "id", vm->id);
	json_add_u64(o, "pid", vm->pid);
	json_add_u64(o, "uid", vm->uid);
	json_object_object_add(o, "user", json_object_new_string(user_name(vm->uid, buf, sizeof(buf))));
	json_object_object_add(o, "name", json_object_new_string(vm->name));
	json_add_u64(o, "vcpu_count", vm->vcpus);
	json_add_u64(o, "memory", vm->memory);
	json_add_u64(o, "resident", vm->resident);
	json_add_u64(o, "uptime_ns", vm->uptime);
	json_add_u64(o, "tsc_khz", vm->tsc_khz);
	json_object_object_add(o, "killed", *vm->dead ? json_object_new_string(vm->dead) : NULL);
	return o;
}

static struct json_object *json_exit(const struct keel_exit_view *e, bool histogram)
{
	struct json_object *o = json_object_new_object(), *hist;

	json_add_u64(o, "count", e->count);
	json_add_u64(o, "ticks", e->ticks);
	if (!histogram)
		return o;
	hist = json_object_new_array();
	for (unsigned int i = 0; i < KEEL_COST_BUCKETS; i++)
		json_object_array_add(hist, json_object_new_uint64(e->hist[i]));
	json_object_object_add(o, "histogram", hist);
	return o;
}

struct json_object *json_vcpu(const struct keel_vcpu_view *vcpu, bool histograms)
{
	struct json_object *o = json_object_new_object(), *exits = json_object_new_object();

	json_add_u64(o, "id", vcpu->id);
	json_add_u64(o, "tid", vcpu->tid);
	json_object_object_add(o, "state", json_object_new_string(state_name(vcpu->state)));
	json_object_object_add(o, "error", *vcpu->error ? json_object_new_string(vcpu->error) : NULL);
	json_add_u64(o, "guest_ns", vcpu->guest);
	json_add_u64(o, "kernel_ns", vcpu->kernel);
	json_add_u64(o, "user_ns", vcpu->user);
	json_add_u64(o, "off_ns", vcpu->off);
	json_add_u64(o, "steal_ns", vcpu->steal);
	json_add_u64(o, "exit_count", vcpu_exits(vcpu));
	for (unsigned int i = 0; i < KEEL_NR_REASONS; i++)
		if (vcpu->exits[i].count)
			json_object_object_add(exits, keel_reason_name(i),
					       json_exit(&vcpu->exits[i], histograms));
	json_object_object_add(o, "exits", exits);
	return o;
}

/* Prints and frees. */
int json_print(struct json_object *object, int flags)
{
	const char *text = json_object_to_json_string_ext(object, flags | JSON_C_TO_STRING_NOSLASHESCAPE);
	bool bad = !text || puts(text) < 0 || fflush(stdout);

	json_object_put(object);
	return bad ? keel_fail(EIO, "cannot write: %s", strerror(errno)) : 0;
}

/* Options -------------------------------------------------------------------------------------- */

int option_bad(char **argv, int opt, const char *command)
{
	const char *arg = argv[optind - 1];

	if (opt == ':')
		return keel_fail(EINVAL, "option '%s' needs a value: try keel %s --help", arg, command);
	if (optopt && arg[0] == '-' && arg[1] != '-')
		return keel_fail(EINVAL, "unknown option '-%c': try keel %s --help", optopt, command);
	return keel_fail(EINVAL, "unknown or ambiguous option '%s': try keel %s --help", arg, command);
}

/* The options of a command that knows --json and --help only. Returns 1 when the help is wanted. */
int json_option(int argc, char **argv, const char *command, bool *json)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":jh", longs, NULL)) != -1) {
		if (opt == 'h')
			return 1;
		if (opt != 'j')
			return option_bad(argv, opt, command);
		*json = true;
	}
	if (optind < argc)
		return keel_fail(EINVAL, "unexpected argument '%s': try keel %s --help", argv[optind], command);
	return 0;
}

int seconds_parse(const char *text, double *seconds)
{
	char *end;

	*seconds = strtod(text, &end);
	if (!isdigit((unsigned char)*text) || *end || *seconds < 0.1 || *seconds > 3600)
		return keel_fail(EINVAL, "'%s' is no number of seconds: give 0.1 to 3600 with -d", text);
	return 0;
}
