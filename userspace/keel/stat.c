// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel stat: what one VM has done since it was made: where its vCPUs' time went, and their exits.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "keel.h"
#include "looking.h"

static const char help[] =
	"usage: keel stat PID [--exits] [--json]\n"
	"\n"
	"Says what the VM of the process PID (see keel ps) has done since it was made: the time of each\n"
	"vCPU in the guest, in the kernel, in the client and without a CPU, and how often it left the\n"
	"guest and why. An exit's cost is the time from it to the next entry on a CPU in the kernel.\n"
	"\n"
	"  -e, --exits  for each reason also how the costs are spread\n"
	"  -j, --json   all of it as one JSON array, histograms included\n"
	"  -h, --help   this text\n";

#define BAR	40

struct options {
	uint32_t pid;
	bool exits, json;
};

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * part / whole : 0;
}

static void times_print(const struct keel_vcpu_view *v)
{
	uint64_t all = v->guest + v->kernel + v->user + v->off;

	printf("vCPU %u: %s%s%s\n", v->id, state_name(v->state), *v->error ? ", error: " : "", v->error);
	printf("  guest %.3f s (%.1f%%), kernel %.3f s (%.1f%%), client %.3f s (%.1f%%), no CPU %.3f s (%.1f%%); "
	       "waited for a CPU %.3f s\n", v->guest / 1e9, percent(v->guest, all), v->kernel / 1e9,
	       percent(v->kernel, all), v->user / 1e9, percent(v->user, all), v->off / 1e9, percent(v->off, all),
	       v->steal / 1e9);
}

/* The buckets from the first to the last that is used, as bars. */
static void histogram_print(const struct keel_exit_view *e)
{
	unsigned int first = KEEL_COST_BUCKETS, last = 0;
	uint64_t most = 0;

	for (unsigned int i = 0; i < KEEL_COST_BUCKETS; i++) {
		if (!e->hist[i])
			continue;
		if (first > i)
			first = i;
		last = i;
		if (most < e->hist[i])
			most = e->hist[i];
	}
	for (unsigned int i = first; i <= last; i++) {
		int len = e->hist[i] ? 1 + (int)((BAR - 1) * (double)e->hist[i] / most) : 0;
		unsigned long long low = i ? 1ULL << (i - 1) : 0;

		printf("      %s%10llu ticks %12llu |", i == KEEL_COST_BUCKETS - 1 ? ">=" : "  ", low,
		       (unsigned long long)e->hist[i]);
		for (int j = 0; j < len; j++)
			putchar('#');
		putchar('\n');
	}
}

static int more_frequent(const void *a, const void *b, void *opaque)
{
	const struct keel_vcpu_view *v = opaque;
	uint64_t x = v->exits[*(const unsigned int *)a].count, y = v->exits[*(const unsigned int *)b].count;

	return x < y ? 1 : x > y ? -1 : 0;
}

static void exits_print(struct keel_vcpu_view *v, bool histograms)
{
	uint64_t all = vcpu_exits(v);
	unsigned int order[KEEL_NR_REASONS];

	for (unsigned int i = 0; i < KEEL_NR_REASONS; i++)
		order[i] = i;
	qsort_r(order, KEEL_NR_REASONS, sizeof(order[0]), more_frequent, v);
	printf("  %-18s %12s %6s %15s %10s %10s\n", "EXIT", "COUNT", "SHARE", "TICKS", "MEAN", "MEAN ns");
	for (unsigned int i = 0; i < KEEL_NR_REASONS; i++) {
		const struct keel_exit_view *e = &v->exits[order[i]];
		double mean = e->count ? (double)e->ticks / e->count : 0;

		if (!e->count)
			break;
		printf("  %-18s %12llu %5.1f%% %15llu %10.0f %10.0f\n", keel_reason_name(order[i]),
		       (unsigned long long)e->count, percent(e->count, all), (unsigned long long)e->ticks, mean,
		       v->tsc_khz ? mean * 1e6 / v->tsc_khz : 0);
		if (histograms)
			histogram_print(e);
	}
	printf("  %-18s %12llu\n", "all", (unsigned long long)all);
}

static void vm_print(const struct look *look, struct keel_vm_view *vm, bool histograms)
{
	char user[16], memory[16], resident[16], uptime[24];

	printf("%s, PID %u of %s: %u vCPUs, %s memory, %s resident, up %s%s%s\n", printable(vm->name), vm->pid,
	       user_name(vm->uid, user, sizeof(user)), vm->vcpus, size_text(vm->memory, memory, sizeof(memory)),
	       size_text(vm->resident, resident, sizeof(resident)), time_text(vm->uptime, uptime, sizeof(uptime)),
	       *vm->dead ? ", killed: " : "", vm->dead);
	for (size_t i = 0; i < look->vcpu_count; i++) {
		if (look->vcpus[i].vm != vm->id)
			continue;
		times_print(&look->vcpus[i]);
		exits_print(&look->vcpus[i], histograms);
	}
}

static struct json_object *vm_json(const struct look *look, const struct keel_vm_view *vm)
{
	struct json_object *o = json_vm(vm), *vcpus = json_object_new_array();

	for (size_t i = 0; i < look->vcpu_count; i++)
		if (look->vcpus[i].vm == vm->id)
			json_object_array_add(vcpus, json_vcpu(&look->vcpus[i], true));
	json_object_object_add(o, "vcpus", vcpus);
	return o;
}

static int show(const struct look *look, const struct options *o)
{
	struct json_object *list = o->json ? json_object_new_array() : NULL;
	unsigned int found = 0;

	for (size_t i = 0; i < look->vm_count; i++) {
		if (look->vms[i].pid != o->pid)
			continue;
		found++;
		if (o->json)
			json_object_array_add(list, vm_json(look, &look->vms[i]));
		else
			vm_print(look, &look->vms[i], o->exits);
	}
	if (!found) {
		json_object_put(list);
		return keel_fail(ENOENT, "process %u has no VM that you may see: look with keel ps", o->pid);
	}
	return o->json ? json_print(list, JSON_C_TO_STRING_PRETTY) : 0;
}

static int pid_parse(const char *text, uint32_t *pid)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !n || n > INT32_MAX)
		return keel_fail(EINVAL, "'%s' is no process id: look for it with keel ps", text);
	*pid = n;
	return 0;
}

/* Returns 1 when there is nothing left to do. */
static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "exits", no_argument, NULL, 'e' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":ejh", longs, NULL)) != -1) {
		switch (opt) {
		case 'e':
			o->exits = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 1;
		default:
			return option_bad(argv, opt, "stat");
		}
	}
	if (optind >= argc)
		return keel_fail(EINVAL, "no process given: look for it with keel ps");
	if (optind + 1 < argc)
		return keel_fail(EINVAL, "unexpected argument '%s': try keel stat --help", argv[optind + 1]);
	return pid_parse(argv[optind], &o->pid);
}

int keel_stat(int argc, char **argv)
{
	struct keel_view *view = NULL;
	struct options o = { 0 };
	struct look look;
	int ret;

	ret = options_parse(argc, argv, &o);
	if (ret > 0)
		return 0;
	if (!ret)
		ret = keel_view_open(&view);
	if (!ret)
		ret = look_take(view, &look);
	keel_view_close(view);
	if (ret)
		return fail();
	ret = show(&look, &o);
	look_free(&look);
	return ret ? fail() : 0;
}
