/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events of system "keel": each entry and exit, what is injected, and nested faults.
 *
 * Off, an event is a jump that is not taken. They are read as the kernel's Documentation/trace/events.rst says;
 * Documentation/live-view.rst has an example. The reasons' names are those of the live view.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM keel

#if !defined(KEEL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KEEL_TRACE_H

#include <linux/keel.h>
#include <linux/tracepoint.h>

TRACE_EVENT(keel_entry,
	TP_PROTO(u32 vcpu_id, u64 rip),
	TP_ARGS(vcpu_id, rip),
	TP_STRUCT__entry(
		__field(u32, vcpu_id)
		__field(u64, rip)
	),
	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->rip = rip;
	),
	TP_printk("vcpu %u rip %#llx", __entry->vcpu_id, __entry->rip)
);

TRACE_EVENT(keel_exit,
	TP_PROTO(u32 vcpu_id, u64 rip, u8 reason, bool cold),
	TP_ARGS(vcpu_id, rip, reason, cold),
	TP_STRUCT__entry(
		__field(u32, vcpu_id)
		__field(u64, rip)
		__field(u8, reason)
		__field(bool, cold)
	),
	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->rip = rip;
		__entry->reason = reason;
		__entry->cold = cold;
	),
	TP_printk("vcpu %u reason %s rip %#llx%s", __entry->vcpu_id,
		  __print_symbolic(__entry->reason, KEEL_REASON_NAMES), __entry->rip,
		  __entry->cold ? " cold" : "")
);

/* Types are KEEL_EV_*, which are those of both vendors. */
TRACE_EVENT(keel_inject,
	TP_PROTO(u32 vcpu_id, u8 type, u8 vector, bool has_error, u32 error),
	TP_ARGS(vcpu_id, type, vector, has_error, error),
	TP_STRUCT__entry(
		__field(u32, vcpu_id)
		__field(u8, type)
		__field(u8, vector)
		__field(bool, has_error)
		__field(u32, error)
	),
	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->type = type;
		__entry->vector = vector;
		__entry->has_error = has_error;
		__entry->error = has_error ? error : 0;
	),
	TP_printk("vcpu %u %s %#x error %#x%s", __entry->vcpu_id,
		  __print_symbolic(__entry->type, { 0, "interrupt" }, { 2, "nmi" }, { 3, "exception" },
				   { 4, "software interrupt" }),
		  __entry->vector, __entry->error, __entry->has_error ? "" : " (none)")
);

TRACE_EVENT(keel_fault,
	TP_PROTO(u32 vcpu_id, u64 gpa, u32 access, int result),
	TP_ARGS(vcpu_id, gpa, access, result),
	TP_STRUCT__entry(
		__field(u32, vcpu_id)
		__field(u32, access)
		__field(u64, gpa)
		__field(int, result)
	),
	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->access = access;
		__entry->gpa = gpa;
		__entry->result = result;
	),
	TP_printk("vcpu %u gpa %#llx access %s result %s", __entry->vcpu_id, __entry->gpa,
		  __print_flags(__entry->access, "|", { 0x01, "present" }, { 0x02, "write" }, { 0x04, "user" },
				{ 0x10, "exec" }, { 0x100, "implicit" }, { 0x200, "table" }),
		  __print_symbolic(__entry->result, { 1, "mapped" }, { 2, "emulate" }))
);

#endif /* KEEL_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

#include <trace/define_trace.h>
