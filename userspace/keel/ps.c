// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel ps: every VM that the caller may see, a line each.
 */
#include <errno.h>
#include <getopt.h>

#include "keel.h"
#include "looking.h"

static const char help[] =
	"usage: keel ps [--json]\n"
	"\n"
	"Lists the VMs of this host: your own, or as root all.\n"
	"\n"
	"  PID       the process that made the VM\n"
	"  USER      whose process that is\n"
	"  NAME      its name\n"
	"  CPUS      virtual CPUs\n"
	"  MEMORY    of the guest, as the client has set it up\n"
	"  RESIDENT  of the process, in memory now\n"
	"  UPTIME    since the VM was made\n"
	"  STATE     ok, killed (by the kernel, with the reason), or error (of a vCPU, with what it is)\n"
	"\n"
	"  -j, --json  all of it as one JSON array\n"
	"  -h, --help  this text\n";

/* What is wrong with the VM, if anything. */
static void state_print(const struct look *look, const struct keel_vm_view *vm)
{
	if (*vm->dead) {
		printf("killed: %s\n", vm->dead);
		return;
	}
	for (size_t i = 0; i < look->vcpu_count; i++) {
		const struct keel_vcpu_view *vcpu = &look->vcpus[i];

		if (vcpu->vm == vm->id && *vcpu->error) {
			printf("error: vCPU %u: %s\n", vcpu->id, vcpu->error);
			return;
		}
	}
	puts("ok");
}

static void vm_print(const struct look *look, struct keel_vm_view *vm)
{
	char user[16], memory[16], resident[16], uptime[24];

	printf("%7u %-10s %-15s %4u %7s %8s %10s ", vm->pid, user_name(vm->uid, user, sizeof(user)),
	       printable(vm->name), vm->vcpus, size_text(vm->memory, memory, sizeof(memory)),
	       size_text(vm->resident, resident, sizeof(resident)), time_text(vm->uptime, uptime, sizeof(uptime)));
	state_print(look, vm);
}

static int print_json(const struct look *look)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < look->vm_count; i++)
		json_object_array_add(list, json_vm(&look->vms[i]));
	return json_print(list, JSON_C_TO_STRING_PRETTY);
}

int keel_ps(int argc, char **argv)
{
	struct keel_view *view = NULL;
	struct look look;
	bool json = false;
	int ret = json_option(argc, argv, "ps", &json);

	if (ret > 0)
		return fputs(help, stdout) < 0;
	if (!ret)
		ret = keel_view_open(&view);
	if (!ret)
		ret = look_take(view, &look);
	keel_view_close(view);
	if (ret)
		return fail();
	if (json) {
		ret = print_json(&look);
	} else {
		printf("%7s %-10s %-15s %4s %7s %8s %10s %s\n", "PID", "USER", "NAME", "CPUS", "MEMORY", "RESIDENT",
		       "UPTIME", "STATE");
		for (size_t i = 0; i < look.vm_count; i++)
			vm_print(&look, &look.vms[i]);
	}
	look_free(&look);
	return ret ? fail() : 0;
}
