/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pieces of the guests that measure, as text for GUEST().
 */
#ifndef BENCH_PIECES_H
#define BENCH_PIECES_H

/* The time stamp counter into RAX. */
#define TSC		"rdtsc\n" "shl $32, %rdx\n" "or %rdx, %rax\n"
#define WRMSR(msr, high, low) \
	"mov $" msr ", %ecx\n" "mov $" high ", %edx\n" "mov $" low ", %eax\n" "wrmsr\n"
/* The local APIC into x2APIC mode, enabled by software. */
#define X2APIC	"mov $0x1b, %ecx\n" "rdmsr\n" "or $0x400, %eax\n" "wrmsr\n" WRMSR("0x80f", "0", "0x1ff")

#endif
