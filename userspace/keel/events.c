// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel events: what becomes of VMs, a line each as it happens.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keel.h"
#include "looking.h"

static const char help[] =
	"usage: keel events [--json]\n"
	"\n"
	"Says when a VM is created, destroyed or killed by the kernel and when a vCPU cannot go on, of\n"
	"your own VMs, or as root of all, until it is interrupted.\n"
	"\n"
	"  -j, --json  each as a line of JSON\n"
	"  -h, --help  this text\n";

struct telling {
	bool json, failed;
};

static const char *event_name(uint32_t event)
{
	static const char *const names[] = {
		[KEEL_EVENT_CREATED] = "created", [KEEL_EVENT_DESTROYED] = "destroyed",
		[KEEL_EVENT_KILLED] = "killed", [KEEL_EVENT_ERROR] = "error",
	};
	const char *name = event < sizeof(names) / sizeof(names[0]) ? names[event] : NULL;

	return name ? name : "unknown";
}

/* Boot time as the time of day. */
static double wall_time(uint64_t boot_ns)
{
	struct timespec boot, real;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &real);
	return real.tv_sec - boot.tv_sec + (real.tv_nsec - boot.tv_nsec) / 1e9 + boot_ns / 1e9;
}

static void tell_json(struct telling *t, const struct keel_event_view *e)
{
	struct json_object *o = json_object_new_object();
	char buf[16];

	json_add_u64(o, "seq", e->seq);
	json_object_object_add(o, "time", json_object_new_double(wall_time(e->when)));
	json_object_object_add(o, "event", json_object_new_string(event_name(e->event)));
	json_add_u64(o, "id", e->vm.id);
	json_add_u64(o, "pid", e->vm.pid);
	json_add_u64(o, "uid", e->vm.uid);
	json_object_object_add(o, "user", json_object_new_string(user_name(e->vm.uid, buf, sizeof(buf))));
	json_object_object_add(o, "name", json_object_new_string(e->vm.name));
	json_object_object_add(o, "vcpu", e->vcpu < 0 ? NULL : json_object_new_int(e->vcpu));
	json_object_object_add(o, "reason", *e->reason ? json_object_new_string(e->reason) : NULL);
	if (json_print(o, JSON_C_TO_STRING_PLAIN))
		t->failed = true;
}

static void tell(void *opaque, const struct keel_event_view *e)
{
	struct telling *t = opaque;
	struct keel_vm_view vm = e->vm;
	char user[16], stamp[32], vcpu[24] = "";
	time_t when = wall_time(e->when);

	if (t->json) {
		tell_json(t, e);
		return;
	}
	strftime(stamp, sizeof(stamp), "%F %T", localtime(&when));
	if (e->vcpu >= 0)
		snprintf(vcpu, sizeof(vcpu), ", vCPU %d", e->vcpu);
	printf("%s %-9s PID %u of %s (%s)%s%s%s\n", stamp, event_name(e->event), vm.pid,
	       user_name(vm.uid, user, sizeof(user)), printable(vm.name), vcpu, *e->reason ? ": " : "", e->reason);
	if (fflush(stdout))
		t->failed = true;
}

static int follow(struct keel_view *view, int fd, bool json)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct telling t = { .json = json };
	uint64_t lost;
	int ret;

	while (!t.failed) {
		if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
			return keel_fail(errno, "cannot wait for events: %s", strerror(errno));
		ret = keel_view_events(view, tell, &t, &lost);
		if (ret)
			return ret;
		if (lost)
			fprintf(stderr, "keel: too slow: %llu events of this host are lost\n",
				(unsigned long long)lost);
	}
	return keel_fail(EIO, "cannot write: %s", strerror(errno));
}

int keel_events(int argc, char **argv)
{
	struct keel_view *view = NULL;
	bool json = false;
	int fd, ret = json_option(argc, argv, "events", &json);

	if (ret > 0)
		return fputs(help, stdout) < 0;
	if (!ret)
		ret = keel_view_open(&view);
	if (!ret) {
		fd = keel_view_watch(view);
		ret = fd < 0 ? fd : follow(view, fd, json);
	}
	keel_view_close(view);
	return ret ? fail() : 0;
}
