/* SPDX-License-Identifier: GPL-2.0-only */
/* What the commands that look at VMs share: see looking.c. */
#ifndef KEEL_LOOKING_H
#define KEEL_LOOKING_H

#include <json-c/json.h>

#include "libkeel.h"
#include "view.h"

/* One look at all VMs: every vCPU's VM is in vms. */
struct look {
	struct keel_vm_view *vms;
	size_t vm_count;
	struct keel_vcpu_view *vcpus;
	size_t vcpu_count;
	double when;			/* seconds of a steady clock */
};

int fail(void);
int look_take(struct keel_view *view, struct look *look);
void look_free(struct look *look);
const struct keel_vm_view *look_vm(const struct look *look, uint64_t id);
const struct keel_vcpu_view *look_vcpu(const struct look *look, uint64_t vm, uint32_t id);

uint64_t vcpu_exits(const struct keel_vcpu_view *vcpu);
const char *state_name(uint32_t state);
const char *user_name(uint32_t uid, char *buf, size_t size);
const char *size_text(uint64_t bytes, char *buf, size_t size);
const char *time_text(uint64_t ns, char *buf, size_t size);
const char *printable(char *text);

struct json_object *json_vm(const struct keel_vm_view *vm);
struct json_object *json_vcpu(const struct keel_vcpu_view *vcpu, bool histograms);
void json_add_u64(struct json_object *to, const char *key, uint64_t val);
int json_print(struct json_object *object, int flags);

struct option;
int option_bad(char **argv, int opt, const char *command);
int json_option(int argc, char **argv, const char *command, bool *json);
int seconds_parse(const char *text, double *seconds);

#endif
