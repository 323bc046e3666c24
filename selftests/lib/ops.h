/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest that carries out single accesses on behalf of the test: each call below sets the vCPU's
 * registers, lets it execute one instruction, and gives what came of it. Interrupts are off, except
 * in ops_take().
 *
 * A call returns 0, or the vector of the exception that the instruction raised.
 */
#ifndef SELFTESTS_OPS_H
#define SELFTESTS_OPS_H

#include "guest.h"

/* Long mode, with the code for the calls. */
void ops_start(struct guest *g);

int ops_rdmsr(struct guest *g, uint32_t msr, uint64_t *val);
int ops_wrmsr(struct guest *g, uint32_t msr, uint64_t val);
/* @size: 1, 2, 4 or 8 bytes at a physical address */
int ops_read(struct guest *g, uint64_t gpa, int size, uint64_t *val);
int ops_write(struct guest *g, uint64_t gpa, int size, uint64_t val);
/* One byte */
uint8_t ops_in(struct guest *g, uint16_t port);
void ops_out(struct guest *g, uint16_t port, uint8_t val);
/* One interrupt, if one is to be had: its vector, with interrupts off from then on; else -1. */
int ops_take(struct guest *g);
/* The IRET of the handler that the last call ended in. */
void ops_iret(struct guest *g);
int ops_cr8(struct guest *g, uint64_t cr8);

/* The same in short for local APIC registers by their xAPIC address; 32 bits. */
uint32_t ops_apic(struct guest *g, uint32_t reg);
void ops_set_apic(struct guest *g, uint32_t reg, uint32_t val);

#endif
